"""Pixel types: storage and full scale of a file's values."""

import numpy as np

from vera.kernels.halves import to_floats

# name -> (type of the array, significant bits of an integer). 10 and 12 bits come in 16,
# as OpenImageIO delivers them: the code in the upper bits, the lower ones filled up.
_TYPES: dict[str, tuple[type, int | None]] = {
    "uint8": (np.uint8, 8),
    "uint10": (np.uint16, 10),
    "uint12": (np.uint16, 12),
    "uint16": (np.uint16, 16),
    "uint32": (np.uint32, 32),
    "half": (np.float16, None),
    "float": (np.float32, None),
}

PIXEL_TYPES = tuple(_TYPES)


def dtype_of(pixel_type: str) -> np.dtype:
    """The numpy type of an array of such pixels."""
    return np.dtype(_TYPES[pixel_type][0])


def is_float(pixel_type: str) -> bool:
    return _TYPES[pixel_type][1] is None


def to_unit(pixels: np.ndarray, pixel_type: str) -> np.ndarray:
    """Pixels as float32: integers divided by their type's maximum, floats unchanged.

    10- and 12-bit codes are recovered first, because formats fill the lower bits differently (DPX repeats the upper
    bits, TIFF rounds down). So code 1023 of 10 bits is 1.0, and code 512 is 512/1023, rounded to float32.
    """
    dtype, bits = _TYPES[pixel_type]
    if pixels.dtype != dtype:
        raise TypeError(f"{pixel_type} pixels come as {np.dtype(dtype)}, not {pixels.dtype}")
    if bits is None:
        return to_floats(pixels)
    codes = pixels >> (16 - bits) if bits in (10, 12) else pixels
    wide: type = np.float64 if bits == 32 else np.float32  # float32 does not hold every 32-bit code
    return (codes.astype(wide) / wide(2**bits - 1)).astype(np.float32)
