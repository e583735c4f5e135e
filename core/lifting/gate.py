"""The learned gate: a small network that corrects the classical estimate pixel by pixel, and sets alpha to 0 outside.

For each pixel on or near the change that was found, the network gives the probability that the edit changed it, an
alpha, and the colour of the layer over the plate. Alpha and colour are mixtures of a few candidates (the estimate, the
edited video, both averaged over neighbours or frames, the plate), plus a step of at most MATTE_STEP and COLOR_STEP.
Absolute colour is not an input, because the network could recognise training clips by it.
core/weights/lift/README.md describes the training data; `vera train core/training/lift/gate.json` trains it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from vera.core.lifting.layers import least_alpha
from vera.core.lifting.smooth import blur, grown, luma, shrunk, weighted
from vera.kernels.blur import half_kernel

WEIGHTS = Path(__file__).parents[1] / "weights/lift/gate.safetensors"


@dataclass(frozen=True)
class FeatureScales:
    """Scales of the network's inputs. The weights fit these values only: after a change the network is trained again.

    windows: Gaussian sigmas in pixels over which residual and texture are averaged
    around, region_around: likewise, for the estimated alpha and for the region
    noise_windows: likewise, for the residual divided by the expected noise
    neighbours: likewise, for the residuals of the frames before and after
    smear_window: likewise, for the comparison with what the plate shows at other times
    layer_color: likewise, for the colour that neighbouring pixels of the layer share
    near, wide: frames each way that are averaged, and in which the plate of other times is looked for
    residual, texture, noise: factors that bring these values to about one
    most_noise: bound on the residual, in standard deviations of the expected noise
    most: bound on every normalised input, in standard deviations over the training data
    """

    windows: tuple[float, ...] = (1.0, 2.5, 6.0)
    around: tuple[float, ...] = (1.5, 5.0)
    region_around: float = 3.0
    noise_windows: tuple[float, ...] = (1.0, 3.0)
    neighbours: float = 1.5
    smear_window: float = 2.0
    layer_color: float = 4.0
    near: int = 1
    wide: int = 3
    residual: float = 4.0
    texture: float = 6.0
    noise: float = 20.0
    most_noise: float = 12.0
    most: float = 5.0


@dataclass(frozen=True)
class GateLimits:
    """Thresholds of the decision.

    touched: probability below which alpha becomes 0. Raising it gives more exact zeros, and loses more of faint layers.
    touched_surely: the same in gains and haze, which tests of their own have confirmed, and within wide veils. Raising
        it loses faint retouches, and thin places in fog and smoke.
    wide, mostly: Gaussian sigma in pixels within which veils must have more than the share `mostly` to be wide.
        Lowering them takes a codec's smear for one.
    shows, shows_within: change as a share of the code range (root mean square over the channels) that a wide veil must
        show, and Gaussian sigmas (pixels, frames) over which it is averaged. Raising it loses the ends of smoke.
    smooth: Gaussian sigmas (pixels, frames) over which the probability is averaged inside the layer. Raising it leaves
        fewer holes in thin veils, and more specks.
    reach: pixels beyond the change that was found in which the gate may add to the layer
    least: alpha below which a pixel stays as filmed; raising it gives more exact zeros
    """

    touched: float = 0.45
    touched_surely: float = 0.2
    wide: float = 12.0
    mostly: float = 0.6
    shows: float = 0.01
    shows_within: tuple[float, float] = (3.0, 0.7)
    smooth: tuple[float, float] = (1.0, 0.7)
    reach: int = 6
    least: float = 0.004

    def for_sensitivity(self, sensitivity: float) -> "GateLimits":
        """The limits for another sensitivity, which divides the odds of the thresholds."""
        odds = [p / (1 - p) / sensitivity for p in (self.touched, self.touched_surely)]
        touched, touched_surely = (o / (1 + o) for o in odds)
        return replace(self, touched=touched, touched_surely=touched_surely)


SCALES = FeatureScales()
LIMITS = GateLimits()
FEATURES = 75  # number of inputs per pixel
HIDDEN_UNITS = 64
# Positions among the inputs of a pixel, for the augmentation in training: the first of the three channels of each
# colour; inputs whose sign changes in a negative picture; and triples (first input of the frame before, first input of
# the frame after, their number), which are exchanged when a clip is reversed.
COLOR_FEATURES = (0, 3, 11, 19, 27, 33, 36, 45, 48, 54, 62, 69, 72)
SIGNED_FEATURES = (*(i + c for i in COLOR_FEATURES for c in range(3)), 59, 61, 65)
MIRRORED_FEATURES = ((33, 36, 3), (58, 60, 2))
COMPOSITES, MATTES = 12, 6  # number of candidates for the colour over the plate, besides the plate, and for alpha
MATTE_STEP = 0.2  # largest step of alpha from the candidates
COLOR_STEP = (0.5, 0.01)  # largest step of the colour: standard deviations of the noise, plus a share of the code range
# Alpha of haze from which `touched_surely` applies. Raising it loses thin haze.
MIN_HAZE = 0.02
PIXELS_AT_ONCE = 8192  # pixels of one call of the network; more of them leave the processor's caches
LEAST_WEIGHT = 1e-4  # weight of a pixel outside the layer in the layer's mean colour


@dataclass(frozen=True)
class Estimate:
    """The estimate of a clip without the gate, in encoded values; see `Comparison` and `Layers` for the fields.

    plate, seen, clean, color, kinds: (T, 3, H, W). variance, alpha, region, haze: (T, 1, H, W).
    """

    plate: torch.Tensor
    seen: torch.Tensor
    clean: torch.Tensor
    variance: torch.Tensor
    color: torch.Tensor
    alpha: torch.Tensor
    kinds: torch.Tensor
    region: torch.Tensor
    haze: torch.Tensor

    def part(self, frames: slice, box: Sequence[slice]) -> "Estimate":
        """Those frames, and rows and columns."""
        return Estimate(*(getattr(self, field.name)[frames, :, *box] for field in fields(self)))


@dataclass(frozen=True)
class GateInputs:
    """What the network is given of one frame.

    features (FEATURES, H, W)
    composites (COMPOSITES, 3, H, W): candidates for the layer over the plate
    mattes (MATTES, H, W): candidates for alpha
    plate (3, H, W), noise (1, H, W): the plate, and the standard deviation of the noise
    """

    features: torch.Tensor
    composites: torch.Tensor
    mattes: torch.Tensor
    plate: torch.Tensor
    noise: torch.Tensor

    def at(self, pixels: torch.Tensor) -> "GateInputs":
        """Those pixels (N,), counted row by row, with N as the first dimension."""
        return GateInputs(*(getattr(self, f.name).flatten(-2)[..., pixels].movedim(-1, 0) for f in fields(self)))


def frame_inputs(estimate: Estimate, t: int, scales: FeatureScales = SCALES) -> GateInputs:
    """The inputs for frame t. They depend on `scales.wide` frames each way."""
    candidates = _Candidates(estimate, t, scales)
    features = [*_of_change(estimate, t, scales), *_of_time(estimate, t, candidates, scales)]
    noise = estimate.variance[t].sqrt()
    composites, mattes = torch.cat(candidates.composites()), torch.cat(candidates.mattes())[:, 0].clamp(0, 1)
    return GateInputs(torch.cat(features, 1)[0], composites, mattes, estimate.plate[t], noise)


def _of_change(estimate, t, scales):
    """Residual, texture and estimate of the frame, and the residuals of its two neighbours."""
    seen, clean = estimate.seen[t : t + 1], estimate.clean[t : t + 1]
    residual = clean - seen
    squares = _mean(residual.square())
    found = [residual * scales.residual]
    a, b = _mean(seen), _mean(clean)
    for sigma in scales.windows:
        found += [blur(residual, sigma) * scales.texture, blur(squares, sigma).sqrt() * scales.texture]
        mean_a, mean_b, aa, bb, ab = blur(torch.cat([a, b, a * a, b * b, a * b], 1), sigma).split(1, 1)
        var_a, var_b, both = aa - mean_a**2, bb - mean_b**2, ab - mean_a * mean_b
        alike = (both / (var_a * var_b).clamp_min(1e-7).sqrt()).clamp(-1, 1)
        slope = (both / (var_a + 1e-4)).clamp(-1, 2)
        found += [alike, slope, *(v.clamp_min(0).sqrt() * scales.texture for v in (var_a, var_b))]
    deviation = estimate.variance[t : t + 1].sqrt()
    excess = (residual / (deviation + 0.004)).clamp(-scales.most_noise, scales.most_noise) / scales.texture
    found += [excess, deviation * scales.noise]
    found += [blur(_mean(excess.square()), sigma).sqrt() for sigma in scales.noise_windows]
    for k in _beside(estimate, t):
        beside = estimate.clean[k : k + 1] - estimate.seen[k : k + 1]
        found.append(blur(beside, scales.neighbours) * scales.texture)
    alpha, region = estimate.alpha[t : t + 1], estimate.region[t : t + 1]
    found += [alpha, region, estimate.haze[t : t + 1], *(blur(alpha, sigma) for sigma in scales.around)]
    found += [blur(region, scales.region_around), estimate.color[t : t + 1] - clean]
    return found


def _of_time(estimate, t, candidates, scales):
    """The candidates' differences, the change over time, and whether the plate of other times explains the residual:
    a codec smears what moves."""
    c, texture = candidates, scales.texture
    now = slice(t, t + 1)
    seen, clean, region_noise = estimate.seen[now], estimate.clean[now], estimate.variance[now]
    varies = _mean((c.of_near - c.mean_residual).square().mean(0, keepdim=True))
    found = [(c.classical - c.whole) * texture, estimate.kinds[now], (c.mean_residual - c.residual) * texture]
    found.append(blur(varies, 1.0).sqrt() * texture)
    for k in _beside(estimate, t):
        found += [
            blur(estimate.alpha[k : k + 1], 1.0),
            blur(luma(estimate.seen[k : k + 1]) - luma(seen), 1.0) * texture,
        ]
    times = estimate.seen[max(0, t - scales.wide) : t + scales.wide + 1]
    low, high = shrunk(times.amin(0, keepdim=True), 1), grown(times.amax(0, keepdim=True), 1)
    found.append(((clean - high).clamp_min(0) - (low - clean).clamp_min(0)) * texture)
    smear = times.mean(0, keepdim=True) - seen
    pairs = ((smear, smear), (smear, c.residual), (c.residual, c.residual))
    products = torch.cat([_mean(a * b) for a, b in pairs], 1)
    own, both, rest = blur(products, scales.smear_window).split(1, 1)
    found += [_mean(smear) * texture, (both / (own + 1e-4)).clamp(-2, 2)]
    found.append((both / (own * rest).clamp_min(1e-9).sqrt()).clamp(-1, 1))
    found.append(least_alpha(seen, clean, 2 * region_noise + 0.008**2))
    return [*found, (c.one_color - c.classical) * texture, (c.one_soft_color - c.classical) * texture]


class _Candidates:
    """What alpha and the layer over the plate may be, each (1, C, H, W), with the residuals that they are made of."""

    def __init__(self, estimate: Estimate, t: int, scales: FeatureScales) -> None:
        self.plate, seen, self.clean, self.color, self.alpha = (
            getattr(estimate, name)[t : t + 1] for name in ("plate", "seen", "clean", "color", "alpha")
        )
        near = slice(max(0, t - scales.near), t + scales.near + 1)
        self.residual = self.clean - seen
        self.of_near = estimate.clean[near] - estimate.seen[near]
        self.mean_residual = self.of_near.mean(0, keepdim=True)
        self.mean_alpha = estimate.alpha[near].mean(0, keepdim=True)
        self.classical = torch.lerp(self.plate, self.color, self.alpha)
        self.whole = self.plate + self.residual  # all of the change, over the plate's detail
        self.shared_color = weighted(self.color, self.alpha + LEAST_WEIGHT, scales.layer_color)
        self.one_color = torch.lerp(self.plate, self.shared_color, self.alpha)
        self.one_soft_color = torch.lerp(self.plate, self.shared_color, blur(self.alpha, 1.5))

    def composites(self) -> list[torch.Tensor]:
        """The COMPOSITES candidates for the layer over the plate."""
        plate, soft = self.plate, blur(self.clean, 0.8)
        return [
            self.classical,
            self.whole,
            plate + blur(self.residual, 1.0),
            plate + blur(self.residual, 2.5),
            plate + blur(self.mean_residual, 0.8),
            self.clean,
            soft,
            2 * self.clean - soft,
            self.one_color,
            self.one_soft_color,
            self.classical + blur(self.whole - self.classical, 2.0),
            torch.lerp(plate, self.shared_color, self.mean_alpha),
        ]

    def mattes(self) -> list[torch.Tensor]:
        """The MATTES candidates for alpha, not clamped to [0, 1]."""
        alpha = self.alpha
        steep = 2 * alpha - 0.5
        return [alpha, blur(alpha, 1.0), blur(alpha, 2.5), self.mean_alpha, torch.ones_like(alpha), steep]


def _beside(estimate, t):
    """The frames before and after; at an end of the clip, the frame itself."""
    return max(0, t - 1), min(len(estimate.clean) - 1, t + 1)


def _mean(video):
    return video.mean(1, keepdim=True)


@dataclass(frozen=True)
class Answer:
    """The network's answer for N pixels: logit of a changed pixel (N,), alpha (N,), straight colour (N, 3)."""

    logit: torch.Tensor
    alpha: torch.Tensor
    color: torch.Tensor


