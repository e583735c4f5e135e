"""Turn a detected change into a layer: translucent parts (veils), opaque parts over them, with alpha and colour.

In encoded colour C = a E + (1 - a) S. The plate S and the cleaned edited video C are known; alpha a and colour E are
not. That is one equation a channel, so the evidence of how the plate shows through decides which parts are opaque,
which are translucent, and their colour.
"""

import itertools
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F

from vera.core.layer.spread import spread
from vera.core.lifting.gain import Comparison, find_gain
from vera.core.lifting.smooth import (
    WeightedMeans,
    blur,
    blur_small,
    blur_widely,
    blurred,
    box_around,
    by_frame,
    enlarged,
    from_box,
    grown,
    shrunk,
    shrunk_for,
    step_of,
)
from vera.kernels.blur import half_kernel


@dataclass(frozen=True)
class LayerLimits:
    """Thresholds of the layer estimate. Evidence is in nats; positive means translucent.

    block: side in pixels of a block with one alpha, while a veil's colour is searched
    fits: mean chi-square per channel up to which a veil explains a pixel. Lowering it makes more pixels opaque.
    surely_thin: evidence from which a misfit is taken as the veil's varying colour
    like_haze: evidence added where there is haze: a change of one colour is more of the haze
    darkest: largest alpha of a shadow; a darker part is opaque
    deepest_shadow, largest_shadow: alpha and share of the frame up to which a darkening is a shadow without further
        evidence
    darkening: brightest channel of a veil's colour below which the veil is a shadow or another darkening
    edge: factor by which edges are steeper than in the edited video, which a codec has softened
    steadiness: frames each way over which the matte is averaged where nothing moves
    samples: independent samples in a window of `transmission`. Raising it strengthens the evidence of each window.
    most_contrast: contrast beyond that of the plate under a veil of this alpha, from which a part counts as recoloured.
        Lowering it takes added light for a recolouring.
    thinnest_opaque: alpha of the veil fit below which a pixel is never labelled opaque
    denser: excess of the least possible alpha over the veil fit's from which a pixel cannot be translucent
    hiding_detail, hiding_window: Gaussian sigmas in pixels of the high pass and of the window in which hidden texture
        is looked for
    hides, surely_hides: texture counts as hidden if its share of what a veil leaves is below `hides` by `surely_hides`
        standard errors. Raising `hides` makes more pixels opaque.
    mostly_hides: factor by which hidden area must exceed area that shows texture, for all area between to be hidden
    background: share of the clip that is opaque from which the rest of the change is too, unless texture surely shows:
        a new background. Lowering it takes veils beside dense ones for opaque.
    least_own: smallest standard deviation of a layer's own texture that is assumed
    unseen: mean chi-square per channel below which a pixel is the plate's
    variety: largest deviation of a pixel's layer colour from its surroundings, as a share of the code range
    fine_error: share of a single pixel's alpha error that is left after the fine blur
    slack: colour error as a share of the code range that the noise model does not contain
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
    hiding_detail: float = 6.0
    hiding_window: float = 10.0
    hides: float = 0.5
    surely_hides: float = 3.0
    mostly_hides: float = 4.0
    background: float = 0.4
    least_own: float = 0.004
    unseen: float = 1.5
    variety: float = 0.15
    fine_error: float = 0.2
    slack: float = 0.008


LIMITS = LayerLimits()
# Pixels around a change in which its veil is fitted: at least the reach of the fit's windows one after the other, and
# of the windows in which the fit is then compared. Raising it costs time and changes nothing.
VEIL_ROOM = 24
TEXTURE_WINDOWS = ((2.0, 2.5), (6.0, 6.0))  # Gaussian sigmas in pixels of the high pass and of the window
TEXTURE_ROOM = 16  # pixels around the change in which texture is compared: at least the reach of one such window


@dataclass(frozen=True)
class Layers:
    """color (T, 3, H, W): straight, in [0, 1]
    alpha (T, 1, H, W): in [0, 1]
    detail (T, 3, H, W): factor on the plate's fine detail in the colour: the gain times its share of the alpha
    kinds (T, 3, H, W): in [0, 1]: the opaque part's share of opaque and veil; 1 where the veil only darkens; the gain's
        share of the whole alpha
    """

    color: torch.Tensor
    alpha: torch.Tensor
    detail: torch.Tensor
    kinds: torch.Tensor


def find_layers(plate: torch.Tensor, compared: Comparison, haze: torch.Tensor, limits: LayerLimits = LIMITS) -> Layers:
    """The layer over the plate (T, 3, H, W); alpha is 0 outside the changed region.

    haze (T, 1, H, W): alpha that is known to be translucent
    """
    assert plate.shape == compared.seen.shape and haze.shape == compared.region.shape
    compared = replace(compared, variance=2 * compared.variance + LIMITS.slack**2)
    veil = veil_fit(compared)
    gain = find_gain(compared, compared.clean - torch.lerp(compared.seen, veil.color, veil.alpha))
    if gain is None:
        color, alpha, kinds = _laid_over(veil, compared, haze, limits)
        return Layers(color, alpha, torch.zeros_like(color), torch.cat([kinds, torch.zeros_like(alpha)], 1))
    rest = compared.region * (1 - (gain.matte >= 1) * gain.explained)
    compared = replace(compared, seen=gain.over(compared.seen), region=rest)
    color, alpha, kinds = _laid_over(veil_fit(compared), compared, haze * (1 - gain.matte), limits)
    below = (1 - alpha) * gain.matte
    total = alpha + below
    share = below / total.clamp_min(1e-4)
    lit = torch.lerp(color, gain.lit(plate), share)
    return Layers(lit, total, share * gain.slope(plate), torch.cat([kinds, share], 1))


@dataclass(frozen=True)
class VeilFit:
    """The whole change as a veil: alpha (T, 1, H, W), straight colour (T, 3, H, W), and the chi-square per channel
    (T, 1, H, W) that the veil leaves."""

    alpha: torch.Tensor
    color: torch.Tensor
    misfit: torch.Tensor


def veil_fit(compared: Comparison) -> VeilFit:
    """The whole change as a veil, whose pixels are black or of the one colour that explains the region best.

    It is fitted on and near the change, and 0 elsewhere.
    """
    box, size = box_around(compared.region, VEIL_ROOM), compared.region.shape[2:]
    if box is None:
        nothing = torch.zeros_like(compared.region)
        return VeilFit(nothing, torch.zeros_like(compared.seen), nothing)
    near = _translucent(compared.part(box), [torch.zeros(3), find_veil(compared)])
    return VeilFit(*(from_box(v, box, size) for v in (near.alpha, near.color, near.misfit)))


def _laid_over(veil, compared, haze, limits):
    """Straight colour (T, 3, H, W) and alpha (T, 1, H, W) of veils and opaque parts over `compared.seen`, and the first
    two channels of `Layers.kinds`."""
    seen, clean, region, variance = compared.seen, compared.clean, compared.region, compared.variance
    thin, color, misfit = veil.alpha, veil.color, veil.misfit
    if not region.any():
        nothing = torch.zeros_like(region)
        return torch.zeros_like(seen), nothing, torch.cat([nothing, torch.ones_like(region)], 1)
    dims = ((color.amax(1, keepdim=True) == 0) & (thin < LIMITS.deepest_shadow)).float()
    if (dims * region).mean() > LIMITS.largest_shadow:
        dims = torch.zeros_like(dims)
    through = transmission(compared, veil, dims, haze) + LIMITS.like_haze * (haze > 0)
    least = by_frame(least_alpha, seen, clean, variance)
    denser = blurred(torch.sub, (least, thin), 1.0, 0.5) > LIMITS.denser
    # A shadow lies beside the object that casts it, and a codec smears that object's edges into it: more misfit is
    # tolerated there.
    misfit = (blur(misfit, 1.2, 0.5) > LIMITS.fits * (1 + 3 * dims)) & (through < LIMITS.surely_thin)
    opaque = (((through < 0) & (thin - haze > LIMITS.thinnest_opaque)) | misfit | denser).float() * region
    veiled = region * (1 - opaque) * (1 - dims) * (haze == 0)
    opaque = torch.maximum(opaque, hides_texture(seen, clean, thin, veiled) * veiled)
    if opaque.mean() > LIMITS.background:
        opaque = _whole_background(opaque, compared, thin, haze)
    opaque = _smooth_labels(opaque)
    thin, color, dark = by_frame(_veil_below, thin, color, opaque, region)
    alpha, solid, solid_color = by_frame(
        partial(_with_opaque, limits), seen, clean, variance, thin, color, opaque, least * region
    )
    alpha, solid, thin = _steady([alpha, solid, thin], seen, clean, variance, limits)
    kinds = torch.cat([(solid / alpha.clamp_min(1e-4)).clamp(0, 1), dark], 1)
    color = by_frame(_mixed, solid, solid_color, thin, color, alpha)
    # The colour takes up the remaining error as far as noise at that alpha allows, so that layer over plate gives the
    # edited video.
    errors = blurred(lambda *frame: _left(*frame).square().mean(1, keepdim=True), (seen, clean, color, alpha), 1.5, 0.5)
    return by_frame(_with_error, seen, clean, color, alpha, variance, errors), alpha, kinds


def _veil_below(thin, color, opaque, region):
    """A frame's veil continued below the opaque parts: alpha, colour, and 1 where it only darkens."""
    veiled = (1 - grown(opaque, 2)) * region
    color = spread(color, veiled)
    return spread(thin, veiled) * region, color, (color.amax(1, keepdim=True) < LIMITS.darkening).float()


