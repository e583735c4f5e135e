from fractions import Fraction

import numpy as np
import OpenImageIO as oiio
import pytest

from core.errors import InputError
from core.plate.color import decode_srgb, encode_srgb, resolve_space, to_model
from core.plate.source import open_plate
from tests.plate.media import grey_levels, write_image, write_movie


def _encode_one(x: float) -> float:
    """IEC 61966-2-1, one value, written out anew."""
    if x < 0:
        return -_encode_one(-x)
    return 12.92 * x if x <= 0.0031308 else 1.055 * x ** (1 / 2.4) - 0.055


def _samples() -> np.ndarray:
    rng = np.random.default_rng(3)
    ends = [0.0, 1e-40, 1e-6, 0.0031307, 0.0031308, 0.0031309, 0.04045, 0.18, 0.5, 1.0, 1.5, 30.0, 65504.0]
    values = np.concatenate([ends, rng.random(2000), 10 ** rng.uniform(-8, 5, 2000)])
    return np.concatenate([values, -values])


def test_encoding_against_the_formula():
    x = _samples()
    expected = np.array([_encode_one(v) for v in x])
    np.testing.assert_allclose(encode_srgb(x), expected, rtol=1e-14, atol=0)
    got = encode_srgb(x.astype(np.float32))
    expected32 = np.array([_encode_one(float(v)) for v in x.astype(np.float32)])
    np.testing.assert_allclose(got, expected32, rtol=1e-6, atol=1e-44)


def test_known_values():
    # 18 % grey, and 8-bit code 128, whose linear value the standard's formula puts at 0.215861.
    assert abs(float(encode_srgb(np.float64([0.18]))[0]) - 0.461356) < 1e-6
    assert abs(float(decode_srgb(np.float64([128 / 255]))[0]) - 0.215861) < 1e-6
    np.testing.assert_allclose(encode_srgb(np.float64([0.0, 1.0])), [0.0, 1.0], rtol=0, atol=2e-16)


@pytest.mark.parametrize("dtype, rtol", [(np.float64, 1e-13), (np.float32, 2e-6)])
def test_round_trip_keeps_value_and_type(dtype, rtol):
    x = _samples().astype(dtype)
    # The standard's rounded constants leave a step of 3e-8 where its two pieces meet.
    away = (np.abs(np.abs(x) - 0.0031308) > 1e-6) & (np.abs(x) > 1e-37)
    back = decode_srgb(encode_srgb(x))
    assert back.dtype == encode_srgb(x).dtype == dtype
    np.testing.assert_allclose(back[away], x[away], rtol=rtol, atol=0)


@pytest.mark.parametrize("curve", [encode_srgb, decode_srgb])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_special_values_pass(curve, dtype):
    out = curve(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], dtype))
    assert np.isnan(out[0]) and out[1] == np.inf and out[2] == -np.inf
    assert np.signbit(out[3]) and not np.signbit(out[4])


@pytest.mark.parametrize("curve", [encode_srgb, decode_srgb])
def test_curve_is_odd_and_rising(curve):
    x = np.linspace(-2, 2, 40001)
    np.testing.assert_array_equal(curve(-x), -curve(x))
    assert (np.diff(curve(x)) > 0).all()


def test_curve_refuses_integers():
    with pytest.raises(TypeError, match="uint8"):
        encode_srgb(np.zeros(3, np.uint8))


SRGB = ["srgb", "sRGB", "SRGB", " sRGB ", "srgb_texture", "sRGB - Texture", "sRGB Texture".replace(" ", "_"),
        "srgb_rec709_scene", "Utility - sRGB - Texture"]
LINEAR = ["linear", "Linear", "lin_rec709", "Linear Rec.709 (sRGB)", "linear rec.709 (srgb)", "scene_linear",
          "lin_srgb", "lin_rec709_scene", "Utility - Linear - sRGB", "Utility - Linear - Rec.709"]


@pytest.mark.parametrize("name, space", [(n, "srgb") for n in SRGB] + [(n, "linear") for n in LINEAR])
def test_spellings(name, space):
    assert resolve_space(name, None) == space


@pytest.mark.parametrize("name", ["ACEScg", "ACES2065-1", "Rec.2020", "AlexaV3LogC", "log", "", "sRGBB", "raw"])
def test_other_names_are_refused_by_name(name):
    with pytest.raises(InputError) as error:
        resolve_space(name, None)
    message = str(error.value)
    assert repr(name) in message and "not supported yet" in message and "\n" not in message


def _still(folder, extension, dtype, **attributes):
    return open_plate(str(write_image(folder / f"p.{extension}", np.zeros((4, 4, 3), dtype), **attributes)))


REC709 = ("float[8]", (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290))
AP0 = ("float[8]", (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767))
AP1 = ("float[8]", (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767))
ODD = ("float[8]", (0.7, 0.3, 0.2, 0.7, 0.1, 0.0, 0.31, 0.33))


