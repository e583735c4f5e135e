"""What noise can do: the variance of an unchanged pixel's residual, by what the plate shows there."""

import torch

from vera.core.lifting.frequency_response import bands
from vera.core.lifting.smooth import blur, luma

ROUNDS = 40
SAMPLES = 40_000
ENERGY = 100.0  # a detail of 0.1 counts one
MOST_OF_DETAIL = 0.25  # what is kept or lost at random, a share g kept, errs by g (1 - g) of its energy
QUIET = 0.4  # the lower quartile of a chi-square with three degrees of freedom, over its mean


class Noise:
    """Variance = a + b * level + c * fine detail + d * coarse detail + e * movement, all coefficients >= 0.

    A codec errs where there is detail and movement, a sensor where there is light. Fitted on
    trusted pixels for one residual; call it with the features of the same plate.
    """

    def __init__(self, features: torch.Tensor, squares: torch.Tensor, trust: torch.Tensor) -> None:
        """features (T, N, H, W) from `features`, squares (T, 1, H, W) of the residual, trust (T, 1, H, W)."""
        keep = (trust[:, 0] > 0.3).nonzero()
        keep = keep[:: max(1, len(keep) // SAMPLES)]
        at = keep[:, 0], slice(None), keep[:, 1], keep[:, 2]
        x, y, w = features[at], squares[at][:, 0], trust[at][:, 0]
        self.coefficients = torch.full((x.shape[1],), 1e-6)
        if len(y) < 50:
            self.coefficients[0] = 1e-3
            return
        # Maximum likelihood of Gaussian noise, by multiplicative steps (Itakura-Saito divergence).
        # Begun low, at what the quieter pixels show: look-alikes in a new background are no noise.
        quiet = (y / x.sum(1)).quantile(0.25) / QUIET
        self.coefficients = torch.full((x.shape[1],), float(quiet.clamp_min(1e-6)))
        for _ in range(ROUNDS):
            variance = (x @ self.coefficients).clamp_min(1e-8)
            # Of heavy tails only so much: they are the edit's, or rare.
            capped = torch.minimum(y, 9 * variance)
            up, down = x.T @ (w * capped / variance**2), x.T @ (w / variance)
            self.coefficients = self.coefficients * (up / down.clamp_min(1e-8)).sqrt()
            self.coefficients[2:].clamp_(max=MOST_OF_DETAIL / ENERGY)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("n,tnhw->thw", self.coefficients, features)[:, None].clamp_min(1e-7)


def features(plate: torch.Tensor) -> torch.Tensor:
    """(T, 5, H, W), each of about unit size: 1, level, fine and coarse detail, movement."""
    fine, middle, coarse, _ = (luma(b) for b in bands(plate))
    level = blur(luma(plate), 1.0)
    step = luma(plate).diff(dim=0)
    step = torch.cat([step[:1], step]) if len(step) else torch.zeros_like(level)
    energy = lambda v: blur(v * v, 1.5) * ENERGY  # noqa: E731
    return torch.cat([torch.ones_like(level), level, energy(fine) + energy(middle), energy(coarse), energy(step)], 1)
