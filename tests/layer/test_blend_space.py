from dataclasses import replace

import numpy as np
import OpenImageIO as oiio
import PyOpenColorIO as ocio
import pytest

from tests.plate.kinds import KINDS, color_of
from vera.core.errors import InputError
from vera.core.layer.blend_space import LEAST_ALPHA, Change, ModelLayer, composite, find_blending, layer_for_blending
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY, SCENE, decode_srgb, encode_srgb
from vera.core.plate.color_space import LINEAR, SRGB, find_space
from vera.kernels.part import Part

SPACES = ["linear", "encoded"]
SIZE = (300, 400)
DISPLAY_PLATE = PlateColor(SRGB, "float")
SCENE_PLATE = PlateColor(LINEAR, "float")

# name: (range of the edit's colour, alpha from a random number, range of the plate)
PICTURES = {
    "random": (1.0, lambda x: x, 1.0),
    "deep shadow": (0.0, lambda x: 1 - 0.1 * x**4, 1.0),
    "faint shadow": (0.02, lambda x: 0.05 * x**3, 1.0),
    "dark plate": (1.0, lambda x: x, 0.05),
    "all dark": (0.05, lambda x: x, 0.05),
    "ends": (1.0, lambda x: np.clip(3 * x - 1, 0, 1), 1.0),
}


def random_picture(name, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    most, alpha, plate = PICTURES[name]
    return (
        (most * rng.random((*size, 3))).astype(np.float32),
        alpha(rng.random(size)).astype(np.float32),
        (plate * rng.random((*size, 3))).astype(np.float32),
    )


def made(edit, alpha, plate, space, color=DISPLAY_PLATE, change=None):
    return layer_for_blending(ModelLayer(edit, alpha, plate, change), color, find_blending(space, None, color.space))


def composed(edit, alpha, plate):
    """The model's own composition, in fp64 and its own range."""
    a = alpha.astype(np.float64)[..., None]
    return a * edit + (1 - a) * plate.astype(np.float64)


# ---- On a display's plate -------------------------------------------------------------------------------


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("name", PICTURES)
def test_laid_over_by_openimageio_it_is_the_models_composite(name, space):
    edit, alpha, plate = random_picture(name)
    layer = made(edit, alpha, plate, space)
    behind = decode_srgb(plate.astype(np.float64)) if space == "linear" else plate
    result = oiio.ImageBufAlgo.over(image(layer), image(with_alpha(behind))).get_pixels("float")
    result = result[..., :3].astype(np.float64)
    shown = encode_srgb(result) if space == "linear" else result
    assert np.abs(shown - composed(edit, alpha, plate)).max() < 0.5 / 255


@pytest.mark.parametrize("space, bound", [("linear", 0.07), ("encoded", 0.13)])
def test_the_worst_error_is_the_halfs_rounding(space, bound):
    """In fp64, so that only the layer's own rounding counts; in 8-bit steps of display."""
    worst = 0.0
    for name in PICTURES:
        edit, alpha, plate = random_picture(name, seed=1)
        layer = made(edit, alpha, plate, space).astype(np.float64)
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


def test_half_a_shadow_is_81_percent_in_linear_light():
    edit, plate = np.zeros((1, 1, 3), np.float32), np.full((1, 1, 3), 0.5, np.float32)
    layer = made(edit, np.full((1, 1), 0.5, np.float32), plate, "linear")
    assert layer[0, 0, 3] == pytest.approx(1 - 0.5**2.4, abs=2**-11)


# ---- On every kind of plate -----------------------------------------------------------------------------------


def display_light(rng, size):
    """Linear Rec.709 within display range: shadows, greys and saturated colours, some black and white."""
    level = 10 ** rng.uniform(-3, 0, (*size, 1))
    light = np.clip(level * rng.uniform(0.3, 1.0, (*size, 3)), 0, 1)
    light[:2], light[2:4] = 0, 1
    return light


def independent_light(kind, pixels, target):
    """The plate's numbers in another linear space, by OpenColorIO's own processor (or fp64 formula for ours)."""
    numbers = pixels[..., :3].astype(np.float64)
    if pixels.dtype.kind == "u":
        bits = int(kind.pixel_type[4:])
        shift = 16 - bits if bits in (10, 12) else 0
        numbers = (pixels[..., :3] >> shift) / (2.0**bits - 1)
    if kind.space in ("srgb", "linear"):
        return decode_srgb(numbers) if kind.space == "srgb" else numbers
    config = ocio.Config.CreateFromBuiltinConfig("studio-config-v4.0.0_aces-v2.0_ocio-v2.5")
    if config.getColorSpace(kind.space) is None:  # Cineon: the formula
        black = 10 ** (-590 / 300)
        return (10 ** ((1023 * numbers - 685) / 300) - black) / (1 - black)
    out = np.array(numbers, np.float32)
    processor = config.getProcessor(kind.space, {"linear": "Linear Rec.709 (sRGB)"}.get(target, target))
    processor.getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS).applyRGB(out.reshape(1, -1, 3))
    return out.astype(np.float64)


