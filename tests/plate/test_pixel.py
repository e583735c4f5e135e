from fractions import Fraction

import numpy as np
import pytest

from vera.core.plate.pixel import PIXEL_TYPES, dtype_of, to_unit


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_every_code_is_the_nearest_float(bits):
    codes = np.arange(2**bits)
    if bits in (10, 12):
        # The two fillings found in files: upper bits repeated, and rounded down.
        stored = [codes << (16 - bits) | codes >> (2 * bits - 16), codes * 65535 // (2**bits - 1)]
    else:
        stored = [codes]
    exact = np.array([float(Fraction(int(c), 2**bits - 1)) for c in codes]).astype(np.float32)
    for values in stored:
        unit = to_unit(values.astype(dtype_of(f"uint{bits}")), f"uint{bits}")
        assert unit.dtype == np.float32
        np.testing.assert_array_equal(unit, exact)


def test_32_bits_and_floats():
    codes = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    expected = [float(Fraction(int(c), 2**32 - 1)) for c in codes]
    np.testing.assert_array_equal(to_unit(codes, "uint32"), np.float32(expected))
    half = np.arange(2**16, dtype=np.uint16).view(np.float16)
    np.testing.assert_array_equal(to_unit(half, "half"), half.astype(np.float32))
    assert set(PIXEL_TYPES) == {"uint8", "uint10", "uint12", "uint16", "uint32", "half", "float"}


def test_pixels_of_another_type_are_an_error():
    with pytest.raises(TypeError, match="uint10 pixels come as uint16"):
        to_unit(np.zeros((1, 1, 3), np.uint8), "uint10")
