"""Paths that words tell, and a text encoder that learns them."""

import torch

from vera.core.data.engine.clips import SPAN, instructed_path, make_clip
from vera.core.data.engine.phrases import vocabulary
from vera.core.model.functional import cell_centres
from vera.core.model.mini.drawing import Aim
from vera.core.model.mini.mini_text import MiniText
from vera.core.training.mini.aim import TIMES, aim_error, lesson, teach_aim


def test_words_are_learned_as_paths():
    """Left of right after a few steps, in words that no lesson had in this order."""
    torch.manual_seed(0)
    aim, text = Aim(24, 4), MiniText(vocabulary(), 24, heads=2)
    teach_aim(aim, text, 5_000_000, steps=60, batch=24, rate=0.01)
    states = text.encode([f"Put a red star {side}" for side in ("on the left", "at the right side")])
    with torch.no_grad():
        x = aim.path(states, None, torch.tensor([0.5]), 1.8)[:, 0, 0]
    assert x[0] < -0.15 and x[1] > 0.15


def test_the_aim_alone_may_be_taught():
    """Its text encoder stays as it is, and neither has to ask for gradients."""
    torch.manual_seed(0)
    aim, text = Aim(24, 4).requires_grad_(False), MiniText(vocabulary(), 24, heads=2).requires_grad_(False)
    before = {k: v.clone() for k, v in text.state_dict().items()}
    first = teach_aim(aim, text, 5_000_000, steps=1, batch=48, aim_only=True)
    assert teach_aim(aim, text, 5_000_000, steps=60, batch=48, rate=0.01, aim_only=True) < 0.97 * first
    assert all(torch.equal(v, before[k]) for k, v in text.state_dict().items())


def test_a_path_is_where_the_picture_is():
    """Middle and half height of round objects, from their alpha; the words' own path is of the same kind."""
    for seed in range(8):
        labels = {
            "edit": "object",
            "object": "star",
            "color": "red",
            "material": None,
            "size": "large",
            "place": "left",
        }
        labels |= {"motion": "circling", "pace": "usual", "depth": None, "reflection": False}
        clip = make_clip(seed, 72, 120, [5, 20], labels)
        for alpha, (x, y, size) in zip(clip.alpha[:, 0], clip.path):
            rows, columns = alpha.sum(1), alpha.sum(0)
            center = (columns @ cell_centres(120, "cpu") / alpha.sum(), rows @ cell_centres(72, "cpu") / alpha.sum())
            torch.testing.assert_close(torch.stack(center), torch.stack([x, y]), atol=0.03, rtol=0)
            assert abs((rows > 0.3).sum() / 72 - size.exp()) < 0.12  # a star is a little less high than its circle


def test_lessons_are_of_the_clips_world():
    """As many tell of an object, and the objects are in the same places."""
    told = torch.stack([instructed_path(k, [0, 24])[2] for k in range(3000)])
    made = torch.stack([make_clip(k, 16, 28, [0, 24]).path for k in range(400)])
    objects = [p[p[:, 0, 2] != 0][:, 1] for p in (told, made)]
    assert abs(len(objects[0]) / 3000 - len(objects[1]) / 400) < 0.07
    for moment in (1, 2):
        torch.testing.assert_close(*(p.pow(moment).mean(0) for p in objects), atol=0.07, rtol=0)
    texts, aspects, paths = lesson(4, 3)
    assert texts[2] == instructed_path(6, TIMES)[0] and paths.shape == (3, len(TIMES), 3) and aspects.shape == (3,)


def test_what_nobody_told_does_not_count():
    path, truth = torch.zeros(2, 1, 3), torch.tensor([[[0.0, 0.3, 0.4]], [[5.0, 5.0, 5.0]]])
    torch.testing.assert_close(aim_error(path, truth, torch.tensor([True, False])), torch.tensor(0.2501).sqrt())
    assert TIMES[-1] == SPAN
