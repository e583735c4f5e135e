"""`over` (kernels/over.py) in plain numpy: the reference for the native kernel."""

import numpy as np


def decode_srgb(code: np.ndarray) -> np.ndarray:
    """sRGB code value to light (IEC 61966-2-1), float64, mirrored about zero."""
    c = np.abs(code)
    light = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.copysign(light, code)


def encode_srgb(light: np.ndarray) -> np.ndarray:
    """Light to sRGB code value, the inverse of `decode_srgb`."""
    v = np.abs(light)
    code = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)
    return np.copysign(code, light)


def over(
    plate: np.ndarray, layer: np.ndarray, plate_encoding: str, blend_space: str, code_bits: int | None = None
) -> np.ndarray:
    """See `over` in kernels/over.py."""
    with np.errstate(all="ignore"):  # NaN and infinities are allowed in plates
        values = layer.astype(np.float64)
        alpha = values[..., 3:]
        behind = number(plate, code_bits)
        color = _to_blend_space(behind[..., :3], plate_encoding, blend_space)
        color = np.where(alpha == 1, values[..., :3], values[..., :3] + (1 - alpha) * color)
        result = _from_blend_space(color, plate_encoding, blend_space)
        if plate.shape[2] == 4:
            coverage = np.where(alpha == 1, 1, alpha + (1 - alpha) * behind[..., 3:])
            result = np.concatenate([result, coverage], axis=-1)
        return np.where(alpha == 0, plate, code(result, plate.dtype, code_bits))


def _to_blend_space(color, plate_encoding, blend_space):
    if (plate_encoding, blend_space) == ("srgb", "linear"):
        return decode_srgb(color)
    if (plate_encoding, blend_space) == ("linear", "encoded"):
        return encode_srgb(color)
    return color


def _from_blend_space(color, plate_encoding, blend_space):
    if (plate_encoding, blend_space) == ("srgb", "linear"):
        return encode_srgb(color)
    if (plate_encoding, blend_space) == ("linear", "encoded"):
        return decode_srgb(color)
    return color


def number(plate: np.ndarray, code_bits: int | None) -> np.ndarray:
    """Plate codes as float64; integers become 0 to 1."""
    if plate.dtype.kind == "f":
        return plate.astype(np.float64)
    width = 8 * plate.itemsize
    bits = code_bits or width
    return (plate >> (width - bits)) / (2.0**bits - 1)


def code(number: np.ndarray, dtype: np.dtype, code_bits: int | None) -> np.ndarray:
    """float64 to plate codes, rounded once, ties to even."""
    if dtype.kind == "f":
        return number.astype(dtype)
    width = 8 * dtype.itemsize
    bits = code_bits or width
    top = 2.0**bits - 1
    code = np.rint(np.clip(np.nan_to_num(number * top), 0, top)).astype(np.uint64)
    if bits < width:  # OpenImageIO widens codes by repeating the top bits below
        spare = width - bits
        code = (code << np.uint64(spare)) | (code >> np.uint64(bits - spare))
    return code.astype(dtype)