OF_LIGHT = [kind for kind in KINDS if kind.found().is_scene]


@pytest.mark.parametrize(
    "kind, curve", [(k, SCENE) for k in KINDS] + [(k, DISPLAY) for k in OF_LIGHT[3:12:2]], ids=lambda x: x.name
)
@pytest.mark.parametrize("space", SPACES)
def test_over_every_kind_of_plate_it_is_the_models_composite(kind, curve, space):
    assert worst_pixel(kind, curve, space, np.float16) < 1


@pytest.mark.parametrize("kind", [KINDS[i] for i in (0, 4, 9, 13, 16)], ids=lambda kind: kind.name)
def test_a_layer_of_floats_is_nearer(kind):
    """Of halves 0.82 in the ACES container; measured for all kinds: 0.16 at most."""
    assert worst_pixel(kind, SCENE, "linear", np.float32) < 0.2


def worst_pixel(kind, curve, space, dtype):
    """A host reads plate and layer, and adds them up in fp64: the worst pixel in 8-bit steps of display."""
    rng, size = np.random.default_rng(8), (60, 80)
    color, target = replace(color_of(kind), light_curve=curve), kind.found().light().name
    blending = find_blending(space, None, kind.found())
    worst = 0.0
    for name in PICTURES:
        edit, alpha, _ = random_picture(name, size=size)
        edit = edit * np.float32(color.curve.white)
        pixels = kind.numbers(display_light(rng, size))
        source = color.to_model(pixels)
        layer = layer_for_blending(ModelLayer(edit, alpha, source), color, blending, dtype)
        assert layer.dtype == dtype and layer.min() >= 0
        values = layer.astype(np.float64)
        if space == "linear":
            behind = independent_light(kind, pixels, target)
            result = values[..., :3] + (1 - values[..., 3:]) * behind
            result = blending.space.to_rec709(result.astype(np.float32)).astype(np.float64)
        else:
            behind = encode_srgb(independent_light(kind, pixels, "Linear Rec.709 (sRGB)"))
            result = decode_srgb(values[..., :3] + (1 - values[..., 3:]) * behind)
        shown = encode_srgb(np.clip(result * color.gain, 0, 1))
        light = color.light(pixels)
        within = ((light >= 0) & (light <= 1)).all(-1)
        assert within.mean() > 0.5
        expected = encode_srgb(np.clip(color.curve.decode(composed(edit, alpha, source)), 0, 1))
        worst = max(worst, 255 * np.abs(shown - expected)[within].max())
    print(f"{kind.name}, {curve.name}, {space}: {worst:.2f}")
    return worst


def worst_of_doing_nothing(color):
    """The same alpha and the decoded colour, premultiplied, laid over in linear light."""
    edit, alpha, _ = random_picture("random")
    light = display_light(np.random.default_rng(8), SIZE).astype(np.float32)
    source = color.curve.encode(light)
    edit = edit * np.float32(color.curve.white)
    a = alpha[..., None].astype(np.float64)
    result = encode_srgb(a * color.curve.decode(edit) + (1 - a) * light)
    error = 255 * np.abs(result - encode_srgb(color.curve.decode(composed(edit, alpha, source))))
    return error.mean(), error.max()


@pytest.mark.parametrize("color", [DISPLAY_PLATE, SCENE_PLATE], ids=["display", "scene"])
def test_doing_nothing_about_the_blending_space_shows(color):
    """What the docs say it costs."""
    mean, worst = worst_of_doing_nothing(color)
    print(f"doing nothing: {mean:.1f} steps on average, {worst:.0f} at worst")
    assert mean > 5 and worst > 50


