"""The layers of a split one: folders of their own, or named parts of the edit's EXR files.

gain/gain.####.exr        RGB, by which the plate is multiplied; 1 where nothing is
shadow/shadow.####.exr, veil/veil.####.exr, object/object.####.exr    RGBA, premultiplied, laid over in this order
"""

from collections.abc import Iterable

import numpy as np

from vera.core.layer.outputs.edit import layer_header
from vera.core.layer.outputs.header import set_pixels
from vera.core.layer.outputs.output import LAYER_PACKS_TO, FrameOutput, FramePixels, Image, LayerPart, Shot

# In the order in which they are laid on the plate, and their channels.
SPLIT_LAYERS = {"gain": "RGB", "shadow": "RGBA", "veil": "RGBA", "object": "RGBA"}


def _layer_of(frame: int, pixels: FramePixels, name: str) -> np.ndarray:
    """Raises ValueError where it lacks."""
    if pixels.split is None or pixels.split[name].shape[:2] != pixels.layer.shape[:2]:
        raise ValueError(f"frame {frame}: the layer {name} lacks, or is not of the whole layer's size")
    return pixels.split[name].astype(pixels.layer.dtype)


class SplitFile(FrameOutput):
    """A layer as files of its own, in a folder of its name."""

    name: str  # type: ignore[misc]  # four of them share the class
    folder: str  # type: ignore[misc]
    stem: str  # type: ignore[misc]

    def __init__(self, name: str, channels: Iterable[str]) -> None:
        self.name = self.folder = self.stem = name
        self.channels = tuple(channels)

    def extension(self, shot: Shot) -> str:
        return "exr"

    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        header = layer_header(shot, frame)
        set_pixels(header, shot.formats.layer_type, self.channels)
        return Image(_layer_of(frame, pixels, self.name), [header])

    def bytes_per_pixel(self, shot: Shot) -> float:
        return len(self.channels) * shot.formats.dtype.itemsize * (LAYER_PACKS_TO if shot.formats.packed else 1)


class SplitPart(LayerPart):
    """A layer as a part of the edit's EXR files."""

    name: str  # type: ignore[misc]
    channels: tuple[str, ...]  # type: ignore[misc]

    def __init__(self, name: str, channels: Iterable[str]) -> None:
        self.name = name
        self.channels = tuple(f"{name}.{channel}" for channel in channels)

    def pixels(self, frame: int, pixels: FramePixels) -> np.ndarray:
        return _layer_of(frame, pixels, self.name)


SPLIT_FILES = tuple(SplitFile(name, channels) for name, channels in SPLIT_LAYERS.items())
SPLIT_PARTS = tuple(SplitPart(name, channels) for name, channels in SPLIT_LAYERS.items())
