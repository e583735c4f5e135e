"""Rows of the public test set: JSON lines that name the media."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vera.core.errors import InputError

EDIT_TYPES = ("obj_add", "background_replace")
_NAME = re.compile(r"[\w][\w.+=, -]*")  # a file name that is valid on every system


@dataclass(frozen=True)
class Row:
    """One clip and its edit. key: name of the row in files, video_id with prompt_id if there is one."""

    key: str
    video_id: str
    prompt_id: str | None
    edit_type: str
    prompt: str
    caption: str
    input: Path
    mask: Path | None
    alpha: Path | None


class BenchmarkRows(NamedTuple):
    """The rows of a test set, and a message for each row that cannot be used."""

    rows: list[Row]
    broken: list[str]


def read_rows(files: Sequence[str | Path], root: str | Path | None = None) -> BenchmarkRows:
    """The rows of JSONL files.

    Paths are relative to `root`, or to the row's file. Raises InputError for a file that cannot be read, and if no row
    can be used.
    """
    rows: list[Row] = []
    broken: list[str] = []
    places: dict[str, str] = {}  # a row's key -> its file and line
    for file in map(Path, files):
        try:
            lines = file.read_bytes().splitlines()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror}); give the test set's JSONL file") from None
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{file.name} line {number}"
            try:
                row = _row(line, Path(root) if root else file.parent)
                if row.key in places:
                    raise ValueError(f"{row.key} was in {places[row.key]} already")
            except ValueError as error:
                broken.append(f"{where}: {error}")
                continue
            places[row.key] = where
            rows.append(row)
    if not rows:
        raise InputError(f"no usable row; {broken[0] if broken else f'{files[0]}: no rows'}")
    return BenchmarkRows(rows, broken)


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object in a line. Raises ValueError."""
    try:
        values = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg}") from None
    if not isinstance(values, dict):
        raise ValueError("not an object")
    return values


def _row(line: bytes, folder: Path) -> Row:
    """The row in a line, whose paths are relative to `folder`. Raises ValueError."""
    values = _object(line)

    def value_of(name: str) -> Any:
        value = values.get(name)
        return str(value) if isinstance(value, int) and name.endswith("_id") else value

    def maybe_text(name: str) -> str | None:
        return text(name) if value_of(name) else None

    def text(name: str) -> str:
        value = value_of(name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is missing" if value is None else f"{name} {value!r} is not a text")
        return value

    def maybe_file(name: str) -> Path | None:
        return file(name) if value_of(name) else None

    def file(name: str) -> Path:
        value = text(name)
        if not (folder / value).is_file():
            raise ValueError(f"{name} {folder / value}: no such file; see --root")
        return folder / value

    video_id, prompt_id = text("video_id"), maybe_text("prompt_id")
    key = video_id if prompt_id is None else f"{video_id}_{prompt_id}"
    if not _NAME.fullmatch(key):
        raise ValueError(f"{key!r} cannot name a file")
    if text("edit_type") not in EDIT_TYPES:
        raise ValueError(f"edit_type {values['edit_type']!r} is not one of {', '.join(EDIT_TYPES)}")
    prompt = text("prompt")
    return Row(
        key=key,
        video_id=video_id,
        prompt_id=prompt_id,
        edit_type=values["edit_type"],
        prompt=prompt,
        caption=maybe_text("target_caption") or prompt,
        input=file("input_path"),
        mask=maybe_file("mask_path"),
        alpha=maybe_file("alpha_path"),
    )
