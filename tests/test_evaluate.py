"""The judge must say what is true of results that are known."""

import pytest
import torch

from core.data import words
from core.data.clips import make_clip
from core.evaluate import centre, judge, mean_figures, nearest_color, table

LABELS = {"edit": "object", "object": "star", "color": "green", "size": "large", "place": "left", "motion": "still"}


@pytest.fixture(scope="module")
def clip():
    return make_clip(77, 48, 80, [0, 24], LABELS)


def layers(clip):
    return clip.edit.transpose(0, 1), clip.alpha[:, 0], clip.composite.transpose(0, 1)


def test_truth_is_perfect(clip):
    figures = judge(clip, *layers(clip))
    assert figures["agreement_psnr"] > 100 and figures["color_right"] == 1
    assert figures["place_error"] == 0 and figures["alpha_error"] == 0
    assert abs(figures["coverage"] - float((clip.alpha > 0.02).float().mean())) < 1e-6


def test_planted_faults_are_seen(clip):
    color, alpha, composite = layers(clip)
    assert judge(clip, color.flip(0), alpha, composite)["color_right"] == 1  # green stays green with red and blue swapped
    assert judge(clip, color.roll(1, 0), alpha, composite)["color_right"] == 0
    assert judge(clip, color, alpha.flip(2), composite)["place_error"] > 0.5
    assert judge(clip, color, alpha * 0.5, composite)["alpha_error"] > 0.01
    off = judge(clip, color, alpha, (composite + 0.1))["agreement_psnr"]
    assert abs(off - 20) < 0.1


def test_nothing_there_is_wrong(clip):
    color, alpha, composite = layers(clip)
    figures = judge(clip, color, alpha * 0, composite)
    assert figures["color_right"] == 0 and not figures["place_error"] < 10


@pytest.mark.parametrize("name", words.COLORS)
def test_each_colour_is_nearest_to_itself(name):
    flat = torch.tensor(words.COLORS[name])[:, None, None, None].expand(3, 1, 8, 8)
    assert nearest_color(flat, torch.ones(1, 8, 8)) == name


def test_centre_of_one_pixel():
    alpha = torch.zeros(2, 10, 20)
    alpha[:, 3, 15] = 1
    assert torch.allclose(centre(alpha), torch.tensor([1.5, 0.3]))


def test_table_is_aligned_and_honest():
    rows = {"object": mean_figures([{"coverage": 0.1}, {"coverage": 0.3, "color_right": 1.0}])}
    head, line = table(rows).splitlines()
    assert len(head) == len(line) and "20.0%" in line and "100%" in line and line.split()[1] == "2" and "-" in line
