"""A user's own layered shots: EXR and PNG sequences and movies, of odd sizes, lengths and rates, become clips."""

import json
import math

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from tests.data.datasets.layers import make_layers, write_movie
from tests.plate.media import write_image
from vera.core.cli.data_check import main as check
from vera.core.cli.data_clips import main as cut
from vera.core.data.datasets.layered import BrokenRowError, check_rows, read_rows
from vera.core.data.datasets.layered_cache import Cache
from vera.core.data.datasets.layered_media import model_layers, read_layers
from vera.core.data.datasets.own_clips import retimed
from vera.core.plate.color_curve import decode_srgb, encode_srgb

SIZE = (40, 72)  # height and width: no multiples of 16


def write_shot(folder, frames=60, extension="exr", fps=24, alpha=0.5):
    """A grey plate under a red square of this alpha; half-float EXR premultiplied and linear, PNG straight and
    encoded."""
    folder.mkdir(parents=True)
    (folder / "instruction.txt").write_text("Add a red square")
    matte = np.zeros(SIZE, np.float32)
    matte[8:32, 16:48] = alpha
    plate = np.full((*SIZE, 3), 0.25, np.float32)
    red = np.broadcast_to(np.float32([0.8, 0.1, 0.1]), (*SIZE, 3))
    for frame in range(1, frames + 1):
        if extension == "exr":
            layer = np.concatenate([decode_srgb(red) * matte[..., None], matte[..., None]], -1).astype(np.float16)
            source, rate = decode_srgb(plate).astype(np.float16), {"framesPerSecond": fps}
        else:
            layer = np.rint(np.concatenate([red, matte[..., None]], -1) * 255).astype(np.uint8)
            source, rate = np.rint(plate * 255).astype(np.uint8), {"oiio__UnassociatedAlpha": 1}
        write_image(folder / f"source.{frame:04d}.{extension}", np.ascontiguousarray(source), **rate)
        write_image(folder / f"layer.{frame:04d}.{extension}", np.ascontiguousarray(layer), **rate)
    return folder


@pytest.mark.parametrize(
    ("count", "fps", "shown"),
    [(130, 24, 87), (49, 16, 49), (49, 24, 49), (100, 30, 53), (60, 12, 60), (81, 59.94, 81), (48, 24, None)],
)
def test_a_shot_is_shown_at_sixteen_frames_a_second_where_enough_are_left(count, fps, shown):
    positions = retimed(count, fps, 49)
    assert (positions and len(positions)) == shown
    if shown and shown < count:
        times = np.array(positions) / fps
        assert np.abs(times - np.arange(shown) / 16).max() <= 0.5 / fps + 1e-9


@pytest.mark.parametrize("extension", ["exr", "png"])
def test_a_sequence_with_an_rgba_layer_becomes_clips(tmp_path, extension):
    write_shot(tmp_path / "shot", 60, extension)
    (row,), broken = read_rows(tmp_path)
    assert not broken and not check_rows([row])
    layers = read_layers(row)
    unit = model_layers(row, layers)
    height, width = unit["source"].shape[2:]
    assert unit["source"].shape[1] == 49 and height % 16 == width % 16 == 0
    assert abs(math.log(width / height / (SIZE[1] / SIZE[0]))) < 0.2
    composed = unit["alpha"] * unit["edit"] + (1 - unit["alpha"]) * unit["source"]
    assert float((composed - unit["composite"]).abs().max()) < 2e-3
    assert float(unit["alpha"].max()) == pytest.approx(0.5, abs=2e-3) and float(unit["alpha"].min()) == 0


