"""Separate change from noise: a chi-square test at fine to coarse scales, certain seeds, and growth from the seeds."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_propagation

from vera.core.lifting.noise import Noise
from vera.core.lifting.smooth import blur, blurred, by_frame


@dataclass(frozen=True)
class ChangeLimits:
    """Thresholds of the change detection. The chi-square has three degrees of freedom.

    scales: Gaussian sigmas (pixels, frames), fine to coarse. The finest finds stars, the coarsest faint shadows.
    sure: chi-square of a seed, 6.5 sigma. A lower value finds fainter changes, and more noise.
    likely: chi-square of a pixel beside a change, 3 sigma. A lower value grows the change further.
    likely_among_much: the same, 2.5 sigma, where more than `much` of the clip has changed.
    much: share of the clip; a higher value uses `likely` more often.
    company: share of a seed's neighbourhood that must be seeds too. A higher value finds less noise and loses stars.
    coarsest: share of the frame's height that no spatial sigma exceeds.
    """

    scales: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.8, 0.7), (1.6, 1.0), (3.5, 1.5))
    sure: float = 50.0
    likely: float = 14.0
    likely_among_much: float = 11.0
    much: float = 0.03
    company: float = 0.3
    coarsest: float = 1 / 24

    def for_sensitivity(self, sensitivity: float) -> "ChangeLimits":
        """The limits with every chi-square threshold divided by `sensitivity`; 4 finds changes half as strong."""
        sure, likely, among_much = (v / sensitivity for v in (self.sure, self.likely, self.likely_among_much))
        return replace(self, sure=sure, likely=likely, likely_among_much=among_much)


LIMITS = ChangeLimits()
CHI_SQUARE_QUANTILES = ((0.5, 2.37), (0.99, 11.3), (0.999, 16.3))  # (probability, value) for three degrees of freedom


def find_change(
    residual: torch.Tensor, of_plate: torch.Tensor, trust: torch.Tensor, limits: ChangeLimits = LIMITS
) -> torch.Tensor:
    """Where the picture was changed, (T, 1, H, W) of 0 and 1.

    residual (T, 3, H, W): edited minus plate, drift removed, so that only noise and change remain
    of_plate (T, N, H, W): the noise model's features of the plate
    trust (T, 1, H, W): confidence in [0, 1] that a pixel is unchanged
    Pixels found at a fine scale are excluded from the means of the coarser scales. Otherwise a strong change would
    bleed into its surroundings.
    """
    region = torch.zeros_like(trust)
    for space, time in limits.scales:
        if space > residual.shape[2] * limits.coarsest:
            break
        open_ = 1 - region
        least = blur(open_, space, time).clamp_(min=1e-3)
        mean = blurred(torch.mul, (residual, open_), space, time).div_(least)
        chi = _chi_square(mean, of_plate, trust)
        sure = (chi > limits.sure).float() * open_
        sure = sure * (blur(torch.maximum(sure, region), max(space, 1.0), 0.7) > limits.company)
        region = torch.maximum(region, sure)
        likely = limits.likely_among_much if region.mean() > limits.much else limits.likely
        region = _grow(region, (chi > likely).float() * open_)
    return region


def _grow(region, likely):
    """The region and all likely pixels connected to it, in steps of at most two pixels and one frame."""
    region, likely = region[:, 0].bool().numpy(), likely[:, 0].bool().numpy()
    return torch.from_numpy(binary_propagation(region, np.ones((3, 5, 5)), mask=region | likely)).float()[:, None]


def _chi_square(residual, of_plate, trust):
    """Chi-square of "no change", three degrees of freedom, divided by how heavy its tails are on trusted pixels."""
    white = _whitening(residual, trust)
    squares = by_frame(
        lambda frame: (white @ frame.flatten(2)).square().mean(1, keepdim=True).view_as(frame[:, :1]), residual
    )
    chi = squares.mul(3).div_(Noise(of_plate, squares, trust)(of_plate))
    return chi.div_(_tail(chi, trust))


def _whitening(residual, trust):
    """The matrix (3, 3) that decorrelates the residual's channels, by their covariance over trusted pixels."""
    products = by_frame(lambda r, t: (r.flatten(2) * t.flatten(2)) @ r.flatten(2).transpose(1, 2), residual, trust)
    covariance = products.sum(0) / trust.sum().clamp_min(1) + 1e-8 * torch.eye(3)
    values, directions = torch.linalg.eigh(covariance)
    return directions @ torch.diag((values.mean() / values).sqrt()) @ directions.T


def _tail(chi, trust):
    """Factor by which chi-square on trusted pixels exceeds theory, at least 1: the largest of three quantiles."""
    trusted = np.flatnonzero(trust.numpy() > 0.5)
    if len(trusted) < 100:
        return 1.0
    values = chi.flatten()[torch.from_numpy(trusted[:: max(1, len(trusted) // 20_000)])].sort().values

    def quantile(q):
        return float(values[int(q * (len(values) - 1))])

    return max(1.0, *(quantile(q) / expected for q, expected in CHI_SQUARE_QUANTILES))
