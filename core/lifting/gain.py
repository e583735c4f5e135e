"""Changes that multiply the plate: relight, grade, day to night, recolour. A gain a channel, smooth inside its region.

Beside opaque and veil this is the third thing that a change can be. The evidence is the plate's texture, which shows
through it in full, in colours that no veil of one colour makes. What is delivered is made of the plate's own detail.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from vera.core.layer.spread import spread
from vera.core.lifting.smooth import blur, blur_widely, grown, shrunk, weighted


@dataclass(frozen=True)
class GainLimits:
    """Thresholds of this method.

    most: gain; brighter is a light of its own. windows: sigmas in pixels of the high pass and of the window in which
    texture is compared. samples: independent ones in a window. most_nats: of one window, for or against.
    least_nats: from which a pixel is a gain's; raising it leaves more to veils and to opaque things.
    floor: error in the code range that says nothing; raising it takes more texture to tell by.
    wide: nats that the wider surroundings add, where all of them say the same.
    unsure: of evidence, which a place without any has against a gain. fine, coarse: sigmas in pixels of the field,
    the fine one where noise lets it be known. sharp_edge, soft_edge: sigmas in pixels of the matte's edge where the
    change ends at once, and where it fades. seen_edge: chi-square of the change from which its edge is seen.
    mostly, least_area: of a connected change the share that must look like a gain's, and of the clip the share that it
    must have; then all of it is, but for what the field does not explain. Lower, chance makes gains of objects' edges.
    rounds: of fitting the field without what it does not explain. as_usual, least_error: what errs more than so many
    times as usual, and by that in the code range, is something laid over; raising them swallows faint objects.
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


LIMITS = GainLimits()


@dataclass(frozen=True)
class Gain:
    """field (T, 3, H, W): the plate's colours times this; matte (T, 1, H, W) in [0, 1]: where; explained (T, 1, H,
    W): 0
    where something else was laid over it."""

    field: torch.Tensor
    matte: torch.Tensor
    explained: torch.Tensor

    def over(self, video: torch.Tensor) -> torch.Tensor:
        """The video (T, 3, H, W) with the gain on it, in [0, 1]."""
        return torch.lerp(video, self.lit(video), self.matte)

    def lit(self, video: torch.Tensor) -> torch.Tensor:
        """The video with the gain everywhere, in [0, 1]."""
        return (video * self.field).clamp(0, 1)


def find_gain(
    seen: torch.Tensor,
    clean: torch.Tensor,
    region: torch.Tensor,
    variance: torch.Tensor,
    left: torch.Tensor,
    limits: GainLimits = LIMITS,
) -> Gain | None:
    """The gain among what changed, or None.

    seen, clean (T, 3, H, W), region, variance (T, 1, H, W): as find_layers takes them; left (T, 3, H, W): what
    the best veil leaves, which the gain has to beat.
    """
    nats = _evidence(seen, clean, region, left, limits)
    label = (nats > limits.least_nats).float() * region
    for _ in range(2):
        label = (blur(label, 2.0, 0.7) > 0.5).float() * region
    label = _mostly(label, region, limits)
    label = grown(shrunk(label, 3), 3) * label  # specks and hairs removed
    if not label.any():
        return None
    explained = torch.ones_like(label)
    for _ in range(limits.rounds):
        field = _field(seen, clean, label * explained, variance, limits)
        explained = _explained(seen, clean, field, label, limits)
    field = _field(seen, clean, label * explained, variance, limits)
    return Gain(field, _matte(seen, clean, field, label, region, variance, limits), explained)


