"""What is known of each delivered frame: a note in a file until the manifest is written, then an entry there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vera.core.files import JsonError, read_sealed_json, write_sealed_json

_NOTE = {"plate": str, "facts": dict, "pixels": dict, "files": dict}


@dataclass(frozen=True)
class FrameRecord:
    """plate: fingerprint of the plate's frame that the images were made from. facts: figures of the frame.

    pixels, files: of each image, by its output's name, the hash of its pixels and the SHA-256 of its file; until
    the manifest, files["preview"] is that of the frame's picture. Deliveries of earlier versions have no digests.
    """

    plate: str
    facts: dict[str, Any]
    pixels: dict[str, str]
    files: dict[str, str]

    def entry(self, frame: int, names: dict[str, str]) -> dict[str, Any]:
        """As the manifest has it. names: of each image the file, within the delivery."""
        images = {output: {"file": name, "pixels": self.pixels[output]} for output, name in names.items()}
        return {"frame": frame, **images, "plate": self.plate, "facts": self.facts}

    @classmethod
    def of_entry(cls, entry: dict[str, Any], outputs: tuple[str, ...], digests: dict[str, str]) -> "FrameRecord":
        """From an entry whose shape has been checked, and the digests of the delivery's files, by name."""
        images = {name: entry[name] for name in outputs if name in entry}
        pixels = {name: image["pixels"] for name, image in images.items()}
        files = {name: digests[image["file"]] for name, image in images.items() if image["file"] in digests}
        return cls(entry["plate"], entry["facts"], pixels, files)


class FrameNotes:
    """The records of frames that are done, a file each, so that a job that ended goes on from there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, frame: int) -> FrameRecord | None:
        """None where there is none, or a damaged one."""
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