def _with_opaque(limits, *frame):
    """A frame's alpha of veil and opaque parts together, and alpha and straight colour of the opaque parts.

    frame: plate, edited video, variance; the veil's alpha and colour; the label of opaque parts; least alpha
    """
    seen, clean, variance, thin, color, opaque, least = frame
    behind = thin * color + (1 - thin) * seen
    solid, solid_color = _opaque(behind, clean, opaque, variance, limits)
    return torch.maximum(1 - (1 - solid) * (1 - thin), least), solid, solid_color


def _mixed(solid, solid_color, thin, color, alpha):
    """A frame's straight colour of opaque parts over the veil."""
    return (solid * solid_color + (1 - solid) * thin * color) / alpha.clamp_min(1e-4)


def _left(seen, clean, color, alpha):
    """A frame's error of layer over plate."""
    return clean - alpha * color - (1 - alpha) * seen


def _with_error(seen, clean, color, alpha, variance, errors):
    """A frame's straight colour with the error that is more than noise. errors: mean squares of `_left`."""
    own = (errors - 0.5 * variance).clamp_min(0)
    variety = (own / (alpha**2 + 1e-4)).clamp(1e-6, LIMITS.variety**2)
    return (color + alpha * _left(seen, clean, color, alpha) / (alpha**2 + variance / variety)).clamp(0, 1)


