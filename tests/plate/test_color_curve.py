import numpy as np
import pytest

from vera.core.plate.color_curve import DISPLAY, SCENE, decode_srgb, encode_srgb


def _encode_one(x: float) -> float:
    """IEC 61966-2-1 for one value, written independently of the code under test."""
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


# ---- The range curve ---------------------------------------------------------------------------


LIGHT = np.concatenate([np.linspace(0, 64, 20001), 10 ** np.linspace(-6, np.log10(64), 20001)])


@pytest.mark.parametrize("dtype, most", [(np.float64, 1e-14), (np.float32, 1e-6)])
def test_the_range_curve_comes_back_up_to_64_times_white(dtype, most):
    light = LIGHT.astype(dtype)
    back = SCENE.decode(SCENE.encode(light))
    assert back.dtype == dtype and SCENE.encode(light).dtype == dtype
    error = np.abs(back.astype(np.float64) - light) / np.maximum(light, 1e-3)
    print(f"{np.dtype(dtype)}: {error.max():.1e} at {light[error.argmax()]:.3g}")
    assert error.max() < most


def test_the_range_curve_is_srgb_to_mid_grey_then_smooth_to_one():
    low = np.linspace(0, 0.18, 1001)
    np.testing.assert_array_equal(SCENE.encode(low), encode_srgb(low))
    h = 1e-6
    below, at, above = SCENE.encode(np.float64([0.18 - h, 0.18, 0.18 + h]))
    assert above - at == pytest.approx(at - below, rel=1e-5)
    code = SCENE.encode(np.linspace(0, 64, 100001))
    assert (np.diff(code) > 0).all() and code[-1] == pytest.approx(1, abs=1e-12)
    assert SCENE.encode(np.float64([0.18]))[0] == pytest.approx(0.461, abs=5e-4)
    assert SCENE.encode(np.float64([1.0]))[0] == pytest.approx(SCENE.white, abs=1e-12)


def test_the_range_curve_cuts_what_it_does_not_hold():
    assert SCENE.encode(np.float32([-1, 65, 1e30])).tolist() == [0, 1, 1]
    assert DISPLAY.encode(np.float64([-1, 2, 1e30])).tolist() == pytest.approx([0, 1, 1], abs=1e-15)


def stops_of_error(curve, stop, draws=40000):
    """Mean error in stops at 2^stop times white where the model is off by 1 % (normal) of its range."""
    noise = 0.01 * np.random.default_rng(5).standard_normal(draws)
    code = np.clip(curve.encode(np.float64([2.0**stop])) + noise, 0, 1)
    return np.abs(np.log2(np.maximum(curve.decode(code), 1e-9)) - stop).mean()


def test_one_percent_of_model_noise_costs_the_same_at_every_level():
    ours = {stop: stops_of_error(SCENE, stop) for stop in range(-6, 7)}
    plain = {stop: stops_of_error(DISPLAY, stop) for stop in range(1, 7)}
    print("range", {s: round(float(v), 3) for s, v in ours.items()})
    assert max(ours.values()) < 0.15
    assert plain[1] > 1 and plain[6] > 6  # what a curve that ends at white costs


@pytest.mark.parametrize("curve", [DISPLAY, SCENE])
def test_what_passes_depends_on_alpha_alone_and_leaves_no_negative_colour(curve):
    """f(a E + (1 - a) S) >= passes(1 - a) f(S) for every plate up to white."""
    rng = np.random.default_rng(2)
    for scale in (1.0, 0.1, 0.01):
        alpha, edit = rng.random(10**5), rng.random(10**5) * curve.white
        plate = curve.encode(scale * rng.random(10**5))
        edit[::2] = 0  # the hardest: all shadow
        rest = 1 - alpha
        light = curve.decode(alpha * edit + rest * plate) - curve.passes(rest) * curve.decode(plate)
        assert light.min() >= -1e-15
    assert curve.passes(np.float64([0.0, 1.0])).tolist() == pytest.approx([0, 1], abs=1e-12)


def test_black_over_white_is_what_the_range_curve_lets_pass():
    rest = np.linspace(0, 1, 101)
    np.testing.assert_allclose(SCENE.passes(rest), SCENE.decode(rest * SCENE.white), atol=1e-12)
