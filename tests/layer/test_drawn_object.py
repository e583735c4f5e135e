"""An object known as a shape: drawn crisp, where and as far as the model's own alpha shows it."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from vera.core.layer.drawn_object import (
    MAX_GROWTH,
    MAX_TILT,
    MAX_TILT_STANDING,
    DrawnFrame,
    ObjectInScene,
    SurfaceStore,
    Take,
    agreement,
    aside,
    blurred,
    contact_shadow,
    coverage,
    over_rest,
    own_grid,
    points_about,
    soft_below,
    standing,
)
from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.model.interfaces import SurfacePoints

MODEL, PLATE = (80, 144), (360, 640)
ASPECT = PLATE[1] / PLATE[0]


@dataclass(frozen=True)
class Disc:
    """A `ShotObject`: a red disc with a stick below, turned by `turns` radians a frame."""

    turns: float = 0.0
    moves: bool = False
    x: float = 0.2
    y: float = 0.0
    size: float = 0.4
    stands: bool = False
    glow: float = 0.0
    gloss: float = 0.5
    metal: float = 0.0
    soft: bool = False
    color: tuple[float, float, float] = (0.85, 0.1, 0.1)
    surface: str = ""
    mirrored: bool = False

    def place(self, time):
        return self.x, self.y, self.size

    def turn(self, time):
        return self.turns * time

    def points(self, time, u, v):
        distance = torch.minimum(torch.hypot(u, v) - 0.8, torch.maximum(u.abs() - 0.02, (v - 0.9).abs() - 0.1))
        zeros = torch.zeros_like(u)
        color = torch.tensor(self.color).expand(*u.shape, 3)
        return SurfacePoints(distance, color, torch.stack([u, v], -1) * 0.9, zeros, zeros + 1, zeros, zeros + 1)


LIGHT = PlateLight.of(np.full((9, 16, 3), 0.5, np.float32))


def frame(**changes):
    return DrawnFrame(replace(Disc(), **changes), 0)


def drawn_by_model(shape):
    """Alpha at model size as a model's codec gives it: blurred."""
    return blurred(coverage(shape, MODEL, ASPECT).alpha)


def laid_over(shape, shown=None, rest=0.0):
    shown = torch.ones(PLATE) if shown is None else shown
    edit, matte = torch.full((*PLATE, 3), 0.5), torch.full(PLATE, rest)
    return over_rest(ObjectInScene(shape, Scene(PLATE, ASPECT, LIGHT, True)), shown, edit, matte)


def true_alpha(shape):
    y, x = torch.meshgrid(torch.arange(PLATE[0]) + 0.5, torch.arange(PLATE[1]) + 0.5, indexing="ij")
    scale = shape.shape.size * PLATE[0] / 2
    u = (x - (shape.shape.x + 1) / 2 * PLATE[1]) / scale
    v = (y - (shape.shape.y + 1) / 2 * PLATE[0]) / scale
    return (0.5 - shape.shape.points(0, u, v).distance * scale).clamp(0, 1)


@pytest.mark.parametrize("size", [0.15, 0.4, 1.6], ids=["small", "medium", "larger than the frame"])
def test_the_outline_is_the_shapes_at_plate_size(size):
    shape = frame(size=size)
    _, matte, own = laid_over(shape)
    assert torch.equal(matte, own)
    assert (matte - true_alpha(shape)).abs().mean() < 2e-3
    assert ((matte > 0.1) & (matte < 0.9)).sum() < 3 * math.pi * size * PLATE[0]  # an edge of about a pixel


def test_the_shape_is_laid_whole_where_nothing_is_in_front():
    shape = frame()
    left = torch.ones(PLATE)
    left[:, : round((shape.shape.x + 1) / 2 * PLATE[1])] = 0
    whole, half = laid_over(shape)[1], laid_over(shape, shown=left)[1]
    assert torch.equal(half, whole * left) and whole.max() == 1


@pytest.mark.parametrize("moves", [False, True])
def test_a_shape_that_does_not_move_is_evaluated_once_for_a_shot(moves):
    """And its matte equals the matte of a freshly evaluated shape."""
    calls = []

    class Counted(Disc):
        def points(self, time, u, v):
            calls.append(time)
            return super().points(time, u, v)

    store = SurfaceStore()
    for time in range(3):
        drawn = DrawnFrame(Counted(moves=moves), time, store=store)
        assert torch.equal(laid_over(drawn)[1], laid_over(frame())[1])
    assert set(calls) == ({0, 1, 2} if moves else {0})


def test_a_shape_moved_by_whole_pixels_has_the_same_samples():
    """The grid is fixed to the object: only what the camera sees moves."""
    step = 2 / PLATE[1]
    still, moved = laid_over(frame(size=0.5))[1], laid_over(frame(size=0.5, x=0.2 + 7 * step))[1]
    torch.testing.assert_close(moved[:, 7:], still[:, :-7], atol=1e-3, rtol=0)


def test_a_shape_other_than_the_models_is_detected():
    shape, other = frame(), frame(x=-0.6)
    for seen, agrees in ((shape, True), (other, False)):
        found = agreement(shape, drawn_by_model(seen), ASPECT)
        assert [found.holds(hidden) for hidden in (False, True)] == [agrees, agrees]


def test_a_thing_behind_somebody_is_the_models_though_it_drew_a_piece():
    alpha = drawn_by_model(frame())
    alpha[:, round(0.55 * MODEL[1]) :] = 0
    found = agreement(frame(), alpha, ASPECT)
    assert found.holds(hidden=True) and not found.holds(hidden=False)