def least_alpha(seen: torch.Tensor, clean: torch.Tensor, variance: torch.Tensor) -> torch.Tensor:
    """Smallest alpha with which a colour in [0, 1] turns `seen` into `clean`, noise aside, (T, 1, H, W)."""
    change = clean - seen
    room = torch.where(change > 0, 1 - seen, seen).clamp_min(0.02)
    return ((change.abs() - 2 * variance.sqrt()).clamp_min(0) / room).amax(1, keepdim=True).clamp(0, 1)


def _steady(mattes, seen, clean, variance, limits):
    """The mattes (T, 1, H, W), averaged over limits.steadiness frames each way where plate and edited video stand
    still."""
    total, weights = [m.clone() for m in mattes], torch.ones_like(variance)
    for lag in range(1, min(limits.steadiness + 1, len(seen))):
        alike = by_frame(
            _stillness, *(v[part] for part in (slice(lag, None), slice(-lag)) for v in (seen, clean, variance))
        )
        for sums, m in zip(total, mattes):
            sums[lag:] += alike * m[:-lag]
            sums[:-lag] += alike * m[lag:]
        weights[lag:] += alike
        weights[:-lag] += alike
    return [sums / weights for sums in total]


def _stillness(seen, clean, variance, other_seen, other_clean, other_variance):
    """1 where two frames of plate and edited video are alike, falling to 0."""
    steps = [seen - other_seen, clean - other_clean]
    moved = sum(blur(d.square().mean(1, keepdim=True), 1.0) for d in steps) / (variance + other_variance)
    return torch.exp(-((0.7 * moved) ** 2))


def find_veil(compared: Comparison) -> torch.Tensor:
    """The one colour (3,) that explains most of the change as a veil of that colour.

    For a given colour, the alpha of each block is a least-squares solution. The colour with the smallest misfit is
    searched on a grid and refined by alternating least squares; the misfit of each block is bounded.
    """
    seen, clean, region, variance = compared.seen, compared.clean, compared.region, compared.variance
    block = [min(LIMITS.block, side) for side in region.shape[2:]]  # strips are thinner than a block
    inside = F.avg_pool2d(region, block)
    if not (inside > 0.5).any():
        return torch.ones(3)

    def means(seen, clean, region, variance):
        """Means over the blocks of a frame, (1, 11, h, w)."""
        squares = [(x * y).sum(1, keepdim=True) for x, y in ((seen, seen), (clean, seen), (clean, clean))]
        planes = [seen, clean, *squares, torch.ones_like(region), variance]
        return F.avg_pool2d(torch.cat(planes, 1) * region, block)

    found = by_frame(means, seen, clean, region, variance).movedim(1, 0)[:, inside[:, 0] > 0.5]
    s, c = found[:3].T.contiguous(), found[3:6].T.contiguous()
    ss, cs, cc, n, noise = found[6:]

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


