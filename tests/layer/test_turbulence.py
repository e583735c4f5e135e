"""Fire, smoke, fog and rays: structure at plate size, only where the model drew the effect, the same for a seed."""

import numpy as np
import pytest
import torch

from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.layer.turbulence import STRUCTURES, Turbulence, with_structure
from vera.core.model.mini import words

SCENE = Scene((180, 320), 16 / 9, PlateLight.of(np.full((9, 16, 3), 0.4, np.float32)), True)
COLOR = torch.full((3, 80, 144), 0.6)


def soft_patch() -> torch.Tensor:
    """Alpha (80, 144) of a soft effect in the lower half, nothing on the right."""
    alpha = torch.zeros(80, 144)
    alpha[40:, 20:80] = 0.5
    return alpha


def made(kind: str, alpha: torch.Tensor, seed: int = 0, time: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return with_structure(Turbulence(kind, seed, time), alpha, COLOR, SCENE)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_there_is_nothing_where_the_model_drew_nothing_and_finer_detail_where_it_did(kind):
    color, matte = made(kind, soft_patch())
    assert matte[:, 240:].max() == 0 and matte[:60].max() == 0
    inside = matte[100:175, 60:160]
    assert inside.max() > 0.2 and torch.isfinite(color).all() and 0 <= matte.min() and matte.max() <= 1
    assert inside.diff(dim=1).abs().max() > 0.02  # the model's own is even there


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_seed_and_a_frame_give_the_same_and_others_others(kind):
    alpha = soft_patch()
    matte = made(kind, alpha)[1]
    assert torch.equal(matte, made(kind, alpha)[1])
    assert not torch.equal(matte, made(kind, alpha, seed=1)[1]) and not torch.equal(matte, made(kind, alpha, time=6)[1])


@pytest.mark.parametrize("kind", STRUCTURES)
def test_from_frame_to_frame_it_changes_a_little(kind):
    alpha = soft_patch()
    now, after, later = (made(kind, alpha, time=t)[1] for t in (5, 6, 40))
    assert (after - now).abs().mean() < 0.6 * (later - now).abs().mean()


def test_every_effect_is_drawn_as_particles_or_with_structure():
    from vera.core.layer.particles import WEATHER

    assert WEATHER.keys() | STRUCTURES.keys() == words.EFFECTS.keys() and not WEATHER.keys() & STRUCTURES.keys()
