"""manifest.json: what a whole delivery holds. Written last, and believed only where every byte of it fits."""

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
_MOST_STOPS = 100  # of the exposure that pictures are shown with
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
    """records: by frame. shot_files: by the output's name, as `shot_file_note` makes them. extra: the job's report.

    files: SHA-256 of every file of the delivery but itself, by its name within; None in deliveries of earlier versions.
    """

    recipe_hash: str
    records: dict[int, FrameRecord]
    extra: dict[str, Any]
    shot_files: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, str] | None = None


def read_manifest(path: Path) -> Manifest | None:
    """None where there is none, or one that is damaged or of another shape."""
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
    """One name for the layers of all frames."""
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
    """Raise JsonError where types are right and values are not."""
    if value["schema"] != SCHEMA:
        raise JsonError("is of another schema")
    frames = [entry["frame"] for entry in value["frames"]]
    if len(set(frames)) != len(frames):
        raise JsonError("holds a frame twice")
    if abs(value["extra"].get("color", {}).get("exposure", 0)) > _MOST_STOPS:
        raise JsonError("has an exposure that no plate has")
    for name, digest in value.get("files", {}).items():
        check_shape(digest, str, name)