class Gate(nn.Module):
    """Maps `GateInputs` of N pixels to an `Answer`."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.parts = (1, COMPOSITES + 1, MATTES, 1, 3)
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN_UNITS),
            nn.SiLU(),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.SiLU(),
            nn.Linear(HIDDEN_UNITS, sum(self.parts)),
        )
        with torch.no_grad():  # the start is near the classical estimate
            self.layers[-1].weight.mul_(0.3)
            self.layers[-1].bias.zero_()
            self.layers[-1].bias[[1, 2 + COMPOSITES]] = 3.0

    def forward(self, given: GateInputs) -> Answer:
        normalised = ((given.features - self.mean) / self.deviation).clamp(-SCALES.most, SCALES.most)
        logit, of_color, of_matte, matte_step, color_step = self.layers(normalised).split(self.parts, 1)
        alpha = (of_matte.softmax(1) * given.mattes).sum(1) + MATTE_STEP * matte_step[:, 0].tanh()
        alpha = alpha.clamp(0, 1)
        weights = of_color.softmax(1)
        own = weights[:, -1:]  # the plate's
        step = (COLOR_STEP[0] * given.noise + COLOR_STEP[1]) * color_step.tanh()
        over = (weights[:, None, :-1] @ given.composites)[:, 0] + own * given.plate + (1 - own) * step
        color = (over - given.plate) / alpha.clamp_min(1e-3)[:, None] + given.plate
        return Answer(logit[:, 0], alpha, color.clamp(0, 1))


@cache
def load_gate() -> Gate:
    """The shipped network, on the CPU in fp32."""
    gate = Gate()
    gate.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return gate.eval().requires_grad_(False)


def near_change(estimate: Estimate, limits: GateLimits = LIMITS) -> torch.Tensor:
    """1 where the network is asked, (T, 1, H, W): on the layer and on the change that was found, and near them."""
    return grown(torch.maximum((estimate.alpha > 0).float(), (estimate.region > 0).float()), limits.reach)


def _box(asked: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of all that is asked for in (H, W), with the surroundings that its features depend on."""
    sigmas = (*SCALES.windows, *SCALES.around, SCALES.region_around, SCALES.layer_color)
    reach = max(len(half_kernel(sigma)) - 1 for sigma in sigmas)
    ends = []
    for axis in (1, 0):
        at = asked.any(axis).nonzero()
        ends.append(slice(max(0, int(at[0]) - reach), int(at[-1]) + 1 + reach))
    return ends[0], ends[1]


