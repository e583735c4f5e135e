"""Layered video on disk: the rows of the public dataset, and a user's own folders of layers.

A dataset is a folder. Every `*.jsonl` file in it holds rows, one JSON object per line, in one of three formats:

    train    edit_instruction, input_video_path, edit_rgb_path, edit_alpha_path, mask_path, composite_path
    preview  video_id, dataset_name, edit_instruction, input_video_path, edit_rgb_path, edit_alpha_path,
             target_composite_path; no mask
    test     video_id, input_path, prompt_id, prompt, edit_type, mask_path, alpha_path and captions;
             mask and alpha may be null

A path is relative to the folder of the JSONL file, or else to the dataset. A folder with `instruction.txt` is one shot
of your own:

    instruction.txt  source.mp4  layer.mov  [composite.mp4]  [mask.mp4]

`layer` is RGBA; `edit.mp4` (colour) and `alpha.mp4` may be given instead. Each may also be a numbered sequence, such as
`source.0001.exr`. A missing composite is computed from the layers. The layers of a JSONL row have one size, with sides
that are multiples of 16, and 49 or 81 frames at 16 frames a second. A parent folder named `49-frames` or `81-frames`
allows only that number. Your own shots may be of other formats, sizes, lengths and rates, and are cut into clips: see
own_clips.py.

A broken row does not raise: it is reported with its file and the reason, and skipped.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NoReturn

from vera.core.data.datasets.own_clips import Segment, is_whole, media_in, segments_of
from vera.core.errors import InputError
from vera.core.plate.movie import movie_header

LAYERS = ("source", "edit", "alpha", "composite", "mask")  # order of the layers in every tensor and loop
FRAMES = (49, 81)  # numbers of frames that a clip may have
FPS = 16  # frames per second of every clip
MULTIPLE = 16  # pixels: each side is a multiple of this, the codec's stride 8 times the transformer's patch 2

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
    """One clip of a dataset.

    name: `FILE.jsonl:LINE` or the clip's folder, relative to the dataset.
    files: layer name -> movie, for the layers that the row has.
    frames: allowed numbers of frames.
    test: whether the row is from a test split, which may lack layers.
    segment: the part of your own shot that is this clip; None for files that are a clip as they are.
    """

    name: str
    instruction: str
    files: dict[str, Path]
    frames: tuple[int, ...] = FRAMES
    test: bool = False
    segment: Segment | None = None


class BrokenRowError(Exception):
    """A row that cannot be used. row: its name; file: the faulty file, "" for the row itself; reason: the fault."""

    def __init__(self, row: str, file: Path | str, reason: str) -> None:
        super().__init__(row, str(file), reason)  # all arguments, so that the error can be pickled
        self.row, self.file, self.reason = row, str(file), reason

    def __str__(self) -> str:
        return ": ".join(part for part in (self.row, self.file, self.reason) if part)


def read_rows(root: Path) -> tuple[list[Row], list[BrokenRowError]]:
    """All rows of a dataset in order of file name and line, and its broken rows; opens the media of folders only.

    Raises InputError if the folder does not exist or has no rows.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder of a dataset")
    rows: list[Row] = []
    broken: list[BrokenRowError] = []
    found = sorted([*root.rglob("*.jsonl"), *root.rglob("instruction.txt")], key=lambda p: p.as_posix())
    for file in found:
        for row in _jsonl_rows(root, file) if file.suffix == ".jsonl" else _folder_rows(root, file):
            if isinstance(row, BrokenRowError):
                broken.append(row)
            else:
                rows.append(row)
    if not rows and not broken:
        raise InputError(f"{root}: holds no rows; a dataset has .jsonl files, or folders with an instruction.txt")
    return rows, broken


PUBLISHED_SIZE = (832, 480)  # width and height in pixels of the public dataset's clips
SIZE_SAMPLE_ROWS = 64  # rows whose headers are read to find a dataset's clip size; more are slower and surer


def size_of_clips(root: Path, frames: int) -> tuple[int, int]:
    """The largest (width, height) among a dataset's first SIZE_SAMPLE_ROWS rows with this number of frames.

    PUBLISHED_SIZE if none of these rows can be read.
    """
    try:
        rows, _ = read_rows(root)
    except InputError:
        return PUBLISHED_SIZE
    sizes = []
    for row in [row for row in rows if frames in row.frames and not row.test][:SIZE_SAMPLE_ROWS]:
        try:
            sizes.append(row.segment.size if row.segment else movie_header(row.files["source"])[:2])
        except Exception:  # a damaged file can make the decoder raise anything; check_rows reports the file later
            continue
    return max(sizes, key=lambda size: size[0] * size[1], default=PUBLISHED_SIZE)


