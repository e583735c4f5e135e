"""manifest.json describes a complete delivery. It is written last, and accepted only if every file matches it."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vera.core.files import JsonError, check_shape, read_json, read_sealed_json
from vera.core.layer.frame_record import FrameRecord
from vera.core.layer.outputs import ALL_OUTPUTS
from vera.core.layer.outputs.output import FrameOutput, ShotOutput

SCHEMA = "vera.manifest/1"

_IMAGES = tuple(output.name for output in ALL_OUTPUTS if isinstance(output, FrameOutput))
_SHOT_FILES = tuple(output.name for output in ALL_OUTPUTS if isinstance(output, ShotOutput))
_IMAGE = {"file": str, "pixels": str}
_ENTRY = {"frame": int, "plate": str, "facts": dict, **{f"{name}?": _IMAGE for name in _IMAGES}}
_MOST_STOPS = 100  # largest exposure in stops that is accepted
_SHOT_FILE = {"file": str, "sha256": str, "of": str}
_SHAPE = {
    "schema": str,
    "recipe_hash": str,
    "frames": [_ENTRY],
    "extra": {"color?": {"exposure?": float}},
    "files?": dict,
    "origin?": dict,
    **{f"{name}?": _SHOT_FILE for name in _SHOT_FILES},
}
# What a manifest without a digest, of an earlier version, may hold.
_NAMES_BEFORE_DIGESTS = {
    "schema",
    "recipe_hash",
    "size",
    "blend_space",
    "plate",
    "edit",
    "composite",
    "frames",
    "prores",
    "extra",
}


@dataclass(frozen=True)
class Manifest:
    """records: by frame
    shot_files: notes of `shot_file_note` by output name
    extra: the job's report
    files: SHA-256 of every other file of the delivery by its relative name; None in older deliveries
    """

    recipe_hash: str
    records: dict[int, FrameRecord]
    extra: dict[str, Any]
    shot_files: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, str] | None = None


def read_manifest(path: Path) -> Manifest | None:
    """The manifest; None if it is missing or damaged."""
    try:
        value = _read(path)
        _check_values(value)
    except (OSError, JsonError):
        return None
    return Manifest(
        value["recipe_hash"],
        {entry["frame"]: FrameRecord.of_entry(entry, _IMAGES, value.get("files", {})) for entry in value["frames"]},
        value["extra"],
        {name: value[name] for name in _SHOT_FILES if name in value},
        value.get("files"),
    )


def hash_of_edits(records: dict[int, FrameRecord]) -> str:
    """One hash over the layers of all frames."""
    pixels = "".join(f"{frame} {records[frame].pixels['edit']}\n" for frame in sorted(records))
    return hashlib.sha256(pixels.encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_sealed_json(path, _SHAPE)
    except JsonError:
        value = read_json(path, _SHAPE)
        if set(value) - _NAMES_BEFORE_DIGESTS:
            raise
        return value


def _check_values(value: dict[str, Any]) -> None:
    """Raise JsonError for wrong values in a manifest whose types are right."""
    if value["schema"] != SCHEMA:
        raise JsonError("is of another schema")
    frames = [entry["frame"] for entry in value["frames"]]
    if len(set(frames)) != len(frames):
        raise JsonError("holds a frame twice")
    if abs(value["extra"].get("color", {}).get("exposure", 0)) > _MOST_STOPS:
        raise JsonError("has an exposure that no plate has")
    for name, digest in value.get("files", {}).items():
        check_shape(digest, str, name)
