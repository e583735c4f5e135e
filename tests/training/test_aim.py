"""Paths of clips, and a text encoder that learns to tell them."""

import math

import torch

from core.data.clips import SPAN, LayeredClip, make_clip
from core.data.phrases import vocabulary
from core.model.drawing import Aim
from core.model.mini_text import MiniText
from core.model.parts import halves
from core.training.aim import SMALL, TIMES, aim_error, teach_aim, where


def test_where_a_clip_s_object_is():
    """A disc's middle and radius, each four frames; nothing of an effect."""
    y, x = torch.meshgrid(halves(60, "cpu"), halves(120, "cpu") * 2, indexing="ij")  # in halves of the height
    alpha = torch.stack([((x - 0.5) ** 2 + (y + 0.25) ** 2 < 0.09)] * 4 + [(x + 1) ** 2 + y**2 < 0.25] * 4).float()[:, None]
    clip = LayeredClip(None, None, alpha, None, None, "", {"edit": "object"})
    expected = torch.tensor([[0.25, -0.25, math.log(0.3)], [-0.5, 0, math.log(0.5)]])
    torch.testing.assert_close(where(clip, 4), expected, atol=0.01, rtol=0)
    clip.labels["edit"] = "effect"
    assert where(clip, 4).shape == (2, 3) and where(clip, 4).isnan().all()


def test_words_are_learned_as_paths():
    """Left of right after a few steps, in words that no clip of the lesson had in this order."""
    torch.manual_seed(0)
    aim, text = Aim(24, 4), MiniText(vocabulary(), 24, heads=2)
    teach_aim(aim, text, 5_000_000, steps=40, batch=24, rate=0.01)
    states = text.encode([f"Put a red star {side}" for side in ("on the left", "at the right side")])
    with torch.no_grad():
        x = aim.path(states, None, torch.tensor([0.5]))[:, 0, 0]
    assert x[0] < -0.15 and x[1] > 0.15


def test_a_small_rendering_tells_the_path_of_the_large_one():
    kinds = [k for k in range(9000, 9060) if make_clip(k, *SMALL, [0]).labels["edit"] == "object"][:8]
    for k in kinds:
        small, large = (where(make_clip(k, h, h * 5 // 3, TIMES[::6])) for h in (24, 96))
        assert (small - large)[:, :2].abs().max() < 0.06 and (small - large)[:, 2].abs().max() < 0.25


def test_what_nobody_told_does_not_count():
    path, truth = torch.zeros(2, 1, 3), torch.tensor([[[0.0, 0.3, 0.4]], [[5.0, 5.0, 5.0]]])
    torch.testing.assert_close(aim_error(path, truth, torch.tensor([True, False])), torch.tensor(0.25))
    assert TIMES[-1] == SPAN
