"""A layer between two edited frames: a thing that moves is one thing, on its way; what does not shift is mixed."""

import pytest
import torch

from vera.core.lifting.between import between


def layer(*places, size=10, alpha=0.9):
    """Squares at (row, column), each of its own colour times alpha, (13, 60, 90)."""
    found = torch.zeros(13, 60, 90)
    for k, (row, column) in enumerate(places):
        found[0, row : row + size, column : column + size] = alpha * (0.3 + 0.5 * k)
        found[3, row : row + size, column : column + size] = alpha
    return found


@pytest.mark.parametrize("part", [0.25, 0.5])
def test_a_thing_that_moves_is_carried(part):
    found = between(layer((10, 12)), layer((14, 24)), part)
    assert torch.allclose(found, layer((10 + round(4 * part), 12 + round(12 * part))), atol=2e-3)


def test_things_go_their_own_ways():
    found = between(layer((10, 12), (40, 60)), layer((10, 18), (40, 50)), 0.5)
    assert torch.allclose(found, layer((10, 15), (40, 55)), atol=2e-3)


def test_what_stands_still_stays():
    still = layer((10, 12), (40, 60))
    assert torch.equal(between(still, still.clone(), 0.5), still)


def turned(degrees):
    """A disc of stripes, turned about its middle."""
    y, x = torch.meshgrid(torch.arange(60) - 30.0, torch.arange(90) - 45.0, indexing="ij")
    turn = torch.deg2rad(torch.tensor(float(degrees)))
    stripes = 0.5 + 0.4 * torch.sin(0.35 * (x * turn.cos() + y * turn.sin()))
    alpha = (20.5 - torch.hypot(x, y)).clamp(0, 1)
    return torch.cat([(stripes * alpha).expand(3, -1, -1), alpha[None], torch.zeros(9, 60, 90)])


def test_what_turns_is_turned_half_way():
    first, second, truth = turned(0), turned(20), turned(10)
    inside = slice(None), slice(20, 41), slice(35, 56)
    found = [(v - truth)[inside].square().mean() for v in (between(first, second, 0.5), (first + second) / 2)]
    assert found[0] < found[1] / 5


def test_a_thing_beyond_its_last_frame_goes_on():
    found = between(layer((10, 12)), layer((12, 18)), 2.0)
    assert torch.allclose(found, layer((14, 24)), atol=2e-3)


def test_what_fades_is_mixed():
    found = between(layer((10, 12), alpha=0.8), layer((10, 12), alpha=0.4), 0.5)
    assert torch.allclose(found, layer((10, 12), alpha=0.6), atol=1e-6)


def test_what_appears_is_mixed():
    assert torch.allclose(between(torch.zeros(13, 60, 90), layer((10, 12)), 0.5), 0.5 * layer((10, 12)), atol=1e-6)
