"""Find changes that multiply the plate (relight, grade, day to night, recolour): a smooth gain per channel.

A change is opaque, a veil, or a gain. The evidence for a gain is the plate's texture: it shows in full, in colours that
no veil of one colour can produce. The delivered colour is made from the plate's own detail.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from scipy.ndimage import binary_propagation

from vera.core.layer.spread import spread
from vera.core.lifting.smooth import (
    Box,
    WeightedMeans,
    blur,
    blur_widely,
    blurred,
    box_around,
    by_frame,
    grown,
    shrunk,
    weighted,
)
from vera.kernels.order import median_size


@dataclass(frozen=True)
class GainLimits:
    """Thresholds of the gain detection. Evidence is in nats; positive means a gain.

    most: largest gain; a brighter change is a light of its own
    windows: Gaussian sigmas in pixels (of the high pass, of the window) in which texture is compared
    samples: independent samples in one window; raising it strengthens the evidence of each window
    most_nats: bound on the evidence of one window, for or against
    least_nats: evidence from which a pixel belongs to a gain. Raising it leaves more to veils and opaque parts.
    wide: nats that the surroundings add where all of them agree
    floor: error as a share of the code range that is ignored. Raising it requires stronger texture.
    unsure: evidence against a gain where there is no texture
    fine, coarse: Gaussian sigmas in pixels of the gain field; the fine one is used where noise allows
    sharp_edge, soft_edge: Gaussian sigmas in pixels of the matte's edge, for a hard and for a fading end
    seen_edge: chi-square of the change at which its edge counts as visible
    mostly, least_area: share of a connected change that must look like a gain, and share of the clip that the change
        must cover; then all of it is a gain, except for parts that the field does not explain. Lower values turn the
        edges of objects into gains by chance.
    rounds: fits of the field, each without the pixels that the last one does not explain
    as_usual, least_error: a pixel is something laid over the gain if its error exceeds `as_usual` times the median and
        `least_error` of the code range. Raising them loses faint objects.
    clipped: value of a channel from which the light has clipped it, which tells nothing of the gain. Lowering it leaves
        out more.
    most_curved: largest power of the plate's colours, and the inverse of the smallest
    straight: squared contrast, in logarithms, below which the power is drawn to 1
    darkest: value below which the power is not measured
    follows: share of the gain down to which it is followed beyond the found change. Lowering it follows drift.
    faint, least_seen: root of the change's mean square over a channel, as a share of the code range, up to which it is
        followed, and from which its share can be told. Raising `faint` follows a codec's smear.
    reach: blurred label from which a pixel is near enough to be followed; lowering it follows further
    explains, explained_detail: share of a connected change that the field must explain, and Gaussian sigma in pixels
        of what is compared. Raising the share loses faint retouches; lowering it takes a moving thing that a codec has
        smeared for a gain.
    """

    most: float = 4.0
    windows: tuple[tuple[float, float], ...] = ((2.0, 2.5), (6.0, 6.0))
    samples: float = 8.0
    most_nats: float = 6.0
    least_nats: float = 0.5
    wide: float = 4.0
    floor: float = 0.006
    unsure: float = 0.3
    fine: float = 2.5
    coarse: float = 6.0
    sharp_edge: float = 0.7
    soft_edge: float = 3.0
    seen_edge: float = 60.0
    mostly: float = 0.5
    rounds: int = 3
    as_usual: float = 12.0
    least_error: float = 0.03
    least_area: float = 0.005
    clipped: float = 0.985
    most_curved: float = 1.6
    straight: float = 1e-4
    darkest: float = 0.02
    follows: float = 0.2
    faint: float = 0.06
    least_seen: float = 0.004
    reach: float = 0.002
    explains: float = 0.9
    explained_detail: float = 2.0


LIMITS = GainLimits()
WINDOW_ROOM = 16  # pixels around the change in which it is compared: at least the reach of one of `windows`


@dataclass(frozen=True)
class Comparison:
    """A window of the plate beside the edited video, with what was measured of both.

    seen (T, 3, H, W): the plate with the edited video's loss of detail
    clean (T, 3, H, W): the edited video without its drift
    region (T, 1, H, W): 1 where something changed
    variance (T, 1, H, W): of the noise, per channel
    """

    seen: torch.Tensor
    clean: torch.Tensor
    region: torch.Tensor
    variance: torch.Tensor

    def __post_init__(self) -> None:
        assert self.seen.shape == self.clean.shape
        assert self.region.shape == self.variance.shape == self.seen[:, :1].shape

    def part(self, box: Box) -> "Comparison":
        """Those rows and columns."""
        return Comparison(*(v[:, :, *box] for v in (self.seen, self.clean, self.region, self.variance)))


@dataclass(frozen=True)
class Gain:
    """The plate's colours to the power of the curve, times the field.

    field (T, 3, H, W): the factor
    matte (T, 1, H, W) in [0, 1]: where the factor applies
    explained (T, 1, H, W): 0 where something else lies over the gain, else 1
    curve (3,): the power of each channel
    """

    field: torch.Tensor
    matte: torch.Tensor
    explained: torch.Tensor
    curve: torch.Tensor

    def over(self, video: torch.Tensor) -> torch.Tensor:
        """The video (T, 3, H, W) with the gain on it, in [0, 1]."""
        return by_frame(
            lambda v, field, matte: torch.lerp(v, self._lit(v, field), matte), video, self.field, self.matte
        )

    def lit(self, video: torch.Tensor) -> torch.Tensor:
        """The video with the gain everywhere, in [0, 1]."""
        return by_frame(self._lit, video, self.field)

    def _lit(self, video, field):
        return (_curved(video, self.curve) * field).clamp(0, 1)

    def slope(self, video: torch.Tensor) -> torch.Tensor:
        """Factor on small changes of the video, (T, 3, H, W)."""
        power = self.curve[:, None, None]
        return self.field * power * video.clamp_min(LIMITS.darkest) ** (power - 1)


def find_gain(compared: Comparison, left: torch.Tensor, limits: GainLimits = LIMITS) -> Gain | None:
    """The gain among the changes, or None. left (T, 3, H, W): residual of the best veil; the gain must leave less."""
    seen, clean, region, variance = compared.seen, compared.clean, compared.region, compared.variance
    assert left.shape == seen.shape
    nats = _evidence(seen, clean, region, left, limits)
    label = (nats > limits.least_nats).float() * region
    for _ in range(2):
        label = (blur(label, 2.0, 0.7) > 0.5).float() * region
    label = _mostly(label, region, limits)
    label = grown(shrunk(label, 3), 3) * label  # specks and hairs removed
    if not label.any():
        return None
    explained = torch.ones_like(label)
    curve = _curve(seen, clean, label, limits)
    base = by_frame(lambda seen: _curved(seen, curve), seen)
    field = _field(base, clean, label * explained, variance, limits)
    for _ in range(limits.rounds):
        last, explained = explained, _explained(base, clean, field, label, limits)
        if torch.equal(label * last, label * explained):
            break
        field = _field(base, clean, label * explained, variance, limits)
    lit = base.mul_(field).clamp_(0, 1)
    label = _explains(seen, clean, lit, label, explained, limits)
    if not label.any():
        return None
    matte = torch.maximum(_matte(compared, lit, label, limits), _fading(seen, clean, lit, label, limits))
    return Gain(field, matte, explained, curve)


def _evidence(seen, clean, region, left, limits):
    """Evidence in nats for a gain against the better of opaque and veil, (T, 1, H, W).

    Each window compares the edited video's texture that a gain does not explain with all of its texture (opaque), and
    with the texture and level that a veil does not explain.
    """
    nats = torch.zeros_like(region)
    floor, most = limits.floor**2, limits.most_nats / limits.samples

    def of_window(nats, region, squares):
        rest, opaque, veil = (squares[:, :3] / squares[:, 3:].clamp_min(1e-8) + floor).split(1, 1)
        least = torch.minimum((opaque / rest).log(), (veil / rest).log())
        return nats + 0.5 * limits.samples * least.clamp(-most, most) * region

    box = box_around(region, WINDOW_ROOM)
    if box is None:
        return nats
    near = [v[:, :, *box] for v in (seen, clean, left, region)]
    found = nats[:, :, *box]
    for sigmas in limits.windows:
        squares = by_frame(partial(_squares, sigmas=sigmas, limits=limits), *near)
        found = by_frame(of_window, found, near[-1], blur(squares, 0.0, 0.7))
    nats[:, :, *box] = found
    wide = seen.shape[2] / 8
    sums = blur_widely(nats.abs() + limits.unsure * region, wide, 2.0)
    return blur(nats, 2.0, 0.7) + limits.wide * blur_widely(nats, wide, 2.0) / sums.clamp_min(1e-3)


def _squares(seen, clean, left, region, sigmas, limits):
    """A frame's sums over a window, (1, 4, H, W): squared errors of a gain, of an opaque part and of a veil, and the
    region.

    left: residual of the veil. sigmas: of the high pass and the window.
    """
    fine, window = sigmas
    tells = _tells(seen, clean, limits) * region
    near = WeightedMeans(tells, fine)
    ours, theirs = near(seen), near(clean)
    gain = (theirs / ours.clamp_min(0.02)).clamp(0, limits.most)
    texture = clean - theirs
    errors = (texture - gain * (seen - ours), texture, left)
    squares = [(error * tells).square().mean(1, keepdim=True) * region for error in errors]
    return blur(torch.cat([*squares, region], 1), window)


def _curve(seen, clean, label, limits):
    """The power of each channel, (3,): slope of the edited video's logarithm on the plate's.

    Both are limited to details between 2 and 8 pixels: codecs keep them, and a light does not change over them.
    """
    weight, both, own = by_frame(partial(_log_details, limits=limits), seen, clean, label)
    both, own, count = (v.sum((0, 2, 3)) for v in (both, own, weight))
    slope = (both + limits.straight * count) / (own + limits.straight * count).clamp_min(1e-6)
    return torch.where(count > 0, slope, 1).clamp(1 / limits.most_curved, limits.most_curved)


def _log_details(seen, clean, label, limits):
    """A frame's weight, and weighted products of the plate's details with those of the edited video and with itself."""
    dark = limits.darkest
    weight = label * _tells(seen, clean, limits) * (seen > 2 * dark) * (clean > dark)
    logs = [v.clamp_min(dark).log() for v in (seen, clean)]
    fine, coarse = WeightedMeans(weight, 2.0), WeightedMeans(weight, 8.0)
    ours, theirs = (fine(v) - coarse(v) for v in logs)
    return weight, weight * (ours * theirs), weight * (ours * ours)


def _curved(video, curve):
    """The video (T, 3, H, W) to the power of the curve (3,)."""
    return video.clamp_min(1e-4) ** curve[:, None, None]


def _tells(seen, clean, limits):
    """1 where a channel tells its gain, 0 where the light has clipped it, (T, 3, H, W)."""
    return 1 - ((clean >= limits.clipped) & (seen < clean)).float()


def _mostly(label, region, limits):
    """All pixels of the connected changes that are mostly labelled and large enough, (T, 1, H, W)."""
    parts, count = ndimage.label(grown(region, 1)[:, 0].bool().numpy(), np.ones((3, 3, 3)))
    inside, numbers = region[:, 0].numpy(), range(1, count + 1)
    labelled = ndimage.sum_labels(label[:, 0].numpy() * inside, parts, numbers)
    size = ndimage.sum_labels(inside, parts, numbers)
    taken = (labelled > limits.mostly * size) & (size > limits.least_area * inside.size)
    return torch.from_numpy(np.concatenate([[False], taken])[parts]).float()[:, None] * region


def _explained(seen, clean, field, label, limits):
    """1 where the field errs no more than usual, 0 where something lies over the gain, (T, 1, H, W).

    Errors are taken relative to the plate's texture: a codec or a model errs more where there is detail.
    """

    def error(seen, clean, field):
        return (clean - (field * seen).clamp(0, 1)).square().mean(1, keepdim=True)

    def detail(seen, field):
        return ((seen - blur(seen, 2.0)) * field).square().mean(1, keepdim=True)

    left, texture = blurred(error, (seen, clean, field), 2.0, 0.7), blurred(detail, (seen, field), 4.0, 0.7)
    share = left / (limits.floor**2 + texture)
    unusual = (share > limits.as_usual * median_size(share, label, 0)) & (left > limits.least_error**2)
    return 1 - grown(shrunk(unusual.float(), 2), 3)


def _explains(seen, clean, lit, label, explained, limits):
    """The label's connected parts whose change the gain explains, (T, 1, H, W), apart from what lies over it.

    A codec that smears a moving thing changes it as a gain does, but less evenly: on training clips of known truth,
    gains explain 91 to 100 % of a change, and 19 to 97 % of a smear.
    """
    change, left = (
        (blur(v, limits.explained_detail).square().sum(1, keepdim=True) * label * explained)[:, 0].numpy()
        for v in (clean - seen, clean - lit)
    )
    parts, count = ndimage.label(grown(label, 1)[:, 0].bool().numpy(), np.ones((3, 3, 3)))
    change, left = (ndimage.sum_labels(v, parts, range(count + 1)) for v in (change, left))
    taken = left < (1 - limits.explains) * change
    taken[0] = False
    return torch.from_numpy(taken[parts]).float()[:, None] * label


def _field(seen, clean, label, variance, limits):
    """The gain (T, 3, H, W) of the labelled pixels, extrapolated to all others."""
    inside = by_frame(lambda label: label * (blur(label, 1.0) > 0.7), label)  # edge pixels mix two colours
    return torch.cat(
        [_channel_field(s, c, inside, variance, limits) for s, c in zip(seen.split(1, 1), clean.split(1, 1))], 1
    )


def _channel_field(seen, clean, inside, variance, limits):
    """The gain (T, 1, H, W) of one channel; inside (T, 1, H, W): 1 where it is measured."""
    inside = by_frame(lambda seen, clean, inside: inside * _tells(seen, clean, limits), seen, clean, inside)
    means = (WeightedMeans(inside, sigma, 0.7) for sigma in (limits.fine, limits.coarse))
    fine, coarse = (mean(clean).div_(mean(seen).clamp_(min=0.01)) for mean in means)
    apart = blurred(lambda fine, coarse, seen: ((fine - coarse) * seen).square(), (fine, coarse, seen), 2.0, 0.7)

    def mixed(fine, coarse, apart, inside, variance):
        if not inside.any():  # a channel clipped everywhere is as bright as can be
            return torch.full_like(fine, limits.most)
        error = variance / (4 * torch.pi * limits.fine**2)
        known = (apart - error).clamp_min(0) / apart.clamp_min(1e-8)
        return spread(torch.lerp(coarse, fine, known).clamp(0, limits.most), inside)

    return by_frame(mixed, fine, coarse, apart, inside, variance)


def _matte(compared, lit, label, limits):
    """The gain's matte (T, 1, H, W): 1 inside; the edge follows the picture where it is visible, else it is soft."""

    def of_frame(seen, clean, region, variance, lit, label):
        towards = lit - seen
        size = towards.square().sum(1, keepdim=True) / variance
        along = blur(((clean - seen) * towards).sum(1, keepdim=True) / variance, limits.sharp_edge)
        edge = (along / blur(size, limits.sharp_edge).clamp_min(1e-3)).clamp(0, 1)
        soft = (2 * blur(label, limits.soft_edge) - 0.5).clamp(0, 1)
        ring = torch.lerp(soft, edge, (blur(size, 1.0) / limits.seen_edge).clamp(0, 1))
        return torch.maximum(shrunk(label, 2), ring) * grown(label, 1) * region

    return by_frame(of_frame, compared.seen, compared.clean, compared.region, compared.variance, lit, label)


