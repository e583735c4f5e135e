"""The learned gate: a small network that sets alpha to 0 where the estimate mistook codec loss for a layer.

The network has some 7,400 parameters and decides for each pixel whether the edit changed it. Its inputs, at three
scales, are the difference between cleaned edited video and plate, the noise expected there, and the estimate itself.
Absolute colour is not an input, because the network could recognise training clips by it. The gate can only remove: it
adds no alpha and changes no colour. core/weights/lift/README.md describes the training data;
`vera train core/training/lift/gate.json` trains it.
"""

from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from vera.core.lifting.smooth import blur, weighted
from vera.kernels.blur import half_kernel

WEIGHTS = Path(__file__).parents[1] / "weights/lift/gate.safetensors"


@dataclass(frozen=True)
class FeatureScales:
    """Scales of the network's inputs. The weights fit these values only: after a change the network is trained again.

    windows: Gaussian sigmas in pixels over which residual and texture are averaged
    around, region_around: likewise, for the estimated alpha and for the region
    noise_windows: likewise, for the residual divided by the expected noise
    neighbours: likewise, for the residuals of the frames before and after
    residual, texture, noise: factors that bring these values to about one
    most_noise: bound on the residual, in standard deviations of the expected noise
    most: bound on every normalised input, in standard deviations over the training data
    """

    windows: tuple[float, ...] = (1.0, 2.5, 6.0)
    around: tuple[float, ...] = (1.5, 5.0)
    region_around: float = 3.0
    noise_windows: tuple[float, ...] = (1.0, 3.0)
    neighbours: float = 1.5
    residual: float = 4.0
    texture: float = 6.0
    noise: float = 20.0
    most_noise: float = 12.0
    most: float = 5.0


@dataclass(frozen=True)
class GateLimits:
    """Thresholds of the decision.

    touched: probability below which alpha becomes 0. Raising it gives more exact zeros, and loses more of faint layers.
    smooth: Gaussian sigmas (pixels, frames) over which the probability is averaged inside the layer. Raising it leaves
        fewer holes in thin veils, and more specks.
    """

    touched: float = 0.3
    smooth: tuple[float, float] = (1.0, 0.7)

    def for_sensitivity(self, sensitivity: float) -> "GateLimits":
        """The limits for another sensitivity, which divides the odds of the threshold."""
        odds = self.touched / (1 - self.touched) / sensitivity
        return replace(self, touched=odds / (1 + odds))


SCALES = FeatureScales()
LIMITS = GateLimits()
FEATURES = 48  # number of inputs per pixel
HIDDEN_UNITS = 64
PIXEL_BATCH = 8192  # pixels decided together; raising it needs more memory than a processor's cache has


@dataclass(frozen=True)
class Estimate:
    """The estimate of a clip without the gate, in encoded values; see `Comparison` and `Layers` for the fields.

    seen, clean, color: (T, 3, H, W). variance, alpha, region, haze: (T, 1, H, W).
    """

    seen: torch.Tensor
    clean: torch.Tensor
    variance: torch.Tensor
    color: torch.Tensor
    alpha: torch.Tensor
    region: torch.Tensor
    haze: torch.Tensor


def frame_features(estimate: Estimate, t: int, scales: FeatureScales = SCALES) -> torch.Tensor:
    """The network's inputs for frame t, (FEATURES, H, W). They depend on that frame and its two neighbours only."""
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
    last = len(estimate.clean) - 1
    for k in (max(0, t - 1), min(last, t + 1)):
        beside = estimate.clean[k : k + 1] - estimate.seen[k : k + 1]
        found.append(blur(beside, scales.neighbours) * scales.texture)
    alpha, region = estimate.alpha[t : t + 1], estimate.region[t : t + 1]
    found += [alpha, region, estimate.haze[t : t + 1], *(blur(alpha, sigma) for sigma in scales.around)]
    found += [blur(region, scales.region_around), estimate.color[t : t + 1] - clean]
    return torch.cat(found, 1)[0]


def _mean(video):
    return video.mean(1, keepdim=True)


class Gate(nn.Module):
    """Maps inputs (N, FEATURES) to logits (N,) of a changed pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))
        self.register_buffer("deviation", torch.ones(FEATURES))
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN_UNITS),
            nn.SiLU(),
            nn.Linear(HIDDEN_UNITS, HIDDEN_UNITS),
            nn.SiLU(),
            nn.Linear(HIDDEN_UNITS, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        normalised = ((features - self.mean) / self.deviation).clamp(-SCALES.most, SCALES.most)
        return self.layers(normalised)[:, 0]


@cache
def load_gate() -> Gate:
    """The shipped network, on the CPU in fp32."""
    gate = Gate()
    gate.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return gate.eval().requires_grad_(False)


def probability(estimate: Estimate, gate: Gate) -> torch.Tensor:
    """Probability (T, 1, H, W) that the edit changed each pixel with alpha above 0; 0 elsewhere."""
    found = torch.zeros_like(estimate.alpha)
    for t, alpha in enumerate(estimate.alpha[:, 0]):
        if (alpha > 0).any():
            box = _box(alpha > 0)
            part = Estimate(*(getattr(estimate, field.name)[..., *box] for field in fields(estimate)))
            asked = part.alpha[t, 0] > 0
            features, places = frame_features(part, t).flatten(1), asked.flatten().nonzero()[:, 0]
            found[t, 0, *box][asked] = torch.cat(
                [gate(features[:, some].T).sigmoid() for some in places.split(PIXEL_BATCH)]
            )
    return found


def _box(asked: torch.Tensor) -> tuple[slice, slice]:
    """Rows and columns of all that is asked for in (H, W), with the surroundings that its features depend on."""
    reach = max(len(half_kernel(sigma)) - 1 for sigma in (*SCALES.windows, *SCALES.around, SCALES.region_around))
    ends = []
    for axis in (1, 0):
        at = asked.any(axis).nonzero()
        ends.append(slice(max(0, int(at[0]) - reach), int(at[-1]) + 1 + reach))
    return ends[0], ends[1]


def gated(estimate: Estimate, gate: Gate | None = None, limits: GateLimits = LIMITS) -> torch.Tensor:
    """The estimate's alpha (T, 1, H, W), set to exactly 0 where the gate finds the pixel unchanged."""
    layer = (estimate.alpha > 0).float()
    likely = weighted(probability(estimate, gate or load_gate()), layer, *limits.smooth)
    return estimate.alpha * (likely > limits.touched)
