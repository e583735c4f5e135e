"""Colour drift: a smooth gain and offset of each channel over frame and time, from unchanged pixels."""

import math

import torch
import torch.nn.functional as F

from core.lifting.position import tukey

CELL = 4  # pixels averaged before the fit
MOST_GAIN, MOST_OFFSET = 0.08, 0.03  # what can pass as drift; more is an edit
ROUNDS = 6


def find_drift(plate, edited, trust):
    """Gain and offset (T, 3, H, W): edited = (1 + gain) * plate + offset where nothing changed.

    trust: (T, 1, H, W). Reweighted least squares on a cosine basis (a few waves over the frame,
    one wave in 16 frames over time), with a prior towards no drift that grows with frequency.
    """
    t, _, h, w = plate.shape
    weight = F.avg_pool2d(trust, CELL, ceil_mode=True)
    p, e = (F.avg_pool2d(v * trust, CELL, ceil_mode=True) / weight.clamp_min(1e-4) for v in (plate, edited))
    weight = weight * (weight > 0.25)
    (slow, slow_order), (flat, flat_order) = _cosines(t, *weight.shape[2:], (2 + t // 16, 3, 4)), _cosines(t, *weight.shape[2:], (1, 2, 2))
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
            penalty = torch.diag(30 * noise.clamp_min(1e-6) * prior**2)
            x = torch.linalg.solve((columns * robust[:, None]).T @ columns + penalty, columns.T @ (robust * target))
        n = len(slow)
        gains.append(torch.einsum("k,kthw->thw", x[:n], slow))
        offsets.append(torch.einsum("k,kthw->thw", x[n:], flat))
    grow = lambda field: F.interpolate(torch.stack(field, 1), (h, w), mode="bicubic", align_corners=False)  # noqa: E731
    return grow(gains).clamp(-MOST_GAIN, MOST_GAIN), grow(offsets).clamp(-MOST_OFFSET, MOST_OFFSET)


def without_drift(edited, gain, offset):
    """The edited video in the plate's colours, (T, 3, H, W) in [0, 1]."""
    return ((edited - offset) / (1 + gain)).clamp(0, 1)


def _cosines(frames, height, width, counts):
    """Products of cosines, (N, T, H, W), and the order of each, (N,)."""
    waves = [
        torch.stack([torch.cos(math.pi * k * (torch.arange(n) + 0.5) / n) for k in range(min(count, n))])
        for n, count in zip((frames, height, width), counts)
    ]
    basis = torch.einsum("at,by,cx->abctyx", *waves)
    order = sum(torch.meshgrid(*(torch.arange(len(w)) for w in waves), indexing="ij"))
    return basis.flatten(0, 2), order.flatten().float()
