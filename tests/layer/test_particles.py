"""Particles: drawn at plate size, the same for the same seed, only where the model's alpha is."""

import numpy as np
import pytest
import torch

from vera.core.layer.particles import WEATHER, Particles, density, drawn_particles, over_veil, particles_of
from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.model.interfaces import ShotEffect

SIZE, ASPECT = (180, 320), 16 / 9
LIGHT = PlateLight.of(np.full((9, 16, 3), 0.4, np.float32))


def drawn(kind, seed=0, time=8, amount=1.0, size=SIZE):
    return drawn_particles(Particles(kind, seed, time, amount, (0.0, 0.1)), Scene(size, ASPECT, LIGHT, True))


@pytest.mark.parametrize("kind", list(WEATHER))
def test_a_seed_and_a_frame_give_the_same_particles_and_others_others(kind):
    _, alpha = drawn(kind)
    assert torch.equal(alpha, drawn(kind)[1])
    assert not torch.equal(alpha, drawn(kind, seed=1)[1]) and not torch.equal(alpha, drawn(kind, time=9)[1])
    assert 0 <= alpha.min() and alpha.max() <= 1 and torch.isfinite(alpha).all()


@pytest.mark.parametrize("kind", list(WEATHER))
def test_more_of_an_effect_is_more_particles(kind):
    assert drawn(kind, amount=2.0)[1].mean() > 1.3 * drawn(kind, amount=0.7)[1].mean()


@pytest.mark.parametrize("kind, steps", [("snow", 1), ("rain", 1), ("confetti", 1), ("bubbles", -1)])
def test_particles_fall_or_rise_from_frame_to_frame(kind, steps):
    """The best of small shifts of one frame onto the next is down, or up."""
    now, after = drawn(kind, time=20)[1], drawn(kind, time=21)[1]
    likeness = {s: float((now.roll(s, 0) * after).mean()) for s in range(-12, 13)}
    assert np.sign(max(likeness, key=likeness.get)) == steps


def test_confetti_has_hard_edges_and_many_colours():
    color, alpha = drawn("confetti", size=(360, 640))
    assert (alpha > 0.9).sum() > 2 * ((alpha > 0.1) & (alpha < 0.9)).sum()
    assert color[alpha > 0.9].std(0).min() > 0.1


def test_there_are_particles_only_where_the_models_alpha_is():
    alpha = torch.zeros(80, 144)
    alpha[:, :72] = 0.2
    made = particles_of(ShotEffect("snow"), 0, 5, alpha, ASPECT)
    _, matte, own = over_veil(made, alpha, torch.full((3, 80, 144), 0.9), Scene(SIZE, ASPECT, LIGHT, True))
    assert own[:, :120].max() > 0.5 and matte[:, 250:].max() == 0


def test_of_what_the_model_did_not_draw_there_are_no_particles():
    assert particles_of(ShotEffect("snow"), 0, 5, torch.full((80, 144), 0.002), ASPECT) is None


def test_the_density_of_an_even_effect_is_its_alpha():
    assert torch.allclose(density(torch.full((80, 144), 0.3)), torch.tensor(0.3), atol=1e-6)


def test_particles_lie_over_the_veil_of_the_models_own():
    alpha = torch.full((80, 144), 0.2)
    made = particles_of(ShotEffect("snow"), 0, 5, alpha, ASPECT)
    edit, matte, own = over_veil(made, alpha, torch.full((3, 80, 144), 0.5), Scene(SIZE, ASPECT, LIGHT, True))
    bare = own == 0
    assert torch.allclose(matte[bare], torch.tensor(0.2 * WEATHER["snow"].veil), atol=1e-4)
    assert torch.allclose(edit[bare], torch.tensor(0.5), atol=1e-3)


def test_pixels_that_are_not_square_do_not_change_the_shape():
    """Of the same picture with half as many columns, each twice as wide: the same means by column."""
    _, square = drawn("bubbles")
    _, wide = drawn("bubbles", size=(180, 160))
    assert (square.view(180, 160, 2).mean(2) - wide).abs().mean() < 0.02
