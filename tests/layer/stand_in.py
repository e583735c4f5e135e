"""A plate from memory with the face of `vera.core.plate.source.Plate`."""

import hashlib
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from vera.core.layer.blend_space import Blending
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import LINEAR, SRGB
from vera.kernels.over import over

BLENDINGS = {name: Blending(name, LINEAR) for name in ("linear", "encoded")}

DTYPES = {
    "uint8": np.uint8,
    "uint10": np.uint16,
    "uint12": np.uint16,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "half": np.float16,
    "float": np.float32,
}


def color_of(plate, space):
    return PlateColor({"linear": LINEAR, "srgb": SRGB}[space], plate.pixel_type)


class StandInPlate:
    path = "shot/plate.####"

    def __init__(
        self,
        pixel_type="half",
        extension="exr",
        frames=(1001, 1002, 1003),
        channels=3,
        size=(20, 30),
        is_movie=False,
        spec=None,
        fps=Fraction(24000, 1001),
        pixel_aspect=1.0,
    ):
        self.pixel_type, self.extension, self.frames = pixel_type, extension, frames
        self.channels = tuple("RGBA"[:channels])
        self.height, self.width = size
        self.dtype = np.dtype(DTYPES[pixel_type])
        self.fps, self.pixel_aspect, self.is_movie = fps, pixel_aspect, is_movie
        self.timecode, self.color_codes = None, None
        self._spec, self.changed = spec, set()

    def file(self, frame):
        return Path(os.devnull)

    def read(self, frame):
        rng = np.random.default_rng(frame + 10000)
        values = rng.random((self.height, self.width, len(self.channels)))
        if self.pixel_type in ("half", "float"):
            return (values * 2).astype(self.dtype)
        bits = int(self.pixel_type[4:])
        code = np.rint(values * (2**bits - 1)).astype(self.dtype)
        if bits in (10, 12):  # as OpenImageIO reads them from DPX
            code = (code << (16 - bits)) | (code >> (2 * bits - 16))
        return code

    def spec(self, frame):
        if self.is_movie:
            return None
        if self._spec:
            return self._spec(frame)
        kind = {"uint10": "uint16", "uint12": "uint16", "uint32": "uint"}
        return oiio.ImageSpec(self.width, self.height, len(self.channels), kind.get(self.pixel_type, self.pixel_type))

    def fingerprint(self, frame):
        content = self.read(frame).tobytes() + bytes(frame in self.changed)
        return hashlib.sha256(content).hexdigest()


def soft_disc(height, width):
    """A premultiplied half layer: a soft disc, exact 0 around it and exact 1 within."""
    y, x = np.mgrid[:height, :width]
    distance = np.hypot((y - height / 2) / height, (x - width / 2) / width)
    alpha = np.clip(2 - 6 * distance, 0, 1)[..., None]
    return np.concatenate([alpha * [0.8, 0.3, 0.05], alpha], -1).astype(np.float16)


def make_frame(plate, frame):
    """Layer and composite, as the core makes them."""
    layer = soft_disc(plate.height, plate.width)
    encoding = "linear" if plate.pixel_type in ("half", "float") else "srgb"
    bits = {"uint10": 10, "uint12": 12}.get(plate.pixel_type)
    return layer, over(plate.read(frame), layer, encoding, "linear", bits)
