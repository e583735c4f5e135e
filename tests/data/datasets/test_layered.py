"""Rows of the public dataset: valid ones of each format, and one per kind of fault."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from tests.data.datasets.layers import PREVIEW, TEST, TRAIN, make_layers, write_layers, write_movie, write_rows
from vera.core.cli.data_check import fault_in_pixels
from vera.core.cli.data_check import main as check
from vera.core.data.datasets.layered import BrokenRowError, check_rows, read_rows
from vera.core.data.datasets.layered_media import model_layers, read_layers
from vera.core.errors import InputError


@pytest.fixture(scope="session")
def movies(tmp_path_factory):
    """A folder of valid and faulty movies, written once."""
    folder = tmp_path_factory.mktemp("movies") / "media"
    made = make_layers(1)
    write_layers(folder, made)
    source, alpha = made["source"], made["alpha"]
    write_movie(folder / "source50.mp4", make_layers(1, 50)["source"])
    write_movie(folder / "source48.mp4", source[:48])
    write_movie(folder / "source81.mp4", make_layers(1, 81)["source"])
    write_movie(folder / "one.mp4", source[:1])
    write_movie(folder / "fps30.mp4", source, rate=30)
    write_movie(folder / "fps24.mp4", source, rate=24)
    write_movie(folder / "odd.mp4", source[:, :31, :31])
    write_movie(folder / "eights.mp4", source[:, :24, :24])
    write_movie(folder / "small.mp4", alpha[:, :16, :16])
    write_movie(folder / "wide.mp4", np.concatenate([alpha, alpha], 2))
    write_movie(folder / "colourful.mp4", make_layers(3)["source"] * [1, 0.3, 0.1])
    write_movie(folder / "black.mp4", 0 * alpha)
    write_movie(folder / "inverted.mp4", 1 - alpha)
    write_movie(folder / "late_moov.mp4", source, faststart=False)
    whole = (folder / "source.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    late = (folder / "late_moov.mp4").read_bytes()
    (folder / "headless.mp4").write_bytes(late[: len(late) // 2])
    spoiled = bytearray(whole)
    middle = whole.index(b"mdat") + 4
    spoiled[middle : middle + 400] = bytes(range(200)) * 2
    (folder / "spoiled.mp4").write_bytes(spoiled)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not found\n")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1,\nsource.mp4\n")
    (folder / "folder.mp4").mkdir()
    write_sound(folder / "sound.mp4")
    return folder


def write_sound(file):
    import av

    with av.open(str(file), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode()]:
            out.mux(packet)


@pytest.fixture
def root(movies, tmp_path):
    shutil.copytree(movies, tmp_path / "media", copy_function=os.link)
    return tmp_path


def train_row(**changes):
    """A train row with changes; None removes a key."""
    return {k: v for k, v in (TRAIN | changes).items() if v is not None}


def train_row_with(key, name):
    return train_row(**{key: f"media/{name}"})


SURROGATE = json.dumps(train_row(input_video_path="media/\ud800.mp4")).encode()
NO_MASK = {k: v for k, v in TRAIN.items() if k != "mask_path"}

BROKEN = {
    # the line
    "no JSON": (b'{"edit_instruction": "Add', "not JSON"),
    "two objects": (b"{} {}", "not JSON"),
    "a list": (b"[1, 2]", "a row is a list, not an object"),
    "a number": (b"7", "a row is a number"),
    "null row": (b"null", "a row is null"),
    "not UTF-8": (json.dumps(train_row()).encode().replace(b"ball", b"b\xe4ll"), "not UTF-8 (byte"),
    "UTF-16": (json.dumps(train_row()).encode("utf-16"), "not UTF-8 (byte 0)"),
    "NaN": (json.dumps(train_row() | {"score": float("nan")}).encode(), "NaN is not a JSON number"),
    "deeper than can be read": (b"[" * 100_000, "not JSON"),
    "half a line": (json.dumps(train_row()).encode()[:-40], "not JSON"),
    # keys and values
    "no keys": ({}, "edit_instruction is missing"),
    "no instruction": (train_row(edit_instruction=None), "edit_instruction is missing"),
    "instruction null": (json.dumps(TRAIN | {"edit_instruction": None}).encode(), "edit_instruction is null, not text"),
    "instruction empty": (train_row(edit_instruction="  "), "edit_instruction is empty"),
    "instruction a list": (train_row(edit_instruction=["Add"]), "edit_instruction is a list, not text"),
    "no mask": (NO_MASK, "mask_path is missing"),
    "mask null": (json.dumps(TRAIN | {"mask_path": None}).encode(), "mask_path is null, not text"),
    "no alpha": (train_row(edit_alpha_path=None), "edit_alpha_path is missing"),
    "no composite": (train_row(composite_path=None), "composite_path is missing"),
    "path a number": (train_row(edit_rgb_path=4.5), "edit_rgb_path is a number, not text"),
    "path true": (train_row(edit_rgb_path=True), "edit_rgb_path is a truth value, not text"),
    "path an object": (train_row(mask_path={"path": "media/mask.mp4"}), "mask_path is an object, not text"),
    "path empty": (train_row(composite_path=""), "composite_path is empty"),
    "same row again": (train_row(edit_instruction="Add a blue ball"), "the same as row 1"),
    "same id again": (PREVIEW | {"edit_instruction": "Add a blue ball", "video_id": "first"}, "the same as row 4"),
    "unknown edit type": (TEST | {"edit_type": "style"}, "edit_type 'style' is not one of"),
    "test row without id": ({k: v for k, v in TEST.items() if k != "video_id"}, "video_id is missing"),
    "test row, mask missing": ({k: v for k, v in TEST.items() if k != "mask_path"}, "mask_path is missing"),
    # paths
    "missing file": (train_row_with("mask_path", "gone.mp4"), "gone.mp4: no such file"),
    "absolute": (train_row(input_video_path="/etc/passwd"), "input_video_path is absolute"),
    "Windows drive": (train_row(input_video_path="C:\\clips\\a.mp4"), "input_video_path is absolute"),
    "share": (train_row(input_video_path="\\\\farm\\clips\\a.mp4"), "input_video_path is absolute"),
    "upwards": (train_row(mask_path="media/../../mask.mp4"), "mask_path leads upwards"),
    "upwards, Windows": (train_row(mask_path="media\\..\\..\\mask.mp4"), "mask_path leads upwards"),
    "NUL": (train_row(mask_path="media/mask\0.mp4"), "mask_path holds a NUL"),
    "a surrogate": (SURROGATE, "no such file"),
    "name too long": (train_row(mask_path="m" * 5000), "cannot be a file's name"),
    "URL": (train_row(mask_path="https://example.org/mask.mp4"), "no such file"),
    # files
    "zero bytes": (train_row_with("input_video_path", "empty.mp4"), "the file is empty"),
    "a folder": (train_row_with("edit_rgb_path", "folder.mp4"), "is a folder, not a movie"),
    "text": (train_row_with("edit_rgb_path", "text.mp4"), "not a readable movie"),
    "a playlist": (train_row_with("edit_rgb_path", "playlist.mp4"), "not a readable movie"),
    "sound alone": (train_row_with("input_video_path", "sound.mp4"), "has no video stream"),
    "truncated": (train_row_with("input_video_path", "cut.mp4"), "breaks off at"),
    "truncated before its header": (train_row_with("input_video_path", "headless.mp4"), "not a readable movie"),
    "spoiled inside": (train_row_with("input_video_path", "spoiled.mp4"), "decode"),
    "50 frames": (train_row_with("input_video_path", "source50.mp4"), "50 frames, not 49"),
    "48 frames": (train_row_with("input_video_path", "source48.mp4"), "48 frames, not 49"),
    "one frame": (train_row_with("edit_alpha_path", "one.mp4"), "1 frames, not 49"),
    "81 among 49": (train_row_with("edit_rgb_path", "source81.mp4"), "81 frames, but the source has 49"),
    "30 fps": (train_row_with("input_video_path", "fps30.mp4"), "30 frames a second, not 16"),
    "24 fps": (train_row_with("mask_path", "fps24.mp4"), "24 frames a second, not 16"),
    "odd size": (train_row_with("input_video_path", "odd.mp4"), "31x31: sides must be multiples of 16"),
    "sides in eights": (train_row_with("input_video_path", "eights.mp4"), "24x24: sides must be multiples of 16"),
    "alpha of another size": (train_row_with("edit_alpha_path", "small.mp4"), "16x16, but the source is 32x32"),
    "mask of another size": (train_row_with("mask_path", "wide.mp4"), "64x32, but the source is 32x32"),
    "colourful alpha": (train_row_with("edit_alpha_path", "colourful.mp4"), "the alpha is colourful"),
    "colourful mask": (train_row_with("mask_path", "colourful.mp4"), "the mask is colourful"),
    "no edit": (train_row_with("edit_alpha_path", "black.mp4"), "alpha is 0 everywhere"),
    "inverted alpha": (train_row_with("edit_alpha_path", "inverted.mp4"), "laid over the source agree"),
    "another clip's composite": (train_row_with("composite_path", "colourful.mp4"), "laid over the source agree"),
}


@pytest.mark.parametrize("line, reason", BROKEN.values(), ids=BROKEN)
def test_only_the_broken_row_is_reported_with_its_reason(root, line, reason):
    first = train_row(edit_instruction="Add a blue ball")
    again = PREVIEW | {"edit_instruction": "Add a blue ball", "video_id": "first"}
    write_rows(root / "train.jsonl", first, line, TEST | {"video_id": "other"}, *([again] if "row 4" in reason else []))
    if "row 4" in reason:  # of two equal rows the later one is broken
        write_rows(
            root / "train.jsonl", first, train_row(edit_instruction="x"), TEST | {"video_id": "other"}, again, line
        )
    name = "train.jsonl:" + ("5" if "row 4" in reason else "2")
    rows, broken = read_rows(root)
    broken += check_rows(rows)
    bad = {fault.row for fault in broken}
    broken += [fault for r in rows if r.name == name and r.name not in bad and (fault := fault_in_pixels(r))]
    assert [fault.row for fault in broken] == [name]
    assert reason in str(broken[0])
    for key in ("gone.mp4", "cut.mp4", "odd.mp4", "colourful.mp4"):
        if isinstance(line, dict) and any(key in str(v) for v in line.values()):
            assert broken[0].file == str(root / "media" / key)


def test_at_least_forty_kinds_of_fault_are_tested():
    assert len(BROKEN) >= 40


def test_train_preview_and_test_rows_are_read(root):
    """CRLF line ends are accepted; blank lines and unknown keys are ignored."""
    lines = [json.dumps(r).encode() for r in (TRAIN | {"extra": [1]}, PREVIEW, TEST)]
    write_rows(root / "a.jsonl", lines[0] + b"\r", b"", lines[1], b"  ", lines[2])
    bare = TEST | {"mask_path": None, "alpha_path": None, "edit_type": "background_replace", "prompt_id": "p2"}
    write_rows(root / "test/b.jsonl", bare)
    rows, broken = read_rows(root)
    assert not broken and not check_rows(rows) and not any(map(fault_in_pixels, rows))
    assert [(r.name, r.instruction, set(r.files), r.test) for r in rows] == [
        ("a.jsonl:1", "Add a red ball", {"source", "edit", "alpha", "composite", "mask"}, False),
        ("a.jsonl:3", "Add a red ball", {"source", "edit", "alpha", "composite"}, False),
        ("a.jsonl:5", "Add a boat", {"source", "alpha", "mask"}, True),
        ("test/b.jsonl:1", "Add a boat", {"source"}, True),
    ]


def test_a_file_beside_the_jsonl_wins_over_one_in_the_dataset_root(root):
    write_rows(root / "49-frames/set/train.jsonl", TRAIN)
    assert read_rows(root)[0][0].files["source"] == root / "media/source.mp4"
    shutil.copytree(root / "media", root / "49-frames/set/media")
    assert read_rows(root)[0][0].files["source"] == root / "49-frames/set/media/source.mp4"


@pytest.mark.parametrize("folder, fault", [("81-frames/a", "49 frames, not 81"), ("49-frames/a", None), ("a", None)])
def test_the_folder_s_name_sets_the_allowed_number_of_frames(root, folder, fault):
    write_rows(root / folder / "train.jsonl", TRAIN)
    broken = check_rows(read_rows(root)[0])
    assert [b.reason for b in broken] == ([fault] if fault else [])


def test_folders_with_an_instruction_are_clips(root):
    for name in ("good", "no edit", "two sources", "not UTF-8"):
        clip = root / "own" / name
        shutil.copytree(root / "media", clip, ignore=lambda d, names: [n for n in names if n not in KEPT])
        (clip / "instruction.txt").write_text("Add a ball\n")
    (root / "own/no edit/edit.mp4").unlink()
    shutil.copy(root / "media/source.mp4", root / "own/two sources/source.mov")
    (root / "own/not UTF-8/instruction.txt").write_bytes(b"\xff")
    (root / "own/good/composite.mp4").unlink()
    rows, broken = read_rows(root / "own")
    assert [str(b).split(": ")[-1] for b in broken] == [
        "alpha alone; give layer.mov or layer.0001.exr ..., or edit and alpha",
        "not UTF-8 (byte 0)",
        "source.mov, source.mp4; keep one",
    ]
    assert [(r.name, r.instruction, set(r.files)) for r in rows] == [
        ("good", "Add a ball", {"source", "edit", "alpha", "mask"})
    ]
    unit = model_layers(rows[0], read_layers(rows[0]))
    composed = unit["alpha"] * unit["edit"] + (1 - unit["alpha"]) * unit["source"]
    assert (unit["composite"] - composed).abs().mean() < 2 / 255


KEPT = ("source.mp4", "edit.mp4", "alpha.mp4", "composite.mp4", "mask.mp4")


@pytest.mark.parametrize("stored", ["straight", "premultiplied"])
def test_edit_colour_is_straight_for_both_kinds_of_stored_colour(tmp_path, stored):
    """A half-transparent grey of 0.8 may be stored as 0.8 or 0.4; the model sees 0.8, also around the layer."""
    made = make_layers(1)
    alpha = made["alpha"] * 0.5
    edit = np.full_like(alpha, 0.8) if stored == "straight" else 0.8 * alpha
    made |= {"alpha": alpha, "edit": edit, "composite": 0.8 * alpha + (1 - alpha) * made["source"]}
    write_layers(tmp_path / "media", made)
    write_rows(tmp_path / "a.jsonl", TRAIN)
    [row] = read_rows(tmp_path)[0]
    unit = model_layers(row, read_layers(row))
    inside = torch.from_numpy(made["alpha"] > 0).movedim(-1, 0)
    assert {k: tuple(v.shape) for k, v in unit.items()} == dict.fromkeys(made, (3, 49, 32, 32))
    assert (unit["edit"][inside] - 0.8).abs().mean() < 0.03
    assert unit["edit"][:, :, 16:20, 0:2].min() > 0.45  # alpha 0: from 0.8 towards grey, not black
    assert (unit["alpha"][inside] - 0.5).abs().mean() < 0.02
    assert (unit["source"] - torch.from_numpy(made["source"]).movedim(-1, 0)).abs().mean() < 0.02


def test_check_reports_each_fault_and_counts_them(root, capsys):
    gone, colourful = train_row_with("mask_path", "gone.mp4"), train_row_with("edit_alpha_path", "colourful.mp4")
    unlike = [r | {"edit_instruction": f"Add {i}"} for i, r in enumerate((gone, json.loads(SURROGATE), colourful))]
    write_rows(root / "train.jsonl", TRAIN, b"{", *unlike)
    assert check([str(root)]) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3 and "train.jsonl:3: " in out and "no such file" in out
    assert "2 rows can be used, 3 cannot" in err and "3 in train.jsonl" in err
    assert check([str(root), "--pixels", "--workers", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["row"] == "train.jsonl:5" and "1 rows can be used, 4 cannot" in err
    write_rows(root / "train.jsonl", TRAIN)
    assert check([str(root)]) == 0


@pytest.mark.parametrize("folder", ["gone", "empty"])
def test_a_folder_without_rows_is_refused(tmp_path, folder, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no such folder|holds no rows"):
        read_rows(tmp_path / folder)
    assert check([str(tmp_path / folder)]) == 2 and capsys.readouterr().err.startswith("error: ")


def test_a_broken_row_error_can_be_pickled():
    import pickle

    fault = BrokenRowError("a:1", "f.mp4", "gone")
    assert vars(pickle.loads(pickle.dumps(fault))) == vars(fault) == {"row": "a:1", "file": "f.mp4", "reason": "gone"}
