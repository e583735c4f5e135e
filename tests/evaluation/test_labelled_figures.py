"""Figures of results whose true figures are known."""

from types import SimpleNamespace

import pytest
import torch

from vera.core.data.engine.clips import make_clip
from vera.core.evaluation import labelled_figures
from vera.core.evaluation.classifier import NOTHING, SIZE, WEIGHTS, accuracy, kind_of, load_classifier, pictures
from vera.core.model.mini import words

TIMES = torch.arange(0, 48, 8)
LABELS = {"edit": "object", "object": "star", "color": "green", "size": "large", "place": "left", "motion": "rising"}


@pytest.fixture(scope="module")
def classifier():
    return load_classifier()


@pytest.fixture(scope="module")
def clip():
    return make_clip(77, 80, 144, TIMES, LABELS)


def layers(clip):
    return clip.edit.transpose(0, 1), clip.alpha[:, 0], clip.composite.transpose(0, 1)


def test_true_layers_have_perfect_figures(clip, classifier):
    found = labelled_figures.judge(clip, TIMES, *layers(clip), classifier)
    assert found.pop("kind") == "star" and found.pop("hue") == "green"
    assert found.pop("agreement") > 99 and found.pop("mad") == 0
    assert found.pop("kept_outside") == found.pop("anew_outside") == 100 and 5 < found.pop("kept") < 30
    assert set(found) == {"object", "color", "motion", "place", "zeros", "solid"} and set(found.values()) == {1.0}


def test_each_planted_fault_lowers_its_own_figure(clip, classifier):
    color, alpha, composite = layers(clip)

    def judge(color, alpha, composite):
        return labelled_figures.judge(clip, TIMES, color, alpha, composite, classifier)

    assert judge(color.roll(1, 0), alpha, composite)["color"] == 0
    assert judge(color.flip(0), alpha, composite)["color"] == 1  # green stays green with red and blue swapped
    assert judge(color.flip(2), alpha.flip(2), composite)["place"] == 0
    assert judge(color.flip(1), alpha.flip(0), composite)["motion"] == 0
    faint = judge(color, alpha * 0.85, composite)
    assert faint["solid"] == 0 and faint["mad"] > 0.005
    assert judge(color, alpha.clamp_min(0.001), composite)["zeros"] == 0
    assert abs(judge(color, alpha, composite + 0.1)["agreement"] - 20) < 0.1
    drifted = judge(color, alpha, composite + 0.01)
    assert abs(drifted["anew_outside"] - 40) < 0.1 and drifted["kept_outside"] == 100
    hole = alpha.clone()
    hole[:, 35:45, 30:33] *= 0.5
    assert 0.8 < judge(color, hole, composite)["solid"] < 1


def test_an_empty_layer_misses_every_named_property(clip, classifier):
    color, alpha, composite = layers(clip)
    found = labelled_figures.judge(clip, TIMES, color, alpha * 0, composite, classifier)
    assert [found[n] for n in ("color", "object", "place", "motion")] == [0] * 4 and found["kind"] == NOTHING
    assert "solid" not in found and found["zeros"] == 1


@pytest.mark.parametrize("motion", words.MOTIONS)
def test_motions_are_recognised_under_a_moving_camera(motion):
    right = 0
    for seed in range(4):
        labels = LABELS | {"motion": motion, "place": "centre", "size": "small"}
        clip = make_clip(500 + seed, 40, 72, TIMES, labels)
        right += labelled_figures.moves_as_named(clip, TIMES, clip.alpha[:, 0])
        other = make_clip(500 + seed, 40, 72, TIMES, labels | {"motion": "falling" if motion == "still" else "still"})
        right += not labelled_figures.moves_as_named(clip, TIMES, other.alpha[:, 0])
    assert right == 8


@pytest.mark.parametrize("size", [(80, 144), (80, 80), (96, 64)], ids=["wide", "square", "high"])
@pytest.mark.parametrize("name", words.PLACES)
def test_a_thing_at_each_place_is_found_there_in_frames_of_any_shape(size, name):
    """Places are in half frames, and so are distances between them."""

    def disc(place: str) -> torch.Tensor:
        (x, y), (height, width) = words.PLACES[place], size
        down, right = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        alpha = torch.hypot(right - (x + 1) * width / 2, down - (y + 1) * height / 2) < 6
        return alpha.float()[None]

    for labelled in words.PLACES:
        clip = SimpleNamespace(alpha=disc(labelled)[:, None], labels={"place": labelled})
        assert labelled_figures.nearest_place(clip, disc(name)) == name, labelled


@pytest.mark.parametrize("name", words.COLORS)
def test_each_colour_is_recognised_bright_and_dark(name):
    for light in (0.65, 1.0):
        flat = (light * torch.tensor(words.COLORS[name]))[:, None, None, None].expand(3, 1, 8, 8)
        assert labelled_figures.nearest_color(flat, torch.ones(1, 8, 8)) == name


def test_the_centre_of_one_pixel_is_the_pixel():
    alpha = torch.zeros(2, 10, 20)
    alpha[0, 3, 15] = 1
    found = labelled_figures.centres(alpha)
    assert torch.allclose(found[0], torch.tensor([1.5, 0.3])) and found[1].isnan().all()


def test_dtssd_ignores_a_constant_difference():
    truth = torch.rand(5, 8, 8)
    assert labelled_figures.dtssd(truth * 1.0 + 0.2, truth) < 1e-4
    flash = truth.clone()
    flash[2] += 0.1
    assert abs(labelled_figures.dtssd(flash, truth) - 100 * 0.1 * 2 / 4) < 1e-3


def test_flicker_measures_the_change_between_frames():
    color, alpha = torch.full((3, 4, 6, 6), 0.5), torch.zeros(4, 6, 6)
    alpha[:, 2:4, 2:4] = 1
    assert labelled_figures.flicker(color, alpha) == 0
    color[:, 1::2] += 0.1
    assert abs(labelled_figures.flicker(color, alpha) - 0.1 * 3 / 4) < 1e-6


def test_the_classifier_recognises_nine_objects_in_ten(classifier):
    assert WEIGHTS.stat().st_size < 1e6
    assert accuracy(classifier, 20, None) >= 0.9


def test_shapes_that_are_no_object_are_classified_as_nothing(classifier):
    x, y = torch.meshgrid(torch.linspace(-1, 1, 144), torch.linspace(-1, 1, 80), indexing="xy")
    smear = torch.exp(-((x * 3 + y) ** 2) * 8 - (y - 0.3 * torch.sin(x * 9)) ** 2 * 2)[None]
    color = torch.tensor([0.2, 0.6, 0.2])[:, None, None, None].expand(3, 1, 80, 144)
    assert kind_of(classifier, color, smear * 0.7) == NOTHING
    assert kind_of(classifier, color, smear * 0) == NOTHING


def test_the_cut_out_is_centred_on_the_object():
    color, alpha = torch.zeros(1, 3, 40, 60), torch.zeros(1, 1, 40, 60)
    alpha[..., 10:30, 5:25] = 1
    cut = pictures(color, alpha)[0]
    inside = round(SIZE / 1.2)
    rows = (cut[3] > 0.5).any(1).nonzero().flatten()
    assert abs(len(rows) - inside) <= 1 and abs(float(rows.float().mean()) - (SIZE - 1) / 2) < 1
    assert cut[:3, SIZE // 2, SIZE // 2].max() < 1e-5 and torch.allclose(cut[:3, 0, 0], torch.tensor(0.5), atol=1e-5)
