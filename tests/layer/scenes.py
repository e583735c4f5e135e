"""Scenes of which everything is known: a matte at plate size, subject, background, and what a model gives of it."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

# 480p to 2160p: 4.5 times.
MODEL = (60, 76)
PLATE = (270, 342)


@lru_cache
def texture(color, seed, strength=0.06, size=PLATE):
    """Colour (H, W, 3) float32 in [0, 1] with detail of several sizes about `color`."""
    rng = np.random.default_rng(seed)
    detail = sum(
        0.5**n * _grown(rng.standard_normal((3 * 2**n, 4 * 2**n, 3)).astype(np.float32), size, "bicubic")
        for n in range(4)
    )
    return (np.float32(color) + strength * detail).clip(0.02, 0.98)


@lru_cache
def subject(hair=True, blur=True, size=PLATE, seed=0):
    """Matte (H, W) float32 of a body with thin hair above and motion blur on its right."""
    rng = np.random.default_rng(seed)
    y, x = (np.mgrid[: 2 * size[0], : 2 * size[1]].astype(np.float32) + 0.5) / 2
    y, x = y - 0.58 * size[0], x - 0.5 * size[1]
    angle, radius = np.arctan2(y, x), np.hypot(y, x)
    reach = 0.25 * size[0]
    matte = radius < reach * (1 + 0.12 * np.sin(3 * angle + 1) + 0.05 * np.sin(11 * angle))
    for _ in range(12 * hair):
        along = (radius - 0.9 * reach) / rng.uniform(0.2 * reach, 0.6 * reach)
        bent = rng.uniform(-0.9, -0.1) * np.pi + rng.uniform(-0.3, 0.3) * along.clip(0, 1) ** 2
        thick = rng.uniform(1.0, 4.0) * (1 - 0.7 * along.clip(0, 1))
        matte |= (np.abs(radius * (angle - bent)) < thick) & (along > -0.3) & (along < 1)
    matte = boxed(matte.astype(np.float32), size)
    if blur:
        moved = F.avg_pool2d(F.pad(torch.from_numpy(matte)[None, None], (12, 12, 0, 0)), (1, 25), 1)[0, 0].numpy()
        right = (x[0, ::2] / 20).clip(0, 1)
        matte = matte + right * (moved - matte)
    return matte


def decoded(image, seed=1, size=MODEL):
    """What a model gives of (H, W) or (H, W, C) in [0, 1] at its own size: averaged, softened, noisy."""
    rng = np.random.default_rng(seed)
    planes = _planes(boxed(image, size))
    soft = torch.tensor([0.1, 0.8, 0.1])
    kernel = (soft[:, None] * soft)[None, None].expand(planes.shape[1], 1, 3, 3)
    planes = F.conv2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), kernel, groups=planes.shape[1])
    noisy = planes + 0.01 * torch.from_numpy(rng.standard_normal(planes.shape).astype(np.float32))
    return _image(noisy.clamp(0, 1), image.ndim)


def plain(image, size=PLATE):
    """Bilinear, to plate size: the peer."""
    return _grown(image, size, "bilinear")


def at_edges(matte, reach=6):
    """The pixels within `reach` of an edge of the matte."""
    planes = torch.from_numpy(matte)[None, None]
    low, high = (-F.max_pool2d(-planes, 2 * reach + 1, 1, reach), F.max_pool2d(planes, 2 * reach + 1, 1, reach))
    return (high - low > 0.05)[0, 0].numpy()


def boxed(image, size):
    return _image(F.interpolate(_planes(image), size, mode="area"), image.ndim)


def _grown(image, size, mode):
    return _image(F.interpolate(_planes(image), size, mode=mode, align_corners=False), image.ndim)


def _planes(image):
    planes = torch.from_numpy(np.ascontiguousarray(image))
    return (planes[..., None] if planes.ndim == 2 else planes).permute(2, 0, 1)[None]


def _image(planes, dimensions):
    image = planes[0].permute(1, 2, 0).contiguous().numpy()
    return image[..., 0] if dimensions == 2 else image