def _evidence(seen, clean, region, left, limits):
    """Nats for a gain against the better of opaque and veil, (T, 1, H, W).

    In windows: what is left of the edited video's texture under a gain, beside all of it (opaque), and beside what a
    veil leaves of texture and level together.
    """
    nats = torch.zeros_like(region)
    floor, most = limits.floor**2, limits.most_nats / limits.samples
    for fine, window in limits.windows:
        mean = lambda v: weighted(v.square().mean(1, keepdim=True), region, window, 0.7)  # noqa: B023, E731
        ours, theirs = weighted(seen, region, fine), weighted(clean, region, fine)
        gain = (theirs / ours.clamp_min(0.02)).clamp(0, limits.most)
        fine_ours, fine_theirs = seen - ours, clean - theirs
        rest = mean(fine_theirs - gain * fine_ours) + floor
        opaque = ((mean(fine_theirs) + floor) / rest).log()
        veil = ((mean(left) + floor) / rest).log()
        nats = nats + 0.5 * limits.samples * torch.minimum(opaque, veil).clamp(-most, most) * region
    wide = seen.shape[2] / 8
    sums = blur_widely(nats.abs() + limits.unsure * region, wide, 2.0)
    return blur(nats, 2.0, 0.7) + limits.wide * blur_widely(nats, wide, 2.0) / sums.clamp_min(1e-3)


def _mostly(label, region, limits):
    """The connected changes that are labelled for the most part, and not too small, each as a whole, (T, 1, H, W)."""
    parts, count = ndimage.label(grown(region, 1)[:, 0].bool().numpy(), np.ones((3, 3, 3)))
    inside, numbers = region[:, 0].numpy(), range(1, count + 1)
    labelled = ndimage.sum_labels(label[:, 0].numpy() * inside, parts, numbers)
    size = ndimage.sum_labels(inside, parts, numbers)
    taken = (labelled > limits.mostly * size) & (size > limits.least_area * inside.size)
    return torch.from_numpy(np.concatenate([[False], taken])[parts]).float()[:, None] * region


def _explained(seen, clean, field, label, limits):
    """Where the field leaves no more than it leaves elsewhere, (T, 1, H, W): the rest is something laid over.

    Errors are held against the plate's texture there: what a codec or a model makes anew errs where there is detail.
    """
    left = blur((clean - field * seen).square().mean(1, keepdim=True), 2.0, 0.7)
    texture = blur(((seen - blur(seen, 2.0)) * field).square().mean(1, keepdim=True), 4.0, 0.7)
    share = left / (limits.floor**2 + texture)
    unusual = (share > limits.as_usual * share[label > 0].median()) & (left > limits.least_error**2)
    return 1 - grown(shrunk(unusual.float(), 2), 3)


def _field(seen, clean, label, variance, limits):
    """The gain (T, 3, H, W) of what is labelled, carried on beyond it."""
    inside = label * (blur(label, 1.0) > 0.7)  # edges are mixed
    ratio = lambda s, t: weighted(clean, inside, s, t) / weighted(seen, inside, s, t).clamp_min(0.01)  # noqa: E731
    fine, coarse = ratio(limits.fine, 0.7), ratio(limits.coarse, 0.7)
    apart = blur(((fine - coarse) * seen).square(), 2.0, 0.7)
    error = variance / (4 * torch.pi * limits.fine**2)
    known = (apart - error).clamp_min(0) / apart.clamp_min(1e-8)
    field = torch.lerp(coarse, fine, known).clamp(0, limits.most)
    return spread(field, inside)


def _matte(seen, clean, field, label, region, variance, limits):
    """1 inside, its edge where the picture shows it, else soft."""
    towards = field * seen - seen
    size = blur(towards.square().sum(1, keepdim=True) / variance, 1.0)
    along = blur(((clean - seen) * towards).sum(1, keepdim=True) / variance, limits.sharp_edge)
    edge = (along / blur(towards.square().sum(1, keepdim=True) / variance, limits.sharp_edge).clamp_min(1e-3)).clamp(
        0, 1
    )
    soft = (2 * blur(label, limits.soft_edge) - 0.5).clamp(0, 1)
    ring = torch.lerp(soft, edge, (size / limits.seen_edge).clamp(0, 1))
    core = shrunk(label, 2)
    return torch.maximum(core, ring) * grown(label, 1) * region
