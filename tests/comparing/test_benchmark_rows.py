"""Rows in the published format, and each kind of fault."""

import json

import pytest

from vera.core.comparing.benchmark_rows import read_rows
from vera.core.errors import InputError

GOOD = {
    "video_id": "bear",
    "input_path": "bear.mp4",
    "subject_type": "animal",
    "prompt_id": 3,
    "prompt": "Add a hat",
    "target_caption": "A bear with a hat.",
    "source_caption": "A bear.",
    "edit_type": "obj_add",
    "mask_path": None,
    "alpha_path": "alpha.mp4",
}


@pytest.fixture
def folder(tmp_path):
    for name in ("bear.mp4", "alpha.mp4"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(folder, *lines, **options):
    file = folder / "test.jsonl"
    file.write_bytes(
        b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines) + b"\n"
    )
    return read_rows([file], **options)


def test_a_complete_row_is_read(folder):
    (row,), broken = read(folder, GOOD)
    assert broken == [] and row.key == "bear_3" and row.prompt_id == "3" and row.mask is None
    assert (
        row.input == folder / "bear.mp4" and row.alpha == folder / "alpha.mp4" and row.caption == "A bear with a hat."
    )


def test_paths_are_relative_to_the_root(folder):
    (folder / "rows").mkdir()
    (folder / "rows/test.jsonl").write_text(json.dumps(GOOD))
    (row,), _ = read_rows([folder / "rows/test.jsonl"], root=folder)
    assert row.input == folder / "bear.mp4"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not an object"),
        (b'{"video_id": "\xff"}', "not UTF-8"),
        (GOOD | {"video_id": None}, "video_id is missing"),
        (GOOD | {"video_id": ""}, "video_id '' is not a text"),
        (GOOD | {"video_id": "../../etc/passwd"}, "cannot name a file"),
        (GOOD | {"video_id": "a:b"}, "cannot name a file"),
        (GOOD | {"video_id": ["bear"]}, "is not a text"),
        (GOOD | {"edit_type": "style"}, "edit_type 'style' is not one of"),
        (GOOD | {"prompt": "  "}, "prompt '  ' is not a text"),
        (GOOD | {"prompt": 7}, "prompt 7 is not a text"),
        (GOOD | {"input_path": None}, "input_path is missing"),
        (GOOD | {"input_path": "gone.mp4"}, "gone.mp4: no such file; see --root"),
        (GOOD | {"alpha_path": "gone.mp4"}, "alpha_path .*no such file"),
        (GOOD | {"mask_path": "."}, "no such file"),
        (GOOD, "bear_3 was in test.jsonl line 1 already"),
    ],
)
def test_a_broken_row_is_reported_and_the_others_are_read(folder, line, words):
    rows, broken = read(folder, GOOD, line, GOOD | {"prompt_id": "4"})
    assert [row.key for row in rows] == ["bear_3", "bear_4"]
    (said,) = broken
    with pytest.raises(ValueError, match=words):
        raise ValueError(said)
    assert said.startswith("test.jsonl line 2: ")


def test_a_file_without_a_usable_row_is_refused(folder):
    with pytest.raises(InputError, match="no usable row; test.jsonl line 1: prompt is missing"):
        read(folder, GOOD | {"prompt": None})
    with pytest.raises(InputError, match="no rows"):
        read(folder, b"")
    with pytest.raises(InputError, match="cannot be read"):
        read_rows([folder / "gone.jsonl"])
