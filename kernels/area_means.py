"""Pictures averaged to a smaller size: planes of numbers, and codes that are looked up in a table in the same pass."""

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


def shrunk_planes(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Means (..., height, width) of planes (..., H, W) over the areas of the pixels of a smaller size, in their type.

    size: (height, width), at most (H, W). float32 on a CPU is computed natively, with the bits of the reference (to
    one pixel: to 1e-6).
    """
    stack = planes.reshape(-1, *planes.shape[-2:])  # a view, also of channels that lie side by side
    if _native is None or planes.dtype != torch.float32 or planes.is_cuda:
        found = reference_planes(stack, size)
    else:
        found = torch.from_numpy(_native.area_planes(stack.numpy(), *size, torch.get_num_threads()))
    return found.view(*planes.shape[:-2], *size)


def reference_planes(stack: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """`shrunk_planes` of (N, H, W) in torch."""
    return F.interpolate(stack[None], size, mode="area")[0]
