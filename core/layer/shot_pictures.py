"""Make preview.mp4 and contact_sheet.png of a delivery, from pictures stored with the frames or from the frames' files.

The pictures are stored uncompressed: compression would take longer than all other work on them.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vera.core.files import open_regular, write_bytes
from vera.core.layer import preview
from vera.core.layer.blend_space import Blending
from vera.core.layer.origin import UNSTATED, Origin
from vera.core.plate.color import PlateColor
from vera.core.plate.source import Plate

MOVIE, SHEET = "preview.mp4", "contact_sheet.png"
FILES = (MOVIE, SHEET)


@dataclass(frozen=True)
class Column:
    """A frame's column of the contact sheet; `digest` of the movie's picture made with it, and the colour of both."""

    pictures: list[np.ndarray]
    digest: str
    color: PlateColor


@dataclass(frozen=True)
class ShotPictures:
    """The preview pictures of a shot.

    folder: of the frames' pictures, until the movie is written
    read: gives the delivered layer and composite of a frame
    color: of the plate, with the model's exposure
    origin: provenance that both files state
    columns: of the contact sheet, of frames that `keep` was given in this process
    """

    folder: Path
    plate: Plate
    blending: Blending
    color: PlateColor
    read: Callable[[int], tuple[np.ndarray, np.ndarray]]
    origin: Origin = UNSTATED
    columns: dict[int, Column] = field(default_factory=dict)

    @property
    def bytes_per_frame(self) -> int:
        """Bytes on disk per frame, until the movie is written."""
        return math.prod(preview.movie_shape(self.plate))

    def keep(self, frame: int, filmed: np.ndarray, layer: np.ndarray, composite: np.ndarray) -> str:
        """Write the frame's picture; return its SHA-256. Plate and files need not be read again. Raises OSError."""
        shown = self._shown(frame, filmed, layer, composite)
        picture = preview.movie_picture(shown, self.plate).tobytes()
        write_bytes(self._path(frame), picture)
        digest = hashlib.sha256(picture).hexdigest()
        if frame in preview.sheet_frames(self.plate):
            self.columns[frame] = Column(preview.sheet_column(shown, self.plate), digest, self.color)
        return digest

    def write(self, folder: Path, digests: dict[int, str]) -> None:
        """Write both files into the delivery's folder. digests: results of `keep` by frame. Raises OSError."""
        preview.write_movie(folder / MOVIE, self.pictures(digests), self.plate, self.origin)
        preview.write_contact_sheet(
            folder / SHEET, lambda frame: self._column(frame, digests.get(frame)), self.plate, self.origin
        )

    def pictures(self, digests: dict[int, str]) -> Iterator[np.ndarray]:
        """The movie's pictures: those stored with the frames, or made from the files where one is missing."""
        for frame in self.plate.frames:
            picture = self._kept(frame, digests.get(frame))
            yield preview.movie_picture(self._shown_from_files(frame), self.plate) if picture is None else picture

    def _column(self, frame: int, digest: str | None) -> list[np.ndarray]:
        """A frame's pictures on the sheet, as `keep` made them or, if it was not given this frame, from the files."""
        column = self.columns.get(frame)
        if column is not None and (column.digest, column.color) == (digest, self.color):
            return column.pictures
        return preview.sheet_column(self._shown_from_files(frame), self.plate)

    def _kept(self, frame: int, digest: str | None) -> np.ndarray | None:
        shape = preview.movie_shape(self.plate)
        try:
            with open_regular(self._path(frame)) as file:
                content = file.read(math.prod(shape) + 1)
        except OSError:
            return None
        whole = len(content) == math.prod(shape) and hashlib.sha256(content).hexdigest() == digest
        return np.frombuffer(content, np.uint8).reshape(shape) if whole else None

    def _shown(self, frame: int, filmed: np.ndarray, layer: np.ndarray, composite: np.ndarray) -> preview.Shown:
        """Plate, layer and composite for display, shrunk to the preview's size and then converted."""
        white = 1 / self.color.gain if self.color.space.is_linear else math.inf
        small = preview.shrunk(self.plate, filmed, layer, composite, white)
        shown_plate, here = self.color.for_display(small.plate), small.part.slices
        shown_composite = shown_plate.copy()
        shown_composite[here] = self.color.for_display(small.composite[here])
        layer = small.layer.astype("float32")
        return preview.Shown(frame, shown_plate, layer, shown_composite, self.blending, self.color.gain)

    def _shown_from_files(self, frame: int) -> preview.Shown:
        return self._shown(frame, self.plate.read(frame), *self.read(frame))

    def _path(self, frame: int) -> Path:
        return self.folder / f"{frame}.rgb"