def _answered(gate, inputs, asked):
    """Probability, alpha and colour, (5, H, W), of the pixels of asked (H, W); 0 elsewhere."""
    found = torch.zeros(5, *asked.shape)
    flat = found.flatten(1)
    for pixels in asked.flatten().nonzero()[:, 0].split(PIXELS_AT_ONCE):
        answer = gate(inputs.at(pixels))
        flat[:, pixels] = torch.cat([answer.logit.sigmoid()[None], answer.alpha[None], answer.color.T])
    return found


def _wide_veils(estimate, limits):
    """The veils that are wide and show a change, (T, 1, H, W) of bools."""
    veil = (estimate.alpha > 0) & (estimate.kinds[:, :2].amax(1, keepdim=True) < 0.5)
    change = blur(estimate.clean - estimate.seen, *limits.shows_within).square().mean(1, keepdim=True).sqrt()
    return veil & (blur(veil.float(), limits.wide) > limits.mostly) & (change > limits.shows)


def gated(
    estimate: Estimate, gate: Gate | None = None, limits: GateLimits = LIMITS
) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight colour (T, 3, H, W) and alpha (T, 1, H, W), exactly 0 where the gate finds the pixel unchanged.

    In a gain the gate decides only whether a pixel changed; alpha and colour remain those of the estimate.
    """
    gate = gate or load_gate()
    near = near_change(estimate, limits)
    if not near.any():
        return estimate.color, torch.zeros_like(near)
    likely, alpha, color = torch.zeros_like(near), torch.zeros_like(near), estimate.color.clone()
    for t, wanted in enumerate(near[:, 0] > 0):
        if not wanted.any():
            continue
        first, box = max(0, t - SCALES.wide), _box(wanted)
        part = estimate.part(slice(first, t + SCALES.wide + 1), box)
        found = _answered(gate, frame_inputs(part, t - first), wanted[box])
        likely[t, :, *box], alpha[t, :, *box] = found[:1], found[1:2]
        color[t, :, *box] = torch.where(wanted[box], found[2:], color[t, :, *box])
    gain = estimate.kinds[:, 2:] > 0.5  # its matte and colour are made of the plate, and better than any mixture
    alpha, color = torch.where(gain, estimate.alpha, alpha), torch.where(gain, estimate.color, color)
    surely = gain | (estimate.haze > MIN_HAZE) | _wide_veils(estimate, limits)
    threshold = torch.where(surely, limits.touched_surely, limits.touched)
    kept = (weighted(likely, near, *limits.smooth) > threshold) & (alpha > limits.least)
    return color, alpha * kept
