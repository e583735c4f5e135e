"""Outputs of `--split`: one edit layer delivered as four, each in its own folder or as a named part of the edit's EXR.

gain/gain.####.exr        RGB factor on the plate; 1 where nothing changes
shadow/shadow.####.exr, veil/veil.####.exr, object/object.####.exr    RGBA, premultiplied, laid over in this order
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vera.core.layer.outputs.edit import layer_header
from vera.core.layer.outputs.header import set_pixels
from vera.core.layer.outputs.output import LAYER_PACKS_TO, FrameOutput, FramePixels, Image, LayerPart, Shot

# The four layers in the order in which they are applied to the plate, with their channels.
SPLIT_LAYERS = {"gain": "RGB", "shadow": "RGBA", "veil": "RGBA", "object": "RGBA"}


def _layer_of(frame: int, pixels: FramePixels, name: str) -> np.ndarray:
    """Pixels of the named layer, in the whole layer's type. Raises ValueError if it is missing or of another size."""
    if pixels.split is None or pixels.split[name].shape[:2] != pixels.layer.shape[:2]:
        raise ValueError(f"frame {frame}: the layer {name} is missing, or not of the whole layer's size")
    return pixels.split[name].astype(pixels.layer.dtype)


class SplitFile(FrameOutput):
    """One of the four layers as files in a folder of its own."""

    name: str  # type: ignore[misc]  # per instance: four layers share the class
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
    """One of the four layers as a part of the edit's EXR files."""

    name: str  # type: ignore[misc]
    channels: tuple[str, ...]  # type: ignore[misc]

    def __init__(self, name: str, channels: Iterable[str]) -> None:
        self.name = name
        self.channels = tuple(f"{name}.{channel}" for channel in channels)

    def pixels(self, frame: int, pixels: FramePixels) -> np.ndarray:
        return _layer_of(frame, pixels, self.name)

    def read_into(self, pixels: FramePixels, stored: np.ndarray) -> FramePixels:
        return replace(pixels, split={**(pixels.split or {}), self.name: stored})


SPLIT_FILES = tuple(SplitFile(name, channels) for name, channels in SPLIT_LAYERS.items())
SPLIT_PARTS = tuple(SplitPart(name, channels) for name, channels in SPLIT_LAYERS.items())
