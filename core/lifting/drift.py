"""Colour drift: a smooth gain and offset of each channel over frame and time, from unchanged pixels."""

import math

import torch
import torch.nn.functional as F

from vera.core.lifting.registration import tukey
from vera.core.lifting.smooth import weighted

CELL = 4  # pixels averaged before the fit
MOST_GAIN, MOST_OFFSET = 0.08, 0.03  # what can pass as drift; more is an edit
ROUNDS = 6
ALIKE = 100  # cells whose errors are one: 20 pixels each way and four frames
LEAST_CONTRAST, CONTRAST = 0.8, 0.9  # of the plate's: what drift never leaves, and what it may leave
TEXTURE = 0.02  # least standard deviation by which contrast is told


def find_drift(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and offset (T, 3, H, W): edited = (1 + gain) * plate + offset where nothing changed.

    trust: (T, 1, H, W). Reweighted least squares on a cosine basis (a few waves over the frame,
    one wave in 16 frames over time), with a prior towards no drift that grows with frequency.
    """
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
        for _ in range(ROUNDS):
            error = target - columns @ x
            robust = base * tukey(error, base, 4.0)
            noise = (robust * error**2).sum() / robust.sum().clamp_min(1e-6)
            # Errors of neighbours are alike: many cells count as one.
            penalty = torch.diag(ALIKE * noise.clamp_min(1e-6) * prior**2)
            x = torch.linalg.solve((columns * robust[:, None]).T @ columns + penalty, columns.T @ (robust * target))
        n = len(slow)
        gains.append(torch.einsum("k,kthw->thw", x[:n], slow))
        offsets.append(torch.einsum("k,kthw->thw", x[n:], flat))
    grow = lambda field: F.interpolate(torch.stack(field, 1), (h, w), mode="bicubic", align_corners=False)  # noqa: E731
    return grow(gains).clamp(-MOST_GAIN, MOST_GAIN), grow(offsets).clamp(-MOST_OFFSET, MOST_OFFSET)


def contrast_kept(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """0 where the plate shows through with less contrast than drift would leave it, as through fog, to 1, (T, 1, H, W).

    The slope of edited on plate, both without what is finer than a cell (a codec's to take) and coarser than ten;
    where the plate is plain, 1.
    """
    weight, *both = cells(plate, edited, trust)
    s, c = (v - weighted(v, weight, 2.5) for v in both)
    ss, sc = (weighted((s * v).mean(1, keepdim=True), weight, 2.0, 0.7) for v in (s, c))
    kept = ((sc / ss.clamp_min(1e-8) - LEAST_CONTRAST) / (CONTRAST - LEAST_CONTRAST)).clamp(0, 1)
    kept = 1 - (ss / TEXTURE**2).clamp(max=1) * (1 - kept)
    return F.interpolate(kept, plate.shape[2:], mode="bilinear", align_corners=False)


def without_drift(edited: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The edited video in the plate's colours, (T, 3, H, W) in [0, 1]."""
    return ((edited - offset) / (1 + gain)).clamp(0, 1)


def cells(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor, size: int = CELL) -> tuple[torch.Tensor, ...]:
    """Weight of each cell, and the means of what is trusted there."""
    weight = F.avg_pool2d(trust, size, ceil_mode=True)
    means = (F.avg_pool2d(v * trust, size, ceil_mode=True) / weight.clamp_min(1e-4) for v in (plate, edited))
    return weight * (weight > 0.25), *means


def cosines(size: tuple[int, int, int], counts: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of cosines, (N, T, H, W), and the order of each, (N,). size: (T, H, W); counts: cosines along each."""
    waves = [
        torch.stack([torch.cos(math.pi * k * (torch.arange(n) + 0.5) / n) for k in range(min(count, n))])
        for n, count in zip(size, counts, strict=True)
    ]
    basis = torch.einsum("at,by,cx->abctyx", *waves)
    order = sum(torch.meshgrid(*(torch.arange(len(w)) for w in waves), indexing="ij"))
    return basis.flatten(0, 2), order.flatten().float()
