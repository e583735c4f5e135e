"""The three interfaces of the delivery's formats. Every module of this folder implements one of them.

    FrameOutput   an image for each frame                   edit, composite, png
    LayerPart     a further part of the edit's EXR files    matte
    ShotOutput    one file for the whole shot               prores

The delivery walks the table of core/layer/outputs/__init__.py and knows no format by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import OpenImageIO as oiio

from vera.core.layer.blend_space import Blending
from vera.core.layer.origin import UNSTATED, Origin
from vera.core.plate.source import Plate

LOSSY = ("dwaa",)
# Estimated bytes on disk per byte of pixels, with lossless compression.
LAYER_PACKS_TO, COMPOSITE_PACKS_TO = 0.4, 0.7


@dataclass(frozen=True)
class Formats:
    """The recipe's fields that choose files and their formats; see core/recipe/table.py.

    extra_outputs: names of the formats delivered beside the layer (the recipe's `also`). split: how the layers of a
    split one are stored.
    """

    layer_type: str = "half"
    compression: str = "zip"
    extra_outputs: tuple[str, ...] = ()
    split: str = "none"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float16 if self.layer_type == "half" else np.float32)

    @property
    def layer_compression(self) -> str:
        """Compression of the layer, never lossy.

        An alpha that is not exactly 0 would change pixels outside of the edit, and colour that is not exactly 0 where
        alpha is would add light.
        """
        return "zip" if self.is_lossy else self.compression

    @property
    def is_lossy(self) -> bool:
        """Whether the composite's compression changes pixels."""
        return self.compression in LOSSY

    @property
    def packed(self) -> bool:
        """Whether EXR files are compressed."""
        return self.compression != "none"


@dataclass(frozen=True)
class Shot:
    """The shot, as the outputs need it.

    dir: the delivery's folder
    recipe_hash: the job's identity
    blending: the host's blending space
    formats: of the files
    origin: provenance that every file states
    parts: further parts of the edit's EXR files, in order; the delivery sets them by the formats
    """

    dir: Path
    plate: Plate
    recipe_hash: str
    blending: Blending
    formats: Formats = Formats()
    origin: Origin = UNSTATED
    parts: tuple["LayerPart", ...] = ()


@dataclass(frozen=True)
class FramePixels:
    """One delivered frame.

    layer: (H, W, 4) premultiplied, of the formats' type
    composite: (H, W, C) of the plate's type and channels
    matte: (H, W) in [0, 1], the model's alpha before the blending space; None if no output needs it
    split: split layers by name (core/layer/split.py); None if no output needs them
    """

    layer: np.ndarray
    composite: np.ndarray
    matte: np.ndarray | None = None
    split: dict[str, np.ndarray] | None = None


class Image(NamedTuple):
    """pixels (H, W, C), and the header of each part of their file.

    with_loss: whether the compression may change pixels
    """

    pixels: np.ndarray
    headers: list[oiio.ImageSpec]
    with_loss: bool = False


class Output(ABC):
    """name: as in the recipe's `also`, in frame records and in the manifest."""

    name: ClassVar[str]

    def bytes_per_pixel(self, shot: Shot) -> float:
        """Estimated bytes on disk per pixel of a frame."""
        return 0.0

    def manifest(self, shot: Shot) -> dict[str, Any]:
        """Entries of the manifest about this format, besides its files."""
        return {}


class FrameOutput(Output):
    """An image for each frame: FOLDER/STEM.####.EXTENSION."""

    folder: ClassVar[str]
    stem: ClassVar[str]

    @abstractmethod
    def extension(self, shot: Shot) -> str:
        """File extension without the dot."""

    @abstractmethod
    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        """The content of a frame's file."""

    def path(self, shot: Shot, frame: int) -> Path:
        return shot.dir / self.folder / f"{self.stem}.{frame_number(frame)}.{self.extension(shot)}"

    @property
    def unfinished(self) -> str:
        """Pattern of what a killed write left, within the delivery."""
        return f"{self.folder}/{self.stem}.*.part.*"


class LayerPart(Output):
    """A further part of the edit's EXR files. Hosts that read the first part only ignore it."""

    channels: ClassVar[tuple[str, ...]]

    @abstractmethod
    def pixels(self, frame: int, pixels: FramePixels) -> np.ndarray:
        """The part's pixels (H, W, len(channels)) in the layer's type. Raises ValueError if they are missing."""

    @abstractmethod
    def read_into(self, pixels: FramePixels, stored: np.ndarray) -> FramePixels:
        """The frame with what a delivered file holds of this part, (H, W, len(channels)): the way back of `pixels`."""

    def bytes_per_pixel(self, shot: Shot) -> float:
        return len(self.channels) * shot.formats.dtype.itemsize * (LAYER_PACKS_TO if shot.formats.packed else 1)


class ShotOutput(Output):
    """One file for the whole shot, written at the end from the layers as they were delivered."""

    file: ClassVar[str]

    @abstractmethod
    def write(self, shot: Shot, layers: Iterator[np.ndarray]) -> None:
        """Write `path`, of premultiplied layers (H, W, 4), one a frame of the plate.

        Raises OSError if the file would not hold them; no file then exists.
        """

    def path(self, shot: Shot) -> Path:
        return shot.dir / self.file

    @property
    def unfinished(self) -> str:
        """Pattern of what a killed write left, within the delivery."""
        name = Path(self.file)
        return f"{name.stem}.part{name.suffix}"


def frame_number(frame: int) -> str:
    """A frame number with at least four digits besides the sign: 1001, 0007, -0005."""
    return f"{frame:04d}"
