"""The record of each delivered frame: a note in a file until the manifest is written, then an entry of the manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vera.core.files import JsonError, read_sealed_json, write_sealed_json

_NOTE = {"plate": str, "facts": dict, "pixels": dict, "files": dict}


@dataclass(frozen=True)
class FrameRecord:
    """plate: fingerprint of the plate's frame
    facts: measurements of the frame
    pixels, files: hash of the pixels and SHA-256 of the file of each image, by output name. Until the manifest is
        written, files["preview"] is the SHA-256 of the frame's preview picture. Older deliveries have no SHA-256.
    """

    plate: str
    facts: dict[str, Any]
    pixels: dict[str, str]
    files: dict[str, str]

    def entry(self, frame: int, names: dict[str, str]) -> dict[str, Any]:
        """The manifest's entry. names: file of each image by output name, relative to the delivery."""
        images = {output: {"file": name, "pixels": self.pixels[output]} for output, name in names.items()}
        return {"frame": frame, **images, "plate": self.plate, "facts": self.facts}

    @classmethod
    def of_entry(cls, entry: dict[str, Any], outputs: tuple[str, ...], digests: dict[str, str]) -> "FrameRecord":
        """The record of an entry whose shape was checked. digests: of the delivery's files by name."""
        images = {name: entry[name] for name in outputs if name in entry}
        pixels = {name: image["pixels"] for name, image in images.items()}
        files = {name: digests[image["file"]] for name, image in images.items() if image["file"] in digests}
        return cls(entry["plate"], entry["facts"], pixels, files)


class FrameNotes:
    """The records of finished frames, one file each, from which a stopped job resumes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, frame: int) -> FrameRecord | None:
        """The frame's record; None if it is missing or damaged."""
        try:
            note = read_sealed_json(self._path(frame), _NOTE)
        except (OSError, JsonError):
            return None
        return FrameRecord(note["plate"], note["facts"], note["pixels"], note["files"])

    def write(self, frame: int, record: FrameRecord) -> None:
        """Raises OSError."""
        write_sealed_json(self._path(frame), vars(record))

    def _path(self, frame: int) -> Path:
        return self.folder / f"{int(frame)}.json"
