"""File headers of the delivery: what of the plate's metadata stays true, and what is new."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import OpenImageIO as oiio

# How the plate's own file was stored, and figures of its pixels.
_STORAGE = (
    "compression", "CompressionQuality", "planarconfig", "Orientation", "tile*", "thumbnail_*",
    "openexr:*", "tiff:*", "png:*", "jpeg:*", "dpx:EndOf*", "dpx:Version",
    "chunkCount", "dwaCompressionLevel", "multiView", "view", "name", "type", "version",
    "textureformat", "acesImageContainerFlag", "Exif:Pixel[XY]Dimension",
)  # fmt: skip
# What the plate's colours mean; the layer's mean something else.
_COLOR = ("ICCProfile*", "CICP", "colorInteropID", "Exif:ColorSpace", "dpx:*", "chromaticities")

# What OpenImageIO calls them; Rec.709 primaries both.
_LAYER_SPACES = {"linear": "lin_rec709", "srgb": "srgb_tx"}


@dataclass(frozen=True)
class Formats:
    """How files hold the layer: see `vera.core.recipe.EditRecipe`."""

    layer_type: str = "half"
    compression: str = "zip"
    also: tuple[str, ...] = ()

    @property
    def dtype(self):
        return {"half": np.dtype(np.float16), "float": np.dtype(np.float32)}[self.layer_type]

    @property
    def channels(self):
        return ("R", "G", "B", "A", "matte.A") if "matte" in self.also else ("R", "G", "B", "A")


def layer_headers(plate, frame, recipe_hash, blending, formats=Formats()):
    """EXR, for the space that the layer is laid over in: of one part, or of two where the matte is asked for.

    The matte's channel has its layer's name in its own, `matte.A`, as OpenEXR advises; to Nuke, which else
    takes the parts' names for layers', that one dot says that it need not.
    """
    layer = _layer_header(plate, frame, recipe_hash, blending, formats)
    if "matte" not in formats.also:
        return [layer]
    matte = layer.copy()
    _set_pixels(matte, formats.layer_type, ("matte.A",))
    for part, name in ((layer, "rgba"), (matte, "matte")):
        part.attribute("oiio:subimagename", name)
    return [layer, matte]


def _layer_header(plate, frame, recipe_hash, blending, formats):
    spec = _plate_header(plate, frame, drop=(*_STORAGE, *_COLOR, "oiio:*", "nuke/full_layer_names"))
    _set_pixels(spec, formats.layer_type, "RGBA")
    spec.attribute("compression", formats.compression)
    space = "srgb" if blending.name == "encoded" else blending.space.name
    if blending.space.primaries:
        spec.attribute("chromaticities", oiio.TypeDesc("float[8]"), blending.space.primaries)
    spec.attribute("oiio:ColorSpace", _LAYER_SPACES.get(space, space))
    spec.attribute("vera/recipe", recipe_hash)
    spec.attribute("vera/blendSpace", blending.name)
    spec.attribute("vera/colorSpace", space)
    return spec


def composite_header(plate, frame, extension, compression="zip"):
    """The plate's type and channels, in a file with this extension; the compression is EXR's."""
    spec = _plate_header(plate, frame, drop=_STORAGE)
    keeps_alpha_apart = spec.get_int_attribute("oiio:UnassociatedAlpha") or extension == "png"
    color_space = spec.get_string_attribute("oiio:ColorSpace")
    _erase(spec, ("oiio:*",))
    pixel_type = plate.pixel_type
    bits = {"uint10": 10, "uint12": 12}.get(pixel_type)
    _set_pixels(spec, {"uint32": "uint"}.get(pixel_type, "uint16" if bits else pixel_type), plate.channels)
    if color_space:
        spec.attribute("oiio:ColorSpace", color_space)
    if bits:
        spec.attribute("oiio:BitsPerSample", bits)
    if keeps_alpha_apart and "A" in plate.channels:
        spec.attribute("oiio:UnassociatedAlpha", 1)
    if extension in ("exr", "tif", "tiff"):
        spec.attribute("compression", compression if extension == "exr" else "zip")
    return spec


def _plate_header(plate, frame, drop):
    """The plate's header without what would lie; a bare one for a movie's frame."""
    spec = plate.spec(frame)
    spec = spec.copy() if spec else oiio.ImageSpec(plate.width, plate.height, 3, "half")
    _erase(spec, drop)
    if plate.fps and spec.getattribute("FramesPerSecond") is None:
        rate = (plate.fps.numerator, plate.fps.denominator)
        spec.attribute("FramesPerSecond", oiio.TypeRational, rate)
    spec.attribute("PixelAspectRatio", float(plate.pixel_aspect))
    return spec


def _erase(spec, patterns):
    for name in [attribute.name for attribute in spec.extra_attribs]:
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            spec.erase_attribute(name)


def _set_pixels(spec, pixel_type, channels):
    spec.channelformats = ()
    spec.set_format(pixel_type)
    spec.nchannels = len(channels)
    spec.channelnames = tuple(channels)
    spec.alpha_channel = channels.index("A") if "A" in channels else -1
    spec.z_channel = -1
    spec.tile_width = spec.tile_height = spec.tile_depth = 0
