"""Change or noise: a statistic from fine to coarse scales of space and time, sure seeds, growth from them."""

import numpy as np
import torch
from scipy.ndimage import binary_propagation

from vera.core.lifting.noise import Noise
from vera.core.lifting.smooth import blur

# Gaussian sigmas in pixels and frames; the finest sees stars, the coarsest faint shadows.
SCALES = ((0.0, 0.0), (0.8, 0.7), (1.6, 1.0), (3.5, 1.5))
# Of a chi-square with three degrees of freedom: 6.5, 3.0 and 2.5 sigma of one. Likely is sooner what lies beside a
# change where much has changed: more than this share of the clip.
SURE, LIKELY, LIKELY_AMONG_MUCH = 50.0, 14.0, 11.0
MUCH = 0.03


def find_change(residual: torch.Tensor, of_plate: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """Where the picture was changed, (T, 1, H, W) of 0 and 1.

    residual (T, 3, H, W): edited less plate, in which only noise and change are left;
    of_plate: the noise model's features; trust (T, 1, H, W). What a fine scale finds is left
    out of the means of the coarser ones, so that a strong change has no skirt.
    """
    region = torch.zeros_like(trust)
    for space, time in SCALES:
        if space > residual.shape[2] / 24:
            break
        open_ = 1 - region
        mean = blur(residual * open_, space, time) / blur(open_, space, time).clamp_min(1e-3)
        chi = _chi_square(mean, of_plate, trust)
        sure = (chi > SURE).float() * open_
        sure = sure * (blur(torch.maximum(sure, region), max(space, 1.0), 0.7) > 0.3)
        region = torch.maximum(region, sure)
        likely = LIKELY_AMONG_MUCH if region.mean() > MUCH else LIKELY
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
