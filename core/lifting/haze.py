"""Haze: what lies softly over the whole frame in one colour, as fog, rays of light or the veil of far snow.

Haze and drift of colour look alike. They are told apart by what they can be: drift scales each channel by a few
per cent as it likes; haze takes one share of every channel's contrast, and gives its own colour for it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.core.lifting.drift import cells, cosines
from vera.core.lifting.smooth import blur, weighted_median

CELL = 8  # pixels averaged: of contrast at that size a codec takes nothing
SAMPLES = 20_000  # cells looked at
GAIN_WAVES, HAZE_WAVES = (2, 3, 4), (2, 5, 7)  # in time (one more in 16 frames), height, width
GAIN, OFFSET, ALPHA = 0.02, 0.004, 0.3  # standard deviations of drift and haze, of the slowest waves
STEP = 0.2  # and of the colour's, a round
COLORS = ((0.3,) * 3, (0.6,) * 3, (0.8,) * 3, (0.95,) * 3, (1.0, 0.85, 0.5))  # to begin with
ROUNDS = 20
ALIKE = 25  # cells whose errors are one
LOCAL, REACH = 0.1, 1.0  # how far alpha leaves its waves, and within how many cells it is told
MOST = 0.9  # alpha
THREE = 1.54  # median size of three Gaussians of standard deviation one
LEAST_SHOWN = 0.2  # share of the frame in which the plate shows
# What makes it sure: nats, and what a cell errs by at most; mean alpha and mean change; share of the frame that it
# explains.
EVIDENCE, WORST, LEAST, LEAST_EFFECT, EXPLAINED = 40.0, 0.02, 0.02, 0.006, 0.6
LEAST_TOLD = 0.01  # mean alpha of a shot's haze from which people are told of it
ENOUGH = 4000  # cells: of more, each has to bear as much, for what a codec does wrong everywhere adds up too


@dataclass(frozen=True)
class Haze:
    """alpha (T, 1, H, W) in [0, 0.9] and straight colour (3,) in [0, 1]."""

    alpha: torch.Tensor
    color: torch.Tensor

    def over(self, video: torch.Tensor) -> torch.Tensor:
        """The video (T, 3, H, W) behind the haze."""
        return torch.lerp(video, self.color[:, None, None], self.alpha)

    def removed(self, video: torch.Tensor) -> torch.Tensor:
        """The inverse of over(); not clamped."""
        return (video - self.alpha * self.color[:, None, None]) / (1 - self.alpha)


def find_haze(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> Haze | None:
    """The haze that edited (T, 3, H, W) has over the plate, or None; trust (T, 1, H, W): where the plate is seen.

    Two models of edited less plate, both by robust least squares on cosine waves: drift alone, and drift with haze
    of one colour. The second is believed where it explains much better what most of the frame shows. Alpha is then
    told cell by cell, the waves its prior.
    """
    weight, p, e = cells(plate, edited, trust, CELL)
    waves = lambda counts: cosines((len(p), p.shape[2], p.shape[3]), (counts[0] + len(p) // 16, counts[1], counts[2]))  # noqa: E731
    (slow, slow_order), (soft, soft_order) = waves(GAIN_WAVES), waves(HAZE_WAVES)
    shown = weight[:, 0] > 0
    if shown.float().mean() < LEAST_SHOWN:
        return None
    thinned = lambda v: v.movedim(1, -1)[shown][:: -(-int(shown.sum()) // SAMPLES)]  # noqa: E731
    data = _Cells(
        thinned(slow.transpose(0, 1)), thinned(soft.transpose(0, 1)), thinned(p), thinned(e - p), thinned(weight)[:, 0]
    )
    prior = [
        ((1 + slow_order) / GAIN).repeat(3),
        torch.full((3,), 1 / OFFSET),
        (1 + soft_order) / ALPHA,
        torch.full((3,), 1 / STEP),
    ]
    drift = _fit(data, torch.cat(prior[:2]) ** 2)
    haze = min((_fit(data, torch.cat(prior) ** 2, torch.tensor(c)) for c in COLORS), key=lambda fit: fit.cost)
    evidence = data.misfit(drift.error, haze.scale) - data.misfit(haze.error, haze.scale)
    if evidence < EVIDENCE * max(1, len(data.weight) / ENOUGH) or haze.scale > WORST:
        return None
    drifted = lambda v: v + torch.einsum("ck,kthw->tchw", haze.gain, slow) * v + haze.offset[:, None, None]  # noqa: E731
    towards = lambda v: haze.color[:, None, None] - v  # noqa: E731
    alpha = _by_cell(
        e - drifted(p), towards(p), weight, torch.einsum("k,kthw->thw", haze.alpha, soft)[:, None], haze.scale
    )
    alpha = alpha.clamp(0, MOST)
    effect = (alpha * towards(p)).abs().mean(1)[shown].mean()
    everywhere = [F.avg_pool2d(v, CELL, ceil_mode=True) for v in (plate, edited)]
    left = everywhere[1] - drifted(everywhere[0]) - alpha * towards(everywhere[0])
    explained = (left.square().sum(1).sqrt() < 5 * THREE * haze.scale).float().mean()
    if alpha.mean() < LEAST or effect < LEAST_EFFECT or explained < EXPLAINED:
        return None
    return Haze(F.interpolate(alpha, plate.shape[2:], mode="bicubic", align_corners=False).clamp(0, MOST), haze.color)


@dataclass
class _Cells:
    """slow (N, k), soft (N, m): the waves at N cells; plate, change (N, 3); weight (N,)."""

    slow: torch.Tensor
    soft: torch.Tensor
    plate: torch.Tensor
    change: torch.Tensor
    weight: torch.Tensor

    def misfit(self, error, scale):
        """Nats, outliers bounded."""
        return float((self.weight * (error.square().sum(1) / scale**2).clamp(max=36)).sum()) / 2 / ALIKE


@dataclass
class _Fit:
    gain: torch.Tensor  # (3, k)
    offset: torch.Tensor  # (3,)
    alpha: torch.Tensor  # (m,)
    color: torch.Tensor | None
    error: torch.Tensor  # (N, 3)
    scale: float
    cost: float


def _fit(data, prior, color=None):
    """change = gain * plate + offset + alpha * (color - plate): Gauss-Newton with Tukey's weights; without a
    colour no alpha.

    prior: precision of gains, offsets, and, with a colour, of alpha and of the colour's step.
    """
    k, m = data.slow.shape[1], data.soft.shape[1] if color is not None else 0
    offsets, alphas, steps = slice(3 * k, 3 * k + 3), slice(3 * k + 3, 3 * k + 3 + m), slice(3 * k + 3 + m, None)
    x, robust, noise = torch.zeros(len(prior)), data.weight, 1e-4
    for _ in range(ROUNDS):
        left, right = ALIKE * noise * prior.diag(), torch.zeros(len(prior))
        for c in range(3):
            columns = [data.slow * data.plate[:, c : c + 1], torch.ones(len(data.weight), 1)]
            at = [*range(c * k, c * k + k), 3 * k + c]
            if color is not None:
                columns += [data.soft * (color[c] - data.plate[:, c : c + 1]), data.soft @ x[alphas, None]]
                at += [*range(alphas.start, alphas.stop), alphas.stop + c]
            columns, at = torch.cat(columns, 1), torch.tensor(at)
            weighted = (columns * robust[:, None]).T
            left[at[:, None], at] += weighted @ columns
            right[at] += weighted @ data.change[:, c]
        x = torch.linalg.solve(left, right)
        gain = x[: 3 * k].reshape(3, k)
        error = data.change - data.slow @ gain.T * data.plate - x[offsets]
        if color is not None:
            color = (color + x[steps]).clamp(0, 1)
            error = error - (data.soft @ x[alphas])[:, None] * (color - data.plate)
        sizes = error.square().sum(1).sqrt()
        scale = float(weighted_median(sizes, data.weight)) / THREE + 1e-3
        robust, noise = data.weight * (1 - (sizes / (6 * scale)) ** 2).clamp_min(0) ** 2, scale**2
    known = slice(0, alphas.stop)
    cost = 3 * float(data.weight.sum()) / ALIKE * math.log(scale) + 0.5 * float((prior[known] * x[known] ** 2).sum())
    return _Fit(gain, x[offsets], x[alphas], color, error, scale, cost)


def _by_cell(rest, towards, weight, waved, scale):
    """Alpha (T, 1, h, w) of each cell from its neighbourhood: rest = alpha * towards, outliers aside; waved is its
    prior."""
    along, size = ((v * towards).sum(1, keepdim=True) for v in (rest, towards))
    alpha, prior = waved, (scale / LOCAL) ** 2
    for _ in range(3):
        error = (along - alpha * size).square() / size.clamp_min(1e-6) / scale**2
        w = weight * (1 - error / 108).clamp_min(0) ** 2
        alpha = (blur(w * along, REACH, 1.0) + prior * waved) / (blur(w * size, REACH, 1.0) + prior)
    return alpha