def _translucent(compared, colors):
    """The veil whose pixels each have the one of the colours that explains them best."""
    seen, clean, variance = compared.seen, compared.clean, compared.variance
    found = []
    for e in colors:
        color = e[:, None, None]
        fine, near, along, size = by_frame(partial(_alphas, color=color), seen, clean, variance)
        coarse = blur(along, 0.0, 0.7) / blur(size, 0.0, 0.7).clamp_min(1e-6)
        own = blurred(lambda fine, coarse: (fine - coarse).square(), (fine, coarse), 1.5, 0.5)
        most = LIMITS.darkest if not e.any() else 1.0
        a = by_frame(partial(_detailed, most=most), fine, near, coarse, own)
        left = by_frame(partial(_misfit, color=color), seen, clean, variance, a)
        found.append((a, left, color.expand_as(seen)))
    (a, left, color), *others = found
    for b, other, e in others:
        better = (blur(other, 1.5, 0.5) < blur(left, 1.5, 0.5)).float()
        a, left, color = (by_frame(torch.lerp, *pair, better) for pair in ((a, b), (left, other), (color, e)))
    return VeilFit(a, color, left)


def _alphas(seen, clean, variance, color):
    """A frame's alpha of a veil of this colour from fine windows, their evidence, and sums over coarse windows in
    space: of the change along the way to the colour, and of the way's square."""
    towards = color - seen
    along = ((clean - seen) * towards).sum(1, keepdim=True) / variance
    size = (towards * towards).sum(1, keepdim=True) / variance
    near = blur(size, 0.7).clamp_min(1e-6)
    return blur(along, 0.7) / near, near, blur(along, 2.5), blur(size, 2.5)


def _detailed(fine, near, coarse, own, most):
    """A frame's alpha of a veil, with details as far as they are no noise. own: energy of `fine` minus `coarse`"""
    error = LIMITS.fine_error / near
    own = (own - error).clamp_min(0)  # energy of true fine detail of alpha
    sure = own / (own + error)
    return (sure * fine + (1 - sure) * coarse).clamp(0, most)


def _misfit(seen, clean, variance, alpha, color):
    """A frame's chi-square under a veil of this alpha and colour."""
    return (clean - seen - alpha * (color - seen)).square().mean(1, keepdim=True) / variance


def transmission(compared: Comparison, veil: VeilFit, dims: torch.Tensor, haze: torch.Tensor) -> torch.Tensor:
    """Evidence in nats for translucent against opaque, (T, 1, H, W): does the plate's texture show through?

    dims (T, 1, H, W): 1 where the veil only darkens. haze: as for `find_layers`.
    In a window, the slope of C on S, both high-passed, is 1 - a under a veil and 0 under an opaque part.
    Noise and the layer's own texture make the slope's error. Where the plate has no texture, the wider surroundings
    decide. Without any evidence a part is opaque, unless it only darkens.
    """
    seen, thin = compared.seen, veil.alpha
    asked = compared.region * (thin - haze > LIMITS.thinnest_opaque)
    nats = _texture_nats(compared, veil, dims, asked)
    wide, found = seen.shape[2] / 8, blur(nats, 1.5, 0.7)
    for kind in (dims, 1 - dims):  # a shadow and the object that casts it are judged apart
        n, a = nats * kind, asked * kind
        far = blur_widely(n, wide, 2.0) / blur_widely(n.abs() + 0.3 * a, wide, 2.0).clamp_min(1e-3)
        whole = n.sum() / (n.abs().sum() + 0.3 * a.sum()).clamp_min(1)
        found = found + kind * (1.5 * far + 3 * whole)
    return found + 4.0 * dims - 1.2 - 2.0 * (thin > 0.8)


