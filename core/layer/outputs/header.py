"""File headers of the delivery: what of the plate's metadata stays true."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import OpenImageIO as oiio

from vera.core.layer.origin import Origin
from vera.core.plate.source import Plate
from vera.core.plate.timecode import timecode_words

# How the plate's own file was stored, and figures of its pixels.
STORAGE = (
    "compression",
    "CompressionQuality",
    "planarconfig",
    "Orientation",
    "tile*",
    "thumbnail_*",
    "openexr:*",
    "tiff:*",
    "png:*",
    "jpeg:*",
    "dpx:EndOf*",
    "dpx:Version",
    "chunkCount",
    "dwaCompressionLevel",
    "multiView",
    "view",
    "name",
    "type",
    "version",
    "textureformat",
    "acesImageContainerFlag",
    "Exif:Pixel[XY]Dimension",
)
# What the plate's colours mean; the layer's mean something else.
COLOR = ("ICCProfile*", "CICP", "colorInteropID", "Exif:ColorSpace", "dpx:*", "chromaticities")


def plate_header(plate: Plate, frame: int, drop: Iterable[str]) -> oiio.ImageSpec:
    """The plate's header without the attributes that match `drop`; a bare one for a movie's frame."""
    spec = plate.spec(frame)
    spec = spec.copy() if spec else oiio.ImageSpec(plate.width, plate.height, 3, "half")
    erase(spec, drop)
    if plate.fps and spec.getattribute("FramesPerSecond") is None:
        rate = (plate.fps.numerator, plate.fps.denominator)
        spec.attribute("FramesPerSecond", oiio.TypeRational, rate)
    spec.attribute("PixelAspectRatio", float(plate.pixel_aspect))
    words = timecode_words(plate.timecode, plate.fps, frame - 1) if plate.timecode else None
    if words:
        spec.attribute("smpte:TimeCode", oiio.TypeTimeCode, words)
    return spec


def set_origin(spec: oiio.ImageSpec, origin: Origin) -> None:
    """Say where the file comes from. DPX and TIFF have room for the program alone."""
    for name, value in origin.attributes().items():
        spec.attribute(name, value)


def store_quickly_as_png(spec: oiio.ImageSpec) -> None:
    """Deflate at its fastest, each row as its difference from the row above (libpng's PNG_FILTER_UP).

    Of film with grain a PNG is then written in a seventh of the time of libpng's own choice, level 6 with a filter
    chosen a row, and is 8 % larger. A higher level takes longer for smaller files.
    """
    spec.attribute("png:compressionLevel", 1)
    spec.attribute("png:filter", 32)


def erase(spec: oiio.ImageSpec, patterns: Iterable[str]) -> None:
    """Remove the attributes whose names match one of the patterns."""
    patterns = tuple(patterns)
    for name in [attribute.name for attribute in spec.extra_attribs]:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            spec.erase_attribute(name)


def set_pixels(spec: oiio.ImageSpec, pixel_type: str, channels: Iterable[str]) -> None:
    """Make it the header of scanlines of this type with these channels."""
    channels = tuple(channels)
    spec.channelformats = ()
    spec.set_format(pixel_type)
    spec.nchannels = len(channels)
    spec.channelnames = channels
    spec.alpha_channel = channels.index("A") if "A" in channels else -1
    spec.z_channel = -1
    spec.tile_width = spec.tile_height = spec.tile_depth = 0
