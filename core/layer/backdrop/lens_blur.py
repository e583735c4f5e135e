"""Effects of a lens: defocus discs, glow around bright parts, and points of light."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 3  # blurred pictures between which each pixel is interpolated. Raising it is more exact, and takes time


@lru_cache(maxsize=64)
def disc(radius: float) -> Tensor:
    """The defocus disc of a point, (1, 1, n, n), with sum 1. radius: in samples."""
    reach = math.ceil(radius)
    fine = 8
    at = (torch.arange((2 * reach + 1) * fine) + 0.5) / fine - reach - 0.5
    inside = (at[:, None] ** 2 + at[None] ** 2 <= (radius + 0.25) ** 2).float()
    kernel = F.avg_pool2d(inside[None, None], fine)
    return kernel / kernel.sum()


def out_of_focus(light: Tensor, blur: Tensor, radius: float) -> Tensor:
    """Defocus light (3, h, w). blur (h, w): radius of each disc as a share in [0, 1] of `radius`, in samples."""
    if radius < 0.3:
        return light
    most = float(blur.max())
    stages = [light]
    for k in range(1, LEVELS + 1):
        kernel = disc(round(radius * k / LEVELS, 3)) if (k - 1) / LEVELS < most else None
        stages.append(stages[-1] if kernel is None else _convolved(light, kernel))
    at = blur * LEVELS
    made = torch.zeros_like(light)
    for k, stage in enumerate(stages):
        made += stage * (1 - (at - k).abs()).clamp_min(0)
    return made


def _convolved(planes: Tensor, kernel: Tensor) -> Tensor:
    """Planes (3, h, w) through a kernel (1, 1, n, n); the border goes on."""
    reach = kernel.shape[-1] // 2
    padded = F.pad(planes[None], (reach,) * 4, mode="replicate")
    # One group a plane, with the planes innermost, takes a tenth of the time of a batch of planes.
    padded = padded.contiguous(memory_format=torch.channels_last)
    return F.conv2d(padded, kernel.expand(len(planes), -1, -1, -1), groups=len(planes))[0].contiguous()


def glow(light: Tensor, deviation: float, share: float, above: float) -> Tensor:
    """Add a Gaussian glow to light (3, h, w): a share of the light above a threshold. deviation: sigma in samples."""
    step = max(1, round(deviation / 3))
    bright = (light - above).clamp_min(0)[None]
    height, width = light.shape[1:]
    small = F.interpolate(bright, (-(-height // step), -(-width // step)), mode="area")
    reach = math.ceil(3 * deviation / step)
    weights = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * (deviation / step) ** 2))
    weights = weights / weights.sum()
    padded = F.pad(small[0][:, None], (reach,) * 4, mode="constant")
    spread = F.conv2d(F.conv2d(padded, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))[:, 0]
    return light + share * F.interpolate(spread[None], (height, width), mode="bilinear", align_corners=False)[0]


def splat(light: Tensor, columns: Tensor, rows: Tensor, flux: Tensor) -> None:
    """Add N points to light (3, h, w), in place.

    columns, rows: (N,), positions in samples. flux: (3, N), in the light of one sample
    """
    height, width = light.shape[1:]
    left, top = (columns - 0.5).floor(), (rows - 0.5).floor()
    right, below = columns - 0.5 - left, rows - 0.5 - top
    flat = light.view(3, -1)
    for dx, dy, share in (
        (0, 0, (1 - right) * (1 - below)),
        (1, 0, right * (1 - below)),
        (0, 1, (1 - right) * below),
        (1, 1, right * below),
    ):
        x, y = left.long() + dx, top.long() + dy
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        flat.index_add_(1, (y * width + x)[inside], (flux * share)[:, inside])