def _texture_nats(compared, veil, dims, asked):
    """The part of `transmission` that single windows tell, 0 where `asked` is 0."""
    box = box_around(asked, TEXTURE_ROOM)
    if box is None:
        return torch.zeros_like(asked)
    videos = (compared.seen, compared.clean, asked, veil.alpha, veil.color, compared.variance)
    near, dims = [v[:, :, *box] for v in videos], dims[:, :, *box]
    nats = torch.zeros_like(dims)
    for sigmas in TEXTURE_WINDOWS:
        total, *sums = (blur(v, 0.0, 0.7) for v in by_frame(partial(_texture_sums, sigmas), *near))
        nats = by_frame(_show_through, nats, near[2], near[3], dims, total, *sums)
    return from_box(nats, box, asked.shape[2:])


def _texture_sums(sigmas, *frame):
    """A frame's sums over windows in space, (1, 1, H, W) each, of the weight `asked` and of what `_show_through` takes.

    sigmas: in pixels, of the high pass and of the window
    frame: plate, edited video, `asked`; the veil's alpha and colour; variance
    """
    seen, clean, asked, thin, color, variance = frame
    near = WeightedMeans(asked, sigmas[0])
    around = near(seen)
    s, c = seen - around, clean - near(clean)
    squares = [(x * y).sum(1, keepdim=True) for x, y in ((s, s), (s, c), (c, c))]
    errors = (
        _off_line(clean, around, color),
        _off_line(clean, seen, color),
        (1 - thin) ** 2 * _off_line(seen, around, color),  # the most that this place can contribute
    )
    planes = [*squares, 1 - thin, variance, *(v / variance for v in errors)]
    return tuple(blur(v, sigmas[1]) for v in (asked, *(asked * v for v in planes)))


def _show_through(nats, asked, thin, dims, total, *sums):
    """A frame's evidence `nats` and that of one size of windows; arguments as in `transmission`, `_texture_sums`."""
    total = total.clamp_min(1e-8)
    ss, sc, cc, kept, noise, plain, here, most = (v / total for v in sums)
    slope = sc / ss.clamp_min(1e-8)
    own = (cc - slope * sc).clamp_min(0) / 3 + noise.clamp_min(LIMITS.slack**2)  # variance of the layer's texture
    # A veil of this alpha cannot leave so much contrast: the part is the plate in other colours, which is opaque.
    recoloured = (slope > kept + LIMITS.most_contrast) & (dims == 0)
    opaque = torch.where(recoloured, 0.0, slope**2)
    found = 0.5 * LIMITS.samples * ss / 3 * (opaque - (slope - kept) ** 2) / own
    nats = nats + found.clamp(-4, 4) * asked
    plain = torch.minimum(torch.maximum(plain, here - most), here + most)
    # A dense veil hides the difference, so that its evidence counts less.
    found = LIMITS.samples * ((plain + 1) / (here + 1)).log() * (2 - 2 * thin).clamp(max=1)
    return nats + found.clamp(-4, 4) * asked


