"""What a user may ask of a lift: layers apart, parts kept or dropped, hold-out, sensitivity, edge, steadiness."""

import json
from dataclasses import replace

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from tests.layer.test_split import HALF_A_CODE, laid
from tests.lifting.test_lift import bytes_of, read, run, write_sequence
from tests.plate.media import write_image
from vera.core.errors import InputError
from vera.core.layer.outputs.split import SPLIT_LAYERS
from vera.core.lifting.change import LIMITS, find_change
from vera.core.lifting.controls import USUAL
from vera.core.lifting.lift_window import lift_clip
from vera.core.lifting.noise import features
from vera.core.lifting.parts import find_parts
from vera.core.lifting.smooth import blur
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.recipe.parse import parse_parts

SIZE = (64, 112)
FRAMES = 3
INSIDE = (..., slice(22, 38), slice(32, 58))
DOT, BLOCK = (slice(8, 18), slice(8, 18)), (slice(24, 56), slice(60, 96))  # rows and columns


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plate():
    gen = torch.Generator().manual_seed(4)
    video = sum(s * blur(torch.randn(1, 3, *SIZE, generator=gen), s) for s in (0.8, 2.0, 6.0))
    return (0.5 + 0.12 * video / video.std()).clamp(0.05, 0.95).repeat(FRAMES, 1, 1, 1)


@pytest.fixture(scope="module")
def edited(plate):
    """A large green block and a small red dot, far apart, and a shadow under the block."""
    video = plate.clone()
    video[..., 56:62, 56:100] *= 0.5
    for (rows, columns), color in ((DOT, (0.9, 0.1, 0.1)), (BLOCK, (0.1, 0.8, 0.2))):
        video[..., rows, columns] = torch.tensor(color)[:, None, None]
    return (video + 0.006 * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


@pytest.fixture(scope="module")
def shots(tmp_path_factory, plate, edited):
    folder = tmp_path_factory.mktemp("shots")
    return write_sequence(folder / "in", plate), write_sequence(folder / "ed", edited)


def layer_files(out, frame, split):
    """The layers of a delivered frame by name."""
    if split == "files":
        return {n: oiio.ImageBuf(f"{out}/{n}/{n}.{frame}.exr").get_pixels(oiio.FLOAT) for n in SPLIT_LAYERS}
    found = {}
    file = oiio.ImageInput.open(f"{out}/edit/edit.{frame}.exr")
    for part in range(1, 5):
        file.seek_subimage(part, 0)
        found[file.spec().getattribute("oiio:subimagename")] = file.read_image("float")
    return found


@pytest.mark.parametrize("split", ["files", "parts"])
def test_split_layers_laid_on_the_plate_are_the_composite(tmp_path, shots, plate, split):
    out = tmp_path / "out"
    assert run(*shots, out, "--split", split) == 0
    _, composites = read(out, FRAMES)
    filmed = decode_srgb(np.stack(bytes_of(plate)).astype(np.float32) / 255)
    for k in range(FRAMES):
        layers = layer_files(out, 1001 + k, split)
        assert set(layers) == set(SPLIT_LAYERS)
        seen = encode_srgb(np.clip(laid(layers, filmed[k]), 0, 1))
        assert np.abs(seen - composites[k] / 255).max() < 2 * HALF_A_CODE + 1e-5  # of which half is the file's rounding
    assert (layers["object"][BLOCK][4:-4, 4:-4, 3] > 0.95).all()
    assert layers["shadow"][58:60, 64:92, 3].mean() > 0.4


def test_parts_are_numbered_by_size_and_dropped_ones_leave_the_plate(tmp_path, shots, plate):
    out = tmp_path / "out"
    assert run(*shots, out, "--parts", "-2") == 0
    layers, composites = read(out, FRAMES)
    assert (layers[:, *BLOCK, 3] > 0.9).mean() > 0.9 and not layers[:, *DOT].any()
    filmed = np.stack(bytes_of(plate))
    assert composites[:, *DOT].tobytes() == filmed[:, *DOT].tobytes()
    told = json.loads((out / "manifest.json").read_text())["extra"]
    assert [p["number"] for p in told["parts"]][:2] == [1, 2]
    assert told["parts"][1]["box"][0] == pytest.approx(8 / SIZE[1], abs=0.04)
    assert not [w for w in told["warnings"] if "not in the result" in w]


def test_a_part_that_is_not_there_leaves_nothing_behind(tmp_path, shots):
    assert run(*shots, tmp_path / "new" / "out", "--parts", "99") == 2
    assert not (tmp_path / "new").exists()


class Layers:
    """As LiftedVideo gives them: alpha 1 in two places that touch nowhere, one of which moves."""

    def __getitem__(self, frame):
        layer = torch.zeros(13, 40, 60)
        layer[3, 4 : 8 + 4, 4:12] = 0.5
        layer[3, 20:36, 20 + 2 * frame : 40 + 2 * frame] = 1
        return layer


@pytest.mark.parametrize(
    "places, count",
    [
        ([[(0, 0), (0, 1)]], 1),  # blocks (row, column) of each frame: beside one another
        ([[(0, 0), (1, 1)]], 1),  # corner at corner
        ([[(0, 0), (0, 2)]], 2),  # a block apart
        ([[(2, 2)], [(2, 2)]], 1),  # at rest
        ([[(2, 2)], [(2, 3)]], 1),  # to the side, from one frame to the next
        ([[(2, 2)], [(3, 3)], [(4, 4)]], 1),  # along a diagonal
        ([[(2, 2)], [(3, 1)]], 1),
        ([[(2, 2)], [(4, 4)]], 2),  # too far for one thing
        ([[(2, 2)], [], [(2, 2)]], 2),  # gone for a frame
    ],
)
def test_blocks_that_touch_in_the_same_or_the_next_frame_are_one_part(places, count):
    video = [torch.zeros(13, 24, 24) for _ in places]
    for layer, there in zip(video, places):
        for row, column in there:
            layer[3, 4 * row, 4 * column] = 1
    assert len(find_parts(layer[3:4] for layer in video).parts) == count


@pytest.mark.parametrize("chosen, large, small", [((1,), True, False), ((2,), False, True), ((-2,), True, False)])
def test_numbers_keep_or_drop(chosen, large, small):
    parts = find_parts((Layers()[i][3:4] for i in range(3)), chosen)
    alpha = parts.kept(Layers()[2], 2)[3]
    assert (bool(alpha[20:36].any()), bool(alpha[:16].any())) == (large, small)
    assert [p.share > q.share for p, q in zip(parts.parts, parts.parts[1:])] == [True]


def test_a_number_that_no_part_has_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="no part 7; the layer has parts 1 to 2"):
        find_parts((Layers()[i][3:4] for i in range(3)), (7,))


