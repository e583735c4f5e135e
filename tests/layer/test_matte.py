import numpy as np
import pytest

from core.layer.matte import extend_color, refine_alpha, resize, snap

MODEL, FINE = 48, 16  # model pixels a side, samples to a model pixel
UPSCALES = [2, 4, 8]


def box(image, factor):
    h, w = image.shape
    return image.reshape(h // factor, factor, w // factor, factor).mean((1, 3))


def grid():
    y, x = (np.mgrid[: MODEL * FINE, : MODEL * FINE] + 0.5) / FINE
    return y - 23.4, x - 24.6


def disc():
    return (np.hypot(*grid()) < 14.3).astype(np.float64)


def star():
    y, x = grid()
    return (np.hypot(y, x) < 14.3 * (0.7 + 0.3 * np.cos(5 * np.arctan2(y, x)))).astype(np.float64)


def hair():
    y, x = grid()
    return (np.abs(0.8 * y - 0.6 * x) < 0.6).astype(np.float64)


def soft_shadow():
    return 0.6 * np.exp(-0.5 * (np.hypot(*grid()) / 6) ** 2)


def wide_ramp():
    return 0.9 * np.clip((14.3 - np.hypot(*grid())) / 6 + 0.5, 0, 1)


def at_model_and_plate(truth, upscale):
    return box(truth, FINE).astype(np.float32), box(truth, FINE // upscale)


def errors(truth, upscale):
    """Mean absolute errors of the refined alpha and of plain bicubic."""
    alpha, expected = at_model_and_plate(truth, upscale)
    refined = refine_alpha(alpha, expected.shape)
    bicubic = np.clip(resize(alpha, expected.shape), 0, 1)
    assert refined.dtype == np.float32 and refined.shape == expected.shape
    return np.abs(refined - expected).mean(), np.abs(bicubic - expected).mean()


# Measured: disc 0.46, 0.30, 0.26; star 0.49, 0.33, 0.29; hair 0.47, 0.34, 0.31.
@pytest.mark.parametrize("upscale, ratio", [(2, 0.6), (4, 0.42), (8, 0.38)])
@pytest.mark.parametrize("shape", [disc, star, hair])
def test_hard_edges_come_much_closer_to_the_truth_than_bicubic(shape, upscale, ratio):
    refined, bicubic = errors(shape(), upscale)
    print(f"{shape.__name__} x{upscale}: {1e3 * bicubic:.2f}e-3 -> {1e3 * refined:.2f}e-3")
    assert refined < ratio * bicubic


@pytest.mark.parametrize("upscale", UPSCALES)
@pytest.mark.parametrize("shape", [soft_shadow, wide_ramp])
def test_soft_mattes_are_left_alone(shape, upscale):
    refined, bicubic = errors(shape(), upscale)
    print(f"{shape.__name__} x{upscale}: {1e3 * bicubic:.3f}e-3 -> {1e3 * refined:.3f}e-3")
    assert refined < 1.005 * bicubic


@pytest.mark.parametrize("upscale", [4, 8])
def test_an_edge_is_a_few_plate_pixels_wide(upscale):
    alpha, expected = at_model_and_plate(disc(), upscale)
    row = refine_alpha(alpha, expected.shape)[expected.shape[0] // 2]
    between = np.count_nonzero((row > 0.05) & (row < 0.95)) / 2  # two edges
    assert 1 <= between <= 5


def test_empty_and_full_mattes_stay_so():
    for value in (0.0, 1.0):
        refined = refine_alpha(np.full((12, 20), value, np.float32), (61, 97))
        assert np.abs(refined - value).max() < 1e-6
        assert (snap(refined) == value).all()


def test_smaller_and_equal_sizes():
    alpha = box(disc(), FINE).astype(np.float32)
    assert np.abs(refine_alpha(alpha, alpha.shape) - alpha).max() < 1e-6
    assert np.abs(refine_alpha(alpha, (24, 24)) - box(alpha, 2)).max() < 0.15


def test_resize_reproduces_a_ramp_and_keeps_channels_apart():
    y, x = np.mgrid[:30, :40].astype(np.float32)
    grown = resize(np.stack([x, y, 0 * x], -1), (90, 120))
    y, x = np.mgrid[:90, :120]
    inside = (slice(9, -9), slice(9, -9))
    assert np.abs(grown[..., 0] - ((x + 0.5) / 3 - 0.5))[inside].max() < 1e-4
    assert np.abs(grown[..., 1] - ((y + 0.5) / 3 - 0.5))[inside].max() < 1e-4
    assert not grown[..., 2].any()


def test_resize_does_not_alias_when_shrinking():
    stripes = np.tile(np.float32([0, 1]), (64, 32))
    assert np.abs(resize(stripes, (16, 16))[:, 2:-2] - 0.5).max() < 0.02


def test_snap_reaches_its_ends_exactly_and_without_a_step():
    alpha = np.linspace(0, 1, 100001, dtype=np.float32)
    snapped = snap(alpha)
    assert snapped.dtype == np.float32
    assert (snapped[alpha <= 0.02] == 0).all() and (snapped[alpha >= 0.9801] == 1).all()
    assert np.diff(snapped).min() >= 0 and np.diff(snapped).max() < 2e-5


def tinted(shape):
    """A layer of clean colour F whose decoded colour E mixes with the background at edges."""
    alpha = box(shape(), FINE).astype(np.float32)
    y, x = np.mgrid[:MODEL, :MODEL] / MODEL
    clean = np.stack([0.8 + 0.1 * np.sin(9 * x), 0.2 + 0.1 * y, 0.1 + 0 * x], -1)
    a = alpha[..., None]
    return (a * clean + (1 - a) * [0.1, 0.9, 0.3]).astype(np.float32), clean, alpha


# Measured: disc 0.30, star 0.29, hair 0.46.
@pytest.mark.parametrize("shape, ratio", [(disc, 0.4), (star, 0.4), (hair, 0.55)])
def test_extended_colour_carries_little_of_the_background(shape, ratio):
    decoded, clean, alpha = tinted(shape)
    size = (4 * MODEL, 4 * MODEL)
    weight = box(shape(), FINE // 4)[..., None]
    error = [np.abs(weight * (resize(c, size) - resize(clean, size))).mean() for c in
             (extend_color(decoded, alpha), decoded)]  # fmt: skip
    print(f"{shape.__name__}: {error[1]:.5f} -> {error[0]:.5f}")
    assert error[0] < ratio * error[1]


def test_extended_colour_fills_the_plane_from_the_layer():
    edit = np.full((33, 47, 3), 0.9, np.float32)
    alpha = np.zeros((33, 47), np.float32)
    alpha[10:14, 20:24] = 1
    edit[alpha == 1] = [0.2, 0.4, 0.6]
    assert np.abs(extend_color(edit, alpha) - [0.2, 0.4, 0.6]).max() < 1e-3


def test_the_inside_of_a_layer_keeps_its_colour():
    rng = np.random.default_rng(0)
    edit = rng.random((40, 40, 3)).astype(np.float32)
    for opacity in (1.0, 0.3):
        extended = extend_color(edit, np.full((40, 40), opacity, np.float32))
        assert np.abs(extended - edit).max() < 1e-6
    assert np.isfinite(extend_color(edit, np.zeros((40, 40), np.float32))).all()
