"""edit/edit.####.exr: the layer, premultiplied RGBA, for an over on the plate, with further parts on request."""

from typing import Any

import numpy as np
import OpenImageIO as oiio

from vera.core.layer.outputs.header import COLOR, STORAGE, plate_header, set_origin, set_pixels
from vera.core.layer.outputs.output import LAYER_PACKS_TO, FrameOutput, FramePixels, Image, Shot

CHANNELS = ("R", "G", "B", "A")
# OpenImageIO's names of the spaces, both with Rec.709 primaries.
_INTEROP_NAMES = {"linear": "lin_rec709", "srgb": "srgb_tx"}


class EditExr(FrameOutput):
    name, folder, stem = "edit", "edit", "edit"

    def extension(self, shot: Shot) -> str:
        return "exr"

    def image(self, shot: Shot, frame: int, pixels: FramePixels) -> Image:
        parts = [part.pixels(frame, pixels) for part in shot.parts]
        return Image(np.concatenate([pixels.layer, *parts], -1) if parts else pixels.layer, layer_headers(shot, frame))

    def bytes_per_pixel(self, shot: Shot) -> float:
        return len(CHANNELS) * shot.formats.dtype.itemsize * (LAYER_PACKS_TO if shot.formats.packed else 1)

    def manifest(self, shot: Shot) -> dict[str, Any]:
        return {
            "pixel_type": shot.formats.layer_type,
            "channels": [*CHANNELS, *(channel for part in shot.parts for channel in part.channels)],
            "compression": shot.formats.layer_compression,
            "premultiplied": True,
            "space": _space_name(shot),
        }


def layer_headers(shot: Shot, frame: int) -> list[oiio.ImageSpec]:
    """EXR headers of the layer and its further parts, for the space that the layer is laid over in.

    The channels of a further part begin with its name (`matte.A`), as OpenEXR recommends. Nuke's own attribute for the
    part's name is left out, because the channel names are enough.
    """
    layer = layer_header(shot, frame)
    headers = [layer]
    for part in shot.parts:
        header = layer.copy()
        set_pixels(header, shot.formats.layer_type, part.channels)
        header.attribute("oiio:subimagename", part.name)
        headers.append(header)
    if shot.parts:
        layer.attribute("oiio:subimagename", "rgba")
    return headers


def layer_header(shot: Shot, frame: int) -> oiio.ImageSpec:
    """The EXR header of one premultiplied RGBA layer in its blending space."""
    spec = plate_header(shot.plate, frame, drop=(*STORAGE, *COLOR, "oiio:*", "nuke/full_layer_names"))
    set_pixels(spec, shot.formats.layer_type, CHANNELS)
    spec.attribute("compression", shot.formats.layer_compression)
    space, primaries = _space_name(shot), shot.blending.space.primaries
    if primaries:
        spec.attribute("chromaticities", oiio.TypeDesc("float[8]"), primaries)
    spec.attribute("oiio:ColorSpace", _INTEROP_NAMES.get(space, space))
    spec.attribute("vera/recipe", shot.recipe_hash)
    spec.attribute("vera/blendSpace", shot.blending.name)
    spec.attribute("vera/colorSpace", space)
    set_origin(spec, shot.origin)
    return spec


def _space_name(shot: Shot) -> str:
    return "srgb" if shot.blending.name == "encoded" else shot.blending.space.name
