import numpy as np
import OpenImageIO as oiio
import pytest

from core.layer.blend import LEAST_ALPHA, layer_for_blending
from core.plate.color import decode_srgb, encode_srgb

SPACES = ["linear", "encoded"]
SIZE = (300, 400)

# name: (range of the edit's colour, alpha from a random number, range of the plate)
PICTURES = {
    "random": (1.0, lambda x: x, 1.0),
    "deep shadow": (0.0, lambda x: 1 - 0.1 * x**4, 1.0),
    "faint shadow": (0.02, lambda x: 0.05 * x**3, 1.0),
    "dark plate": (1.0, lambda x: x, 0.05),
    "all dark": (0.05, lambda x: x, 0.05),
    "ends": (1.0, lambda x: np.clip(3 * x - 1, 0, 1), 1.0),
}


def random_picture(name, seed=0):
    rng = np.random.default_rng(seed)
    most, alpha, plate = PICTURES[name]
    return (
        (most * rng.random((*SIZE, 3))).astype(np.float32),
        alpha(rng.random(SIZE)).astype(np.float32),
        (plate * rng.random((*SIZE, 3))).astype(np.float32),
    )


def composed(edit, alpha, plate):
    """The model's own composition, in fp64 and encoded space."""
    a = alpha.astype(np.float64)[..., None]
    return a * edit + (1 - a) * plate.astype(np.float64)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PICTURES)
def test_laid_over_by_openimageio_it_is_the_models_composite(name, space):
    edit, alpha, plate = random_picture(name)
    layer = layer_for_blending(edit, alpha, plate, space)
    behind = decode_srgb(plate.astype(np.float64)) if space == "linear" else plate
    result = oiio.ImageBufAlgo.over(image(layer), image(with_alpha(behind))).get_pixels("float")
    result = result[..., :3].astype(np.float64)
    shown = encode_srgb(result) if space == "linear" else result
    assert np.abs(shown - composed(edit, alpha, plate)).max() < 0.5 / 255


@pytest.mark.parametrize("space, bound", [("linear", 0.07), ("encoded", 0.13)])
def test_the_documented_worst_error(space, bound):
    """The docstring's figures, in fp64, so that only the layer's own rounding counts."""
    worst = 0.0
    for name in PICTURES:
        edit, alpha, plate = random_picture(name, seed=1)
        layer = layer_for_blending(edit, alpha, plate, space).astype(np.float64)
        decode, encode = (decode_srgb, encode_srgb) if space == "linear" else (lambda x: x,) * 2
        shown = encode(layer[..., :3] + (1 - layer[..., 3:]) * decode(plate.astype(np.float64)))
        worst = max(worst, 255 * np.abs(shown - composed(edit, alpha, plate)).max())
    assert 0.01 < worst < bound


def test_linear_colour_is_never_negative_in_fp64():
    """f((1 - a) S + a E) >= (1 - a)^2.4 f(S), also where the curve is a straight line."""
    rng = np.random.default_rng(2)
    for scale in (1.0, 0.1, 0.01):
        alpha, edit, plate = rng.random(10**6), scale * rng.random(10**6), scale * rng.random(10**6)
        edit[::2] = 0  # the hardest: all shadow
        color = decode_srgb(alpha * edit + (1 - alpha) * plate) - (1 - alpha) ** 2.4 * decode_srgb(plate)
        assert color.min() >= 0


def test_a_smaller_exponent_would_be_negative():
    """So that the test above can fail."""
    rng = np.random.default_rng(2)
    alpha, plate = rng.random(10**5), rng.random(10**5)
    color = decode_srgb((1 - alpha) * plate) - (1 - alpha) ** 2.2 * decode_srgb(plate)
    assert color.min() < -0.005


@pytest.mark.parametrize("space", SPACES)
def test_ends_are_exact(space):
    edit, _, plate = random_picture("random")
    alpha = np.zeros(SIZE, np.float32)
    alpha[1], alpha[2], alpha[3] = 1.0, LEAST_ALPHA, np.nextafter(np.float32(LEAST_ALPHA), 0)
    layer = layer_for_blending(edit, alpha, plate, space)
    assert layer.dtype == np.float16
    assert not layer[0].view(np.uint16).any() and not layer[3].view(np.uint16).any()
    assert (layer[1, :, 3] == 1).all() and (layer[2, :, 3] > 0).all()
    opaque = decode_srgb(edit[1]) if space == "linear" else edit[1]
    assert np.array_equal(layer[1, :, :3], opaque.astype(np.float16))


def test_half_a_shadow_is_81_percent_in_linear_light():
    edit, plate = np.zeros((1, 1, 3), np.float32), np.full((1, 1, 3), 0.5, np.float32)
    layer = layer_for_blending(edit, np.full((1, 1), 0.5, np.float32), plate, "linear")
    assert layer[0, 0, 3] == pytest.approx(1 - 0.5**2.4, abs=2**-11)


def test_linear_alpha_is_never_rounded_down():
    edit, alpha, plate = random_picture("random", seed=3)
    layer = layer_for_blending(edit, alpha, plate, "linear")
    touched = alpha >= LEAST_ALPHA
    exact = 1 - (1 - alpha[touched].astype(np.float64)) ** 2.4
    surplus = layer[touched][:, 3] - exact
    assert surplus.min() > -1e-6 and surplus.max() <= 2**-11


@pytest.mark.parametrize("space", SPACES)
def test_a_broken_plate_pixel_does_not_break_the_layer(space):
    edit, alpha, plate = random_picture("random")
    plate[5, 5] = np.nan
    assert np.isfinite(layer_for_blending(edit, alpha, plate, space)).all()


def test_what_cannot_be_is_refused():
    edit, alpha, plate = random_picture("random")
    with pytest.raises(ValueError, match="blend_space"):
        layer_for_blending(edit, alpha, plate, "srgb")
    alpha[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        layer_for_blending(edit, alpha, plate, "linear")


def image(pixels):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 4, "float")
    spec.channelnames, spec.alpha_channel = ("R", "G", "B", "A"), 3
    buffer = oiio.ImageBuf(spec)
    buffer.set_pixels(spec.roi, np.ascontiguousarray(pixels, np.float32))
    return buffer


def with_alpha(color):
    return np.concatenate([color, np.ones((*color.shape[:2], 1))], axis=-1)
