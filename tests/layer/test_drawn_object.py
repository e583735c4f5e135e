"""An object known as a shape: drawn crisp, where and as far as the model's own alpha shows it."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from vera.core.layer.drawn_object import (
    AGREES,
    MAX_GROWTH,
    MAX_TILT,
    MAX_TILT_STANDING,
    Drawn,
    DrawnFrame,
    Take,
    agreement,
    blurred,
    coverage,
    over_rest,
    visible,
    without_object,
)
from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.model.interfaces import SurfacePoints

MODEL, PLATE = (80, 144), (360, 640)
ASPECT = PLATE[1] / PLATE[0]


@dataclass(frozen=True)
class Disc:
    """A `ShotObject`: a red disc with a stick below."""

    x: float = 0.2
    y: float = 0.0
    size: float = 0.4
    stands: bool = False
    glow: float = 0.0
    gloss: float = 0.5
    metal: float = 0.0
    soft: bool = False
    color: tuple[float, float, float] = (0.85, 0.1, 0.1)

    def place(self, time):
        return self.x, self.y, self.size

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


def laid_over(shape, alpha, shown=None, rest=0.0):
    shown = torch.ones(PLATE) if shown is None else shown
    edit, matte = torch.full((*PLATE, 3), 0.5), torch.full(PLATE, rest)
    return over_rest(Drawn(shape, Scene(PLATE, ASPECT, LIGHT, True), alpha), shown, edit, matte)


def true_alpha(shape):
    y, x = torch.meshgrid(torch.arange(PLATE[0]) + 0.5, torch.arange(PLATE[1]) + 0.5, indexing="ij")
    scale = shape.shape.size * PLATE[0] / 2
    u = (x - (shape.shape.x + 1) / 2 * PLATE[1]) / scale
    v = (y - (shape.shape.y + 1) / 2 * PLATE[0]) / scale
    return (0.5 - shape.shape.points(0, u, v).distance * scale).clamp(0, 1)


@pytest.mark.parametrize("size", [0.15, 0.4, 1.6], ids=["small", "medium", "larger than the frame"])
def test_the_outline_is_the_shapes_at_plate_size(size):
    shape = frame(size=size)
    _, matte, own = laid_over(shape, drawn_by_model(shape))
    assert torch.equal(matte, own)
    assert (matte - true_alpha(shape)).abs().mean() < 2e-3
    assert ((matte > 0.1) & (matte < 0.9)).sum() < 3 * math.pi * size * PLATE[0]  # an edge of about a pixel


def test_a_thin_part_is_drawn_though_the_models_alpha_lost_it():
    shape = frame()
    alpha = drawn_by_model(frame()) * (coverage(shape, MODEL, ASPECT).alpha > 0.9)
    assert visible(coverage(shape, MODEL, ASPECT), alpha).min() > 0.99


def test_what_the_model_hides_is_hidden():
    shape = frame()
    alpha = drawn_by_model(shape)
    alpha[:, : round((shape.shape.x + 1) / 2 * MODEL[1])] = 0
    shown = visible(coverage(shape, MODEL, ASPECT), alpha)
    middle = round((shape.shape.x + 1) / 2 * MODEL[1])
    assert shown[40, middle - 5] < 0.05 and shown[40, middle + 5] > 0.95


def test_what_the_model_lets_vanish_vanishes():
    shape = frame()
    assert visible(coverage(shape, MODEL, ASPECT), torch.zeros(MODEL)).max() == 0


def test_another_shape_than_the_models_is_told_apart():
    shape, other = frame(), frame(x=-0.6)
    for seen, agrees in ((shape, True), (other, False)):
        shared, together = agreement(shape, drawn_by_model(seen), ASPECT)
        assert (shared > AGREES * together) == agrees


def test_the_models_blur_about_the_object_is_taken_out_and_its_shadow_kept():
    shape = frame()
    cover = coverage(shape, MODEL, ASPECT)
    shadow = torch.zeros(MODEL)
    shadow[60:70, 60:110] = 0.4
    left = without_object(cover, torch.maximum(drawn_by_model(shape), shadow), soft=True)
    assert left[20:50].max() < 0.02 and left[62:70, 62:108].min() > 0.39


def test_where_it_stands_it_darkens_the_ground_and_in_the_air_it_does_not():
    shape = frame(stands=True, soft=True)
    alpha = drawn_by_model(shape)
    foot = round((0.4 + 1) / 2 * PLATE[0]) + 2, round((shape.shape.x + 1) / 2 * PLATE[1]) + 30
    assert laid_over(shape, alpha)[1][foot] == 0
    alpha[54:60] = torch.maximum(alpha[54:60], torch.tensor(0.5))
    edit, matte, own = laid_over(shape, alpha)
    assert matte[foot] > 0.2 and own[foot] == 0 and edit[foot].max() < 0.01


def test_the_object_lies_over_what_is_left_of_the_layer():
    shape = frame()
    edit, matte, own = laid_over(shape, drawn_by_model(shape), rest=0.3)
    outside = own == 0
    assert torch.allclose(matte[outside], torch.tensor(0.3)) and torch.allclose(edit[outside], torch.tensor(0.5))
    assert matte[own == 1].min() == 1


def test_what_glows_has_a_halo_that_ends():
    _, matte, own = laid_over(frame(glow=1.0), drawn_by_model(frame()))
    row = matte[PLATE[0] // 2]
    edge = int((own[PLATE[0] // 2] > 0.95).nonzero()[-1])
    assert 0.2 < row[edge + 6] < 0.6 and row[edge + 80] == 0


def test_outside_of_the_picture_nothing_is_drawn():
    shape = frame(x=5.0)
    assert laid_over(shape, torch.zeros(MODEL))[1].max() == 0
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
