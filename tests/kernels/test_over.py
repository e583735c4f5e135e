from fractions import Fraction

import numpy as np
import OpenImageIO as oiio
import pytest

from vera.kernels import over as over_module
from vera.kernels import over_reference
from vera.kernels.over import over, over_through

PLATE_TYPES = [np.uint8, np.uint16, np.uint32, np.float16, np.float32]
LAYER_TYPES = [np.float16, np.float32]
SPACES = [(p, b) for p in ("linear", "srgb") for b in ("linear", "encoded")]

needs_native = pytest.mark.skipif(over_module._native is None, reason="kernels._native is not built")


def unsigned(array):
    return array.view(f"u{array.itemsize}")


def every_kind_of_bits(dtype, count, rng):
    """Any bits at all: for floats NaN with payloads, infinities, -0.0, denormals."""
    return rng.integers(0, 256, count * np.dtype(dtype).itemsize, np.uint8).view(dtype)


def random_plate(dtype, shape, rng):
    if np.dtype(dtype).kind == "u":
        return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return rng.normal(0.3, 1.0, shape).astype(dtype)


def random_layer(dtype, size, rng):
    """Alphas of all sorts, a good part of them 0 and 1."""
    alpha = np.clip(rng.uniform(-0.5, 1.5, (*size, 1)), 0, 1)
    return np.concatenate([alpha * rng.random((*size, 3)), alpha], -1).astype(dtype)


# ---- Plate bits ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", PLATE_TYPES)
@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("channels", [3, 4])
def test_alpha_zero_keeps_every_bit(dtype, layer_type, channels):
    rng = np.random.default_rng(1)
    plate = every_kind_of_bits(dtype, 64 * 64 * channels, rng).reshape(64, 64, channels)
    if plate.dtype.kind == "f":
        plate[0, 0] = -0.0
        plate[0, 1] = np.finfo(dtype).smallest_subnormal
        plate[0, 2], plate[0, 3], plate[0, 4] = np.nan, np.inf, -np.inf
    layer = np.zeros((64, 64, 4), layer_type)
    layer[1::2, :, 3] = -0.0
    for spaces in SPACES:
        assert np.array_equal(unsigned(over(plate, layer, *spaces)), unsigned(plate))


def test_every_half_survives_alpha_zero():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    plate = np.repeat(halves.reshape(256, 256, 1), 3, axis=2)
    result = over(plate, np.zeros((256, 256, 4), np.float16), "linear", "linear")
    assert np.array_equal(unsigned(result), unsigned(plate))


