"""Filters of planes (B, C, H, W), in torch on any device."""

from collections.abc import Callable

import torch
import torch.nn.functional as F


def pull_push(planes: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """Fill untrusted pixels from trusted neighbours, the nearest first (Gortler et al., "The Lumigraph", 1996).

    trust: (B, 1, H, W) in [0, 1]; where it is 1, a pixel keeps its value
    """
    return _fill(planes * trust, trust)


def _fill(weighted: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Recursion of `pull_push`. weighted: planes times weight, (B, C, H, W). weight: (B, 1, H, W)."""
    if max(weight.shape[-2:]) == 1:
        return weighted / weight.clamp_min(1e-6)
    # Sums of 2 x 2: a coarse pixel has the weight of its four pixels together.
    padded = [F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)) for x in (weighted, weight)]
    sums = [4 * F.avg_pool2d(x, 2) for x in padded]
    scale = sums[1].clamp_min(1.0)
    coarse = _fill(sums[0] / scale, sums[1] / scale)
    enlarged = grow(coarse, (2 * coarse.shape[-2], 2 * coarse.shape[-1]))
    return weighted + (1 - weight) * enlarged[..., : weight.shape[-2], : weight.shape[-1]]


def dilate(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Maximum within (2 radius + 1)^2 pixels."""
    for axis in (2, 3):
        planes = _over_window(torch.maximum, planes, axis, radius, -torch.inf)
    return planes


def blur(planes: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean within (2 radius + 1)^2 pixels; pixels outside do not count."""
    for axis in (2, 3):
        ones = planes.new_ones([1] * axis + [planes.shape[axis]] + [1] * (3 - axis))
        planes = _over_window(torch.add, planes, axis, radius, 0) / _over_window(torch.add, ones, axis, radius, 0)
    return planes


def _over_window(
    join: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    planes: torch.Tensor,
    axis: int,
    radius: int,
    outside: float,
) -> torch.Tensor:
    """Join the 2 radius + 1 neighbours of each element along an axis, such as by their maximum or sum.

    Joins of runs of 1, 2, 4, ... elements are computed, and those that add up to the window's length are joined.
    join: an associative function of two tensors of one shape
    outside: value beyond the planes' edges
    """
    count, window = planes.shape[axis], 2 * radius + 1
    edge = planes.new_full([*planes.shape[:axis], radius, *planes.shape[axis + 1 :]], outside)
    run, length, start = torch.cat([edge, planes, edge], axis), 1, 0
    joined: torch.Tensor | None = None
    while length <= window:
        if window & length:
            part = run.narrow(axis, start, count)
            joined = part if joined is None else join(joined, part)
            start += length
        if 2 * length <= window:
            rest = run.shape[axis] - length
            run = join(run.narrow(axis, 0, rest), run.narrow(axis, length, rest))
        length *= 2
    assert joined is not None  # a window has at least one element
    return joined


def grow(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The planes enlarged bilinearly to `size`, with pixels treated as areas (align_corners=False)."""
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)


def smoothstep(x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """0 below low, 1 above high, smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
