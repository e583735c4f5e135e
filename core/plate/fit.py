"""From plate size to model size."""

import math

import torch
import torch.nn.functional as F

from vera.core.errors import InputError

# Of the model's own number of pixels; a shape that cannot be had with fewer is refused. Higher: more memory.
MAX_PIXELS_RATIO = 8


def model_size(width: int, height: int, pixel_aspect: float, pixels: int, multiple: int) -> tuple[int, int]:
    """Width and height at which the model sees a plate.

    Both are multiples of `multiple`, their product is near `pixels`, and the picture's
    shape (pixel aspect included) is kept as nearly as the multiples allow. The plate
    is scaled to fill this size exactly; the layer is scaled back the same way. Raises InputError for extreme shapes.
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
    """(H, W, C) in [0, 1] -> (C, height, width): averaged, so nothing rings and nothing aliases.

    Where the image is smaller than that, it grows linearly.
    """
    planes = image.movedim(-1, 0)[None]
    if image.shape[0] >= height and image.shape[1] >= width:
        return F.interpolate(planes, (height, width), mode="area")[0]
    return F.interpolate(planes, (height, width), mode="bilinear", antialias=True)[0]