@pytest.mark.parametrize("name", ["ACEScg", "ARRI LogC3 (EI800)", "Linear Rec.2020"])
def test_any_linear_working_space_gives_the_same_over(name):
    """Plate and layer brought into a host's working space and added up there."""
    space, rng = find_space(name), np.random.default_rng(3)
    color = PlateColor(space, "float")
    edit, alpha, _ = random_picture("random", size=(40, 50))
    edit = edit * np.float32(SCENE.white)
    pixels = space.from_rec709(display_light(rng, (40, 50)).astype(np.float32))
    results = []
    for layer_space in (None, "ACEScg", "linear"):
        blending = find_blending("linear", layer_space, space)
        made = ModelLayer(edit, alpha, color.to_model(pixels))
        layer = layer_for_blending(made, color, blending).astype(np.float32)
        in_rec709 = blending.space.to_rec709(layer[..., :3])
        results.append(in_rec709 + (1 - layer[..., 3:]) * space.to_rec709(pixels))
    for other in results[1:]:
        assert 255 * np.abs(encode_srgb(np.clip(other, 0, 1)) - encode_srgb(np.clip(results[0], 0, 1))).max() < 1


@pytest.mark.parametrize(
    "plate, layer",
    [
        ("ACEScg", "ACEScg"),
        ("ACES2065-1", "ACES2065-1"),
        ("ACEScct", "ACEScg"),
        ("linear", "linear"),
        ("srgb", "linear"),
    ],
)
def test_a_layer_has_the_plates_primaries_unless_asked_otherwise(plate, layer):
    assert find_blending("linear", None, find_space(plate)).space.name == layer


@pytest.mark.parametrize("relative", [False, True], ids=["replace", "relative"])
@pytest.mark.parametrize("name", ["linear", "ACEScg"])
def test_how_the_work_is_cut_changes_nothing(name, relative):
    """A picture with opaque, translucent, sparse and empty parts, and its pixels in any order, when no part is."""
    space, rng, size = find_space(name), np.random.default_rng(1), (70, 700)
    color, blending = PlateColor(space, "float"), find_blending("linear", None, space)
    edit, alpha, _ = random_picture("random", size=size)
    alpha[:, :330] = 1
    alpha[:, 640:] = 0
    alpha[32:, 320:] *= rng.random((38, 380)) < 0.02
    pixels = space.from_rec709(3 * display_light(rng, size).astype(np.float32))
    codec = np.clip(color.to_model(pixels) + 0.05 * rng.random((*size, 3)), 0, 1).astype(np.float32)
    share = np.float32(0.7) * (rng.random(size) < 0.5) + np.float32(0.3)
    order = rng.permutation(alpha.size)
    layers = []
    for cut in (lambda x: x, lambda x: x.reshape(-1, *x.shape[2:])[order].reshape(x.shape)):
        change = Change(cut(pixels), cut(codec), cut(share)) if relative else None
        given = cut(edit * np.float32(color.curve.white)), cut(alpha), color.to_model(cut(pixels))
        layers.append(layer_for_blending(ModelLayer(*given, change), color, blending, np.float32))
    whole, mixed = layers
    mixed = mixed.reshape(-1, 4)[np.argsort(order)].reshape(whole.shape)
    assert np.array_equal(whole[..., 3], mixed[..., 3]) and not whole[alpha < LEAST_ALPHA].any()
    np.testing.assert_allclose(whole, mixed, rtol=1e-5, atol=2e-6)


# ---- Exposure -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stops", [-4.0, 3.0])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("curve", [SCENE, DISPLAY], ids=lambda c: c.name)
def test_exposure_is_undone(stops, space, curve):
    light = display_light(np.random.default_rng(4), (40, 50)).astype(np.float32)
    edit, alpha, _ = random_picture("random", size=(40, 50))
    color = PlateColor(LINEAR, "float", stops, curve)
    pixels = light / np.float32(color.gain)
    blending = find_blending(space, None, LINEAR)
    made = ModelLayer(edit, alpha, color.to_model(pixels))
    layer = layer_for_blending(made, color, blending).astype(np.float32)
    result = blending.to_light(layer[..., :3] + (1 - layer[..., 3:]) * blending.from_light(pixels))
    expected = color.curve.decode(composed(edit, alpha, color.to_model(pixels)))
    within = expected <= 1
    error = np.abs(encode_srgb(np.clip(result * color.gain, 0, 1)) - encode_srgb(np.clip(expected, 0, 1)))
    assert 255 * error[within].max() < 1


