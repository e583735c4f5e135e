"""Generated clips compose exactly, depend on the seed alone, and match their labels."""

import random
import re

import pytest
import torch

from vera.core.data.engine import instructions
from vera.core.data.engine.clips import draw_labels, make_clip
from vera.core.data.engine.random_fields import extend_color
from vera.core.data.engine.shapes import SHAPES, polygon
from vera.core.model.mini import words
from vera.core.model.mini.mini_text import MAX_WORDS

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
def test_a_frame_does_not_depend_on_the_other_frames_requested(seed):
    whole = make_clip(seed, *SIZE, torch.arange(49))
    part = make_clip(seed, *SIZE, [7, 30])
    assert part.instruction == whole.instruction and part.labels == whole.labels
    torch.testing.assert_close(part.source, whole.source[[7, 30]], atol=2e-5, rtol=0)
    torch.testing.assert_close(part.alpha, whole.alpha[[7, 30]], atol=2e-5, rtol=0)


@pytest.mark.parametrize("color", words.COLORS)
def test_the_layer_has_the_named_colour(color):
    """The layer's median is nearest to its own colour among all named ones, for a body of one colour."""
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


@pytest.mark.parametrize(
    "motion, axis, sign", [("rising", 0, -1), ("falling", 0, 1), ("drifting left", 1, -1), ("drifting right", 1, 1)]
)
def test_the_layer_moves_as_named(motion, axis, sign):
    for seed in range(20):  # find a clip with a camera at rest
        clip = make_clip(seed, *SIZE, [0, 48], labels_of("star", motion=motion))
        if torch.equal(clip.source[0], clip.source[1]):
            break
    grid = torch.meshgrid(torch.linspace(-1, 1, SIZE[0]), torch.linspace(-1, 1, SIZE[1]), indexing="ij")[axis]
    first, last = ((grid * a[0]).sum() / a.sum() for a in clip.alpha)
    assert sign * (last - first) > 0.3


@pytest.mark.parametrize("effect", words.EFFECTS)
def test_effects_are_translucent_and_smooth_in_time(effect):
    for size, amount in ((SIZE, "light"), (SIZE, "heavy"), ((80, 48), "medium")):
        clip = make_clip(3, *size, [0, 24, 24.25], {"edit": "effect", "effect": effect, "amount": amount})
        assert 0.05 < clip.alpha.mean() < 0.8 and clip.alpha.std() > 0.02
        assert (clip.alpha < 0.95).float().mean() > 0.5  # the plate shows through
        far, near = (clip.alpha[1] - clip.alpha[0]).abs().mean(), (clip.alpha[2] - clip.alpha[1]).abs().mean()
        assert 0 < near < 0.5 * far


def test_a_new_background_leaves_the_subject_unchanged():
    clip = make_clip(4, *SIZE, [0], {"edit": "background", "background": "sea"})
    kept = clip.alpha[0, 0] == 0
    assert 0.02 < kept.float().mean() < 0.6
    assert torch.equal(clip.composite[0][:, kept], clip.source[0][:, kept])


def test_only_standing_objects_cast_contact_shadows():
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


def test_colour_is_extended_outward_from_the_layer():
    alpha = torch.zeros(1, 1, 32, 32)
    alpha[..., 12:20, 12:20] = 1
    premultiplied = alpha * torch.tensor([0.9, 0.1, 0.2])[None, :, None, None]
    out = extend_color(premultiplied, alpha)
    assert torch.allclose(out[0, :, 15, 15], torch.tensor([0.9, 0.1, 0.2]), atol=1e-5)
    assert torch.allclose(out[0, :, 15, 21], torch.tensor([0.9, 0.1, 0.2]), atol=0.12)


def test_every_phrase_is_in_the_vocabulary():
    known, rng = set(instructions.vocabulary()), random.Random(0)
    for _ in range(2000):
        text = instructions.instruction(draw_labels(rng), rng)
        assert set(instructions.tokenize(text)) <= known, text
        assert len(instructions.tokenize(text)) <= MAX_WORDS, text


def test_every_object_has_a_shape():
    assert set(SHAPES) == set(words.OBJECTS)


@pytest.mark.parametrize("scene", words.BACKGROUNDS)
def test_scenes_are_distinguishable_and_vary_with_the_seed(scene):
    """By the mean colour of its rows, a scene with another seed is among the three nearest to itself."""

    def row_means(name, seed):
        return make_clip(seed, *SIZE, [0], {"edit": "background", "background": name}).edit[0].mean(2)

    takes = {name: row_means(name, 21) for name in words.BACKGROUNDS}
    again = row_means(scene, 25)
    assert not torch.equal(again, takes[scene])
    near = {name: float((again - take).pow(2).mean()) for name, take in takes.items()}
    assert scene in sorted(near, key=near.get)[:3], near


