"""Choose the model size for a plate, and shrink pictures to it."""

import math

import numpy as np
import torch
import torch.nn.functional as F

from vera.core.errors import InputError
from vera.core.plate.color import PlateColor
from vera.kernels.area_means import area_means, shrunk_planes

# Largest model size, as a multiple of the model's own pixel count. Raising it accepts narrower strips; needs memory.
MAX_PIXELS_RATIO = 8


def model_size(width: int, height: int, pixel_aspect: float, pixels: int, multiple: int) -> tuple[int, int]:
    """(width, height) of a plate at model size.

    Both are multiples of `multiple`, their product is near `pixels`, and the displayed shape is kept as well as the
    multiples allow. The plate is scaled to fill this size exactly, and the layer is scaled back in the same way. Raises
    InputError for extreme shapes.
    """
    shape = width * pixel_aspect / height
    ideal = math.sqrt(pixels / shape)
    rows = max(1, round(ideal / multiple))

    def error(h, w):
        return abs(math.log(w / h / shape)) + 0.5 * abs(math.log(w * h * multiple**2 / pixels))

    candidates = [
        (h, max(1, w))
        for h in {max(1, rows - 1), rows, rows + 1}
        for w in {math.floor(h * shape), math.ceil(h * shape)}
    ]
    h, w = min(sorted(candidates), key=lambda c: error(*c))
    if h * w * multiple**2 > MAX_PIXELS_RATIO * pixels:
        raise InputError(
            f"the picture is {width}x{height} with pixels of aspect {pixel_aspect:g}: "
            "a strip that the model cannot see;"
            " give a --region of it, or check the file's pixel aspect"
        )
    return w * multiple, h * multiple


def shrink(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """The image (H, W, C) in [0, 1] as (C, height, width), averaged without ringing or aliasing.

    A smaller image is enlarged linearly.
    """
    planes = image.movedim(-1, 0)[None]
    if image.shape[0] >= height and image.shape[1] >= width:
        return shrunk_planes(planes[0], (height, width))
    return F.interpolate(planes, (height, width), mode="bilinear", antialias=True)[0]


def at_model_size(color: PlateColor, pixels: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """A plate's pixels (H, W, 3 or 4) in the model's range, averaged to size (width, height): (3, height, width)."""
    width, height = size
    table = color.model_table(pixels.dtype)
    if table is not None and pixels.shape[0] >= height and pixels.shape[1] >= width:
        return area_means(pixels, table, (height, width))
    return shrink(torch.from_numpy(color.to_model(pixels)), width, height)