@pytest.mark.parametrize(
    "extension, dtype, attributes, space",
    [
        ("exr", np.float16, {}, "linear"),
        ("exr", np.float32, {}, "linear"),
        ("tif", np.float32, {}, "linear"),
        ("tif", np.uint16, {}, "srgb"),
        ("png", np.uint8, {}, "srgb"),
        ("png", np.uint16, {}, "srgb"),
        ("jpg", np.uint8, {}, "srgb"),
        ("dpx", np.uint16, {"oiio__BitsPerSample": 10}, "srgb"),
        ("dpx", np.uint16, {"dpx__Transfer": "ITU-R 709-4"}, "srgb"),
        ("dpx", np.uint16, {"dpx__Transfer": "Linear"}, "linear"),
        ("exr", np.float16, {"chromaticities": REC709}, "linear"),
        ("exr", np.float16, {"oiio__ColorSpace": "lin_rec709"}, "linear"),
        ("exr", np.float16, {"oiio__ColorSpace": "sRGB"}, "srgb"),
        ("png", np.uint8, {"oiio__ColorSpace": "g22_rec709_scene"}, "srgb"),
    ],
)
def test_space_from_the_file(tmp_path, extension, dtype, attributes, space):
    assert resolve_space(None, _still(tmp_path, extension, dtype, **attributes)) == space


@pytest.mark.parametrize(
    "extension, dtype, attributes, named",
    [
        ("exr", np.float16, {"chromaticities": AP0}, "ACES2065-1"),
        ("exr", np.float16, {"chromaticities": AP1}, "ACEScg"),
        ("exr", np.float16, {"chromaticities": ODD}, "0.7 0.3 0.2"),
        ("exr", np.float16, {"acesImageContainerFlag": 1, "compression": "none"}, "AP0"),
        ("exr", np.float16, {"oiio__ColorSpace": "ACEScg"}, "ACEScg"),
        ("exr", np.float16, {"oiio__ColorSpace": "g24_rec709_display"}, "g24_rec709"),
        ("dpx", np.uint16, {"dpx__Transfer": "Logarithmic", "oiio__BitsPerSample": 10}, "Logarithmic"),
        ("dpx", np.uint16, {"dpx__Transfer": "Printing density"}, "Printing density"),
        ("dpx", np.uint16, {"oiio__ColorSpace": "KodakLog"}, "Logarithmic"),
    ],
)
def test_other_spaces_in_files_are_refused_and_can_be_overruled(tmp_path, extension, dtype, attributes, named):
    plate = _still(tmp_path, extension, dtype, **attributes)
    with pytest.raises(InputError) as error:
        resolve_space(None, plate)
    message = str(error.value)
    assert named in message and plate.path in message and "--color-space linear" in message
    assert "\n" not in message
    assert resolve_space("linear", plate) == "linear"


def _mark(primaries, transfer):
    def tune(stream):
        stream.codec_context.color_primaries = primaries
        stream.codec_context.color_trc = transfer
    return tune


@pytest.mark.parametrize("primaries, transfer, named", [(9, 16, "PQ"), (9, 18, "HLG"), (9, 1, "Rec.2020"), (1, 1, None), (2, 2, None)])
def test_movie_spaces(tmp_path, primaries, transfer, named):
    plate = open_plate(str(write_movie(tmp_path / "m.mp4", grey_levels(2), tune=_mark(primaries, transfer))))
    assert plate.color_codes == (primaries, transfer)
    if named is None:
        assert resolve_space(None, plate) == "srgb"
    else:
        with pytest.raises(InputError, match=named):
            resolve_space(None, plate)


def test_to_model_of_integers_is_the_code_over_the_maximum():
    codes = np.arange(1024, dtype=np.uint16)
    for stored in (codes << 6 | codes >> 4, (codes.astype(np.int64) * 65535 // 1023).astype(np.uint16)):
        out = to_model(stored.reshape(1, -1, 1).repeat(4, 2), "srgb", "uint10")
        assert out.shape == (1, 1024, 3) and out.dtype == np.float32
        np.testing.assert_array_equal(out[0, :, 0], np.float32([float(Fraction(int(c), 1023)) for c in codes]))
    eight = np.arange(256, dtype=np.uint8).reshape(1, -1, 1).repeat(3, 2)
    expected = np.float32([_encode_one(c / 255) for c in range(256)])
    np.testing.assert_allclose(to_model(eight, "linear", "uint8")[0, :, 1], expected, atol=2e-7)


@pytest.mark.parametrize("dtype, kind", [(np.float16, "half"), (np.float32, "float")])
def test_to_model_clips_and_survives_what_is_no_number(dtype, kind):
    values = np.array([np.nan, np.inf, -np.inf, -0.5, 2.0, 0.18, -0.0, 1.0], dtype)
    pixels = values.reshape(1, -1, 1).repeat(3, 2)
    linear = to_model(pixels, "linear", kind)[0, :, 0]
    assert linear.dtype == np.float32
    np.testing.assert_allclose(linear, [0, 1, 0, 0, 1, _encode_one(float(values[5])), 0, 1], atol=2e-7)
    encoded = to_model(pixels, "srgb", kind)[0, :, 0]
    np.testing.assert_array_equal(encoded, np.float32([0, 1, 0, 0, 1, values[5], 0, 1]))
    assert linear.max() <= 1 and linear.min() >= 0
    # the plate itself is left alone
    assert np.isnan(pixels[0, 0, 0])


def test_to_model_agrees_with_another_program(tmp_path):
    """OpenImageIO's own sRGB conversion, on a ramp."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 256, 1).repeat(3, 2)
    other = oiio.ImageBufAlgo.colorconvert(oiio.ImageBuf(ramp.copy()), "lin_rec709", "srgb_rec709_scene")
    assert not other.has_error, other.geterror()
    np.testing.assert_allclose(to_model(ramp, "linear", "float"), other.get_pixels(oiio.FLOAT), atol=2e-4)


def test_to_model_wants_a_known_space():
    with pytest.raises(ValueError, match="ACEScg"):
        to_model(np.zeros((1, 1, 3), np.uint8), "ACEScg", "uint8")
