"""Average a picture to a smaller size, or a part of it, and find the part of a layer that is not empty."""

import numpy as np

from vera.kernels.native_module import native as _native
from vera.kernels.part import Part


def shrunk(image: np.ndarray, size: tuple[int, int], part: Part, most: float) -> np.ndarray:
    """A part, float32 (h, w, C), of an image that is averaged to `size` (height, width).

    image: (H, W, 3 or 4), unsigned integers, float16 or float32; rows and columns may be strided
    most: values beyond it, to either side, count as it; NaN counts as 0
    A triangular filter, which has no negative lobes beside highlights; larger sizes are interpolated.
    """
    most = min(most, float(np.finfo(np.float32).max))
    if _native is None:
        return reference(image, size, part, most)
    image = image if image.strides[2] == image.itemsize else np.ascontiguousarray(image)
    return _native.shrink(image, *size, list(part), most)


def reference(image: np.ndarray, size: tuple[int, int], part: Part, most: float) -> np.ndarray:
    """`shrunk` in torch."""
    import torch
    import torch.nn.functional as F

    values = np.clip(np.nan_to_num(image.astype(np.float32), nan=0.0, posinf=np.inf, neginf=-np.inf), -most, most)
    planes = torch.from_numpy(values).permute(2, 0, 1)[None]
    small = F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0)
    return np.ascontiguousarray(small.numpy()[part.slices])


def alpha_box(layer: np.ndarray) -> tuple[int, Part | None]:
    """The number of pixels of a layer (H, W, 4), float16 or float32, whose alpha is not 0, and the part that holds all
    of them; None if there are none."""
    if _native is None:
        return reference_box(layer)
    count, *part = _native.alpha_box(np.ascontiguousarray(layer))
    return count, Part(*part) if count else None


def reference_box(layer: np.ndarray) -> tuple[int, Part | None]:
    """`alpha_box` in numpy."""
    there = layer[..., 3] != 0
    rows, columns = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    if not len(rows):
        return 0, None
    return int(there.sum()), Part(int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
