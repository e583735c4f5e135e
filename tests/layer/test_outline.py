"""The outline's field against shapes of which everything is known, blurred as decoders blur them."""

import math

import numpy as np
import pytest
import torch

from vera.core.layer.matte import refine_alpha
from vera.core.layer.outline import NO_STEP, STEP_WIDTH, outline
from vera.core.plate.fit import shrink

SIZE, UPSCALE = (48, 64), 6


def places(scale=1):
    """y and x of pixel centres in model pixels from the middle, on a grid `scale` times as fine."""
    y, x = ((np.arange(n * scale) + 0.5) / scale - n / 2 for n in SIZE)
    return y[:, None], x[None]


def step(distance, width):
    """A step blurred by a Gaussian, as wide as said: its rise by its steepest slope."""
    return (0.5 * (1 + torch.erf(torch.from_numpy(distance * math.sqrt(math.pi) / width)))).float().numpy()


def disc(scale=1):
    y, x = places(scale)
    return 13 - np.hypot(y, x)


def drawn(alpha, step_width=STEP_WIDTH):
    plate = torch.full((*(UPSCALE * n for n in SIZE), 3), 0.4)
    alpha = torch.from_numpy(np.ascontiguousarray(alpha, np.float32))
    return refine_alpha(alpha, shrink(plate, *SIZE[::-1]), plate, step_width)[0].numpy()


def edge_pixels(alpha):
    """Plate pixels of an edge between 0.1 and 0.9, to one of the contour's."""
    inside = alpha > 0.5
    contour = sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in (0, 1)) * math.pi / 4
    return np.count_nonzero((alpha > 0.1) & (alpha < 0.9)) / contour


@pytest.mark.parametrize("width", [1, 1.5, 2, 2.5, 3])
def test_a_step_is_drawn_as_one_however_wide_it_was_decoded(width):
    found = drawn(step(disc(), width))
    assert edge_pixels(found) < 2.5
    truth = (disc(UPSCALE) * UPSCALE + 0.5).clip(0, 1)
    off = np.abs(found - truth).sum() / (2 * math.pi * 13 * UPSCALE)  # plate pixels to one of the outline's
    assert off < 0.6


@pytest.mark.parametrize("width", [1.2 * NO_STEP * STEP_WIDTH, 5, 8])
def test_what_is_wider_than_a_step_stays_as_it_is(width):
    assert outline(torch.from_numpy(step(disc(), width)))[..., 3].max() < 0.05


@pytest.mark.parametrize("top", [0.1, 0.3, 0.5])
def test_a_faint_rise_is_no_step(top):
    assert outline(torch.from_numpy(top * step(disc(), 1.5)))[..., 3].max() == 0


def test_a_model_may_say_that_its_steps_are_wider():
    wide = step(disc(), 4.5)
    assert edge_pixels(drawn(wide)) > 10 > 2.5 > edge_pixels(drawn(wide, 4.5))


def test_the_field_is_the_distance_to_the_outline():
    field = outline(torch.from_numpy(step(disc(), 2)))
    hard = field[..., 3] > 0.99
    y, x = places(3)
    distance = torch.from_numpy(13 - np.hypot(y, x))
    near = hard & (distance.abs() < 1)
    assert near.sum() > 1000
    assert (field[..., 2] / field[..., 3] - distance)[near].abs().max() < 0.15


def test_a_halo_has_no_dark_line_at_its_foot():
    """A disc in a halo that falls slowly: alpha never rises again on the way out."""
    distance = disc()
    halo = 0.4 * (1 + distance / 15).clip(0, 1) * (distance < 0)
    found = drawn(step(distance, 2) * (1 - halo) + halo)
    out = found[SIZE[0] * UPSCALE // 2, SIZE[1] * UPSCALE // 2 :]
    assert np.diff(out).max() < 0.02 and 0.25 < out[int(15.5 * UPSCALE)] < 0.45


@pytest.mark.parametrize("peak", [0.2, 0.4])
def test_a_faint_string_below_an_object_is_kept(peak):
    """Near the object it would be below the middle between the object's 1 and 0."""
    y, x = places()
    string = peak * np.exp(-0.5 * x**2) * (y > 0)
    found = drawn(np.maximum(step(disc(), 2), string))
    below = found[
        (SIZE[0] // 2 + 14) * UPSCALE : (SIZE[0] // 2 + 20) * UPSCALE,
        SIZE[1] * UPSCALE // 2,
    ]
    assert (below > 0.75 * peak).all()  # its ends are snapped


@pytest.mark.parametrize("wide", [1.5, 2.0, 3.0])
def test_a_thin_part_keeps_its_width(wide):
    y, x = places()
    bar = step(x + wide / 2, 1.5) - step(x - wide / 2, 1.5) + 0 * y
    row = drawn(bar)[SIZE[0] * UPSCALE // 2]
    assert 0.75 * wide < row.sum() / UPSCALE < 1.25 * wide
    assert np.count_nonzero((row > 0.1 * row.max()) & (row < 0.9 * row.max())) <= 6


def test_corners_are_kept():
    """Of each corner less than half a model pixel is lost; the model's own grid allows no more."""
    y, x = places(4)
    square = (np.maximum(np.abs(x), np.abs(y)) < 12).astype(np.float32)
    found = drawn(square.reshape(SIZE[0], 4, SIZE[1], 4).mean((1, 3)))
    y, x = (np.abs(p) for p in places(UPSCALE))
    corners = (np.minimum(y, x) > 9) & (np.maximum(y, x) < 12)
    assert (1 - found)[corners].sum() / UPSCALE**2 / 4 < 0.5


def test_a_small_move_moves_the_outline_by_as_much():
    """Steady in time: no jumps as an edge passes through the grid of pixels."""
    y, x = places()
    masses = [drawn(step(13 - np.hypot(y, x - move), 2)) for move in np.linspace(0, 1, 9)]
    columns = (np.arange(masses[0].shape[1]) + 0.5) / UPSCALE
    middles = np.array([(m * columns).sum() / m.sum() for m in masses])
    assert np.abs(np.diff(middles) - 1 / 8).max() < 0.02
    areas = [m.sum() for m in masses]
    assert max(areas) / min(areas) < 1.005


def test_nothing_is_drawn_where_alpha_is_flat():
    for value in (0.0, 0.3, 1.0):
        assert not outline(torch.full(SIZE, value)).any()
