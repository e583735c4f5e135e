"""What a format of the delivery is: three small interfaces, of which every module of this folder implements one.

    FrameOutput   an image for each frame        edit, composite, png
    LayerPart     a further part of the edit's EXR files    matte
    ShotOutput    one file for the whole shot     prores

The delivery walks the table of `vera.core.layer.outputs` and knows no format by name.
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
# Estimated bytes on the disk for a byte of pixels, compressed without loss.
LAYER_PACKS_TO, COMPOSITE_PACKS_TO = 0.4, 0.7


@dataclass(frozen=True)
class Formats:
    """How files hold the layer: see `vera.core.recipe.EditRecipe`, whose `also` names the extra outputs, and
    `split` says how the layers of a split one are held."""

    layer_type: str = "half"
    compression: str = "zip"
    extra_outputs: tuple[str, ...] = ()
    split: str = "none"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float16 if self.layer_type == "half" else np.float32)

    @property
    def layer_compression(self) -> str:
        """Of the layer, which is never lossy: a host lays it over the plate, where a code of alpha that is not exactly
        0 or 1 changes pixels outside of the edit, and premultiplied colour that is not 0 where alpha is adds light."""
        return "zip" if self.is_lossy else self.compression

    @property
    def is_lossy(self) -> bool:
        """Whether the composite's pixels are near what they should be, not exactly that."""
        return self.compression in LOSSY

    @property
    def packed(self) -> bool:
        """Whether EXR files are compressed."""
        return self.compression != "none"


@dataclass(frozen=True)
class Shot:
    """What the outputs need to know of the shot whose layer they hold.

    dir: the delivery's folder. parts: the further parts of the edit's EXR files, in order. origin: what every file
    says of where it comes from.
    """

    dir: Path
    plate: Plate
    recipe_hash: str
    blending: Blending
    formats: Formats
    parts: tuple["LayerPart", ...] = ()
    origin: Origin = UNSTATED


@dataclass(frozen=True)
class FramePixels:
    """One frame as it is delivered.

    layer: (H, W, 4) premultiplied, of the formats' type. composite: (H, W, C) of the plate's type and channels.
    matte: (H, W) in [0, 1], the model's alpha before it was made for the blending space; None where no output asks.
    split: the layers of a split one by name, see `vera.core.layer.split`; None where no output asks.
    """

    layer: np.ndarray
    composite: np.ndarray
    matte: np.ndarray | None = None
    split: dict[str, np.ndarray] | None = None


class Image(NamedTuple):
    """pixels (H, W, C), and the header of each part of the file that will hold them.

    with_loss: whether its compression may change pixels a little.
    """

    pixels: np.ndarray
    headers: list[oiio.ImageSpec]
    with_loss: bool = False


class Output(ABC):
    """name: in the recipe's `also`, in the notes of frames and in the manifest."""

    name: ClassVar[str]

    def bytes_per_pixel(self, shot: Shot) -> float:
        """Estimated bytes on the disk for a pixel of a frame."""
        return 0.0

    def manifest(self, shot: Shot) -> dict[str, Any]:
        """What the manifest says of this format beside its files; {} for nothing."""
        return {}


class FrameOutput(Output):
    """An image for each frame: FOLDER/STEM.####.EXTENSION."""

    folder: ClassVar[str]
    stem: ClassVar[str]

    @abstractmethod
    def extension(self, shot: Shot) -> str:
        """Without the dot."""

    @abstractmethod
    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        """What the file of a frame holds."""

    def path(self, shot: Shot, frame: int) -> Path:
        return shot.dir / self.folder / f"{self.stem}.{frame_number(frame)}.{self.extension(shot)}"

    @property
    def unfinished(self) -> str:
        """Pattern of what a killed write left, within the delivery."""
        return f"{self.folder}/{self.stem}.*.part.*"


class LayerPart(Output):
    """A further part of the edit's EXR files, which hosts that know of one part do not see."""

    channels: ClassVar[tuple[str, ...]]

    @abstractmethod
    def pixels(self, frame: int, pixels: FramePixels) -> np.ndarray:
        """(H, W, len(channels)) of the layer's type. Raises ValueError where they lack."""

    def bytes_per_pixel(self, shot: Shot) -> float:
        return len(self.channels) * shot.formats.dtype.itemsize * (LAYER_PACKS_TO if shot.formats.packed else 1)


class ShotOutput(Output):
    """One file for the whole shot, written at the end from the layers as they were delivered."""

    file: ClassVar[str]

    @abstractmethod
    def write(self, shot: Shot, layers: Iterator[np.ndarray]) -> None:
        """Write `path`, of premultiplied layers (H, W, 4), one a frame of the plate.

        Raises OSError where the file would not hold them; there is then no file.
        """

    def path(self, shot: Shot) -> Path:
        return shot.dir / self.file

    @property
    def unfinished(self) -> str:
        """Pattern of what a killed write left, within the delivery."""
        name = Path(self.file)
        return f"{name.stem}.part{name.suffix}"


def frame_number(frame: int) -> str:
    """Four digits at least, the sign apart: 1001, 0007, -0005."""
    return f"{frame:04d}"