def test_position_and_size_hardly_vary_between_seeds():
    """Clips of one instruction have nearly the same position and size throughout the motion."""
    asked = labels_of("star", place="left", motion="circling")
    y, x = torch.meshgrid(torch.arange(SIZE[0]) / SIZE[0], torch.arange(SIZE[1]) / SIZE[0], indexing="ij")
    centres, areas = [], []
    for seed in range(40):
        clip = make_clip(seed, *SIZE, [0, 24, 48], asked)
        if torch.equal(clip.source[0], clip.source[2]):  # a camera at rest
            weight = clip.alpha[:, 0]
            areas.append(weight.sum((1, 2)))
            centres.append(torch.stack([(weight * p).sum((1, 2)) for p in (x, y)]) / areas[-1])
    assert len(centres) > 8
    assert torch.stack(centres).std(0).max() < 0.04
    areas = torch.stack(areas)
    assert (areas.std(0) / areas.mean(0)).max() < 0.08


def test_slow_usual_and_fast_travel_different_distances():
    """Compares the distances that a drifting star travels in the same time."""
    way = {}
    for pace in words.PACES:
        clip = make_clip(1, *SIZE, [0, 48], labels_of("star", motion="drifting right", size="small", pace=pace))
        x = torch.arange(SIZE[1]) / SIZE[0]
        first, last = ((a[0].sum(0) * x).sum() / a.sum() for a in clip.alpha)
        way[pace] = float(last - first)
    assert way["slow"] < 0.7 * way["usual"] < 0.7 * 0.8 * way["fast"]


@pytest.mark.parametrize("material", [m for m in words.MATERIALS if m])
def test_materials_change_the_look_and_keep_the_colour(material):
    plain, clip = (
        make_clip(8, *SIZE, [0], labels_of("heart", color="green", size="large", material=m)) for m in (None, material)
    )
    solid = clip.alpha[0, 0] > 0.99
    assert (clip.edit - plain.edit)[0][:, solid].abs().mean() > 0.02
    median = clip.edit[0][:, solid].median(dim=1).values
    assert min(words.COLORS, key=lambda n: float((torch.tensor(words.COLORS[n]) - median).abs().sum())) == "green"
    glows = (clip.alpha > 0.02).sum() > 1.2 * (plain.alpha > 0.02).sum()
    assert glows == (material == "glowing")


def test_a_reflection_is_the_object_upside_down_and_fainter():
    plain, clip = (make_clip(9, *SIZE, [0], labels_of("star", size="small", reflection=r)) for r in (False, True))
    added = (clip.alpha - plain.alpha)[0, 0]
    assert added.min() > -1e-6 and 0.1 < added.max() < 0.5
    rows = torch.arange(SIZE[0])[:, None].expand(SIZE)
    assert rows[added > 0.05].min() >= rows[plain.alpha[0, 0] > 0.5].max()
    seen = clip.edit[0][:, added > 0.15].mean(1)
    assert seen[0] > 2 * seen[1]  # red, as the star is


def test_behind_is_hidden_by_the_subject_and_in_front_is_not():
    asked = {depth: labels_of("star", place=None, depth=depth, size="large") for depth in words.DEPTHS}
    behind, front = (make_clip(10, *SIZE, [0, 48], asked[d]) for d in ("behind", "in front"))
    assert torch.equal(behind.source, front.source)
    hidden = (front.alpha > 0.9) & (behind.alpha < 0.1)
    assert hidden.float().mean() > 0.01
    assert behind.mask[hidden].max() < 0.15 and front.mask[hidden].min() == 1
    kept = hidden.expand_as(behind.source)
    assert (behind.composite - behind.source)[kept].abs().max() < 0.1


def test_held_out_footage_shares_no_file_with_training():
    from vera.core.data.engine.footage import _folder, footage

    names = [{p.stem for p in _folder(held).iterdir()} for held in (False, True)]
    assert names[0] and names[1] and not names[0] & names[1]
    seen, held = (
        {footage(random.Random(k), [0, 24], 24, 40, h).flatten()[0].item() for k in range(40)} for h in (False, True)
    )
    assert len(seen) > 20 and len(held) > 20
    films = [footage(random.Random(k), [0, 24], 24, 40, True) for k in range(40)]
    assert any(f.ndim == 4 and not torch.equal(f[0], f[1]) for f in films)


def test_instructions_vary_in_word_order_and_name_a_shot_style():
    rng = random.Random(1)
    said = [instructions.instruction(labels_of("balloon", place="right", motion="rising"), rng) for _ in range(1000)]
    assert any(t.startswith("On the right, ") for t in said)
    assert any(re.fullmatch(r"Add a red balloon rising on the right\. [\w -]+, [\w -]+, [\w ]+\.", t) for t in said)
    assert all("red" in t and "balloon" in t for t in said)