@pytest.mark.parametrize("text", ["0", "1,-2", "one", "1,,2", ""])
def test_wrong_lists_of_parts_are_refused(text):
    with pytest.raises(InputError, match="^parts "):
        parse_parts(text)


def test_a_hold_out_keeps_the_edit_away_with_and_without_a_mask(tmp_path, shots):
    hold = np.zeros((*SIZE, 1), np.uint8)
    hold[DOT] = 255
    write_image(tmp_path / "hold.png", hold.repeat(3, -1))
    assert run(*shots, tmp_path / "out", "--hold-out", str(tmp_path / "hold.png")) == 0
    layers, _ = read(tmp_path / "out", FRAMES)
    assert not layers[:, *DOT].any() and (layers[:, *BLOCK, 3] > 0.9).mean() > 0.9


def test_a_higher_sensitivity_finds_a_fainter_change(plate):
    """A third of the noise, over some area."""
    residual = 0.012 * torch.randn(plate.shape, generator=torch.Generator().manual_seed(2))
    residual[..., 20:40, 30:60] += 0.005
    trust = torch.ones(FRAMES, 1, *SIZE)
    trust[..., 16:44, 26:64] = 0
    found = [find_change(residual, features(plate), trust, LIMITS.for_sensitivity(s)) for s in (0.5, 1.5)]
    inside, outside = ([float(r[place].mean()) for r in found] for place in (INSIDE, trust.bool()))
    assert inside[0] < 0.1 and inside[1] > 0.5 and max(outside) < 0.02


def test_edges_are_as_steep_as_asked(plate, edited):
    soft, near = blur(edited, 1.2), (..., slice(18, 44), slice(52, 104))
    widths = []
    for edge in (1.0, 3.0):
        alpha = lift_clip(plate, soft, controls=replace(USUAL, learned=False, edge=edge)).alpha[near]
        widths.append(float((alpha * (1 - alpha)).sum()))
    assert widths[1] < 0.85 * widths[0]


def test_an_edge_that_is_asked_for_leaves_smoke_as_soft_as_it_was(plate):
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    smoke = 0.4 * torch.exp(-((y - 32) ** 2 + (x - 56) ** 2) / 300)
    edited = torch.lerp(plate, torch.tensor(0.85), smoke)
    soft, steep = (
        lift_clip(plate, edited, controls=replace(USUAL, learned=False, edge=edge)).alpha for edge in (1.0, 3.0)
    )
    assert 0.2 < float(soft[..., 32, 56].mean()) < 0.6 and (steep - soft).abs().max() < 0.05


def test_no_steadiness_leaves_each_frame_alone(plate, edited):
    """With it, a matte that flickers where nothing moves flickers less."""
    steps = [
        float(
            lift_clip(plate, edited, controls=replace(USUAL, learned=False, steadiness=s)).alpha.diff(dim=0).abs().sum()
        )
        for s in (0, 2)
    ]
    assert steps[1] < steps[0]
