"""Detail of drawn objects: colours stay as named, relief tilts the normals, nothing is finer than a sample."""

from dataclasses import replace

import pytest
import torch

from vera.core.layer import surface_detail
from vera.core.layer.drawn_object import own_grid, points_about
from vera.core.layer.surface_detail import BRIGHTEST, DARKEST, MAX_SLOPE, PATTERNS, Pattern, Place, detailed
from vera.core.model.interfaces import SurfacePoints
from vera.core.model.mini import words

from .test_drawn_object import Disc

FINE = 2.7 / 480  # half heights: the smallest sample of a drawn shape


def square(sample: float, time: int = 0) -> Place:
    """The middle of an object, 1.2 by 1.2 half heights."""
    at = torch.arange(-0.6, 0.6, sample)
    v, u = torch.meshgrid(at, at, indexing="ij")
    return Place(u, v, sample, time)


def points_of(place: Place) -> SurfacePoints:
    plain = torch.zeros_like(place.u)
    color = torch.tensor([0.6, 0.3, 0.2]).expand(*plain.shape, 3)
    return SurfacePoints(plain, color, torch.zeros(*plain.shape, 2), plain, plain + 1, plain, plain + 1)


def test_every_object_of_the_world_has_a_pattern():
    assert set(PATTERNS) == set(words.OBJECTS)


@pytest.mark.parametrize("kind", PATTERNS)
def test_the_named_colour_stays(kind):
    """The factor is the same for red, green and blue, and about 1 on average."""
    place = square(FINE)
    color = detailed(points_of(place), kind, place).color
    factors = color / points_of(place).color
    assert torch.allclose(factors[..., :1].expand_as(factors), factors, atol=1e-6)
    assert abs(float(factors.mean()) - 1) < 0.12


@pytest.mark.parametrize("kind", PATTERNS)
def test_detail_finer_than_a_sample_is_left_out(kind):
    """Coarse samples are near the mean of the fine ones that they stand for, so that small objects do not shimmer."""
    fine, block = square(FINE), 16

    def means(x: torch.Tensor) -> torch.Tensor:
        size = len(x) // block * block
        return x[:size, :size].unflatten(0, (-1, block)).unflatten(2, (-1, block)).mean((1, 3))

    shade = PATTERNS[kind](fine).shade.clamp(DARKEST, BRIGHTEST)
    coarse = PATTERNS[kind](Place(means(fine.u), means(fine.v), FINE * block)).shade
    assert float((coarse - means(shade)).abs().mean()) < 0.05


def test_a_slope_tilts_the_normal_away_from_the_rise(monkeypatch):
    ramp = {"ramp": lambda at: Pattern(0.2 * at.u - 0.1 * at.v, torch.ones_like(at.u))}
    monkeypatch.setattr(surface_detail, "PATTERNS", ramp)
    place = square(0.05)
    facing = detailed(points_of(place), "ramp", place).facing
    assert torch.allclose(facing, torch.tensor([-0.2, 0.1]).expand_as(facing), atol=1e-4)


def test_relief_is_never_steeper_than_its_limit(monkeypatch):
    monkeypatch.setattr(surface_detail, "PATTERNS", {"wall": lambda at: Pattern(9 * at.u, torch.ones_like(at.u))})
    place = square(0.05)
    assert detailed(points_of(place), "wall", place).facing[..., 0].abs().max() == MAX_SLOPE


@pytest.mark.parametrize("kind", PATTERNS)
def test_only_wings_change_with_time(kind):
    one, other = (PATTERNS[kind](square(0.02, time)) for time in (0, 3))
    assert torch.equal(one.shade, other.shade) == (kind not in ("butterfly", "bird"))


def test_a_kind_without_a_pattern_is_unchanged():
    place = square(0.05)
    points = points_of(place)
    assert detailed(points, "", place) is points


def test_metal_is_polished():
    u, v = own_grid(96)
    kinds = (("", 0), ("apple", 0), ("apple", 1))
    bare, plain, metal = (points_about(Disc(surface=s, metal=m, color=(0.5, 0.1, 0.1)), 0, u, v) for s, m in kinds)
    inside = plain.distance < -0.1
    for name in ("color", "facing"):
        without, rough, polished = (getattr(points, name)[inside] for points in (bare, plain, metal))
        torch.testing.assert_close(polished - without, 0.25 * (rough - without), atol=1e-5, rtol=1e-4)


def test_a_mirrored_object_has_mirrored_detail():
    u, v = own_grid(96)
    plain, mirrored = (points_about(Disc(surface="fish", mirrored=side), 0, u, v) for side in (False, True))
    inside = plain.distance < 0
    assert float((plain.color - mirrored.color.flip(1))[inside].abs().mean()) < 1e-3
    facing = mirrored.facing.flip(1) * torch.tensor([-1.0, 1.0])
    assert float((plain.facing - facing)[inside].abs().mean()) < 1e-3
    assert float((plain.color - mirrored.color)[inside].abs().mean()) > 5e-3


def test_finished_wood_keeps_its_own_texture():
    from tests.model.mini.test_object_field import shape_of
    from vera.core.model.mini.finishes import FINISHES
    from vera.core.model.mini.shape_drawer import painted

    shape = shape_of()
    assert shape.surface in PATTERNS and painted(shape, FINISHES["wooden"]).surface == ""
    assert painted(shape, FINISHES["gold"]).surface == shape.surface
    assert replace(shape, texture=None).surface == shape.surface
