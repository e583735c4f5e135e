from fractions import Fraction

import numpy as np
import OpenImageIO as oiio
import pytest

from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import SCENE
from vera.core.plate.color_space import LINEAR, SRGB, find_space


def _encode_one(x: float) -> float:
    """IEC 61966-2-1 for one value, written independently of the code under test."""
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


def grey(values):
    return np.asarray(values).reshape(1, -1, 1).repeat(3, 2)


# ---- Plates made for a display: their codes are the model's ------------------------------------------


def test_srgb_codes_are_the_models():
    codes = np.arange(1024, dtype=np.uint16)
    for stored in (codes << 6 | codes >> 4, (codes.astype(np.int64) * 65535 // 1023).astype(np.uint16)):
        out = PlateColor(SRGB, "uint10").to_model(stored.reshape(1, -1, 1).repeat(4, 2))
        assert out.shape == (1, 1024, 3) and out.dtype == np.float32
        np.testing.assert_array_equal(out[0, :, 0], np.float32([float(Fraction(int(c), 1023)) for c in codes]))
    eight = PlateColor(SRGB, "uint8").to_model(grey(np.arange(256, dtype=np.uint8)))
    np.testing.assert_array_equal(eight[0, :, 1], np.arange(256, dtype=np.float32) / np.float32(255))


@pytest.mark.parametrize("dtype, kind", [(np.float16, "half"), (np.float32, "float")])
def test_what_is_no_number_or_out_of_range_is_cut(dtype, kind):
    values = np.array([np.nan, np.inf, -np.inf, -0.5, 2.0, 0.18, -0.0, 100.0], dtype)
    pixels = grey(values)
    encoded = PlateColor(SRGB, kind).to_model(pixels)[0, :, 0]
    np.testing.assert_array_equal(encoded, np.float32([0, 1, 0, 0, 1, values[5], 0, 1]))
    for space in (LINEAR, find_space("ACEScg")):
        linear = PlateColor(space, kind).to_model(pixels)[0, :, 0]
        assert linear.dtype == np.float32
        expected = [0, 1, 0, 0, SCENE.encode(np.float64([2.0]))[0], _encode_one(float(values[5])), 0, 1]
        np.testing.assert_allclose(linear, expected, atol=1e-6)
    assert np.isnan(pixels[0, 0, 0])  # the plate itself is left alone


def test_srgb_agrees_with_another_program():
    """A display's code is decoded and encoded as OpenImageIO has it, here gamma 2.2 on its way to sRGB."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256, 1).repeat(3, 2)
    other = oiio.ImageBufAlgo.colorconvert(oiio.ImageBuf(ramp.copy()), "g22_rec709_scene", "srgb_rec709_scene")
    assert not other.has_error, other.geterror()
    ours = PlateColor(find_space("g22_rec709_scene"), "float").to_model(ramp)
    np.testing.assert_allclose(ours, other.get_pixels(oiio.FLOAT), atol=2e-4)


# ---- Plates of light: exposure and range curve ----------------------------------------------------------


@pytest.mark.parametrize("dtype, kind", [(np.float16, "half"), (np.uint8, "uint8"), (np.uint16, "uint16")])
def test_tables_change_nothing(dtype, kind):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, 40 * 50 * 3 * np.dtype(dtype).itemsize, np.uint8).view(dtype).reshape(40, 50, 3)
    color = PlateColor(LINEAR, kind, exposure=0.5)
    np.testing.assert_array_equal(color.to_model(pixels), color._codes(pixels))


def test_exposure_is_in_stops():
    pixels = np.float32([[[0.01, 0.1, 1.0]]])
    for space in (LINEAR, find_space("ACEScg"), find_space("ARRI LogC3 (EI800)")):
        plain, lifted = (PlateColor(space, "float", stops) for stops in (0.0, 2.0))
        np.testing.assert_allclose(lifted.light(pixels), 4 * plain.light(pixels), rtol=1e-6)
    lifted = PlateColor(LINEAR, "float", 2.0)
    np.testing.assert_allclose(lifted.to_model(pixels), SCENE.encode(4 * pixels), atol=1e-6)


WAYS = [
    ("srgb", 0.0, 1e-7),
    ("Rec.1886 Rec.709 - Display", 0.0, 2e-6),
    ("linear", 0.0, 1e-6),
    ("linear", -3.0, 1e-6),
    ("ACEScg", 1.5, 2e-6),
    ("ACES2065-1", 0.0, 2e-6),
    ("Linear Rec.2020", 0.0, 2e-6),
    ("ACEScct", 0.0, 5e-5),
    ("ARRI LogC3 (EI800)", 0.0, 5e-5),
    ("ARRI LogC4", 1.0, 5e-5),
    ("S-Log3 S-Gamut3.Cine", 0.0, 5e-5),
    ("Cineon", 0.0, 5e-5),
]


@pytest.mark.parametrize("name, exposure, most", WAYS)
def test_there_and_back(name, exposure, most):
    """Colours that Rec.709 and the range hold come back, to float32's and OpenColorIO's exactness."""
    space = find_space(name)
    color = PlateColor(space, "float", exposure)
    rng = np.random.default_rng(7)
    top = color.curve.top
    light = np.minimum(10 ** rng.uniform(-2.5, np.log10(top), (40, 50, 1)) * rng.uniform(0.5, 1, (40, 50, 3)), top)
    numbers = space.from_rec709((light / color.gain).astype(np.float32))
    back = color.from_model(color.to_model(numbers))
    error = np.abs(back - numbers) / np.maximum(np.abs(numbers), 0.05)
    print(f"{name}: {error.max():.1e}")
    assert error.max() < most


@pytest.mark.parametrize("name", ["ACEScg", "ARRI LogC3 (EI800)"])
def test_stops_lost_by_going_to_the_model_and_back(name):
    space = find_space(name)
    color = PlateColor(space, "float")
    light = np.geomspace(2.0**-10, 64, 5000, dtype=np.float32)[None, :, None].repeat(3, 2)
    back = space.to_rec709(color.from_model(color.to_model(space.from_rec709(light))))
    stops = np.abs(np.log2(back / light))
    print(f"{name}: {stops.max():.1e} stops")
    assert stops.max() < 0.5e-3


def test_the_clipped_share_says_which_end():
    pixels = np.full((10, 10, 3), 0.5, np.float32)
    pixels[0, :, 1], pixels[1, :3, 2], pixels[2, 0] = 65, -0.01, np.nan
    assert PlateColor(LINEAR, "float").clipped(pixels) == {"above": 0.1, "below": 0.03}
    assert PlateColor(LINEAR, "float", -1.0).clipped(pixels) == {"above": 0.0, "below": 0.03}
    assert PlateColor(SRGB, "float").clipped(pixels) == {
        "above": 0.1,
        "below": 0.0,
    }  # -0.01 of code is less than 1e-3 of light
    green = np.full((1, 1, 3), [0, 1, 0], np.float32)  # beyond Rec.709
    assert PlateColor(find_space("ACEScg"), "float").clipped(green)["below"] == 1.0


def test_plates_are_encoded_for_the_display():
    linear = np.array([[[0.18, 1.0, 40.0], [np.nan, -np.inf, np.inf]]], np.float32)
    shown = PlateColor(LINEAR, "float").for_display(linear)
    assert shown[0, 0] == pytest.approx([0.4613561, 1, 1], abs=1e-6)
    assert shown[0, 1] == pytest.approx([0, 0, 1], abs=1e-6)
    assert PlateColor(LINEAR, "float", -1.0).for_display(2 * linear)[0, 0, 0] == pytest.approx(0.4613561, abs=1e-6)
    codes = np.array([[[0, 128, 255]]], np.uint8)
    assert PlateColor(SRGB, "uint8").for_display(codes)[0, 0] == pytest.approx([0, 128 / 255, 1])
