"""A premultiplied layer over a plate, in the plate's own pixel type."""

from collections.abc import Callable

import numpy as np

from vera.kernels import over_reference
from vera.kernels.native_module import native as _native

IMPLEMENTATION = "numpy reference" if _native is None else "native"
SPACES = {"plate_encoding": ("linear", "srgb"), "blend_space": ("linear", "encoded")}


def over(
    plate: np.ndarray, layer: np.ndarray, plate_encoding: str, blend_space: str, code_bits: int | None = None
) -> np.ndarray:
    """Composite `layer` over `plate`: layer.rgb + (1 - alpha) * plate.

    plate: (H, W, 3 or 4) uint8, uint16, uint32, float16 or float32. Integers stand for 0 to 1. A fourth channel is an
        alpha A and becomes a + (1 - a) A.
    layer: (H, W, 4) float16 or float32, premultiplied, alpha in [0, 1], colour in `blend_space`
    plate_encoding: encoding of the plate's values: "linear", or "srgb" (IEC 61966-2-1, odd about zero, with the power
        law continued above 1)
    blend_space: space of the sum: "linear" light or sRGB-"encoded"
    code_bits: 10 or 12 for a uint16 plate with such codes widened by OpenImageIO. New codes are rounded to these bits.

    Returns an array of the plate's shape and type. Where alpha is 0 it has the plate's bits (NaN, infinity, -0.0 and
    denormals too, in every channel). Where alpha is 1 it has the layer's colour, whatever the plate is. In between, a
    NaN plate stays NaN. Integers are rounded to the nearest code and clamped, halves to nearest even.

    Raises ValueError on other shapes, types or names.
    """
    _check(plate, layer, plate_encoding, blend_space, code_bits)
    if _native is None:
        return over_reference.over(plate, layer, plate_encoding, blend_space, code_bits)
    return _native.over(
        np.ascontiguousarray(plate),
        np.ascontiguousarray(layer),
        plate_encoding == "srgb",
        blend_space == "encoded",
        code_bits or 0,
    )


def over_through(
    plate: np.ndarray,
    layer: np.ndarray,
    to_blend: Callable[[np.ndarray], np.ndarray],
    from_blend: Callable[[np.ndarray], np.ndarray],
    code_bits: int | None = None,
) -> np.ndarray:
    """`over` for a plate in any other encoding.

    to_blend: converts plate values (N, 3) float32, integers as 0 to 1, to the blending space
    from_blend: its inverse
    Both are called for touched pixels only. The sum is float64; the conversions are float32 with their own precision.
    """
    _check(plate, layer, "linear", "linear", code_bits)
    result = np.array(plate, order="C")
    touched = layer[..., 3] != 0
    behind = over_reference.number(plate[touched], code_bits)
    values = layer[touched].astype(np.float64)
    alpha = values[:, 3:]
    with np.errstate(all="ignore"):
        color = to_blend(behind[:, :3].astype(np.float32)).astype(np.float64)
        color = np.where(alpha == 1, values[:, :3], values[:, :3] + (1 - alpha) * color)
        numbers = from_blend(color.astype(np.float32)).astype(np.float64)
        if plate.shape[2] == 4:
            coverage = np.where(alpha == 1, 1, alpha + (1 - alpha) * behind[:, 3:])
            numbers = np.concatenate([numbers, coverage], axis=1)
        result[touched] = over_reference.code(numbers, plate.dtype, code_bits)
    return result


def _check(plate, layer, plate_encoding, blend_space, code_bits):
    for name, value in (("plate_encoding", plate_encoding), ("blend_space", blend_space)):
        if value not in SPACES[name]:
            raise ValueError(f"{name} is {value!r}; use one of {', '.join(SPACES[name])}")
    if plate.dtype not in (np.uint8, np.uint16, np.uint32, np.float16, np.float32):
        raise ValueError(f"no plate type: {plate.dtype}")
    if layer.dtype not in (np.float16, np.float32):
        raise ValueError(f"the layer is {layer.dtype}, not float16 or float32")
    if plate.ndim != 3 or plate.shape[2] not in (3, 4):
        raise ValueError(f"the plate's shape {plate.shape} is not (H, W, 3 or 4)")
    if layer.shape != (*plate.shape[:2], 4):
        raise ValueError(f"the layer's shape {layer.shape} does not fit the plate's {plate.shape}")
    if code_bits is not None and (plate.dtype != np.uint16 or not 8 <= code_bits < 16):
        raise ValueError(f"code_bits {code_bits} does not fit a {plate.dtype} plate")
