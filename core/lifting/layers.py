"""From what changed to a layer: translucent parts, opaque parts over them, their alpha and colour.

In encoded colour C = a E + (1 - a) S, with the plate S known and C the cleaned edited
video. That is one equation a channel for a and E: what is opaque, what is translucent and
of which colour has to be told from how the plate shows through.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.core.layer.spread import spread
from vera.core.lifting.gain import find_gain
from vera.core.lifting.smooth import blur, blur_widely, grown, shrunk, weighted


@dataclass(frozen=True)
class LayerLimits:
    """Thresholds of this method.

    block: pixels in which a translucent layer's alpha is taken as one value, to find its colour. fits: mean chi-square
    a channel up to which a translucent layer explains a pixel; lower makes more opaque. surely_thin: nats, from which a
    misfit is the layer's own variety of colour. like_haze: nats by which, where there is haze, what is of one colour is
    rather more of it. darkest: a shadow's alpha; darker is opaque. deepest_shadow, largest_shadow: alpha, and share of
    the frame, up to which a thing that only dims is a shadow without further evidence. darkening: brightest channel
    below which what is translucent is a shadow or another darkening. edge: how much steeper edges are than in the
    edited video, which has been through a codec. steadiness: frames each way over which mattes of what stands still are
    averaged. samples: independent ones in a window of transmission(). most_contrast: of the plate's texture, beyond
    what a veil of that alpha leaves, from which it is recoloured; lower takes light that is added for it.
    thinnest_opaque: alpha as a veil; nobody would take less for opaque. denser: alpha beyond which what is called
    translucent cannot be. unseen: mean chi-square a channel below which a pixel is the plate's. variety: at most, of a
    layer's colour from what its surroundings show. fine_error: of the error of one pixel's alpha, what is left in the
    fine mean. slack: error of colours that the noise model does not know of.
    """

    block: int = 6
    fits: float = 4.0
    surely_thin: float = 2.0
    like_haze: float = 3.0
    darkest: float = 0.85
    deepest_shadow: float = 0.7
    largest_shadow: float = 0.2
    darkening: float = 0.1
    edge: float = 1.5
    steadiness: int = 2
    samples: float = 8.0
    most_contrast: float = 0.35
    thinnest_opaque: float = 0.2
    denser: float = 0.15
    unseen: float = 1.5
    variety: float = 0.15
    fine_error: float = 0.2
    slack: float = 0.008


LIMITS = LayerLimits()


@dataclass(frozen=True)
class Layers:
    """color (T, 3, H, W) straight, alpha (T, 1, H, W), both in [0, 1]; detail (T, 3, H, W): how much of the plate's own
    detail the colour is made of, a gain's share of it times the gain. kinds (T, 3, H, W) in [0, 1]: the opaque part's
    share of what is laid over, 1 where what is translucent only dims, and the gain's share of the whole alpha."""

    color: torch.Tensor
    alpha: torch.Tensor
    detail: torch.Tensor
    kinds: torch.Tensor


def find_layers(
    plate: torch.Tensor,
    seen: torch.Tensor,
    clean: torch.Tensor,
    region: torch.Tensor,
    variance: torch.Tensor,
    haze: torch.Tensor,
    limits: LayerLimits = LIMITS,
) -> Layers:
    """What was laid over the plate (T, 3, H, W); alpha is 0 outside the region.

    seen: the plate as the edited video shows it; clean: the edited video without its drift;
    region (T, 1, H, W): 1 where something changed; variance: of the noise a channel;
    haze (T, 1, H, W): alpha that is known to be translucent.
    """
    variance = 2 * variance + LIMITS.slack**2
    veil = find_veil(seen, clean, region, variance)
    thin, color, _ = _translucent(seen, clean, variance, [torch.zeros(3), veil])
    gain = find_gain(seen, clean, region, variance, clean - torch.lerp(seen, color, thin))
    if gain is None:
        color, alpha, kinds = _laid_over(seen, clean, region, variance, haze, limits)
        return Layers(color, alpha, torch.zeros_like(color), torch.cat([kinds, torch.zeros_like(alpha)], 1))
    rest = region * (1 - (gain.matte >= 1) * gain.explained)
    color, alpha, kinds = _laid_over(gain.over(seen), clean, rest, variance, haze * (1 - gain.matte), limits)
    below = (1 - alpha) * gain.matte
    total = alpha + below
    share = below / total.clamp_min(1e-4)
    lit = torch.lerp(color, gain.lit(plate), share)
    return Layers(lit, total, share * gain.field, torch.cat([kinds, share], 1))


