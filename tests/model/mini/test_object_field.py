"""mini's field of objects: kinds, colours and materials read from words; shapes as the world's."""

import random

import pytest
import torch

from vera.core.data.engine import instructions, shapes
from vera.core.data.engine.clips import draw_labels
from vera.core.data.engine.solids import SOLIDS, solid
from vera.core.model.interfaces import SurfacePoints
from vera.core.model.load import load_model
from vera.core.model.mini import words
from vera.core.model.mini.finishes import FINISHES
from vera.core.model.mini.object_field import (
    KINDS,
    MAX_EXTENT,
    OUTPUTS,
    POINT_FEATURES,
    TRAITS,
    ObjectDescription,
    ObjectField,
    point_features,
)
from vera.core.model.mini.shape_drawer import MiniObject, by_frame, painted
from vera.core.sampling.latent_store import InMemory

SIZE = 96  # samples across an object's box


@pytest.fixture(scope="module")
def mini():
    return load_model("mini", "cpu")


def grid() -> tuple[torch.Tensor, torch.Tensor]:
    axis = ((torch.arange(SIZE) + 0.5) / SIZE * 2 - 1) * MAX_EXTENT
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    return u, v


def describe(mini, prompt: str) -> ObjectDescription:
    return mini.objects.field.describe(mini.text.encode([prompt]))


@pytest.mark.parametrize("kind", list(words.OBJECTS))
def test_the_embedded_field_draws_each_kind_in_its_own_outline(mini, kind):
    u, v = grid()
    prompt = describe(mini, f"Add a red {kind}")
    assert prompt.kind == kind
    overlaps = []
    for time in (0.0, 5.0, 40.0):
        found = mini.objects.field.at(prompt, u, v, time).distance < 0
        true = shapes.SHAPES[kind](u, v, (0.5, 0.5, 0.5), torch.tensor(time))[0] < 0
        overlaps.append(float((found & true).sum() / (found | true).sum()))
    assert min(overlaps) > 0.93, overlaps


def test_the_embedded_field_reads_kind_and_colour_of_unseen_prompts(mini):
    right, off = [], []
    for seed in range(9_000_000, 9_000_060):
        labels = draw_labels(random.Random(seed), 1.0)
        found = describe(mini, instructions.instruction(labels, random.Random(seed)))
        right.append(found.kind == labels["object"])
        off.append(max(abs(a - b) for a, b in zip(found.color, words.COLORS[labels["color"]])))
    assert sum(right) >= 59 and sorted(off)[54] < 0.15


@pytest.mark.parametrize(
    "prompt", ["Add falling snow", "Change the background to the sea. Keep the person intact.", "Add fog", ""]
)
def test_what_is_no_object_is_not_drawn_as_one(mini, prompt):
    assert mini.objects.kind_in(mini.text.encode([prompt])) not in words.OBJECTS


def test_an_object_goes_where_the_words_say(mini):
    still = InMemory(torch.zeros(5, 24, 10, 18))
    text = mini.text.encode(["Add a large red balloon rising on the right"])
    shape = mini.objects.of_shot(text, still, None, 13)
    (x, first, size), (_, last, _) = shape.place(0), shape.place(16)
    assert x > 0.3 and last < first - 0.05 and 0.5 < size < 0.75 and len(shape.path) == 17


def test_latent_frames_become_frames_without_a_jump():
    begins, ends = torch.tensor([0.0, 1, 5, 9]), torch.tensor([0.0, 4, 8, 12])
    frames = by_frame(torch.stack([begins, ends], dim=1)[..., None])
    assert torch.allclose(frames[:, 0], torch.arange(13.0))


class Edge(ObjectField):
    """A field that knows how far right it is."""

    def __init__(self):
        torch.nn.Module.__init__(self)

    def at(self, description, u, v, time):
        zeros = torch.zeros_like(u)
        facing = torch.stack([torch.ones_like(u), zeros], -1)
        return SurfacePoints(u, zeros[..., None].expand(*u.shape, 3), facing, zeros, zeros, zeros, zeros)