def hides_texture(seen: torch.Tensor, clean: torch.Tensor, thin: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Where the plate's texture is surely hidden, however small the change is as a veil, (T, 1, H, W) of bools.

    A new background can be as bright as the old one. The test is that of `transmission`, in windows so wide that faint
    texture counts. Pixels whose window tells nothing follow the others, if these agree.

    thin, asked (T, 1, H, W): alpha of the veil fit, and 1 where the question is asked
    """
    hidden, shows = _texture(seen, clean, thin, asked)
    mostly = (hidden * asked).sum() > LIMITS.mostly_hides * (shows * asked).sum()
    return hidden | (~shows & mostly & (hidden * asked).any())


def _whole_background(opaque, compared, thin, haze):
    """The opaque part of a new background with all of the change in which the plate's texture does not surely show.

    The soft edges of what is kept are left out: slivers, and what lies beside it.
    """
    region, radius = compared.region, _reach(opaque)
    rest = region * (1 - opaque) * (haze == 0)
    beside = grown(shrunk(1 - region, 1), 2 * radius)
    rest = rest * torch.maximum(grown(shrunk(rest, radius), radius), 1 - beside)
    return torch.maximum(opaque, rest * ~_texture(compared.seen, compared.clean, thin, rest)[1])


def _texture(seen, clean, thin, asked):
    """Where the plate's texture is surely hidden, and where it surely shows, (T, 1, H, W) of bools; false where `asked`
    is 0."""
    fine, window, size = LIMITS.hiding_detail, LIMITS.hiding_window, asked.shape[2:]
    step = step_of(window)
    box = box_around(asked, step * (len(half_kernel(window / step)) + 1), step)
    if box is None:
        nowhere = torch.zeros_like(asked, dtype=torch.bool)
        return nowhere, nowhere
    near = [v[:, :, *box] for v in (seen, clean, thin, asked)]
    part = blur_small(by_frame(partial(_hidden_sums, sigmas=(fine, window)), *near), window, 1.0)
    rows, columns = (slice(s.start // step, s.start // step + n) for s, n in zip(box, part.shape[2:], strict=True))
    small = from_box(part, (rows, columns), [-(-n // step) for n in size])  # enlarged as a whole frame is
    found = by_frame(lambda sums: _hides(enlarged(sums, size)[:, :, *box], window), small)
    hidden, shows = (from_box(v, box, size) & (asked > 0) for v in found)
    return hidden, shows


def _hidden_sums(seen, clean, thin, asked, sigmas):
    """A frame's values (1, 5, h, w) whose means in windows tell whether texture is hidden, shrunk for that window.

    sigmas: in pixels, of the high pass and of the window
    """
    near = WeightedMeans(asked, sigmas[0])
    s, c = ((v - near(v)) * asked for v in (seen, clean))
    products = [(x * y).mean(1, keepdim=True) for x, y in ((s, s), (s, c), (c, c))]
    return shrunk_for(torch.cat([*products, (1 - thin) * asked, asked], 1), sigmas[1])


def _hides(sums, window):
    """Where a frame's texture is surely hidden, and where it surely shows, by means of `_hidden_sums`."""
    ss, sc, cc, left, count = sums.split(1, 1)
    slope = sc / ss.clamp_min(1e-9)
    own = (cc - slope * sc).clamp_min(0) + LIMITS.least_own**2 * count
    error = LIMITS.surely_hides * (own / ss.clamp_min(1e-9) / (LIMITS.samples * (window / 2.5) ** 2)).sqrt()
    beyond = slope - LIMITS.hides * left / count.clamp_min(1e-6)  # texture that shows, beyond what a hidden one may
    return beyond + error < 0, beyond - error > 0


def _off_line(clean, base, color):
    """Squared distance per channel of `clean` from the line between `base` and the layer's colour, (T, 1, H, W)."""
    towards, change = color - base, clean - base
    a = ((change * towards).sum(1, keepdim=True) / towards.square().sum(1, keepdim=True).clamp_min(1e-6)).clamp(0, 1)
    return (change - a * towards).square().mean(1, keepdim=True)


def _smooth_labels(opaque):
    """The labels with holes closed and specks removed, by majority in space and time."""
    for _ in range(2):
        opaque = (blur(opaque, 1.2, 0.7) > 0.5).float()
    closed = torch.maximum(opaque, shrunk(grown(opaque, 1), 1))
    radius = _reach(opaque) - 1
    return torch.minimum(closed, grown(shrunk(closed, radius), radius + 1))  # a part without interior is not opaque


def _reach(video):
    """Width of the widest soft edge in pixels; smaller in frames below 100 lines."""
    return 3 if video.shape[2] >= 100 else 2


def _opaque(behind, clean, opaque, variance, limits):
    """Alpha and straight colour of the opaque parts over `behind`.

    Deep inside alpha is 1. At an edge alpha is the share of the part's own colour. That colour is taken from the purest
    pixels near by, those that differ most from `behind`.
    """
    far = (clean - behind).square().sum(1, keepdim=True)
    purity = opaque * (far / grown(far * opaque, 2).clamp_min(1e-5)).clamp(0, 1) ** 3
    color = spread(clean, torch.maximum(shrunk(opaque, 4), purity))
    towards = color - behind
    along = ((clean - behind) * towards).sum(1, keepdim=True) / variance
    size = towards.square().sum(1, keepdim=True) / variance
    # Where both sides have the same colour, the label decides: it is a prior with weight 2.
    edge = (blur(along + 2 * opaque, 0.5) / (blur(size, 0.5) + 2)).clamp(0, 1)
    differs = (blur(far / variance, 0.7) > 3 * LIMITS.unseen).float()
    edge = (0.5 + limits.edge * (edge - 0.5)).clamp(0, 1) * grown(opaque, 1) * differs
    # Shading inside a part that comes near the plate's colour must leave no hole,
    radius = _reach(opaque)
    core = shrunk(shrunk(grown((edge > 0.6).float(), 2), 2) * opaque, 1)
    deep = shrunk(opaque * shrunk(grown(differs, radius), radius), radius)
    # unless the pixel is certainly the plate's, as a kept subject before a new background.
    kept = (differs == 0) & (blur(size, 0.5) > 100)
    core = torch.maximum(core, deep) * ~kept
    return torch.maximum(core, edge), torch.lerp(color, clean, core)