# ---- Above white ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["replace", "relative"])
@pytest.mark.parametrize("curve", [SCENE, DISPLAY], ids=lambda c: c.name)
def test_half_a_shadow_over_a_highlight_dims_it_as_light_does(mode, curve):
    plate = PlateColor(LINEAR, "float", light_curve=curve)
    white, highlight = np.ones((1, 1, 3), np.float32), np.full((1, 1, 3), 30, np.float32)
    edit, alpha = np.zeros((1, 1, 3), np.float32), np.full((1, 1), 0.5, np.float32)
    left = {}
    for name, pixels in (("white", white), ("highlight", highlight)):
        source = plate.to_model(pixels)
        change = Change(pixels, source, np.ones((1, 1), np.float32)) if mode == "relative" else None
        layer = made(edit, alpha, source, "linear", plate, change).astype(np.float64)
        left[name] = float((layer[..., :3] + (1 - layer[..., 3:]) * pixels)[0, 0, 0])
    crushed = SCENE.decode(0.5 * SCENE.encode(np.float64([30.0])))[0]
    print(
        f"{curve.name}, {mode}: {left['highlight']:.3f} of 30, {left['white']:.4f} of 1;"
        f" composed in codes {crushed:.3f}"
    )
    share = left["white"] if mode == "relative" else curve.passes(np.float64([0.5]))[0]
    assert left["highlight"] == pytest.approx(30 * share, rel=1e-2)
    assert left["highlight"] > 10 * crushed


def test_alpha_is_free_of_the_plate():
    edit, alpha, plate = random_picture("random")
    for space in SPACES:
        for color in (DISPLAY_PLATE, SCENE_PLATE, PlateColor(find_space("ACEScg"), "float", 1.5)):
            one, two = (made(edit, alpha, p, space, color)[..., 3] for p in (plate, np.zeros_like(plate)))
            assert np.array_equal(one, two)


# ---- Relative colour -------------------------------------------------------------------------------------------------


def grainy(rng, size):
    smooth = 0.4 + 0.3 * np.sin(np.mgrid[: size[0], : size[1]][1] / 9.0)[..., None].repeat(3, 2)
    return (smooth * 2 ** (0.25 * rng.standard_normal((*size, 3)))).astype(np.float32), smooth.astype(np.float32)


@pytest.mark.parametrize("name", ["linear", "ACEScg", "ARRI LogC3 (EI800)"])
def test_an_edit_that_changes_nothing_leaves_the_plate_as_it_is(name):
    """Opaque, highlights and all: relative colour of an unchanged reconstruction is the plate's own."""
    space, rng = find_space(name), np.random.default_rng(5)
    color = PlateColor(space, "float")
    light = (10 ** rng.uniform(-2.5, 2.3, (30, 40, 1)) * rng.uniform(0.5, 1, (30, 40, 3))).astype(np.float32)
    pixels = space.from_rec709(light)
    source = color.to_model(pixels)
    codec = np.clip(source + 0.05 * rng.standard_normal(source.shape), 0, 1).astype(np.float32)  # a poor codec
    change = Change(pixels, codec, np.ones((30, 40), np.float32))
    for alpha in (1.0, 0.4):
        layer = made(codec, np.full((30, 40), alpha, np.float32), source, "linear", color, change).astype(np.float32)
        behind = find_blending("linear", None, space).space.from_rec709(space.to_rec709(pixels))
        error = np.abs(layer[..., :3] + (1 - layer[..., 3:]) * behind - behind) / behind
        print(f"{name}, alpha {alpha}: {error.max():.1e}")
        assert error.max() < 2**-10  # halves


