"""composite/composite.####.*: the layer over the plate, in the plate's own type, with its bits where alpha is 0."""

from typing import Any

import numpy as np
import OpenImageIO as oiio

from vera.core.layer.outputs.header import (
    STORAGE,
    erase,
    plate_header,
    set_origin,
    set_pixels,
    store_quickly_as_png,
)
from vera.core.layer.outputs.output import COMPOSITE_PACKS_TO, FrameOutput, FramePixels, Image, Shot
from vera.core.plate.color_space import profile_of_chunks
from vera.core.plate.source import Plate

# Formats that store an integer type exactly; the first one is used if the plate's own format cannot.
_HOLDERS = {
    "uint8": ("png", "tif", "tiff", "dpx"),
    "uint16": ("png", "tif", "tiff", "dpx"),
    "uint10": ("dpx", "tif", "tiff"),
    "uint12": ("dpx", "tif", "tiff"),
    "uint32": ("tif", "tiff"),
}


# Codes of movies (ITU-T H.273, tables 2 and 3) whose values a PNG without a tag would not be read as: BT.2020 and P3;
# linear, PQ and HLG.
_TAGGED_PRIMARIES, _TAGGED_TRANSFERS = (9, 12), (8, 16, 18)


class Composite(FrameOutput):
    name, folder, stem = "composite", "composite", "composite"

    def extension(self, shot: Shot) -> str:
        return composite_extension(shot.plate)

    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        return Image(pixels.composite, [composite_header(shot, frame)], shot.formats.is_lossy)

    def bytes_per_pixel(self, shot: Shot) -> float:
        size = len(shot.plate.channels) * shot.plate.dtype.itemsize
        return size * (COMPOSITE_PACKS_TO if shot.formats.packed else 1)

    def manifest(self, shot: Shot) -> dict[str, Any]:
        return {
            "pixel_type": shot.plate.pixel_type,
            "channels": list(shot.plate.channels),
            "format": self.extension(shot),
            **({"compression": shot.formats.compression} if self.extension(shot) == "exr" else {}),
        }


def composite_extension(plate: Plate) -> str:
    """The extension of a format that stores the plate's type exactly: the plate's own if it can."""
    if plate.pixel_type in ("half", "float"):
        return "exr"
    extension, holders = plate.extension.lstrip(".").lower(), _HOLDERS[plate.pixel_type]
    return extension if extension in holders else holders[0]


def composite_header(shot: Shot, frame: int) -> oiio.ImageSpec:
    """The plate's header, type and channels. EXR files get the compression of the formats."""
    plate, extension = shot.plate, composite_extension(shot.plate)
    spec = plate_header(plate, frame, drop=STORAGE)
    keeps_alpha_apart = spec.get_int_attribute("oiio:UnassociatedAlpha") or extension == "png"
    color_space = spec.get_string_attribute("oiio:ColorSpace")
    erase(spec, ("oiio:*",))
    bits = {"uint10": 10, "uint12": 12}.get(plate.pixel_type)
    stored_type = {"uint32": "uint"}.get(plate.pixel_type, "uint16" if bits else plate.pixel_type)
    set_pixels(spec, stored_type, plate.channels)
    if color_space:
        spec.attribute("oiio:ColorSpace", color_space)
    if bits:
        spec.attribute("oiio:BitsPerSample", bits)
    primaries, transfer = plate.color_codes or (None, None)
    if extension == "png" and (primaries in _TAGGED_PRIMARIES or transfer in _TAGGED_TRANSFERS):
        # The PNG holds the movie's codes. Without this tag (ITU-T H.273) viewers would take them for sRGB.
        spec.attribute("CICP", oiio.TypeDesc("int[4]"), (primaries, transfer, 0, 1))
    profile = profile_of_chunks(plate.file(frame)) if extension == plate.extension == "png" else None
    if profile:  # OpenImageIO's writer has no chunk for primaries
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), np.frombuffer(profile, np.uint8))
    if keeps_alpha_apart and "A" in plate.channels:
        spec.attribute("oiio:UnassociatedAlpha", 1)
    if extension == "png":
        store_quickly_as_png(spec)
    if extension in ("exr", "tif", "tiff"):
        spec.attribute("compression", shot.formats.compression if extension == "exr" else "zip")
    set_origin(spec, shot.origin)
    return spec