def test_only_touched_pixels_change():
    rng = np.random.default_rng(2)
    plate, layer = random_plate(np.uint8, (50, 70, 3), rng), random_layer(np.float16, (50, 70), rng)
    result = over(plate, layer, "srgb", "linear")
    clear = layer[..., 3] == 0
    assert np.array_equal(result[clear], plate[clear])
    assert (result[~clear] != plate[~clear]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_alpha_one_hides_any_plate(dtype):
    plate = np.array([np.nan, np.inf, -np.inf, 7.0], dtype)[:, None].repeat(4, 1)[None]
    layer = np.array([0.25, 0.5, 2.0, 1.0], np.float32)[None, None].repeat(4, 1)
    result = over(plate, layer, "linear", "linear")
    assert np.array_equal(result, np.broadcast_to(np.array([0.25, 0.5, 2.0, 1.0], dtype), (1, 4, 4)))


@pytest.mark.parametrize("spaces", SPACES)
def test_nan_and_infinite_plates_stay_so_under_half_alpha(spaces):
    plate = np.array([[[np.nan, np.inf, -np.inf]]], np.float32)
    layer = np.array([[[0.1, 0.1, 0.1, 0.5]]], np.float32)
    result = over(plate, layer, *spaces)[0, 0]
    assert np.isnan(result[0]) and result[1] == np.inf and result[2] == -np.inf


# ---- Values -------------------------------------------------------------------


@needs_native
@pytest.mark.parametrize("dtype", PLATE_TYPES)
@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("spaces", SPACES)
@pytest.mark.parametrize("channels", [3, 4])
def test_native_equals_fp64_reference(dtype, layer_type, spaces, channels):
    rng = np.random.default_rng(3)
    plate, layer = random_plate(dtype, (60, 90, channels), rng), random_layer(layer_type, (60, 90), rng)
    expected = over_reference.over(plate, layer, *spaces)
    assert np.array_equal(over(plate, layer, *spaces), expected, equal_nan=plate.dtype.kind == "f")


@needs_native
@pytest.mark.parametrize("dtype", PLATE_TYPES)
def test_threads_and_tables_change_nothing(dtype):
    # Large enough for row bands and decoding tables.
    rng = np.random.default_rng(4)
    plate, layer = random_plate(dtype, (401, 403, 3), rng), random_layer(np.float16, (401, 403), rng)
    expected = over_reference.over(plate, layer, "srgb", "linear")
    assert np.array_equal(over(plate, layer, "srgb", "linear"), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_integers_are_rounded_to_the_nearest_code(dtype):
    """Against exact fractions; a double holds every step of this sum well enough."""
    rng = np.random.default_rng(5)
    plate, layer = random_plate(dtype, (20, 20, 4), rng), random_layer(np.float32, (20, 20), rng)
    top = int(np.iinfo(dtype).max)
    result = over(plate, layer, "linear", "linear")
    for index in np.ndindex(20, 20, 4):
        alpha = Fraction(float(layer[index[:2]][3]))
        exact = Fraction(float(layer[index])) * top + (1 - alpha) * int(plate[index])
        if alpha == 0:
            exact = Fraction(int(plate[index]))
        assert abs(int(result[index]) - min(exact, Fraction(top))) <= Fraction(1, 2) + Fraction(1, 10**5)


def test_halves_are_rounded_once_and_to_even():
    # 1 + 2^-11 is a tie between 1 and its next half: even is 1. A little more is not.
    layer = np.zeros((1, 4, 4), np.float32)
    layer[0, :, 3] = 1.0
    layer[0, :, :3] = np.array([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-11 + 2**-20, 65520], np.float32)[:, None]
    result = over(np.zeros((1, 4, 3), np.float16), layer, "linear", "linear")[0, :, 0]
    assert result.tolist() == [1.0, 1 + 2 * 2**-10, 1 + 2**-10, np.inf]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_srgb_encoding_turns_over_exactly_between_codes(dtype):
    """For every code, a layer just below and just above the middle to the next."""
    top = int(np.iinfo(dtype).max)
    middles = (np.arange(top, dtype=np.longdouble) + 0.5) / top
    light = np.where(middles <= 0.04045, middles / 12.92, ((middles + 0.055) / 1.055) ** np.longdouble(2.4))
    below = np.nextafter(light.astype(np.float32), np.float32(0))
    above = np.nextafter(light.astype(np.float32), np.float32(1))
    layer = np.ones((2, top, 4), np.float32)
    layer[..., :3] = np.stack([below, above])[..., None]
    result = over(np.zeros((2, top, 3), dtype), layer, "srgb", "linear")
    assert np.array_equal(result[0, :, 0], np.arange(top))
    assert np.array_equal(result[1, :, 1], np.arange(top) + 1)


def test_srgb_curve_is_mirrored_and_goes_on_above_one():
    layer = np.ones((1, 3, 4), np.float32)
    layer[..., :3] = np.array([-0.25, 0.25, 4.0], np.float32)[:, None]
    minus, plus, bright = over(np.zeros((1, 3, 3), np.float32), layer, "srgb", "linear")[0, :, 0]
    assert minus == -plus and plus == pytest.approx(0.53709873, abs=1e-6)
    assert bright == pytest.approx(1.055 * 4 ** (1 / 2.4) - 0.055, rel=1e-6)


def test_integers_are_clamped():
    layer = np.ones((1, 2, 4), np.float32)
    layer[0, 0, :3], layer[0, 1, :3] = 3.0, -1.0
    for dtype in (np.uint8, np.uint16, np.uint32):
        result = over(np.zeros((1, 2, 3), dtype), layer, "linear", "linear")
        assert result[0, 0].tolist() == [np.iinfo(dtype).max] * 3 and result[0, 1].tolist() == [0] * 3


def test_plate_alpha_is_covered():
    plate = np.full((1, 1, 4), 0.5, np.float32)
    layer = np.array([[[0, 0, 0, 0.25]]], np.float32)
    assert over(plate, layer, "srgb", "linear")[0, 0, 3] == 0.25 + 0.75 * 0.5


# ---- 10 and 12 bits ------------------------------------------------------------


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("extension", ["dpx", "tif"])
def test_short_codes_through_a_file(tmp_path, bits, extension):
    """As OpenImageIO reads them, through `over`, written again at their bits."""
    path, top = str(tmp_path / f"plate.{extension}"), 2**bits - 1
    codes = np.arange(top + 1, dtype=np.uint16).reshape(-1, 64, 1).repeat(3, 2)
    write_short(path, codes << (16 - bits), bits)
    plate = oiio.ImageInput.open(path).read_image("uint16")
    assert np.array_equal(plate >> (16 - bits), codes)

    layer = np.zeros((*plate.shape[:2], 4), np.float32)
    layer[::2] = [0.1, 0.2, 0.3, 0.5]
    laid = over(plate, layer, "linear", "linear", code_bits=bits)
    code = laid[::2] >> (16 - bits)
    assert np.array_equal(laid[::2], code << (16 - bits) | code >> (2 * bits - 16))  # so that the top code is 65535
    write_short(path, laid, bits)
    result = oiio.ImageInput.open(path).read_image("uint16") >> (16 - bits)
    assert np.array_equal(result[1::2], codes[1::2])
    nearest = np.rint(np.float32([0.1, 0.2, 0.3]) * np.float64(top) + 0.5 * codes[::2])
    assert np.array_equal(result[::2], np.clip(nearest, 0, top))


def write_short(path, pixels, bits):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "uint16")
    spec.attribute("oiio:BitsPerSample", bits)
    file = oiio.ImageOutput.create(path)
    assert file.open(path, spec) and file.write_image(pixels) and file.close()


# ---- Through conversions of others --------------------------------------------------------------


def a_log(numbers):
    return np.exp2(numbers * np.float32(12) - np.float32(8)).astype(np.float32)


def a_log_back(light):
    return ((np.log2(np.maximum(light, 1e-12)) + 8) / 12).astype(np.float32)


@pytest.mark.parametrize("dtype", PLATE_TYPES)
@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("channels", [3, 4])
def test_through_a_conversion_alpha_zero_keeps_every_bit(dtype, layer_type, channels):
    rng = np.random.default_rng(9)
    plate = every_kind_of_bits(dtype, 64 * 64 * channels, rng).reshape(64, 64, channels)
    layer = random_layer(layer_type, (64, 64), rng)
    layer[1::2] = 0
    layer[1::2, :, 3] = -0.0
    with np.errstate(all="ignore"):
        result = over_through(plate, layer, a_log, a_log_back)
    clear = layer[..., 3] == 0
    assert result.dtype == plate.dtype and 0.5 < clear.mean() < 1
    assert np.array_equal(unsigned(result)[clear], unsigned(plate)[clear])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_through_a_conversion_alpha_one_hides_any_plate(dtype):
    layer = np.full((1, 3, 4), [0.25, 0.5, 1.0, 1.0], np.float32)
    plate = np.array([[[np.nan] * 4, [np.inf] * 4, [-np.inf] * 4]], dtype)
    with np.errstate(all="ignore"):
        result = over_through(plate, layer, a_log, a_log_back)
    wanted = [(np.log2(value) + 8) / 12 for value in (0.25, 0.5, 1.0)] + [1]
    assert np.abs(result - np.array(wanted)).max() < 1e-3


@pytest.mark.parametrize(
    "dtype, bits, most",
    [
        (np.uint8, None, 0.5),
        (np.uint16, 10, 0.5),
        (np.uint16, None, 0.6),
        (np.float16, None, 2**-11),
        (np.float32, None, 1e-6),
    ],
)
def test_through_a_conversion_it_is_the_sum_in_light(dtype, bits, most):
    """Against fp64, in codes of integers and in parts of floats."""
    rng = np.random.default_rng(10)
    top = 2.0 ** (bits or 8 * np.dtype(dtype).itemsize) - 1
    numbers = rng.uniform(0.3, 0.9, (40, 50, 3))
    if np.dtype(dtype).kind == "u":
        codes = np.rint(numbers * top).astype(dtype)
        numbers = codes / top
        plate = codes << 6 | codes >> 4 if bits else codes
    else:
        plate = numbers.astype(dtype)
        numbers = plate.astype(np.float64)
    layer = random_layer(np.float16, (40, 50), rng)
    layer[..., :3] *= 0.5
    result = over_through(plate, layer, a_log, a_log_back, bits)
    values = layer.astype(np.float64)
    exact = (np.log2(values[..., :3] + (1 - values[..., 3:]) * np.exp2(numbers * 12 - 8)) + 8) / 12
    touched = layer[..., 3] > 0
    if plate.dtype.kind == "u":
        error = np.abs((result >> 6 if bits else result) - np.clip(exact, 0, 1) * top)
    else:
        error = np.abs(result - exact) / np.maximum(np.abs(exact), 0.1)
    assert error[touched].max() <= most + 1e-3 * (plate.dtype.kind == "u")


def test_through_nothing_it_is_over():
    rng = np.random.default_rng(11)
    same = lambda x: x  # noqa: E731
    for dtype in (np.uint8, np.uint16, np.float16, np.float32):
        plate, layer = random_plate(dtype, (30, 40, 4), rng), random_layer(np.float16, (30, 40), rng)
        difference = over_through(plate, layer, same, same).astype(np.float64) - over(plate, layer, "linear", "linear")
        assert np.abs(difference).max() <= (1e-6 if dtype == np.float32 else 1e-3 if dtype == np.float16 else 1)
        assert (difference != 0).mean() < 0.01


def test_only_touched_pixels_go_through():
    asked = []
    layer = np.zeros((10, 10, 4), np.float16)
    layer[2, 3] = layer[4, 5] = (0.1, 0.1, 0.1, 0.5)
    over_through(np.ones((10, 10, 3), np.uint8), layer, lambda x: asked.append(x) or x, lambda x: x)
    assert asked[0].shape == (2, 3) and asked[0].dtype == np.float32


# ---- Halves by hand ------------------------------------------------------------


@needs_native
def test_every_half_to_double():
    bits = np.arange(65536, dtype=np.uint16)
    doubles = over_module._native.half_to_double(bits)
    expected = bits.view(np.float16).astype(np.float64)
    numbers = ~np.isnan(expected)
    assert np.array_equal(doubles[numbers].view(np.uint64), expected[numbers].view(np.uint64))
    assert np.isnan(doubles[~numbers]).all()


@needs_native
def test_double_to_half_as_numpy_rounds():
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits.view(np.float16).astype(np.float64)
    finite = np.unique(halves[np.isfinite(halves)])
    ties = (finite[1:] + finite[:-1]) / 2
    rng = np.random.default_rng(6)
    values = np.concatenate(
        [halves, ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)]
        + [rng.normal(0, 10.0**e, 2000) for e in range(-12, 8)]
        + [[65519.999, 65520, -65520, 1e300, 5e-324, 2**-25, 2**-25 * (1 + 1e-15)]]
    )
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    result = over_module._native.double_to_half(values)
    numbers = ~np.isnan(values)
    assert np.array_equal(result[numbers], expected[numbers].view(np.uint16))
    assert np.isnan(result[~numbers].view(np.float16)).all()