def test_a_regrade_keeps_grain_and_highlights_that_the_codec_lost():
    rng = np.random.default_rng(6)
    plate, smooth = grainy(rng, (40, 60))
    plate[10:12, 10:12] = 20
    source = SCENE_PLATE.to_model(plate)
    codec = SCENE.encode(smooth)  # what comes out of the codec has no grain and no highlight
    edit = SCENE.encode(smooth * np.float32(0.5))
    edit[10:12, 10:12], codec[10:12, 10:12] = SCENE.encode(np.float32([[10]])), SCENE.encode(np.float32([[20]]))
    opaque = np.ones((40, 60), np.float32)
    change = Change(plate, codec, opaque)
    layer = made(edit, opaque, source, "linear", SCENE_PLATE, change).astype(np.float32)
    assert np.abs(layer[..., :3] / plate - 0.5).max() < 0.01  # a ratio of light, but for the darkest
    decoded = made(edit, opaque, source, "linear", SCENE_PLATE).astype(np.float32)
    assert np.std(np.log2(decoded[..., :3] / smooth)[15:]) < 0.01 < 0.2 < np.std(np.log2(layer[..., :3] / smooth)[15:])


def test_grain_under_a_translucent_part_is_what_the_model_composed():
    """Smoke over a grainy plate: the grain that is left is the composition's own, not the codec's."""
    plate, smooth = grainy(np.random.default_rng(7), (40, 60))
    source, alpha = SCENE_PLATE.to_model(plate), np.full((40, 60), 0.4, np.float32)
    edit = np.full((40, 60, 3), 0.6, np.float32)
    layer = made(edit, alpha, source, "linear", SCENE_PLATE).astype(np.float32)
    result = layer[..., :3] + (1 - layer[..., 3:]) * plate
    expected = SCENE.decode(composed(edit, alpha, source))
    within = (plate <= 1).all(-1)
    assert np.abs(result / expected - 1)[within].max() < 2e-3
    assert np.std(np.log2(result)[within]) > 0.05


def test_share_mixes_the_two():
    edit, alpha, plate = random_picture("random", size=(20, 30))
    codec = random_picture("random", seed=9, size=(20, 30))[2]
    light = SCENE.decode(plate)
    with_share = lambda s: made(
        edit, alpha, plate, "linear", SCENE_PLATE, Change(light, codec, np.full((20, 30), s, np.float32))
    )  # noqa: E731
    none, half, full = (with_share(s).astype(np.float64) for s in (0, 0.5, 1))
    assert np.array_equal(none, made(edit, alpha, plate, "linear", SCENE_PLATE).astype(np.float64))
    np.testing.assert_allclose(half, (none + full) / 2, rtol=2e-3, atol=1e-5)
    assert full.min() >= 0 and not np.allclose(none, full, rtol=0.1)


# ---- Ends and what cannot be ------------------------------------------------------------


@pytest.mark.parametrize("color", [DISPLAY_PLATE, SCENE_PLATE], ids=["display", "scene"])
@pytest.mark.parametrize("space", SPACES)
def test_ends_are_exact(space, color):
    edit, _, plate = random_picture("random")
    alpha = np.zeros(SIZE, np.float32)
    alpha[1], alpha[2], alpha[3] = 1.0, LEAST_ALPHA, np.nextafter(np.float32(LEAST_ALPHA), 0)
    layer = made(edit, alpha, plate, space, color)
    assert layer.dtype == np.float16
    assert not layer[0].view(np.uint16).any() and not layer[3].view(np.uint16).any()
    assert (layer[1, :, 3] == 1).all() and (layer[2, :, 3] > 0).all()
    if color is DISPLAY_PLATE:
        opaque = decode_srgb(edit[1]) if space == "linear" else edit[1]
        assert np.array_equal(layer[1, :, :3], opaque.astype(np.float16))


@pytest.mark.parametrize("color", [DISPLAY_PLATE, SCENE_PLATE], ids=["display", "scene"])
def test_linear_alpha_is_never_rounded_down(color):
    edit, alpha, plate = random_picture("random", seed=3)
    layer = made(edit, alpha, plate, "linear", color)
    touched = alpha >= LEAST_ALPHA
    exact = 1 - color.curve.passes(1 - alpha[touched].astype(np.float64))
    surplus = layer[touched][:, 3] - exact
    assert surplus.min() > -1e-6 and surplus.max() <= 2**-11


@pytest.mark.parametrize("space", SPACES)
def test_a_broken_plate_pixel_does_not_break_the_layer(space):
    edit, alpha, plate = random_picture("random")
    plate[5, 5] = np.nan
    assert np.isfinite(made(edit, alpha, plate, space)).all()
    pixels = np.float32([[[np.nan, np.inf, -np.inf]]])
    for name in ("linear", "ACEScg"):
        color = PlateColor(find_space(name), "float")
        change = Change(pixels, color.to_model(pixels), np.ones((1, 1), np.float32))
        assert np.isfinite(made(edit[:1, :1], alpha[:1, :1], color.to_model(pixels), space, color, change)).all()