def _fading(seen, clean, lit, label, limits):
    """The gain's matte beyond the found change, (T, 1, H, W): where the change was too faint to be found.

    Without it, a retouch that fades into the plate would end in a step. The matte is the share of the extrapolated
    gain that the edited video shows, in windows, where that share falls continuously.
    """

    def along_and_size(seen, clean, lit):
        towards = lit - seen
        return torch.cat([((clean - seen) * towards).sum(1, keepdim=True), towards.square().sum(1, keepdim=True)], 1)

    products, outside = by_frame(along_and_size, seen, clean, lit), 1 - label
    along, size = weighted(products, outside, limits.soft_edge, 1.0).split(1, 1)
    share = along / (size + 3 * limits.least_seen**2)
    faint = size < 3 * limits.faint**2
    near = blur(label, 2 * limits.soft_edge) > limits.reach
    followed = ((share > limits.follows) & faint & near).float() * outside
    core = grown(shrunk(label, 3), 5) * label  # hairs of a found change are no place to start
    both = binary_propagation(core[:, 0].bool().numpy(), np.ones((3, 3, 3)), mask=((followed + core) > 0)[:, 0].numpy())
    ring = followed * torch.from_numpy(both)[:, None]
    share = (weighted(share, ring, limits.sharp_edge) - limits.follows) / (1 - limits.follows)
    return share.clamp(0, 1) * ring
