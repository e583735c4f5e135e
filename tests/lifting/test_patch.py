"""A removed thing's matte gets a margin; the matte of what was added or replaced does not."""

import pytest
import torch

from vera.core.lifting.patch import LIMITS, with_margin
from vera.core.lifting.smooth import blur

HEIGHT, WIDTH = 60, 90
THING, NEW = torch.tensor([0.1, 0.15, 0.2])[:, None, None], torch.tensor([0.9, 0.3, 0.2])[:, None, None]


@pytest.fixture
def ground():
    gen = torch.Generator().manual_seed(3)
    return (0.55 + 0.02 * blur(torch.randn(2, 3, HEIGHT, WIDTH, generator=gen), 1.0)).clamp(0, 1)


def disc(radius):
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return ((radius - torch.hypot(x - 45.0, y - 30.0)) + 0.5).clamp(0, 1).expand(2, 1, -1, -1)


@pytest.mark.parametrize("before, after, gets_one", [(THING, None, True), (None, NEW, False), (THING, NEW, False)])
def test_only_a_removed_thing_gets_a_margin(ground, before, after, gets_one):
    shape = disc(12)
    plate, clean = (ground if c is None else torch.lerp(ground, c.expand_as(ground), shape) for c in (before, after))
    color, alpha = with_margin(plate, clean, clean, shape, shape)
    beside = (disc(12 + LIMITS.margin) > 0.5) & (shape == 0)
    assert float(alpha[beside].mean()) > 0.5 if gets_one else torch.equal(alpha, shape)
    far = disc(12 + 2 * LIMITS.margin + 2) == 0
    assert not alpha[far].any()
    assert torch.allclose(alpha * color + (1 - alpha) * plate, torch.lerp(plate, clean, alpha), atol=1e-5)


def test_a_replaced_sky_gets_none_where_it_is_nearly_as_dark_as_what_is_below_it(ground):
    """The plate's step at the skyline is five times the edited video's, which has one all along it."""
    sky = torch.zeros_like(ground[:, :1])
    sky[..., :25, :] = 1
    plate, clean = (torch.lerp(0.5 * ground, torch.full_like(ground, level), sky) for level in (0.92, 0.41))
    assert torch.equal(with_margin(plate, clean, clean, sky, sky)[1], sky)


def test_where_nothing_is_solid_nothing_is_added(ground):
    none = torch.zeros(2, 1, HEIGHT, WIDTH)
    color, alpha = with_margin(ground, ground, ground, none, none)
    assert torch.equal(color, ground) and not alpha.any()