def test_what_cannot_be_is_refused():
    edit, alpha, plate = random_picture("random")
    alpha[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        made(edit, alpha, plate, "linear")
    with pytest.raises(InputError, match="not linear.*ACEScg"):
        find_blending("linear", "ACEScct", LINEAR)
    with pytest.raises(InputError, match="leave --layer-space out"):
        find_blending("encoded", "ACEScg", LINEAR)


# ---- Laid over by ourselves ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
@pytest.mark.parametrize("space", SPACES)
def test_our_composite_is_the_hosts_over_and_the_plates_bits_elsewhere(kind, space):
    rng, size = np.random.default_rng(8), (60, 80)
    color, blending = color_of(kind), find_blending(space, None, kind.found())
    edit, alpha, _ = random_picture("ends", size=size)
    pixels = kind.numbers(display_light(rng, size))
    if pixels.dtype.kind == "f":
        pixels.reshape(-1)[rng.choice(pixels.size, 60, replace=False)] = np.tile(
            np.array([np.nan, np.inf, -np.inf, -0.0, 6e-8, -3], pixels.dtype), 10
        )
    made = ModelLayer(edit * np.float32(color.curve.white), alpha, color.to_model(pixels))
    layer = layer_for_blending(made, color, blending)
    result = composite(pixels, layer, color, blending)
    assert result.dtype == pixels.dtype and result.shape == pixels.shape
    clear = layer[..., 3] == 0
    assert clear.mean() > 0.2
    bits = f"u{pixels.itemsize}"
    assert np.array_equal(result.view(bits)[clear], pixels.view(bits)[clear])
    # The plate's own rounding: half a code of integers, 2^-11 of halves; float32 keeps OpenColorIO's.
    behind = blending.from_light(kind.found().to_rec709(numbers_of(pixels, kind)))
    values = layer.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = kind.found().from_rec709(blending.to_light(values[..., :3] + (1 - values[..., 3:]) * behind))
        error = np.abs(
            numbers_of(result, kind) - np.clip(expected, 0, 1)
            if pixels.dtype.kind == "u"
            else numbers_of(result, kind) - expected
        )
    steps = error / (
        1 / (2.0 ** int(kind.pixel_type[4:]) - 1)
        if pixels.dtype.kind == "u"
        else np.maximum(np.abs(expected), 2**-6) * 2**-10
    )
    sound = np.isfinite(pixels.astype(np.float64)).all(-1) if pixels.dtype.kind == "f" else np.ones(size, bool)
    most = {"uint32": 1024}.get(kind.pixel_type, 0.55)
    assert steps[sound & ~clear].max() < most


def numbers_of(pixels, kind):
    if pixels.dtype.kind == "f":
        return pixels.astype(np.float32)
    bits = int(kind.pixel_type[4:])
    return ((pixels >> (16 - bits if bits in (10, 12) else 0)) / (2.0**bits - 1)).astype(np.float32)


def image(pixels):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 4, "float")
    spec.channelnames, spec.alpha_channel = ("R", "G", "B", "A"), 3
    buffer = oiio.ImageBuf(spec)
    buffer.set_pixels(spec.roi, np.ascontiguousarray(pixels, np.float32))
    return buffer


def with_alpha(color):
    return np.concatenate([color, np.ones((*color.shape[:2], 1))], axis=-1)


@pytest.mark.parametrize("part", [Part(0, 0, 0, 0), Part(2, 5, 3, 9), Part(0, 7, 0, 11), Part(6, 7, 10, 11)])
@pytest.mark.parametrize("name", ["linear", "encoded"])
def test_a_composite_of_the_part_with_alpha_is_that_of_the_whole(name, part):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 2**16, (7, 11, 3), np.uint16).view(np.float16)  # NaN and infinities too
    layer = np.zeros((7, 11, 4), np.float16)
    layer[part.slices] = rng.random((*part.size, 4)) * rng.integers(0, 2, (*part.size, 1))
    color = PlateColor(find_space("linear"), "half")
    blending = find_blending(name, None, color.space)
    found = composite(pixels, layer, color, blending, part)
    assert found.tobytes() == composite(pixels, layer, color, blending).tobytes()
