"""Colour drift: a smooth gain and offset of each channel over frame and time, from unchanged pixels."""

import math

import torch
import torch.nn.functional as F

from vera.core.lifting.registration import tukey
from vera.core.lifting.smooth import weighted

CELL = 4  # pixels a side averaged before the fit
MAX_GAIN, MAX_OFFSET = 0.08, 0.03  # largest drift, in shares of the value and of the code range; more is an edit
FIT_ROUNDS = 6  # of reweighting
CORRELATED_CELLS = (
    100  # cells with a common error: 20 pixels each way and four frames. Raising it trusts the prior more
)
MIN_CONTRAST, FULL_CONTRAST = 0.8, 0.9  # slope of edited on plate at which trust in the plate is 0, and 1
MIN_TEXTURE = 0.02  # standard deviation of the plate from which contrast can be measured


def find_drift(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and offset (T, 3, H, W): edited = (1 + gain) * plate + offset where nothing changed.

    plate, edited: (T, 3, H, W). trust: (T, 1, H, W) in [0, 1].
    The fit is reweighted least squares on a cosine basis: a few waves over the frame, and one more wave every 16 frames
    in time. The prior towards no drift grows with frequency.
    """
    assert plate.shape == edited.shape and trust.shape == (len(plate), 1, *plate.shape[2:])
    t, _, h, w = plate.shape
    weight, p, e = cells(plate, edited, trust)
    size = (t, weight.shape[2], weight.shape[3])
    (slow, slow_order), (flat, flat_order) = cosines(size, (2 + t // 16, 3, 4)), cosines(size, (1, 2, 2))
    prior = torch.cat([(1 + slow_order) / 0.02, (1 + flat_order) / 0.004])
    gains, offsets = [], []
    for c in range(3):
        columns = torch.cat([slow * p[None, :, c], flat]).flatten(1).T
        target, base = (e - p)[:, c].flatten(), weight[:, 0].flatten()
        x = torch.zeros(columns.shape[1])
        for _ in range(FIT_ROUNDS):
            error = target - columns @ x
            robust = base * tukey(error, base, 4.0)
            noise = (robust * error**2).sum() / robust.sum().clamp_min(1e-6)
            # Errors of neighbouring cells are correlated: CORRELATED_CELLS of them count as one.
            penalty = torch.diag(CORRELATED_CELLS * noise.clamp_min(1e-6) * prior**2)
            x = torch.linalg.solve((columns * robust[:, None]).T @ columns + penalty, columns.T @ (robust * target))
        n = len(slow)
        gains.append(torch.einsum("k,kthw->thw", x[:n], slow))
        offsets.append(torch.einsum("k,kthw->thw", x[n:], flat))

    def enlarged(field):
        return F.interpolate(torch.stack(field, 1), (h, w), mode="bicubic", align_corners=False)

    return enlarged(gains).clamp(-MAX_GAIN, MAX_GAIN), enlarged(offsets).clamp(-MAX_OFFSET, MAX_OFFSET)


def contrast_kept(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """How far the plate keeps its contrast, (T, 1, H, W): 1 as after drift alone, 0 as through fog.

    The measure is the slope of edited on plate, for detail between one cell and ten: a codec removes finer detail.
    It is 1 where the plate has no texture.
    """
    weight, *both = cells(plate, edited, trust)
    s, c = (v - weighted(v, weight, 2.5) for v in both)
    ss, sc = (weighted((s * v).mean(1, keepdim=True), weight, 2.0, 0.7) for v in (s, c))
    kept = ((sc / ss.clamp_min(1e-8) - MIN_CONTRAST) / (FULL_CONTRAST - MIN_CONTRAST)).clamp(0, 1)
    kept = 1 - (ss / MIN_TEXTURE**2).clamp(max=1) * (1 - kept)
    return F.interpolate(kept, plate.shape[2:], mode="bilinear", align_corners=False)


def without_drift(edited: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The edited video in the plate's colours, (T, 3, H, W) in [0, 1]."""
    return ((edited - offset) / (1 + gain)).clamp(0, 1)


def cells(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor, size: int = CELL) -> tuple[torch.Tensor, ...]:
    """Weight of each cell (T, 1, h, w), and the means of the trusted pixels of plate and edited there (T, 3, h, w)."""
    weight = F.avg_pool2d(trust, size, ceil_mode=True)
    means = (F.avg_pool2d(v * trust, size, ceil_mode=True) / weight.clamp_min(1e-4) for v in (plate, edited))
    return weight * (weight > 0.25), *means


def cosines(size: tuple[int, int, int], counts: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of cosines, (N, T, H, W), and the order of each, (N,).

    size: (T, H, W). counts: cosines along each axis.
    """
    waves = [
        torch.stack([torch.cos(math.pi * k * (torch.arange(n) + 0.5) / n) for k in range(min(count, n))])
        for n, count in zip(size, counts, strict=True)
    ]
    basis = torch.einsum("at,by,cx->abctyx", *waves)
    order = sum(torch.meshgrid(*(torch.arange(len(w)) for w in waves), indexing="ij"))
    return basis.flatten(0, 2), order.flatten().float()