def _laid_over(seen, clean, region, variance, haze, limits):
    """Straight colour (T, 3, H, W) and alpha (T, 1, H, W) of veils and opaque things over what is seen, and the first
    two of `Layers.kinds`."""
    black = torch.zeros(3)
    veil = find_veil(seen, clean, region, variance)
    thin, color, misfit = _translucent(seen, clean, variance, [black, veil])
    dims = ((color.amax(1, keepdim=True) == 0) & (thin < LIMITS.deepest_shadow)).float()
    if (dims * region).mean() > LIMITS.largest_shadow:
        dims = torch.zeros_like(dims)
    through = transmission(seen, clean, thin, color, dims, region, variance, haze) + LIMITS.like_haze * (haze > 0)
    least = least_alpha(seen, clean, variance)
    denser = blur(least - thin, 1.0, 0.5) > LIMITS.denser  # than a layer of that colour can be here
    # A shadow lies beside what casts it, whose edges a codec smears into it.
    misfit = (blur(misfit, 1.2, 0.5) > LIMITS.fits * (1 + 3 * dims)) & (through < LIMITS.surely_thin)
    opaque = _smooth_labels(
        (((through < 0) & (thin - haze > LIMITS.thinnest_opaque)) | misfit | denser).float() * region
    )
    thin = spread(thin, (1 - grown(opaque, 2)) * region) * region
    color = spread(color, (1 - grown(opaque, 2)) * region)
    dark = (color.amax(1, keepdim=True) < LIMITS.darkening).float()
    behind = thin * color + (1 - thin) * seen
    solid, solid_color = _opaque(behind, clean, opaque, variance, limits)
    alpha = 1 - (1 - solid) * (1 - thin)
    alpha = torch.maximum(alpha, least * region)
    alpha, solid, thin = _steady([alpha, solid, thin], seen, clean, variance, limits)
    kinds = torch.cat([(solid / alpha.clamp_min(1e-4)).clamp(0, 1), dark], 1)
    color = (solid * solid_color + (1 - solid) * thin * color) / alpha.clamp_min(1e-4)
    # The colour takes what is left, as far as noise lets it be known at that alpha: the layer composes what was seen.
    left = clean - alpha * color - (1 - alpha) * seen
    own = (blur(left.square().mean(1, keepdim=True), 1.5, 0.5) - 0.5 * variance).clamp_min(0)
    variety = (own / (alpha**2 + 1e-4)).clamp(1e-6, LIMITS.variety**2)
    color = color + alpha * left / (alpha**2 + variance / variety)
    return color.clamp(0, 1), alpha, kinds


