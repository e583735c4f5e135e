"""png/edit.####.png: the layer in 16 bits, straight colour, sRGB-encoded, with alpha as in the EXR."""

import numpy as np
import OpenImageIO as oiio

from vera.core.layer.blend_space import Blending
from vera.core.layer.outputs.display import straight
from vera.core.layer.outputs.header import set_origin, store_quickly_as_png
from vera.core.layer.outputs.output import LAYER_PACKS_TO, FrameOutput, FramePixels, Image, Shot

_BYTES = 8  # bytes per pixel: four channels of 16 bits


class Png(FrameOutput):
    name, folder, stem = "png", "png", "edit"

    def extension(self, shot: Shot) -> str:
        return "png"

    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        return Image(png_codes(pixels.layer, shot.blending), [png_header(shot)])

    def bytes_per_pixel(self, shot: Shot) -> float:
        return _BYTES * LAYER_PACKS_TO


def png_codes(layer: np.ndarray, blending: Blending) -> np.ndarray:
    """The layer as 16-bit codes (H, W, 4) uint16, straight; alpha is exactly 0 and 65535 where it was 0 and 1."""
    values = np.concatenate([straight(layer, blending), layer[..., 3:].astype(np.float32)], -1)
    return np.rint(values * 65535).astype(np.uint16)


def png_header(shot: Shot) -> oiio.ImageSpec:
    plate = shot.plate
    spec = oiio.ImageSpec(plate.width, plate.height, 4, "uint16")
    spec.attribute("oiio:UnassociatedAlpha", 1)
    spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    spec.attribute("PixelAspectRatio", float(plate.pixel_aspect))
    set_origin(spec, shot.origin)
    store_quickly_as_png(spec)
    return spec
