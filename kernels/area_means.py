"""A picture of codes looked up in a table and averaged to a smaller size, in one pass."""

import numpy as np
import torch
import torch.nn.functional as F

from vera.kernels.native_module import native as _native


def area_means(pixels: np.ndarray, table: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Means (3, height, width) float32 of the table's values over the areas of the pixels of a smaller size.

    pixels: (H, W, 3 or 4) of 1 or 2 bytes a channel, of which the first three count; rows may be strided
    table: (256,) or (65536,) float32, by a channel's bits
    size: (height, width), at most (H, W)
    """
    codes = pixels.view(f"u{pixels.itemsize}")
    if _native is None:
        return reference(codes, table, size)
    whole_rows = codes.strides[1:] == (codes.shape[2] * codes.itemsize, codes.itemsize)
    return torch.from_numpy(_native.area_means(codes if whole_rows else np.ascontiguousarray(codes), table, *size))


def reference(codes: np.ndarray, table: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """`area_means` in torch."""
    planes = torch.from_numpy(table.take(codes[..., :3])).movedim(-1, 0)[None]
    return F.interpolate(planes, size, mode="area")[0]