def check_rows(rows: list[Row], workers: int = 8) -> list[BrokenRowError]:
    """Check the files of every row by their headers; return one error for each row that is broken."""
    with ThreadPoolExecutor(workers) as pool:
        return [error for error in pool.map(_error_of, rows) if error]


def check_files(row: Row) -> None:
    """Check the headers of a row's movies: size, frame count, frame rate. Raises BrokenRowError.

    Your own shots were checked as they were cut into clips.
    """
    if row.segment is not None:
        return
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
        except Exception as error:  # a damaged file can make the decoder raise anything
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


def _error_of(row: Row) -> BrokenRowError | None:
    try:
        check_files(row)
    except BrokenRowError as error:
        return error
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
        except BrokenRowError as error:
            yield error


def _parse(  # noqa: C901 - one check per field
    root: Path, file: Path, where: str, line: bytes
) -> tuple[Row, tuple[str, ...]]:
    """Parse one line -> (the row, an identity that is unique within the file)."""

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
    return Row(where, instruction, files, _frames_by_folder(root, file), test), tuple(identity)


def _locate(root: Path, file: Path, where: str, key: str, path: str) -> Path:
    """Resolve a row's path within the dataset. Symbolic links may lead outside; the path as written may not."""
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or PureWindowsPath(path).root:
        raise BrokenRowError(where, path, f"{key} is absolute; paths are relative to the dataset's folder")
    if ".." in re.split(r"[/\\]", path):
        raise BrokenRowError(where, path, f"{key} leads upwards; paths stay in the dataset's folder")
    if "\0" in path:
        raise BrokenRowError(where, "", f"{key} holds a NUL")
    beside = file.parent / path
    try:
        return beside if beside.exists() else root / path
    except OSError as error:
        raise BrokenRowError(where, path[:80], f"{key} cannot be a file's name ({error.strerror})") from None


def _folder_rows(root: Path, file: Path) -> Iterator[Row | BrokenRowError]:
    """The clips of the shot in a folder: one where its movies are a clip as they are, else as many as it gives."""
    folder = file.parent
    name = folder.relative_to(root).as_posix()
    frames = _frames_by_folder(root, file)
    try:
        instruction = file.read_text(encoding="utf-8").strip()
        if not instruction:
            raise BrokenRowError(name, file, "is empty")
        media = media_in(folder)
        if "source" not in media:
            raise BrokenRowError(name, folder, "no source; give source.mov, or source.0001.exr and so on")
        if not is_whole(media):
            half = next((n for n in ("edit", "alpha") if n in media), None)
            lacking = f"{half} alone" if half else "no layer"
            raise BrokenRowError(name, folder, f"{lacking}; give layer.mov or layer.0001.exr ..., or edit and alpha")
        clip = Row(name, instruction, {layer: media[layer] for layer in LAYERS if layer in media}, frames)
        if "layer" not in media and _is_clip(clip):
            yield clip
            return
        segments = segments_of(media, frames[0])
        for number, segment in enumerate(segments, 1):
            part = f"{name}#{number}" if len(segments) > 1 else name
            yield Row(part, instruction, media, frames, segment=segment)
    except BrokenRowError as error:
        yield error
    except InputError as error:
        yield BrokenRowError(name, "", str(error))
    except UnicodeDecodeError as error:
        yield BrokenRowError(name, file, f"not UTF-8 (byte {error.start})")
    except OSError as error:
        yield BrokenRowError(name, file, f"cannot be read ({error.strerror})")


def _is_clip(row: Row) -> bool:
    """Whether the row's movies are a clip as they are."""
    try:
        check_files(row)
    except BrokenRowError:
        return False
    return True


def _frames_by_folder(root: Path, file: Path) -> tuple[int, ...]:
    """The numbers of frames that a folder above the file allows by its name, or all."""
    named = next((n for n in FRAMES if f"{n}-frames" in file.relative_to(root).parts), None)
    return (named,) if named else FRAMES


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
