"""Find haze: one colour laid softly over the whole frame, as fog, rays of light or a veil of far snow.

Haze and colour drift look alike and differ in the values that they can take. Drift scales each channel independently,
by a few per cent. Haze takes the same share of every channel's contrast and adds its own colour for it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.core.lifting.drift import cells, cosines
from vera.core.lifting.smooth import blur, by_frame, weighted_median


@dataclass(frozen=True)
class HazeLimits:
    """Thresholds and priors of the haze detection. A cell is a square of averaged pixels.

    cell: side of a cell in pixels; at that size a codec removes no contrast
    samples: largest number of cells that are fitted; the cost is proportional
    gain_waves, haze_waves: cosines in time (plus one every 16 frames), height and width, of drift and of haze. Raising
        them follows finer structure, and noise.
    gain, offset, alpha: standard deviation of the slowest wave of drift's gain and offset, and of haze's alpha
    color_step: standard deviation of the colour's change in one round
    colors: starting values of the haze's colour; each costs one fit of `compared` cells
    compared: cells by which a starting value is chosen, about; the cost is proportional
    rounds: most Gauss-Newton rounds of a fit
    small_step: change of any unknown in a round below which the round is the last. Raising it is faster and less exact.
    correlated_cells: cells whose errors count as one. Raising it requires stronger evidence.
    cell_alpha: standard deviation of a cell's alpha around the waves
    cell_reach: Gaussian sigma in cells over which a cell's alpha is measured
    max_alpha: largest alpha of a haze
    min_shown: share of the frame in which the plate must show, for a fit to be possible
    evidence: nats by which drift with haze must beat drift alone. Raising it misses faint haze.
    evidence_cells: number of cells above which `evidence` grows in proportion, because codec errors add up as haze does
    max_error: largest error of a cell under the fit, as a share of the code range
    min_alpha, min_effect: smallest mean alpha and mean change that count as haze
    explained: share of the frame that drift with haze must explain
    """

    cell: int = 8
    samples: int = 20_000
    gain_waves: tuple[int, int, int] = (2, 3, 4)
    haze_waves: tuple[int, int, int] = (2, 5, 7)
    gain: float = 0.02
    offset: float = 0.004
    alpha: float = 0.3
    color_step: float = 0.2
    colors: tuple[tuple[float, float, float], ...] = (
        (0.3, 0.3, 0.3),
        (0.6, 0.6, 0.6),
        (0.8, 0.8, 0.8),
        (0.95, 0.95, 0.95),
        (1.0, 0.85, 0.5),
    )
    compared: int = 2_500
    rounds: int = 20
    small_step: float = 0.0005
    correlated_cells: int = 25
    cell_alpha: float = 0.1
    cell_reach: float = 1.0
    max_alpha: float = 0.9
    min_shown: float = 0.2
    evidence: float = 40.0
    evidence_cells: int = 4000
    max_error: float = 0.02
    min_alpha: float = 0.02
    min_effect: float = 0.006
    explained: float = 0.6


LIMITS = HazeLimits()
MEDIAN_NORM_3D = 1.54  # median length of a 3-vector of unit normals (chi, three degrees of freedom)
MIN_REPORTED_ALPHA = 0.01  # mean alpha of a shot's haze from which the report mentions it


@dataclass(frozen=True)
class Haze:
    """alpha (T, 1, H, W) in [0, 0.9], and straight colour (3,) in [0, 1]."""

    alpha: torch.Tensor
    color: torch.Tensor

    def over(self, video: torch.Tensor) -> torch.Tensor:
        """The haze over the video (T, 3, H, W)."""
        return by_frame(lambda frame, alpha: torch.lerp(frame, self.color[:, None, None], alpha), video, self.alpha)

    def removed(self, video: torch.Tensor) -> torch.Tensor:
        """The inverse of `over`; not clamped."""
        color = self.color[:, None, None]
        return by_frame(lambda frame, alpha: (frame - alpha * color) / (1 - alpha), video, self.alpha)


def find_haze(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> Haze | None:
    """The haze of edited (T, 3, H, W) over plate (T, 3, H, W), or None. trust (T, 1, H, W): 1 where the plate shows.

    Two models of edited minus plate are fitted by robust least squares on cosine waves: drift alone, and drift with
    haze of one colour. Haze is found if the second model is much better and explains most of the frame. Alpha is then
    measured cell by cell, with the waves as prior.
    """
    assert plate.shape == edited.shape and trust.shape == (len(plate), 1, *plate.shape[2:])
    weight, p, e = cells(plate, edited, trust, LIMITS.cell)
    size, more = (len(p), p.shape[2], p.shape[3]), len(p) // 16
    slow, slow_order = cosines(size, (LIMITS.gain_waves[0] + more, *LIMITS.gain_waves[1:]))
    soft, soft_order = cosines(size, (LIMITS.haze_waves[0] + more, *LIMITS.haze_waves[1:]))
    shown = weight[:, 0] > 0
    if shown.float().mean() < LIMITS.min_shown:
        return None
    data = _cells_shown(slow, soft, p, e - p, weight)
    drift_prior = [((1 + slow_order) / LIMITS.gain).repeat(3), torch.full((3,), 1 / LIMITS.offset)]
    prior = [*drift_prior, (1 + soft_order) / LIMITS.alpha, torch.full((3,), 1 / LIMITS.color_step)]
    drift = _fit(data, torch.cat(drift_prior) ** 2)
    few = data.thinned(LIMITS.compared)
    tried = [(_fit(few, torch.cat(prior) ** 2, torch.tensor(color)).cost, color) for color in LIMITS.colors]
    haze = _fit(data, torch.cat(prior) ** 2, torch.tensor(min(tried)[1]))
    evidence = data.misfit(drift.error, haze.scale) - data.misfit(haze.error, haze.scale)
    asked = LIMITS.evidence * max(1, len(data.weight) / LIMITS.evidence_cells)
    if evidence < asked or haze.scale > LIMITS.max_error:
        return None
    drifted, towards = haze.drifted(p, slow), haze.towards(p)
    alpha = _by_cell(e - drifted, towards, weight, torch.einsum("k,kthw->thw", haze.alpha, soft)[:, None], haze.scale)
    alpha = alpha.clamp(0, LIMITS.max_alpha)
    effect = (alpha * towards).abs().mean(1)[shown].mean()
    all_plate, all_edited = (F.avg_pool2d(v, LIMITS.cell, ceil_mode=True) for v in (plate, edited))
    left = all_edited - haze.drifted(all_plate, slow) - alpha * haze.towards(all_plate)
    explained = (left.square().sum(1).sqrt() < 5 * MEDIAN_NORM_3D * haze.scale).float().mean()
    if alpha.mean() < LIMITS.min_alpha or effect < LIMITS.min_effect or explained < LIMITS.explained:
        return None
    large = F.interpolate(alpha, plate.shape[2:], mode="bicubic", align_corners=False).clamp(0, LIMITS.max_alpha)
    assert haze.color is not None  # it was fitted with one
    return Haze(large, haze.color)


@dataclass
class _Cells:
    """Values at N cells. slow (N, k), soft (N, m): the waves of drift and haze; plate, change (N, 3); weight (N,)."""

    slow: torch.Tensor
    soft: torch.Tensor
    plate: torch.Tensor
    change: torch.Tensor
    weight: torch.Tensor

    def thinned(self, count):
        """About `count` cells that stand for all: evenly chosen, with the others' weight."""
        step = max(1, len(self.weight) // count)
        slow, soft, plate, change = (v[::step].contiguous() for v in (self.slow, self.soft, self.plate, self.change))
        return _Cells(slow, soft, plate, change, self.weight[::step] * step)

    def misfit(self, error, scale):
        """Nats of an error (N, 3) under Gaussian noise of that scale; each outlier counts six sigma at most."""
        squares = (error.square().sum(1) / scale**2).clamp(max=36)
        return float((self.weight * squares).sum()) / 2 / LIMITS.correlated_cells


def _cells_shown(slow, soft, plate, change, weight):
    """The cells that show the plate, thinned to at most LIMITS.samples."""
    shown = weight[:, 0] > 0
    step = -(-int(shown.sum()) // LIMITS.samples)

    def thinned(video):
        return video.movedim(1, -1)[shown][::step]

    drift_waves, haze_waves = thinned(slow.transpose(0, 1)), thinned(soft.transpose(0, 1))
    return _Cells(drift_waves, haze_waves, thinned(plate), thinned(change), thinned(weight)[:, 0])


@dataclass
class _Fit:
    gain: torch.Tensor  # (3, k)
    offset: torch.Tensor  # (3,)
    alpha: torch.Tensor  # (m,)
    color: torch.Tensor | None
    error: torch.Tensor  # (N, 3)
    scale: float  # standard deviation of the error, a channel
    cost: float  # nats

    def drifted(self, video, slow):
        """The video with the fitted drift on it."""
        return video + torch.einsum("ck,kthw->tchw", self.gain, slow) * video + self.offset[:, None, None]

    def towards(self, video):
        """From the video to the haze's colour. Requires a fit with a colour."""
        assert self.color is not None
        return self.color[:, None, None] - video


def _fit(data, prior, color=None):
    """Fit change = gain * plate + offset + alpha * (color - plate) by Gauss-Newton with Tukey's weights.

    Without a colour there is no alpha. prior: precision of gains and offsets and, with a colour, of alpha and of the
    colour's step.
    """
    k, m = data.slow.shape[1], data.soft.shape[1] if color is not None else 0
    offsets, alphas, steps = slice(3 * k, 3 * k + 3), slice(3 * k + 3, 3 * k + 3 + m), slice(3 * k + 3 + m, None)
    x, robust, noise = torch.zeros(len(prior)), data.weight, 1e-4
    for _ in range(LIMITS.rounds):
        left, right = _normal_equations(data, robust, color, x[alphas])
        left += LIMITS.correlated_cells * noise * prior.diag()
        last, x = x, torch.linalg.solve(left, right)
        gain = x[: 3 * k].reshape(3, k)
        error = data.change - data.slow @ gain.T * data.plate - x[offsets]
        if color is not None:
            color = (color + x[steps]).clamp(0, 1)
            error = error - (data.soft @ x[alphas])[:, None] * (color - data.plate)
        sizes = error.square().sum(1).sqrt()
        scale = float(weighted_median(sizes, data.weight)) / MEDIAN_NORM_3D + 1e-3
        robust, noise = data.weight * (1 - (sizes / (6 * scale)) ** 2).clamp_min(0) ** 2, scale**2
        if (x - last).abs().max() < LIMITS.small_step:
            break
    known = slice(0, alphas.stop)
    cost = 3 * float(data.weight.sum()) / LIMITS.correlated_cells * math.log(scale)
    cost += 0.5 * float((prior[known] * x[known] ** 2).sum())
    return _Fit(gain, x[offsets], x[alphas], color, error, scale, cost)


def _normal_equations(data, weight, color, alpha):
    """Left and right side of the least squares of `_fit` with the weight (N,), in its order of unknowns.

    A column of a channel is a wave times a factor of each cell, so that products of waves are summed once for all
    channels that share them.
    """
    k, m = data.slow.shape[1], len(alpha)
    offset = slice(3 * k, 3 * k + 3)
    size = 3 * k + 3 + (m + 3 if color is not None else 0)
    left, right = torch.zeros(size, size), torch.zeros(size)
    waved = data.soft @ alpha if color is not None else torch.zeros(0)
    shared = torch.zeros_like(weight)
    target = torch.zeros_like(weight)
    for c in range(3):
        plate, change = data.plate[:, c], data.change[:, c]
        gain, one = slice(c * k, c * k + k), offset.start + c
        own = data.slow * (weight * plate)[:, None]  # the gain's columns, weighted
        left[gain, gain] = (own * plate[:, None]).T @ data.slow
        left[gain, one] = own.sum(0)
        left[one, one] = weight.sum()
        right[gain], right[one] = own.T @ change, weight @ change
        if color is None:
            continue
        alphas, step = slice(offset.stop, offset.stop + m), offset.stop + m + c
        towards = color[c] - plate
        factor = weight * towards
        shared += factor * towards
        target += factor * change
        left[gain, alphas] = (own * towards[:, None]).T @ data.soft
        left[one, alphas] = factor @ data.soft
        left[gain, step] = own.T @ waved
        left[one, step] = weight @ waved
        left[alphas, step] = (factor * waved) @ data.soft
        left[step, step] = weight @ waved.square()
    if color is not None:
        left[alphas, alphas] = (data.soft * shared[:, None]).T @ data.soft
        right[alphas] = target @ data.soft
        right[alphas.stop :] = (weight * waved) @ data.change
    upper = left.triu()
    return upper + upper.triu(1).T, right


def _by_cell(rest, towards, weight, waved, scale):
    """Alpha (T, 1, h, w) of each cell from its neighbourhood, by rest = alpha * towards without outliers.

    waved: alpha of the waves, the prior.
    """
    along, size = ((v * towards).sum(1, keepdim=True) for v in (rest, towards))
    alpha, prior = waved, (scale / LIMITS.cell_alpha) ** 2
    for _ in range(3):
        error = (along - alpha * size).square() / size.clamp_min(1e-6) / scale**2
        w = weight * (1 - error / 108).clamp_min(0) ** 2
        alpha = (blur(w * along, LIMITS.cell_reach, 1.0) + prior * waved) / (
            blur(w * size, LIMITS.cell_reach, 1.0) + prior
        )
    return alpha