def test_a_premultiplied_layer_is_laid_over_in_light(tmp_path):
    """Half of red over grey in linear light is brighter than half in codes."""
    for extension in ("exr", "png"):
        write_shot(tmp_path / extension / "shot", 49, extension)
    middle = {}
    for extension in ("exr", "png"):
        (row,), _ = read_rows(tmp_path / extension)
        picture = read_layers(row)["composite"][0].double() / 65535
        middle[extension] = picture[picture.shape[0] // 2, picture.shape[1] // 2]
    red, grey = torch.tensor([0.8, 0.1, 0.1]).double(), torch.full((3,), 0.25).double()
    assert torch.allclose(middle["png"], (red + grey) / 2, atol=4e-3)
    light = (decode_srgb(red.numpy()) + decode_srgb(grey.numpy())) / 2
    assert np.allclose(decode_srgb(middle["exr"].numpy()), light, atol=4e-3)


def test_a_long_shot_gives_clips_that_cover_it_and_each_has_a_key_of_its_own(tmp_path):
    write_shot(tmp_path / "shot", 130, "png")
    rows, _ = read_rows(tmp_path)
    assert [row.name for row in rows] == ["shot#1", "shot#2"]
    seen = {position for row in rows for position in row.segment.positions}
    assert min(seen) == 0 and max(seen) == 129
    cache = Cache(tmp_path / "cache", "encoders")
    assert len({cache.key_of_row(row) for row in rows}) == 2


def test_movies_that_are_a_clip_as_they_are_stay_as_they_are(tmp_path):
    made = make_layers(1)
    for name in ("source", "edit", "alpha"):
        write_movie(tmp_path / "clip" / f"{name}.mp4", made[name])
    (tmp_path / "clip" / "instruction.txt").write_text("Add a square")
    (row,), _ = read_rows(tmp_path)
    assert row.segment is None


def test_movies_of_another_rate_and_size_are_taken_too(tmp_path):
    made = make_layers(1, frames=75, size=40)
    for name in ("source", "edit", "alpha", "mask"):
        write_movie(tmp_path / "clip" / f"{name}.mov", made[name], rate=24)
    (tmp_path / "clip" / "instruction.txt").write_text("Add a square")
    (row,), broken = read_rows(tmp_path)
    assert not broken and set(read_layers(row)) == {"source", "edit", "alpha", "composite", "mask"}


def other_layer(folder, shape):
    for frame in range(1, 61):
        write_image(folder / f"layer.{frame:04d}.png", np.zeros(shape, np.uint8))


def layer_as_edit(folder):
    for file in folder.glob("layer.*"):
        file.rename(folder / file.name.replace("layer", "edit"))


def mask_at(folder, rate):
    """A white mask as a movie at this rate, over a source of EXR at 24."""
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_shot(folder, 60, "exr", fps=24)
    write_movie(folder / "mask.mov", np.ones((60, *SIZE, 3)), rate=rate)


def test_files_of_other_names_are_left_alone(tmp_path):
    folder = write_shot(tmp_path / "shot", 49, "png")
    for name in ("reference.png", "sources.txt", "layered.png", "editor.mov", "masked_0001.png"):
        (folder / name).write_bytes(b"")
    (row,), broken = read_rows(tmp_path)
    assert not broken and set(row.files) == {"source", "layer"}


FAULTS = {
    "too short": (lambda folder: [f.unlink() for f in folder.glob("*.00[3-6]*")], "29 frames; 49 are the fewest"),
    "a frame missing": (lambda folder: (folder / "layer.0007.png").unlink(), "layer"),
    "of different length": (lambda folder: (folder / "layer.0060.png").unlink(), "59 frames, but the source has 60"),
    "without a layer": (lambda folder: [f.unlink() for f in folder.glob("layer.*")], "no layer; give layer.mov"),
    "without a source": (lambda folder: [f.unlink() for f in folder.glob("source.*")], "no source; give source.mov"),
    "colour alone": (lambda folder: layer_as_edit(folder), "edit alone; give layer.mov"),
    "two sources": (lambda folder: (folder / "source.mov").write_bytes(b""), "several of source"),
    "an edit besides a layer": (lambda folder: (folder / "edit.mov").write_bytes(b""), "layer besides edit; keep"),
    "a mask in capitals": (lambda folder: (folder / "Mask.png").write_bytes(b""), "mask.png for all frames"),
    "a mask with underscores": (lambda folder: (folder / "mask_0001.png").write_bytes(b""), "name it mask.0001.png"),
    "a mask without a separator": (lambda folder: (folder / "mask0001.png").write_bytes(b""), "name it mask.0001.png"),
    "a composite that is a still": (lambda folder: (folder / "composite.png").write_bytes(b""), "composite.0001.png"),
    "a movie in capitals": (lambda folder: (folder / "MASK.mov").write_bytes(b""), "name it mask.mov"),
    "an alpha with a view": (lambda folder: (folder / "mask.left.0001.png").write_bytes(b""), "name it mask.0001.png"),
    "of another rate": (lambda folder: mask_at(folder, 25), "25 frames a second, but the source has 24"),
    "of another size": (lambda folder: other_layer(folder, (20, 72, 4)), "72x20, but the source is 72x40"),
    "a layer without alpha": (lambda folder: other_layer(folder, (*SIZE, 3)), "has no alpha"),
    "not a picture": (lambda folder: (folder / "source.0001.png").write_bytes(b"no"), "source"),
}


def test_an_opaque_layer_is_opaque_whatever_its_colour(tmp_path):
    """A mask that is opaque everywhere is read by its luminance; a layer's alpha never is."""
    folder = write_shot(tmp_path / "shot", 49, "png")
    red = np.full((*SIZE, 4), [200, 20, 20, 255], np.uint8)
    for frame in range(1, 50):
        write_image(folder / f"layer.{frame:04d}.png", red, oiio__UnassociatedAlpha=1)
    (row,), _ = read_rows(tmp_path)
    layers = read_layers(row)
    assert (layers["alpha"].numpy() == 65535).all() and torch.equal(layers["composite"], layers["edit"])


@pytest.mark.parametrize("straight", [0, 1], ids=["premultiplied", "straight"])
@pytest.mark.parametrize("kind", ["uint8.tif", "uint16.tif", "float32.tif", "uint8.tga"])
def test_a_layer_is_read_as_its_file_states(tmp_path, kind, straight):
    """TIFF and TGA state whether colour is multiplied by alpha, whatever the type of their pixels."""
    folder, (kind, extension) = write_shot(tmp_path / "shot", 49, "png"), kind.split(".")
    for old in folder.glob("layer.*"):
        old.unlink()
    red, alpha = np.float32([0.8, 0.1, 0.1]), 0.5
    stored = decode_srgb(red) if kind == "float32" else red
    pixel = np.float32([*(stored if straight else stored * alpha), alpha])
    if kind != "float32":
        pixel = np.rint(pixel * np.iinfo(kind).max)
    picture = np.ascontiguousarray(np.broadcast_to(pixel, (*SIZE, 4))).astype(kind)
    write = oiio.ImageSpec(SIZE[1], SIZE[0], 4, kind.replace("float32", "float"))
    write.attribute("oiio:UnassociatedAlpha", straight)
    for frame in range(1, 50):
        file = str(folder / f"layer.{frame:04d}.{extension}")
        output = oiio.ImageOutput.create(file)
        assert output.open(file, write) and output.write_image(picture) and output.close()
    (row,), _ = read_rows(tmp_path)
    composite = read_layers(row)["composite"].numpy()[0, 20, 30] / 65535
    under = np.float32([0.25, 0.25, 0.25])
    if kind == "float32":
        expected = encode_srgb(alpha * decode_srgb(red) + (1 - alpha) * decode_srgb(under))
    else:
        expected = alpha * red + (1 - alpha) * under
    assert np.abs(composite - expected).max() < 2 / 255


@pytest.mark.parametrize("frames", [range(1), range(1, 50), range(1001, 1050)], ids=["a still", "alike", "from 1001"])
def test_masks_are_matched_by_position(tmp_path, frames):
    """A still counts for all frames; a sequence may have other numbers than the source, here 1 to 49."""
    folder = write_shot(tmp_path / "shot", 49, "png")
    for k, frame in enumerate(frames):
        name = "mask.png" if len(frames) == 1 else f"mask.{frame:04d}.png"
        write_image(folder / name, np.full((*SIZE, 1), 200 - k, np.uint8))
    (row,), broken = read_rows(tmp_path)
    levels = np.rint(read_layers(row)["mask"][:, 0, 0, 0].numpy() / 257).tolist()
    assert not broken and levels == [200 - k if len(frames) > 1 else 200 for k in range(49)]


def test_a_clip_without_an_edit_is_left_out_of_its_shot(tmp_path):
    """The first of two clips shows frames 1 to 73."""
    folder = write_shot(tmp_path / "shot", 130, "png")
    for frame in range(1, 80):
        write_image(folder / f"layer.{frame:04d}.png", np.zeros((*SIZE, 4), np.uint8), oiio__UnassociatedAlpha=1)
    (first, second), _ = read_rows(tmp_path)
    with pytest.raises(BrokenRowError, match="alpha is 0 everywhere"):
        read_layers(first)
    assert read_layers(second)["alpha"].numpy().any()


def test_a_clip_opens_only_its_own_frames(tmp_path):
    folder = write_shot(tmp_path / "shot", 130, "png")
    rows, _ = read_rows(tmp_path)
    for frame in range(90, 131):
        (folder / f"layer.{frame:04d}.png").write_bytes(b"damaged since")
    assert len(read_layers(rows[0])["alpha"]) == 49
    with pytest.raises(BrokenRowError, match="0090"):
        read_layers(rows[1])


@pytest.mark.parametrize("fault", FAULTS)
def test_a_shot_that_cannot_be_used_is_named_and_left_out(tmp_path, fault):
    damage, reason = FAULTS[fault]
    damage(write_shot(tmp_path / "shot", 60, "png"))
    rows, broken = read_rows(tmp_path)
    assert not rows and len(broken) == 1 and reason in str(broken[0])


def test_a_damaged_frame_breaks_its_clip_alone(tmp_path):
    folder = write_shot(tmp_path / "shot", 60, "png")
    (row,), _ = read_rows(tmp_path)
    (folder / "source.0020.png").write_bytes(b"damaged")
    with pytest.raises(BrokenRowError, match="shot"):
        read_layers(row)


def test_the_command_writes_clips_that_hold_the_same_bits(tmp_path, capsys):
    write_shot(tmp_path / "shots" / "one", 60, "exr")
    assert cut([str(tmp_path / "shots"), "--out", str(tmp_path / "clips")]) == 0
    (row,), _ = read_rows(tmp_path / "shots")
    (clip,), broken = read_rows(tmp_path / "clips")
    assert not broken and clip.segment is None and clip.instruction == row.instruction
    before, after = read_layers(row), read_layers(clip)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    assert cut([str(tmp_path / "shots"), "--out", str(tmp_path / "clips")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_vera_data_check_reads_them(tmp_path, capsys):
    write_shot(tmp_path / "good", 60, "png")
    write_shot(tmp_path / "short", 20, "png")
    assert check([str(tmp_path), "--workers", "1", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["row"] == "short" and "1 rows can be used" in said.err


def test_shots_whose_clips_would_have_one_name_are_named(tmp_path, capsys):
    """The second clip of `s` is written as `s-2`, which is a shot's name too."""
    write_shot(tmp_path / "in/s", 130)
    write_shot(tmp_path / "in/s-2", 49, "png")
    assert cut([str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().out
    assert "is another shot's clip; rename the shot's folder" in said and "2 clips in" in said