def test_of_the_models_alpha_only_what_is_soft_below_the_object_stays():
    """Its blur about the object goes, and so does anything beside and above it."""
    shape = frame()
    alpha = drawn_by_model(shape)
    alpha[60:70, 60:110] = 0.4
    alpha[10:18, 70:100] = 0.3
    left = soft_below(shape, alpha, ASPECT)
    assert left[:44].max() == 0 and left[44:50].max() < 0.02 and left[62:70, 62:108].min() > 0.39


def test_where_it_stands_it_darkens_the_ground_and_in_the_air_it_does_not():
    foot = round((0.4 + 1) / 2 * PLATE[0]) + 2, round((Disc.x + 1) / 2 * PLATE[1]) + 30
    assert laid_over(replace(frame(stands=True), standing=0.0))[1][foot] == 0
    edit, matte, own = laid_over(frame(stands=True))
    assert matte[foot] > 0.2 and own[foot] == 0 and edit[foot].max() < 0.01


@pytest.mark.parametrize("bright", ["left", "right"])
def test_its_shadow_lies_away_from_the_light(bright):
    light = np.full((9, 16, 3), 0.05, np.float32)
    light[:, slice(0, 5) if bright == "left" else slice(11, 16)] = 1.0
    scene = Scene(PLATE, ASPECT, PlateLight.of(light), True)
    box, dark = contact_shadow(ObjectInScene(frame(stands=True), scene))
    middle = float((dark.sum(0) * box.u).sum() / dark.sum())  # right of the object's middle, in half heights
    assert middle > 0.02 if bright == "left" else middle < -0.02


def test_it_stands_where_the_model_drew_a_shadow_at_its_foot():
    shape = frame(stands=True)
    alpha = drawn_by_model(shape)
    in_the_air = standing(shape, alpha, ASPECT)
    alpha[54:60] = torch.maximum(alpha[54:60], torch.tensor(0.5))
    assert in_the_air == 0 and standing(shape, alpha, ASPECT) == 1


def test_the_object_lies_over_what_is_left_of_the_layer():
    shape = frame()
    edit, matte, own = laid_over(shape, rest=0.3)
    outside = own == 0
    assert torch.allclose(matte[outside], torch.tensor(0.3)) and torch.allclose(edit[outside], torch.tensor(0.5))
    assert matte[own == 1].min() == 1


def test_what_glows_has_a_halo_that_ends():
    _, matte, own = laid_over(frame(glow=1.0))
    row = matte[PLATE[0] // 2]
    edge = int((own[PLATE[0] // 2] > 0.95).nonzero()[-1])
    assert 0.2 < row[edge + 6] < 0.6 and row[edge + 80] == 0


def test_a_thing_that_would_not_be_seen_is_moved_aside_as_little_as_needed():
    hidden = torch.zeros(MODEL)
    hidden[:, 60:] = 1
    moved = aside([replace(frame(), hidden=hidden)], ASPECT)
    assert moved < 0 and aside([replace(frame(), hidden=hidden.flip(1))], ASPECT) == 0
    matte = coverage(replace(frame(), moved=(moved, 0.0)), MODEL, ASPECT).alpha
    assert 0.45 < (matte * (1 - hidden)).sum() / matte.sum() < 0.6


def test_outside_of_the_picture_nothing_is_drawn():
    shape = frame(x=5.0)
    assert laid_over(shape)[1].max() == 0
    assert coverage(shape, MODEL, ASPECT).alpha.max() == 0


@pytest.mark.parametrize("stands", [False, True])
def test_another_seed_turns_and_sizes_the_shape_a_little(stands):
    """Seed 0 is the shape as it is; the same seed is the same take."""
    takes = [Take.of(seed, stands) for seed in range(40)]
    assert takes[0] == Take() and len(set(takes)) == 40 and takes[7] == Take.of(7, stands)
    largest = MAX_TILT_STANDING if stands else MAX_TILT
    assert all(abs(take.tilt) <= largest and abs(take.size - 1) <= MAX_GROWTH for take in takes)


def test_a_tilted_shape_is_the_shape_turned():
    """Points and normals turn with it: clockwise by a right angle, right of the middle is what was above it."""
    shape = DrawnFrame(Disc(), 0, Take(tilt=math.pi / 2))
    u, v = torch.tensor([0.0, 0.9, -0.9]), torch.tensor([0.9, 0.0, 0.0])
    turned, plain = shape.points(u, v), DrawnFrame(Disc(), 0).points(v, -u)
    torch.testing.assert_close(turned.distance, plain.distance)
    right, down = plain.facing.unbind(-1)
    torch.testing.assert_close(turned.facing, torch.stack([-down, right], -1))


def test_the_outline_has_the_colour_of_what_is_inside():
    """A field mixes the colours of both sides at an outline: the outer one is no fringe of the object."""

    class Fringed(Disc):
        def points(self, time, u, v):
            found = super().points(time, u, v)
            beside = found.distance > -0.014
            return replace(found, color=torch.where(beside[..., None], torch.tensor([0.0, 1.0, 0.0]), found.color))

    u, v = own_grid(240)
    points = points_about(Fringed(), 0, u, v)
    disc = (torch.hypot(u, v) - 0.8).abs() < 0.011
    red, green, _ = points.color[disc & (u.abs() > 0.1)].unbind(-1)
    assert red.min() > 0.8 and green.max() < 0.15


def test_a_part_too_thin_to_have_an_inside_keeps_its_own_colour():
    u, v = own_grid(96)
    points = points_about(Disc(), 0, u, v)
    stick = (u.abs() < 0.02) & (v > 0.9) & (v < 0.99)
    assert stick.any() and torch.equal(points.color[stick], torch.tensor(Disc().color).expand(int(stick.sum()), 3))