def shape_of(**traits) -> MiniObject:
    given = dict.fromkeys(TRAITS, 0.0)
    return MiniObject(Edge(), ObjectDescription("fish", (1.0, 0.0, 0.0), given | traits), torch.zeros(3, 3))


def test_what_faces_left_is_mirrored_its_normals_too():
    u, v = torch.tensor([0.5]), torch.tensor([0.0])
    right, left = (shape_of(**t).points(0, u, v) for t in ({}, {"faces left": 1.0}))
    assert torch.allclose(left.distance, -right.distance) and torch.allclose(left.facing[..., 0], -right.facing[..., 0])


def test_what_stands_does_not_rock():
    assert shape_of(stands=1.0).turn(8) == 0 != shape_of().turn(8)


@pytest.mark.parametrize("kind", list(words.OBJECTS))
def test_only_a_kind_that_moves_in_itself_changes_with_time(mini, kind):
    """A bird's wings beat; a cube is the same at all times, bit for bit: a field that is learned would flicker."""
    shape = MiniObject(mini.objects.field, describe(mini, f"Add a red {kind}"), torch.zeros(3, 3))
    at = torch.linspace(-1.2, 1.2, 25)
    v, u = torch.meshgrid(at, at, indexing="ij")
    now, later = shape.points(3, u, v), shape.points(7, u, v)
    assert shape.moves == (not torch.equal(now.distance, later.distance))


def test_a_finish_paints_the_thing_and_leaves_what_is_not_of_its_material(mini):
    """A golden apple is of metal in that colour, its stem is as ever; wood has rings."""
    u, v = (x.flatten() for x in grid())
    text = mini.text.encode(["Add a yellow apple"])
    plain = MiniObject(mini.objects.field, mini.objects.field.describe(text), torch.zeros(3, 3))
    gold = painted(plain, FINISHES["gold"])
    found, before = gold.points(0, u, v), plain.points(0, u, v)
    inside, named = found.distance < 0, found.named > 0.9
    assert gold.metal == 1 and gold.color == FINISHES["gold"].color
    assert (found.color - torch.tensor(gold.color))[inside & named].abs().mean() < 0.1
    assert torch.equal(found.color[inside & (found.named == 0)], before.color[inside & (found.named == 0)])
    rings = painted(plain, FINISHES["wooden"]).points(0, u, v).color[inside & named]
    assert rings.std(0).max() > 1.5 * found.color[inside & named].std(0).max()


def test_solids_have_the_outlines_of_the_shapes_and_values_within_range():
    u, v = (x.flatten() for x in grid())
    for kind in SOLIDS:
        time = torch.full_like(u, 7.0)
        distance, surface = solid(kind, u, v, time)
        flat = shapes.SHAPES[kind](u, v, (0.5, 0.5, 0.5), time)[0]
        assert torch.equal(distance < 0, flat < 0), kind
        inside = surface[distance < 0]
        assert torch.isfinite(surface).all(), kind
        assert inside[:, 4:6].norm(dim=1).max() < 1, kind
        assert inside[:, [0, 1, 2, 3, 6, 7, 8]].min() > -0.01 and inside[:, :4].max() < 1.15, kind


def test_a_field_gives_every_kind_its_own_expert():
    torch.manual_seed(0)
    field = ObjectField(8, dim=8, layers=1)
    points = point_features(torch.rand(2, 5), torch.rand(2, 5), torch.zeros(2, 5))
    assert points.shape[-1] == POINT_FEATURES
    both = field(points, torch.tensor([3, 5]))
    assert both.shape == (2, 5, OUTPUTS) and torch.allclose(both[1:], field(points[1:], torch.tensor([5])), atol=1e-6)
    assert len(KINDS) == len(words.OBJECTS) + len(words.EFFECTS) + 1
