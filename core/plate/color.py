"""The sRGB curve (IEC 61966-2-1), mirrored about zero, its power going on above 1."""

import numpy as np


def decode_srgb(code):
    """sRGB code values to linear light; any shape, float type kept."""
    c = np.abs(code)
    light = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return np.copysign(light, code)


def encode_srgb(light):
    """Linear light to sRGB code values, the inverse of `decode_srgb`."""
    v = np.abs(light)
    code = np.where(v <= 0.0031308, v * 12.92, 1.055 * v ** (1 / 2.4) - 0.055)
    return np.copysign(code, light)
