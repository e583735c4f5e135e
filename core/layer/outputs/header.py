"""File headers of the delivery: the plate's metadata, without the attributes that are not true of a delivered file."""

import functools
from collections.abc import Iterable
from fnmatch import fnmatchcase

import OpenImageIO as oiio

from vera.core.layer.origin import Origin
from vera.core.plate.source import Plate
from vera.core.plate.timecode import timecode_words

# Patterns of attributes that describe how the plate's file was stored, or statistics of its pixels.
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
# Patterns of attributes that state the plate's colour space. The layer has another one.
COLOR = ("ICCProfile*", "CICP", "colorInteropID", "Exif:ColorSpace", "dpx:*", "chromaticities")

PNG_LEVEL = 1  # compression level of deflate, 1 to 9; raising it makes PNG files smaller and writing slower
PNG_FILTER = 32  # libpng's PNG_FILTER_UP: a row is stored as its difference from the row above


def plate_header(plate: Plate, frame: int, drop: Iterable[str]) -> oiio.ImageSpec:
    """The header of a plate frame, without the attributes that match `drop`.

    Frame rate, pixel aspect and the frame's timecode are added. A movie's frame has no header of its own and gets a
    new one.
    """
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
    """Add the provenance attributes (program, model, weights). DPX and TIFF can store only the program."""
    for name, value in origin.attributes().items():
        spec.attribute(name, value)


def store_quickly_as_png(spec: oiio.ImageSpec) -> None:
    """Select the fastest PNG compression.

    For film with grain, writing takes a seventh of the time of libpng's defaults (level 6, the best filter for each
    row), and the file is 8 % larger.
    """
    spec.attribute("png:compressionLevel", PNG_LEVEL)
    spec.attribute("png:filter", PNG_FILTER)


def erase(spec: oiio.ImageSpec, patterns: Iterable[str]) -> None:
    """Remove the attributes whose names match one of the shell patterns."""
    patterns = tuple(patterns)
    for name in [attribute.name for attribute in spec.extra_attribs]:
        if _matches(name, patterns):
            spec.erase_attribute(name)


@functools.lru_cache(4096)  # every frame has the same names
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def set_pixels(spec: oiio.ImageSpec, pixel_type: str, channels: Iterable[str]) -> None:
    """Set the pixel type and the channels, and store the image as scanlines, not as tiles."""
    channels = tuple(channels)
    spec.channelformats = ()
    spec.set_format(pixel_type)
    spec.nchannels = len(channels)
    spec.channelnames = channels
    spec.alpha_channel = channels.index("A") if "A" in channels else -1
    spec.z_channel = -1
    spec.tile_width = spec.tile_height = spec.tile_depth = 0
