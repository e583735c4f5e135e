"""Change or noise: a statistic from fine to coarse scales of space and time, sure seeds, growth from them."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.ndimage import binary_propagation

from vera.core.lifting.noise import Noise
from vera.core.lifting.smooth import blur


@dataclass(frozen=True)
class ChangeLimits:
    """Thresholds of this method.

    scales: Gaussian sigmas in pixels and frames; the finest sees stars, the coarsest faint shadows. sure, likely,
    likely_among_much: of a chi-square with three degrees of freedom, 6.5, 3.0 and 2.5 sigma of one; lower finds fainter
    changes, and noise. much: share of the clip from which likely is sooner what lies beside a change. company: of the
    neighbourhood of a sure pixel, the share that must be sure too; higher loses stars and finds less noise. coarsest:
    share of the height that no scale exceeds.
    """

    scales: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.8, 0.7), (1.6, 1.0), (3.5, 1.5))
    sure: float = 50.0
    likely: float = 14.0
    likely_among_much: float = 11.0
    much: float = 0.03
    company: float = 0.3
    coarsest: float = 1 / 24

    def for_sensitivity(self, sensitivity: float) -> "ChangeLimits":
        """Thresholds of chi-square divided by it: of its square root times fainter changes."""
        sure, likely, among_much = (v / sensitivity for v in (self.sure, self.likely, self.likely_among_much))
        return replace(self, sure=sure, likely=likely, likely_among_much=among_much)


LIMITS = ChangeLimits()


def find_change(
    residual: torch.Tensor, of_plate: torch.Tensor, trust: torch.Tensor, limits: ChangeLimits = LIMITS
) -> torch.Tensor:
    """Where the picture was changed, (T, 1, H, W) of 0 and 1.

    residual (T, 3, H, W): edited less plate, in which only noise and change are left;
    of_plate: the noise model's features; trust (T, 1, H, W). What a fine scale finds is left
    out of the means of the coarser ones, so that a strong change has no skirt.
    """
    region = torch.zeros_like(trust)
    for space, time in limits.scales:
        if space > residual.shape[2] * limits.coarsest:
            break
        open_ = 1 - region
        mean = blur(residual * open_, space, time) / blur(open_, space, time).clamp_min(1e-3)
        chi = _chi_square(mean, of_plate, trust)
        sure = (chi > limits.sure).float() * open_
        sure = sure * (blur(torch.maximum(sure, region), max(space, 1.0), 0.7) > limits.company)
        region = torch.maximum(region, sure)
        likely = limits.likely_among_much if region.mean() > limits.much else limits.likely
        region = _grow(region, (chi > likely).float() * open_)
    return region


def _grow(region, likely):
    """The region and every likely pixel that is joined to it through likely ones, two pixels and a frame apart at
    most."""
    region, likely = region[:, 0].bool().numpy(), likely[:, 0].bool().numpy()
    return torch.from_numpy(binary_propagation(region, np.ones((3, 5, 5)), mask=region | likely)).float()[:, None]


def _chi_square(residual, of_plate, trust):
    """Of no change, three degrees of freedom; tails as heavy as trusted pixels show are divided out."""
    squares = _whitened(residual, trust).square().mean(1, keepdim=True)
    chi = 3 * squares / Noise(of_plate, squares, trust)(of_plate)
    return chi / _tail(chi, trust)


def _whitened(residual, trust):
    """Channels err together: decorrelated by the covariance of trusted pixels."""
    flat, w = residual.movedim(1, 0).flatten(1), trust.flatten()
    covariance = (flat * w) @ flat.T / w.sum().clamp_min(1) + 1e-8 * torch.eye(3)
    values, directions = torch.linalg.eigh(covariance)
    white = directions @ torch.diag((values.mean() / values).sqrt()) @ directions.T
    return torch.einsum("ij,tjhw->tihw", white, residual)


def _tail(chi, trust):
    values = chi[trust > 0.5]
    if len(values) < 100:
        return 1.0
    values = values[:: max(1, len(values) // 20_000)].sort().values
    at = lambda q: float(values[int(q * (len(values) - 1))])  # noqa: E731
    return max(1.0, at(0.5) / 2.37, at(0.99) / 11.3, at(0.999) / 16.3)