# ---- Without the native module, and with bad arguments ----------------------------


def test_reference_takes_over_where_nothing_is_built(monkeypatch):
    rng = np.random.default_rng(7)
    plate, layer = random_plate(np.uint8, (9, 9, 3), rng), random_layer(np.float16, (9, 9), rng)
    built = over(plate, layer, "srgb", "linear")
    monkeypatch.setattr(over_module, "_native", None)
    assert np.array_equal(over(plate, layer, "srgb", "linear"), built)


def test_views_that_are_not_contiguous():
    rng = np.random.default_rng(8)
    plate, layer = random_plate(np.float32, (40, 30, 3), rng), random_layer(np.float16, (40, 30), rng)
    upside_down = over(plate[::-1], layer[::-1], "linear", "linear")
    assert np.array_equal(upside_down[::-1], over(plate, layer, "linear", "linear"))


@pytest.mark.parametrize(
    "plate, layer, names",
    [
        (np.zeros((2, 2, 3), np.int16), np.zeros((2, 2, 4), np.float16), {}),
        (np.zeros((2, 2, 3), ">f4"), np.zeros((2, 2, 4), np.float16), {}),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float64), {}),
        (np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 4), np.float16), {}),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3, 4), np.float16), {}),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float16), {"code_bits": 10}),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float16), {"blend_space": "srgb"}),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 4), np.float16), {"plate_encoding": "log"}),
    ],
)
def test_bad_arguments_are_refused(plate, layer, names):
    with pytest.raises(ValueError):
        over(plate, layer, **{"plate_encoding": "linear", "blend_space": "linear", **names})
