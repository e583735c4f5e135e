"""The model's plain matte as a part of the edit's EXR files, channel `matte.A`."""

from dataclasses import replace

import numpy as np

from vera.core.layer.outputs.output import FramePixels, LayerPart


class Matte(LayerPart):
    name, channels = "matte", ("matte.A",)

    def pixels(self, frame: int, pixels: FramePixels) -> np.ndarray:
        """The model's alpha before the blending space, 0 where the layer's alpha is 0."""
        matte, layer = pixels.matte, pixels.layer
        if matte is None or matte.shape != layer.shape[:2]:
            raise ValueError(f"frame {frame}: the matte is missing, or not of the layer's size")
        return np.where(layer[..., 3] == 0, 0, matte).astype(layer.dtype)[..., None]

    def read_into(self, pixels: FramePixels, stored: np.ndarray) -> FramePixels:
        return replace(pixels, matte=stored[..., 0])
