"""Layered video on the disk: the public dataset's rows, and one's own folders of layers.

A dataset is a folder. Every `*.jsonl` in it holds rows, one JSON object a line, of three shapes:

    train    edit_instruction, input_video_path, edit_rgb_path, edit_alpha_path, mask_path, composite_path
    preview  video_id, dataset_name, edit_instruction, input_video_path, edit_rgb_path, edit_alpha_path,
             target_composite_path; no mask
    test     video_id, input_path, prompt_id, prompt, edit_type, mask_path, alpha_path and captions;
             mask and alpha may be null

Paths lead from the JSONL's folder, or else from the dataset's. A folder with `instruction.txt` is one clip:

    instruction.txt  source.mp4  edit.mp4  alpha.mp4  [composite.mp4]  [mask.mp4]

(any movie ending; a composite that is not there is made from the layers). All layers of a row have one
size, sides in sixteens, 49 or 81 frames (a folder `49-frames` or `81-frames` above it says which) at 16 a second.

No row is an error: what cannot be used is named, with its file and the reason, and passed over.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

from vera.core.errors import InputError
from vera.core.plate.movie import MOVIES, movie_header

LAYERS = ("source", "edit", "alpha", "composite", "mask")  # the order everywhere
FRAMES = (49, 81)
FPS = 16
MULTIPLE = 16  # the codec's 8 times the transformer's patch of 2

_TRAIN = {
    "source": "input_video_path",
    "edit": "edit_rgb_path",
    "alpha": "edit_alpha_path",
    "composite": "composite_path",
    "mask": "mask_path",
}
_PREVIEW = {k: v for k, v in _TRAIN.items() if k != "mask"} | {"composite": "target_composite_path"}
_TEST = {"source": "input_path", "alpha": "alpha_path", "mask": "mask_path"}
_MAY_BE_NULL = {"alpha_path", "mask_path"}  # in test rows
_EDIT_TYPES = ("background_replace", "obj_add")


@dataclass(frozen=True)
class Row:
    """name: `FILE.jsonl:LINE` or a clip's folder, from the dataset's folder; files: those of LAYERS that there
    are; frames: how many may be in them."""

    name: str
    instruction: str
    files: dict[str, Path]
    frames: tuple[int, ...] = FRAMES
    test: bool = False


class BrokenRowError(Exception):
    """A row that cannot be used: which, by which file ("" where it is the row itself), why."""

    def __init__(self, row: str, file: Path | str, reason: str) -> None:
        super().__init__(row, str(file), reason)  # so that it can travel between processes
        self.row, self.file, self.reason = row, str(file), reason

    def __str__(self) -> str:
        return ": ".join(part for part in (self.row, self.file, self.reason) if part)


def read_rows(root: Path) -> tuple[list[Row], list[BrokenRowError]]:
    """All rows of a dataset, in order of name and line; no movie is opened. Raises InputError if there is none."""
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; name a dataset's")
    rows: list[Row] = []
    broken: list[BrokenRowError] = []
    found = sorted([*root.rglob("*.jsonl"), *root.rglob("instruction.txt")], key=lambda p: p.as_posix())
    for file in found:
        for row in _jsonl_rows(root, file) if file.suffix == ".jsonl" else _folder_row(root, file):
            if isinstance(row, BrokenRowError):
                broken.append(row)
            else:
                rows.append(row)
    if not rows and not broken:
        raise InputError(f"{root}: holds no rows; a dataset has .jsonl files, or folders with an instruction.txt")
    return rows, broken


PUBLISHED = (832, 480)  # pixels of the public dataset's clips
LOOKED_AT = 64  # rows whose headers tell how large a dataset's clips are


def size_of_clips(root: Path, frames: int) -> tuple[int, int]:
    """The largest (width, height) among the first rows of a dataset that have so many frames; PUBLISHED where none can
    be read."""
    try:
        rows, _ = read_rows(root)
    except InputError:
        return PUBLISHED
    sizes = []
    for row in [row for row in rows if frames in row.frames and not row.test][:LOOKED_AT]:
        try:
            header = movie_header(row.files["source"])
        except Exception:  # whatever a damaged file makes of the decoder: the check of rows names it later
            continue
        sizes.append((header.width, header.height))
    return max(sizes, key=lambda size: size[0] * size[1], default=PUBLISHED)


def check_rows(rows: list[Row], workers: int = 8) -> list[BrokenRowError]:
    """The rows among these whose files are not there, or are not what they should be by their headers."""
    with ThreadPoolExecutor(workers) as pool:
        return [fault for fault in pool.map(_fault_of, rows) if fault]


def check_files(row: Row) -> None:
    """Look at the headers of a row's movies. Raises BrokenRowError."""
    first = None
    for layer, file in row.files.items():

        def broken(reason: str, file: Path = file) -> BrokenRowError:
            return BrokenRowError(row.name, file, reason)

        if file.is_dir():
            raise broken("is a folder, not a movie")
        if not file.is_file():
            raise broken("no such file")
        try:
            header = movie_header(file)
        except Exception as error:  # whatever a damaged file makes of the decoder
            raise broken(str(error).removeprefix(f"{file}: ")) from None
        size = (header.width, header.height)
        if header.frames not in row.frames:
            raise broken(f"{header.frames} frames, not {' or '.join(map(str, row.frames))}")
        if abs(header.fps - FPS) > 0.01:
            raise broken(f"{float(header.fps):g} frames a second, not {FPS}")
        if any(side % MULTIPLE for side in size):
            raise broken(f"{size[0]}x{size[1]}: sides must be multiples of {MULTIPLE}")
        first = first or (layer, size, header.frames)
        if size != first[1]:
            raise broken(f"{size[0]}x{size[1]}, but the {first[0]} is {first[1][0]}x{first[1][1]}")
        if header.frames != first[2]:
            raise broken(f"{header.frames} frames, but the {first[0]} has {first[2]}")


