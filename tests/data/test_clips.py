"""Layered clips: exact, seeded, and what their labels say."""

import random

import pytest
import torch

from core.data import phrases, words
from core.data.clips import draw_labels, make_clip
from core.data.fields import extend_color
from core.data.shapes import SHAPES, polygon

SIZE = (48, 80)


def labels_of(kind, **changes):
    base = {"edit": "object", "object": kind, "color": "red", "size": "medium", "place": "centre", "motion": "still"}
    return base | changes


@pytest.mark.parametrize("seed", range(12))
def test_composite_is_the_layer_over_the_plate(seed):
    clip = make_clip(seed, *SIZE, [0, 20, 48])
    again = clip.alpha.double() * clip.edit.double() + (1 - clip.alpha.double()) * clip.source.double()
    assert (clip.composite.double() - again).abs().max() < 1e-6
    for part in (clip.source, clip.edit, clip.alpha, clip.mask):
        assert part.min() >= 0 and part.max() <= 1


@pytest.mark.parametrize("seed", range(3, 15))
def test_a_clip_is_the_same_whichever_frames_are_asked_for(seed):
    whole = make_clip(seed, *SIZE, torch.arange(49))
    part = make_clip(seed, *SIZE, [7, 30])
    assert part.instruction == whole.instruction and part.labels == whole.labels
    torch.testing.assert_close(part.source, whole.source[[7, 30]], atol=2e-5, rtol=0)
    torch.testing.assert_close(part.alpha, whole.alpha[[7, 30]], atol=2e-5, rtol=0)


@pytest.mark.parametrize("color", words.COLORS)
def test_the_layer_has_the_named_colour(color):
    """Of all named colours, the layer's median is nearest to its own, for a body without paint on it."""
    clip = make_clip(1, *SIZE, [0], labels_of("star", color=color, size="large"))
    inside = clip.edit[0][:, clip.alpha[0, 0] > 0.99].median(dim=1).values
    distance = {n: (torch.tensor(c) - inside).abs().sum() for n, c in words.COLORS.items()}
    assert min(distance, key=distance.get) == color


@pytest.mark.parametrize("place", words.PLACES)
def test_the_layer_is_in_the_named_place(place):
    clip = make_clip(2, *SIZE, [0], labels_of("star", place=place, size="small"))
    weight = clip.alpha[0, 0]
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")
    for axis, wanted in zip((x, y), words.PLACES[place]):
        assert abs(float((axis * weight).sum() / weight.sum()) - wanted) < 0.25


@pytest.mark.parametrize("motion, axis, sign", [("rising", 0, -1), ("falling", 0, 1), ("drifting left", 1, -1), ("drifting right", 1, 1)])
def test_the_layer_moves_as_named(motion, axis, sign):
    for seed in range(20):  # find a still camera: the plate does not move
        clip = make_clip(seed, *SIZE, [0, 48], labels_of("star", motion=motion))
        if torch.equal(clip.source[0], clip.source[1]):
            break
    grid = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")[axis]
    first, last = ((grid * a[0]).sum() / a.sum() for a in clip.alpha)
    assert sign * (last - first) > 0.3


@pytest.mark.parametrize("effect", words.EFFECTS)
def test_effects_are_translucent(effect):
    clip = make_clip(3, *SIZE, [0, 24], {"edit": "effect", "effect": effect, "amount": "medium"})
    assert 0.005 < clip.alpha.mean() < 0.8 and clip.alpha.std() > 0.02
    assert not torch.equal(clip.alpha[0], clip.alpha[1])


def test_a_background_goes_behind_the_subject():
    clip = make_clip(4, *SIZE, [0], {"edit": "background", "background": "sea"})
    kept = clip.alpha[0, 0] == 0
    assert 0.02 < kept.float().mean() < 0.6
    assert torch.equal(clip.composite[0][:, kept], clip.source[0][:, kept])


def test_only_standing_things_cast_shadows():
    for kind in words.OBJECTS:
        clip = make_clip(5, *SIZE, [0], labels_of(kind))
        layer = clip.alpha[0, 0]
        ys = torch.arange(SIZE[0])[:, None].expand(SIZE)
        dark = clip.edit[0].amax(0) < 0.25
        soft = (layer > 0.1) & (layer < 0.6) & dark & (ys > ys[layer > 0.9].float().quantile(0.97))
        assert (soft.sum() > 6) == (kind in words.STANDING), (kind, soft.sum())


def test_polygon_distance_of_a_square():
    u = torch.tensor([0.0, 2.0, 0.5, 2.0])
    v = torch.tensor([0.0, 0.0, 0.0, 2.0])
    square = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    torch.testing.assert_close(polygon(u, v, square), torch.tensor([-1.0, 1.0, -0.5, 2**0.5]))


def test_colour_is_held_outward():
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 12:20, 12:20] = 1
    premultiplied = alpha * torch.tensor([0.9, 0.1, 0.2])[None, :, None, None]
    out = extend_color(premultiplied, alpha)
    assert torch.allclose(out[0, :, 15, 15], torch.tensor([0.9, 0.1, 0.2]), atol=1e-5)
    assert torch.allclose(out[0, :, 15, 21], torch.tensor([0.9, 0.1, 0.2]), atol=0.12)


def test_every_phrase_is_in_the_vocabulary():
    known, rng = set(phrases.vocabulary()), random.Random(0)
    for _ in range(2000):
        text = phrases.instruction(draw_labels(rng), rng)
        assert set(phrases.tokenize(text)) <= known, text


def test_every_object_has_a_shape():
    assert set(SHAPES) == set(words.OBJECTS)
