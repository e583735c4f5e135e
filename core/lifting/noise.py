"""Model the noise: the variance of an unchanged pixel's residual, as a function of the plate's content there."""

import numpy as np
import torch

from vera.core.lifting.frequency_response import bands
from vera.core.lifting.smooth import blur, by_frame, luma

FIT_ROUNDS = 40  # multiplicative steps of the fit; it has converged by then
MAX_SAMPLES = 40_000  # pixels in the fit; raising it is slower and hardly more accurate
MIN_SAMPLES = 50  # trusted pixels; with fewer the variance is a constant, DEFAULT_VARIANCE
DEFAULT_VARIANCE = 1e-3  # variance of encoded values that is assumed if none can be measured
MIN_TRUST = 0.3  # trust from which a pixel takes part in the fit; raising it leaves out more edited pixels
ENERGY_SCALE = 100.0  # factor on squared detail; with it a detail with amplitude 0.1 has energy one
# Largest variance as a share of a detail's energy. A codec that loses a detail with probability g makes an error of
# g (1 - g) of its energy, which is at most a quarter.
MAX_DETAIL_SHARE = 0.25
LOWER_QUARTILE = 0.4  # lower quartile of a chi-square with three degrees of freedom, divided by its mean


class Noise:
    """Variance = a + b * level + c * fine detail + d * coarse detail + e * movement, all coefficients >= 0.

    A codec's error grows with detail and movement, a sensor's noise with light. The coefficients are fitted to the
    trusted pixels of one residual. Calling the model with features of the same plate gives the variance (T, 1, H, W).
    """

    def __init__(self, features: torch.Tensor, squares: torch.Tensor, trust: torch.Tensor) -> None:
        """features (T, N, H, W) from `features`, squares (T, 1, H, W) of the residual, trust (T, 1, H, W)."""
        keep = np.flatnonzero(trust.numpy() > MIN_TRUST)
        keep = torch.from_numpy(keep[:: max(1, len(keep) // MAX_SAMPLES)])
        frame, pixel = keep // trust[0].numel(), keep % trust[0].numel()
        x, y, w = features.flatten(2)[frame, :, pixel], squares.flatten()[keep], trust.flatten()[keep]
        self.coefficients = torch.full((x.shape[1],), 1e-6)
        if len(y) < MIN_SAMPLES:
            self.coefficients[0] = DEFAULT_VARIANCE
            return
        # Maximum likelihood of Gaussian noise, by multiplicative steps (Itakura-Saito divergence). The start is low,
        # at the level of the quieter pixels: a new background can resemble the plate in places, which is no noise.
        quiet = (y / x.sum(1)).quantile(0.25) / LOWER_QUARTILE
        self.coefficients = torch.full((x.shape[1],), float(quiet.clamp_min(1e-6)))
        for _ in range(FIT_ROUNDS):
            variance = (x @ self.coefficients).clamp_min(1e-8)
            # Residuals beyond three sigma are capped: they belong to the edit, or are rare.
            capped = torch.minimum(y, 9 * variance)
            up, down = x.T @ (w * capped / variance**2), x.T @ (w / variance)
            self.coefficients = self.coefficients * (up / down.clamp_min(1e-8)).sqrt()
            self.coefficients[2:].clamp_(max=MAX_DETAIL_SHARE / ENERGY_SCALE)

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """The variance (T, 1, H, W) by features (T, N, H, W)."""
        return by_frame(lambda f: torch.einsum("n,tnhw->thw", self.coefficients, f)[:, None].clamp_(min=1e-7), features)


def features(plate: torch.Tensor) -> torch.Tensor:
    """Features of the plate, (T, 5, H, W): 1, level, fine detail, coarse detail, movement; each about one in size."""
    gray = luma(plate)
    fine, middle, coarse, _ = bands(gray)
    level = blur(gray, 1.0)
    step = gray.diff(dim=0)
    step = torch.cat([step[:1], step]) if len(step) else torch.zeros_like(level)
    fine, middle, coarse, step = (blur(v * v, 1.5) * ENERGY_SCALE for v in (fine, middle, coarse, step))
    return torch.cat([torch.ones_like(level), level, fine + middle, coarse, step], 1)