def least_alpha(seen: torch.Tensor, clean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """The least alpha with which any colour in [0, 1] makes what is seen, noise aside, (T, 1, H, W)."""
    change = clean - seen
    room = torch.where(change > 0, 1 - seen, seen).clamp_min(0.02)
    return ((change.abs() - 2 * variance.sqrt()).clamp_min(0) / room).amax(1, keepdim=True).clamp(0, 1)


def _steady(mattes, seen, clean, variance, limits):
    """Mattes (T, 1, H, W), each averaged over some frames each way as far as plate and edited video stand still
    there."""
    total, weights = [m.clone() for m in mattes], torch.ones_like(variance)
    for lag in range(1, min(limits.steadiness + 1, len(seen))):
        step = [v[lag:] - v[:-lag] for v in (seen, clean)]
        moved = sum(blur(d.square().mean(1, keepdim=True), 1.0) for d in step) / (variance[lag:] + variance[:-lag])
        alike = torch.exp(-((0.7 * moved) ** 2))
        for sums, m in zip(total, mattes):
            sums[lag:] += alike * m[:-lag]
            sums[:-lag] += alike * m[lag:]
        weights[lag:] += alike
        weights[:-lag] += alike
    return [sums / weights for sums in total]


def find_veil(seen: torch.Tensor, clean: torch.Tensor, region: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """The one colour (3,) that explains most of the change as a translucent layer of it.

    Per block, alpha is the least-squares solution for a given colour; the colour is the one
    that leaves least, with a bound on what one block can cost, over a grid and then by
    alternating least squares.
    """
    inside = F.avg_pool2d(region, LIMITS.block)
    mean = lambda v: F.avg_pool2d(v * region, LIMITS.block)[inside.expand(-1, v.shape[1], -1, -1) > 0.5]  # noqa: E731
    if not (inside > 0.5).any():
        return torch.ones(3)
    planes = lambda v: torch.stack([mean(v[:, i : i + 1]) for i in range(3)], 1)  # noqa: E731
    s, c = planes(seen), planes(clean)
    ss, cs, cc = (mean((x * y).sum(1, keepdim=True)) for x, y in ((seen, seen), (clean, seen), (clean, clean)))
    n, noise = mean(torch.ones_like(region)), mean(variance)

    def solve(e):
        """Alpha of each block for colour e, and its bounded misfit."""
        ee = (e * e).sum() * n
        size = (ee - 2 * s @ e + ss).clamp_min(1e-6)
        a = (((c - s) @ e - cs + ss) / size).clamp(0, 1)
        left = cc - 2 * cs + ss - 2 * a * ((c - s) @ e - cs + ss) + a * a * size
        return a, (left / noise / 3).clamp(max=30)

    levels = (0.05, 0.3, 0.55, 0.8, 0.97)
    grid = [torch.tensor(e) for e in itertools.product(levels, repeat=3)]
    best = min(grid, key=lambda e: float(solve(e)[1].sum()))
    for _ in range(20):
        a, cost = solve(best)
        w = ((cost < 25) / noise * a)[:, None]
        total = (w * a[:, None] * n[:, None]).sum()
        if total < 1e-6:
            break
        best = ((w * (c - s + a[:, None] * s)).sum(0) / total).clamp(0, 1)
    return best


def _translucent(seen, clean, variance, colors):
    """Of the colours, a pixel, the one that explains it best: alpha, colour (T, 3, H, W) and chi-square a channel."""
    found = []
    for e in colors:
        towards = e[:, None, None] - seen
        along = ((clean - seen) * towards).sum(1, keepdim=True)
        size = (towards * towards).sum(1, keepdim=True)
        fine, coarse = (
            blur(along / variance, *s) / blur(size / variance, *s).clamp_min(1e-6) for s in ((0.7, 0), (2.5, 0.7))
        )
        error = LIMITS.fine_error / blur(size / variance, 0.7).clamp_min(1e-6)
        own = (blur((fine - coarse).square(), 1.5, 0.5) - error).clamp_min(0)  # fine detail that is no noise
        sure = own / (own + error)
        a = (sure * fine + (1 - sure) * coarse).clamp(0, LIMITS.darkest if not e.any() else 1)
        left = (clean - seen - a * towards).square().mean(1, keepdim=True) / variance
        found.append((a, left, e[:, None, None].expand_as(seen)))
    (a, left, color), *others = found
    for b, other, e in others:
        better = (blur(other, 1.5, 0.5) < blur(left, 1.5, 0.5)).float()
        a, left, color = (torch.lerp(a, b, better), torch.lerp(left, other, better), torch.lerp(color, e, better))
    return a, color, left


def transmission(
    seen: torch.Tensor,
    clean: torch.Tensor,
    thin: torch.Tensor,
    color: torch.Tensor,
    dims: torch.Tensor,
    region: torch.Tensor,
    variance: torch.Tensor,
    haze: torch.Tensor,
) -> torch.Tensor:
    """Evidence for translucent against opaque, (T, 1, H, W), in nats: does the plate's texture show through?

    In windows the slope of C on S, both high-passed, is 1 - a where the layer is translucent and 0
    where it is opaque. Its error comes from noise and from texture that the layer itself has.
    Where the plate is plain the wider surroundings count; without any evidence a thing is opaque,
    unless it only dims the plate (dims, (T, 1, H, W) of 0 and 1).
    """
    asked = region * (thin - haze > LIMITS.thinnest_opaque)
    nats = 0.0
    for fine, window in ((2.0, 2.5), (6.0, 6.0)):
        mean = lambda v: weighted(v, asked, window, 0.7)  # noqa: B023, E731
        s, c = (v - weighted(v, asked, fine) for v in (seen, clean))
        ss, sc, cc = (mean((x * y).sum(1, keepdim=True)) for x, y in ((s, s), (s, c), (c, c)))
        slope, kept = sc / ss.clamp_min(1e-8), mean(1 - thin)
        own = (cc - slope * sc).clamp_min(0) / 3 + mean(variance).clamp_min(
            LIMITS.slack**2
        )  # of the layer itself, a channel
        # More contrast than a veil so dense leaves is no veil's: it is the plate in other colours, which is opaque.
        recoloured = (slope > kept + LIMITS.most_contrast) & (dims == 0)
        opaque = torch.where(recoloured, 0.0, slope**2)
        found = 0.5 * LIMITS.samples * ss / 3 * (opaque - (slope - kept) ** 2) / own
        nats = nats + found.clamp(-4, 4) * asked
        around = weighted(seen, asked, fine)
        plain, here = (mean(_off_line(clean, base, color) / variance) for base in (around, seen))
        most = mean((1 - thin) ** 2 * _off_line(seen, around, color) / variance)  # of what the place can tell
        plain = torch.minimum(torch.maximum(plain, here - most), here + most)
        found = (
            LIMITS.samples * ((plain + 1) / (here + 1)).log() * (2 - 2 * thin).clamp(max=1)
        )  # what is dense tells little
        nats = nats + found.clamp(-4, 4) * asked
    wide, found = seen.shape[2] / 8, blur(nats, 1.5, 0.7)
    for kind in (dims, 1 - dims):  # a shadow and what casts it are two things
        n, a = nats * kind, asked * kind
        far = blur_widely(n, wide, 2.0) / blur_widely(n.abs() + 0.3 * a, wide, 2.0).clamp_min(1e-3)
        whole = n.sum() / (n.abs().sum() + 0.3 * a.sum()).clamp_min(1)
        found = found + kind * (1.5 * far + 3 * whole)
    return found + 4.0 * dims - 1.2 - 2.0 * (thin > 0.8)


def _off_line(clean, base, color):
    """How far what is seen lies off the line from base to the layer's colour, squared, a channel."""
    towards, change = color - base, clean - base
    a = ((change * towards).sum(1, keepdim=True) / towards.square().sum(1, keepdim=True).clamp_min(1e-6)).clamp(0, 1)
    return (change - a * towards).square().mean(1, keepdim=True)


def _smooth_labels(opaque):
    """Holes closed and specks removed: a pixel follows its neighbourhood in space and time."""
    for _ in range(2):
        opaque = (blur(opaque, 1.2, 0.7) > 0.5).float()
    closed = torch.maximum(opaque, shrunk(grown(opaque, 1), 1))
    radius = _reach(opaque) - 1
    return torch.minimum(closed, grown(shrunk(closed, radius), radius + 1))  # what has no inside is not opaque


def _reach(video):
    """How wide a soft edge can be, in pixels; in tiny frames everything is smaller."""
    return 3 if video.shape[2] >= 100 else 2


def _opaque(behind, clean, opaque, variance, limits):
    """Alpha and straight colour of opaque parts over what lies behind them.

    Deep inside alpha is 1. At edges it is the share of the part's own colour, carried there from
    the pixels nearby that differ most from what is behind: the purest.
    """
    far = (clean - behind).square().sum(1, keepdim=True)
    purity = opaque * (far / grown(far * opaque, 2).clamp_min(1e-5)).clamp(0, 1) ** 3
    color = spread(clean, torch.maximum(shrunk(opaque, 4), purity))
    towards = color - behind
    along = ((clean - behind) * towards).sum(1, keepdim=True) / variance
    size = towards.square().sum(1, keepdim=True) / variance
    edge = (blur(along + 2 * opaque, 0.5) / (blur(size, 0.5) + 2)).clamp(0, 1)  # as labelled where both sides are alike
    differs = (blur(far / variance, 0.7) > 3 * LIMITS.unseen).float()
    edge = (0.5 + limits.edge * (edge - 0.5)).clamp(0, 1) * grown(opaque, 1) * differs
    # Inside, shading that comes near the plate's colour leaves no hole.
    radius = _reach(opaque)
    core = shrunk(shrunk(grown((edge > 0.6).float(), 2), 2) * opaque, 1)
    deep = shrunk(opaque * shrunk(grown(differs, radius), radius), radius)
    # ... unless it is the plate's beyond doubt: what is behind a new background's edge.
    kept = (differs == 0) & (blur(size, 0.5) > 100)
    core = torch.maximum(core, deep) * ~kept
    return torch.maximum(core, edge), torch.lerp(color, clean, core)
