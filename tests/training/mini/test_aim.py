"""The aim and the text encoder learn the paths that instructions describe."""

import torch

from vera.core.data.engine.clips import SPAN, instructed_path, make_clip
from vera.core.data.engine.instructions import vocabulary
from vera.core.model.functional import cell_centres
from vera.core.model.mini.drawing import Aim
from vera.core.model.mini.mini_text import MiniText
from vera.core.training.mini.aim import TIMES, Lessons, aim_error, lesson, teach_aim


def test_the_aim_learns_left_and_right_in_a_few_steps():
    """After a few steps left is left of right, in a word order that no lesson had."""
    torch.manual_seed(0)
    aim, text = Aim(24, 4), MiniText(vocabulary(), 24, heads=2)
    teach_aim(aim, text, Lessons(5_000_000, steps=60, batch=24, rate=0.01))
    states = text.encode([f"Put a red star {side}" for side in ("on the left", "at the right side")])
    with torch.no_grad():
        x = aim.path(states, None, torch.tensor([0.5]), 1.8)[:, 0, 0]
    assert x[0] < -0.15 and x[1] > 0.15


def test_teaching_the_aim_alone_leaves_the_text_encoder_unchanged():
    """It also works when both modules have gradients switched off."""
    torch.manual_seed(0)
    aim, text = Aim(24, 4).requires_grad_(False), MiniText(vocabulary(), 24, heads=2).requires_grad_(False)
    before = {k: v.clone() for k, v in text.state_dict().items()}
    first = teach_aim(aim, text, Lessons(5_000_000, steps=1, batch=48), aim_only=True)
    assert teach_aim(aim, text, Lessons(5_000_000, steps=60, batch=48, rate=0.01), aim_only=True) < 0.97 * first
    assert all(torch.equal(v, before[k]) for k, v in text.state_dict().items())


def test_paths_match_the_objects_in_alpha():
    """The path's centre and height agree with the alpha of round objects."""
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
            assert abs((rows > 0.3).sum() / 72 - size.exp()) < 0.12  # a star is slightly lower than its circle


def test_lessons_have_the_same_distribution_as_clips():
    """The share of objects and the spread of their places agree with those of clips."""
    described = torch.stack([instructed_path(k, [0, 24])[2] for k in range(3000)])
    made = torch.stack([make_clip(k, 16, 28, [0, 24]).path for k in range(400)])
    objects = [p[p[:, 0, 2] != 0][:, 1] for p in (described, made)]
    assert abs(len(objects[0]) / 3000 - len(objects[1]) / 400) < 0.07
    for moment in (1, 2):
        torch.testing.assert_close(*(p.pow(moment).mean(0) for p in objects), atol=0.07, rtol=0)
    texts, aspects, paths = lesson(4, 3)
    assert texts[2] == instructed_path(6, TIMES)[0] and paths.shape == (3, len(TIMES), 3) and aspects.shape == (3,)


def test_clips_without_text_do_not_count_in_the_aim_error():
    path, truth = torch.zeros(2, 1, 3), torch.tensor([[[0.0, 0.3, 0.4]], [[5.0, 5.0, 5.0]]])
    torch.testing.assert_close(aim_error(path, truth, torch.tensor([True, False])), torch.tensor(0.2501).sqrt())
    assert TIMES[-1] == SPAN
