"""Random fields and camera views, shared by plates, backgrounds and effects."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F


def noise(
    gen: torch.Generator, size: tuple[int, int], coarsest: int = 2, octaves: int = 5, roughness: float = 0.55
) -> torch.Tensor:
    """Smooth noise of several octaves, about zero mean and unit variance; size: (height, width)."""
    height, width = size
    total = torch.zeros(height, width)
    for i in range(octaves):
        cells = coarsest * 2**i
        grid = torch.randn(1, 1, cells + 3, max(2, round(cells * width / height)) + 3, generator=gen)
        up = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)[0, 0]
        total += roughness**i * up
    return (total - total.mean()) / total.std().clamp_min(1e-6)


def tiling(texture: torch.Tensor, dim: int) -> torch.Tensor:
    """Make a texture (h, w) repeat without a seam along dim: blend it with itself, shifted by half its size."""
    size = texture.shape[dim]
    w = 0.5 - 0.5 * torch.cos(2 * math.pi * (torch.arange(size) + 0.5) / size)
    w = w[:, None] if dim == 0 else w
    return (texture * w + texture.roll(size // 2, dim) * (1 - w)) / (w * w + (1 - w) ** 2).sqrt()


def plane(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixel centres as x (right) and y (down), in units of the frame height, zero in the middle."""
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = ((torch.arange(width) + 0.5) / width - 0.5) * (width / height)
    return torch.meshgrid(y, x, indexing="ij")[::-1]


def mix(a: torch.Tensor | Sequence[float], b: torch.Tensor | Sequence[float], t: torch.Tensor) -> torch.Tensor:
    """Interpolate colours a and b, triples or (3, ...), with weight t -> (3, ...)."""
    first, second = _planes(a, t.dim()), _planes(b, t.dim())
    return first + (second - first) * t


def _planes(color: torch.Tensor | Sequence[float], dims: int) -> torch.Tensor:
    """Reshape a triple to (3, 1, ...) with `dims` ones; return a tensor unchanged."""
    if isinstance(color, torch.Tensor):
        return color
    return torch.as_tensor(color, dtype=torch.float32).reshape(3, *[1] * dims)


def smoothstep(low: float, high: float, x: torch.Tensor) -> torch.Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def view(
    texture: torch.Tensor, offsets: torch.Tensor, zoom: torch.Tensor, height: int, width: int, wrap: bool = False
) -> torch.Tensor:
    """Sample a texture through a moving camera.

    texture (C, h, w) has the frame's pixel scale and is usually larger than the frame.
    offsets (T, 2), x and y, are in frame heights; zoom is (T,). Returns (T, C, height, width).
    wrap repeats the texture (for particles). Without wrap the texture's edge pixels are repeated.
    """
    x, y = plane(height, width)
    c, th, tw = texture.shape
    gx = (x * zoom[:, None, None] + offsets[:, 0, None, None]) * (2 * height / tw)
    gy = (y * zoom[:, None, None] + offsets[:, 1, None, None]) * (2 * height / th)
    if wrap:
        gx, gy = (torch.remainder(g + 1, 2) - 1 for g in (gx, gy))
    grid = torch.stack([gx, gy], dim=-1)
    batch = texture[None].expand(len(zoom), -1, -1, -1)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=False)


def extend_color(premultiplied: torch.Tensor, alpha: torch.Tensor, levels: int = 6) -> torch.Tensor:
    """Straight colour, extended smoothly into the pixels with alpha 0; grey far from the layer.

    premultiplied (T, 3, H, W), alpha (T, 1, H, W) -> (T, 3, H, W). The method fills a
    pyramid of averages from the coarsest level down, so training sees no hard colour edge.
    """
    colors, weights = [premultiplied], [alpha]
    for _ in range(levels):
        if min(colors[-1].shape[-2:]) < 2:
            break
        colors.append(F.avg_pool2d(colors[-1], 2, ceil_mode=True, count_include_pad=False))
        weights.append(F.avg_pool2d(weights[-1], 2, ceil_mode=True, count_include_pad=False))
    filled = torch.full_like(colors[-1], 0.5)
    for color, weight in zip(reversed(colors), reversed(weights)):
        below = F.interpolate(filled, size=color.shape[-2:], mode="bilinear", align_corners=False)
        w = weight.clamp(0, 1)
        trust = (w * 8).clamp(max=1)  # full weight from alpha 1/8: thin layers keep their own colour
        filled = torch.lerp(below, color / w.clamp_min(1e-4), trust)
    return filled.clamp(0, 1)


def turn(angle: float) -> tuple[float, float]:
    return math.cos(angle), math.sin(angle)
