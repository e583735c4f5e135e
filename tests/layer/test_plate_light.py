"""What is added is lit as the plate is: a white ball's lit side has the plate's own white."""

import colorsys

import numpy as np
import pytest
import torch

from vera.core.layer import plate_light
from vera.core.layer.plate_light import LUMINANCE, WHITE_ALBEDO, PlateLight, display_codes
from vera.core.model.interfaces import SurfacePoints
from vera.core.plate.color_curve import decode_srgb

WHITE_CODE = 0.94  # of the world's "white"
# Black bodies of that many kelvin in linear Rec.709, the largest value 1 (Kim et al. 2002 for the chromaticities).
BLACK_BODIES = {
    3400: (1.0, 0.553, 0.237),
    4000: (1.0, 0.653, 0.378),
    5000: (1.0, 0.793, 0.63),
    8000: (0.766, 0.802, 1.0),
    15000: (0.46, 0.582, 1.0),
}


def ball(size: int = 48) -> SurfacePoints:
    axis = (torch.arange(size) + 0.5) / size * 2 - 1
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    facing = torch.stack([right, down], -1)[torch.hypot(right, down) < 0.98]
    ones = torch.ones(len(facing))
    return SurfacePoints(-ones, WHITE_CODE * torch.ones(len(facing), 3), facing, 0.3 * ones, ones, 0 * ones, ones)


def luminance(color) -> torch.Tensor:
    return torch.as_tensor(color) @ torch.tensor(LUMINANCE)


def lit_side(light: PlateLight) -> torch.Tensor:
    """Mean light of the brighter half of a white ball, (3,)."""
    shaded = light.shade(ball(), gloss=0.5, metal=0.0, glow=0.0)
    bright = luminance(shaded)
    return shaded[bright >= bright.median()].mean(0)


def hue(color) -> tuple[float, float]:
    """In degrees, and how colourful."""
    turn, saturation, _ = colorsys.rgb_to_hsv(*(float(c) / float(max(color)) for c in color))
    return 360 * turn, saturation


