from types import SimpleNamespace

import numpy as np
import pytest

from vera.core.errors import InputError
from vera.core.plate.region import Region, region_of
from vera.kernels.over import over


def plate(width=60, height=40, offset=(0, 0)):
    return SimpleNamespace(width=width, height=height, offset=offset)


def layer(height, width):
    rng = np.random.default_rng(1)
    alpha = rng.random((height, width, 1)) * (rng.random((height, width, 1)) > 0.3)
    return np.concatenate([rng.random((height, width, 3)) * alpha, alpha], axis=2).astype(np.float16)


def test_without_one_it_is_all_that_the_plate_has():
    region, made = region_of(plate(offset=(-4, -4)), None), layer(40, 60)
    pixels = np.zeros((40, 60, 3))
    assert region.crop(pixels).shape == pixels.shape
    assert region.place(made) is made


def test_it_counts_from_the_display_window():
    region = region_of(plate(offset=(-8, -3)), (-5, 0, 20, 16))
    assert (region.x, region.y, region.width, region.height) == (3, 3, 20, 16)
    pixels = np.arange(40 * 60).reshape(40, 60, 1)
    assert region.crop(pixels)[0, 0, 0] == 3 * 60 + 3 and region.crop(pixels)[-1, -1, 0] == 18 * 60 + 22


@pytest.mark.parametrize("numbers", [(-1, 0, 20, 20), (0, -1, 20, 20), (41, 0, 20, 20), (0, 21, 20, 20)])
def test_outside_the_plate_is_refused(numbers):
    with pytest.raises(InputError, match="not inside the plate, which has x 0 to 59 and y 0 to 39"):
        region_of(plate(), numbers)


def test_too_small_is_refused():
    with pytest.raises(InputError, match="at least 16"):
        region_of(plate(), (0, 0, 16, 15))


@pytest.mark.parametrize("x, y, width, height", [(8, 4, 36, 30), (0, 0, 30, 20), (24, 0, 36, 40), (0, 24, 60, 16)])
def test_the_composite_dissolves_into_the_plate(x, y, width, height):
    """Laid over in linear light, each pixel is its taper's share of the layer over the plate, to half's rounding."""
    region, made = Region(x, y, width, height, (40, 60)), layer(height, width)
    filmed = np.random.default_rng(2).random((40, 60, 3)).astype(np.float32)
    placed = region.place(made)
    assert placed.dtype == np.float16 and placed.shape == (40, 60, 4)
    outside = np.ones((40, 60), bool)
    outside[y : y + height, x : x + width] = False
    assert not placed[outside].any() and not placed[placed[..., 3] == 0].any()

    full = made.astype(np.float64)
    share = region.crop(placed)[..., 3] / np.maximum(full[..., 3], 1e-9)
    whole = full[..., :3] + (1 - full[..., 3:]) * region.crop(filmed)
    expected = region.crop(filmed) + share[..., None] * (whole - region.crop(filmed))
    laid = over(filmed, placed, "linear", "linear")
    assert np.abs(region.crop(laid) - expected).max() < 2e-3
    assert laid[outside].tobytes() == filmed[outside].tobytes()

    # It fades at the borders inside the picture only, over a twelfth of the shorter side, and is whole within.
    depth = round(min(width, height) / 12)
    covered = made[..., 3] > 0.05
    inside = np.s_[
        depth * (y > 0) : height - depth * (y + height < 40), depth * (x > 0) : width - depth * (x + width < 60)
    ]
    assert np.abs(share[inside][covered[inside]] - 1).max() < 2e-3
    if x:
        assert share[:, 0].max() < 0.5


def test_the_fade_has_no_step():
    flat = np.ones((120, 240, 4), np.float16)
    alpha = Region(10, 10, 240, 120, (200, 300)).place(flat)[..., 3].astype(np.float32)
    assert np.abs(np.diff(alpha, axis=0)).max() < 0.16 and np.abs(np.diff(alpha, axis=1)).max() < 0.16


def test_a_matte_fades_as_its_layer_does():
    region = Region(10, 10, 240, 120, (200, 300))
    layer = region.place(np.ones((120, 240, 4), np.float32))
    assert np.array_equal(region.place(np.ones((120, 240), np.float32)), layer[..., 3])