def _fault_of(row: Row) -> BrokenRowError | None:
    try:
        check_files(row)
    except BrokenRowError as fault:
        return fault
    return None


def _jsonl_rows(root: Path, file: Path) -> Iterator[Row | BrokenRowError]:
    name = file.relative_to(root).as_posix()
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        yield BrokenRowError(name, "", f"cannot be read ({error.strerror})")
        return
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        try:
            row, identity = _parse(root, file, where, line)
            if identity in seen:
                raise BrokenRowError(where, "", f"the same as row {seen[identity]}")
            seen[identity] = number
            yield row
        except BrokenRowError as fault:
            yield fault


def _parse(  # noqa: C901 - one check a field
    root: Path, file: Path, where: str, line: bytes
) -> tuple[Row, tuple[str, ...]]:
    """One line -> its Row, and what no other line may share with it."""

    def text(key: str) -> str:
        if key not in raw:
            raise BrokenRowError(where, "", f"{key} is missing")
        value = raw[key]
        if not isinstance(value, str):
            raise BrokenRowError(where, "", f"{key} is {_kind(value)}, not text")
        if not value.strip():
            raise BrokenRowError(where, "", f"{key} is empty")
        return value

    try:
        raw = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise BrokenRowError(where, "", f"not UTF-8 (byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise BrokenRowError(where, "", f"not JSON ({error})") from None
    if not isinstance(raw, dict):
        raise BrokenRowError(where, "", f"a row is {_kind(raw)}, not an object")
    test = "input_path" in raw and "input_video_path" not in raw
    keys = _TEST if test else _PREVIEW if "target_composite_path" in raw else _TRAIN
    instruction = text("prompt" if test else "edit_instruction")
    identity = [str(raw.get(key, "")) for key in ("dataset_name", "video_id", "prompt_id")] + [instruction]
    if test:
        text("video_id")
        if text("edit_type") not in _EDIT_TYPES:
            raise BrokenRowError(where, "", f"edit_type {raw['edit_type']!r} is not one of {', '.join(_EDIT_TYPES)}")
    if keys is not _PREVIEW and "video_id" not in raw:
        identity.append(str(raw.get("edit_rgb_path")))
    files = {}
    for layer in LAYERS:
        key = keys.get(layer)
        if key is not None and not (test and key in _MAY_BE_NULL and raw.get(key, 0) is None):
            files[layer] = _locate(root, file, where, key, text(key))
    frames = next((n for n in FRAMES if f"{n}-frames" in file.relative_to(root).parts), None)
    return Row(where, instruction, files, (frames,) if frames else FRAMES, test), tuple(identity)


def _locate(root: Path, file: Path, where: str, key: str, path: str) -> Path:
    """A row's path in the dataset. A link may lead where its owner wants; the row's own words may not."""
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or PureWindowsPath(path).root:
        raise BrokenRowError(where, path, f"{key} is absolute; paths lead from the dataset's folder")
    if ".." in re.split(r"[/\\]", path):
        raise BrokenRowError(where, path, f"{key} leads upwards; paths stay in the dataset's folder")
    if "\0" in path:
        raise BrokenRowError(where, "", f"{key} holds a NUL")
    beside = file.parent / path
    try:
        return beside if beside.exists() else root / path
    except OSError as error:
        raise BrokenRowError(where, path[:80], f"{key} cannot be a file's name ({error.strerror})") from None


def _folder_row(root: Path, file: Path) -> Iterator[Row | BrokenRowError]:
    folder = file.parent
    name = folder.relative_to(root).as_posix()
    try:
        instruction = file.read_text(encoding="utf-8").strip()
        if not instruction:
            raise BrokenRowError(name, file, "is empty")
        files = {}
        for layer in LAYERS:
            there = [p for p in sorted(folder.glob(f"{layer}.*")) if p.suffix[1:].lower() in MOVIES]
            if len(there) > 1:
                raise BrokenRowError(name, there[1], f"beside {there[0].name}: which is the {layer}?")
            if there:
                files[layer] = there[0]
            elif layer in ("source", "edit", "alpha"):
                raise BrokenRowError(name, folder / f"{layer}.mp4", "no such file")
        yield Row(name, instruction, files)
    except BrokenRowError as fault:
        yield fault
    except UnicodeDecodeError as error:
        yield BrokenRowError(name, file, f"not UTF-8 (byte {error.start})")
    except OSError as error:
        yield BrokenRowError(name, file, f"cannot be read ({error.strerror})")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