def synthetic_plate(
    seed: int,
    exposure: float = 1.0,
    shares: tuple[float, float] = (0.03, 0.13),
    light: tuple[float, float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Coloured things and a white patch under one light: linear light (90, 160, 3), the patch's (3,), and its place.

    shares: least and largest share of the plate that the patch covers. light: its colour; None for one by the seed.
    Place: x and y in -1 .. 1.
    """
    rng = np.random.default_rng(seed)
    picture = np.ones((90, 160, 3), np.float32) * rng.random(3).astype(np.float32) * 0.3
    for _ in range(rng.integers(20, 80)):
        y, x = rng.integers(90), rng.integers(160)
        picture[y : y + rng.integers(5, 45), x : x + rng.integers(5, 55)] = rng.random(3) * 0.6 + 0.02
    share = rng.uniform(*shares)
    height = int(np.sqrt(share * 90 * 160))
    y, x = rng.integers(90 - height), rng.integers(160 - height)
    here = np.s_[y : y + height, x : x + height]
    picture[here] = WHITE_ALBEDO
    drawn = np.array([1, rng.uniform(0.75, 1), rng.uniform(0.4, 1)], np.float32)[:: rng.choice([-1, 1])]
    picture = (
        picture * (drawn if light is None else np.float32(light)) * np.float32(exposure * 10 ** -rng.uniform(0, 1.3))
    )
    picture = picture + 0.003 * exposure * rng.standard_normal(picture.shape).astype(np.float32)
    middle = y + height / 2, x + height / 2
    return picture, picture[here].mean((0, 1)), (middle[1] / 80 - 1, middle[0] / 45 - 1)


def assert_alike(found, patch, note) -> None:
    """Luminance within 15 %, and hue within 10 degrees of all but greys."""
    assert luminance(found) == pytest.approx(float(luminance(patch)), rel=0.15), note
    (wanted, colourful), (seen, _) = hue(patch), hue(found)
    assert colourful < 0.08 or abs((seen - wanted + 180) % 360 - 180) < 10, note


@pytest.mark.parametrize("exposure", [1.0, 8.0], ids=["display", "light above white"])
def test_a_white_ball_has_the_luminance_and_hue_of_the_plates_white_patch(exposure):
    for seed in range(24):
        plate, patch, _ = synthetic_plate(seed, exposure)
        assert_alike(lit_side(PlateLight.of(plate)), patch, seed)


@pytest.mark.parametrize("lamp", [False, True], ids=["alone", "with a lamp of its size"])
@pytest.mark.parametrize("kelvin", BLACK_BODIES)
def test_a_white_patch_of_a_hundredth_of_the_plate_is_the_white_beside_it(kelvin, lamp):
    for seed in range(6):
        plate, patch, place = synthetic_plate(seed, shares=(0.01, 0.015), light=BLACK_BODIES[kelvin])
        if lamp:
            plate[:10, :14] = 15 * float(luminance(patch))
        assert_alike(lit_side(PlateLight.of(plate, place)), patch, seed)


def test_the_light_about_a_place_has_the_hue_of_white_in_it_but_not_of_grass():
    """One half in the bluish shade with something white, the other half grass in the sun with a white wall behind."""
    rng = np.random.default_rng(2)
    plate = rng.random((90, 160, 1)).astype(np.float32) * np.array([0.1, 0.25, 0.04], np.float32)
    plate[:20, 80:] = 0.8
    shade = np.array([0.62, 0.8, 1.0], np.float32) * 0.4
    plate[:, :80] = rng.random((90, 80, 3)) * 0.5 * shade
    plate[40:60, 20:40] = WHITE_ALBEDO * shade
    in_shade, on_grass = (lit_side(PlateLight.of(plate, place)) for place in ((-0.6, 0.1), (0.5, 0.7)))
    assert_alike(in_shade, WHITE_ALBEDO * shade, "shade")
    assert hue(on_grass)[1] < 0.15


def test_the_key_light_comes_from_the_brighter_side_and_from_above():
    plate = np.linspace(0.05, 1, 160, dtype=np.float32)[None, :, None] * np.ones((90, 1, 3), np.float32)
    right, left = PlateLight.of(plate).key, PlateLight.of(plate[:, ::-1].copy()).key
    assert right[0] > 0 > left[0] and right[1] < 0 and left[1] < 0


@pytest.mark.parametrize("above, below, side", [("left", "right", -1), ("right", "left", 1)])
def test_a_bright_floor_does_not_turn_the_key_light(above, below, side):
    """The upper two thirds of a plate decide: a lamp there, and a floor below that is brighter on the other side."""
    half = {"left": np.s_[:80], "right": np.s_[80:]}
    plate = np.full((90, 160, 3), 0.05, np.float32)
    plate[:60, half[above]], plate[60:, half[below]] = 0.4, 3.0
    assert np.sign(PlateLight.of(plate).key[0].item()) == side


def test_a_lamp_of_a_hundredth_of_the_plate_is_not_its_white():
    plate = np.full((90, 160, 3), 0.2, np.float32)
    plate[:9, :16] = 60
    assert luminance(PlateLight.of(plate).white) == pytest.approx(0.2, rel=0.05)


def test_of_a_black_plate_what_is_added_is_dark_and_finite():
    light = lit_side(PlateLight.of(np.zeros((20, 30, 3), np.float32)))
    assert torch.isfinite(light).all() and 0 < luminance(light) < 0.05


def test_what_glows_is_bright_in_a_black_plate():
    light = PlateLight.of(np.zeros((20, 30, 3), np.float32))
    assert luminance(light.shade(ball(), gloss=0.5, metal=0.0, glow=1.0).mean(0)) > 0.3


def test_metal_shows_the_plates_stripes_and_matte_does_not():
    plate = np.full((90, 160, 3), 0.1, np.float32)
    plate[:, (np.arange(160) // 20) % 2 == 0] = 0.9
    light = PlateLight.of(plate)
    row = (ball().facing[:, 1] - 0.3).abs() < 0.02
    rough = []
    for gloss, metal in ((0.5, 1.0), (0.0, 0.0)):
        rough.append(luminance(light.shade(ball(), gloss=gloss, metal=metal, glow=0.0))[row].diff().abs().sum())
    assert rough[0] > 1.5 * rough[1]


def test_light_is_kept_above_white_unless_the_plate_is_for_a_display():
    light = torch.tensor([0.0, 0.5, 1.0, 4.0])[:, None].expand(-1, 3)
    back = decode_srgb(display_codes(light, clips=False).numpy())
    assert np.allclose(back, light.numpy(), rtol=1e-4, atol=1e-6)
    assert display_codes(light, clips=True).max() <= 1


def test_in_a_dark_room_beside_a_window_white_is_the_rooms():
    """And the window's about the window; without a place it is the brightest of the frame."""
    plate = np.full((90, 160, 3), 0.03, np.float32)
    plate[20:70:8, :100] = 0.2
    plate[:, 120:] = 0.95
    room, window = (luminance(PlateLight.of(plate, (x, 0.0)).white) for x in (-0.5, 0.8))
    assert luminance(PlateLight.of(plate).white) == pytest.approx(0.95, rel=0.05)
    assert room < 0.25 and window == pytest.approx(0.95, rel=0.1)


def test_the_light_changes_evenly_as_a_thing_moves_through_the_plate():
    plate, _, _ = synthetic_plate(3)
    whites = torch.stack([PlateLight.of(plate, (x / 100, 0.0)).white for x in range(-20, 21)])
    steps = luminance(whites).log().diff()
    assert steps.abs().max() < 0.08


def test_a_light_with_a_size_is_the_mean_of_its_parts():
    """In fp64, over 20,001 parts; the formula holds on both sides of the horizon and across it."""
    cosines = torch.linspace(-1, 1, 201, dtype=torch.float64)
    parts = torch.linspace(-1, 1, 20_001, dtype=torch.float64) * plate_light.KEY_RADIUS
    wanted = (cosines[:, None] + parts).clamp_min(0).mean(1)
    assert (plate_light._softened(cosines) - wanted).abs().max() < 1e-4


def test_no_line_shows_where_a_white_ball_turns_from_the_light():
    """Along a meridian through the light, in display codes: with a light without size, the slope jumps by 3e-4."""
    light = PlateLight.of(synthetic_plate(3)[0])
    across = torch.linspace(-0.95, 0.95, 400)
    side = light.key[:2] / light.key[:2].norm()
    ones = torch.ones(len(across))
    points = SurfacePoints(
        -ones, WHITE_CODE * torch.ones(len(across), 3), across[:, None] * side, 0 * ones, ones, 0 * ones, ones
    )
    codes = luminance(display_codes(light.shade(points, 0.0, 0.0, 0.0), True))
    assert codes.diff().diff().abs().max() < 1e-4
