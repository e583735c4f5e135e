"""The space in which a sequence blends, and the colour settings of a layer strip for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .host_rules import RefusedError

if TYPE_CHECKING:
    import bpy

# Blending spaces of layers. Alpha Over works on values in the sequencer's space, so a layer must be made for it.
# One layer for linear light fits every linear space.
ENCODED, LINEAR = "encoded", "linear"
_LINEAR_NAMES = ("ACEScg", "ACES2065-1", "Linear", "scene_linear", "lin_rec709")

# Blender's name of a strip's colour space -> the core's.
_PLATE_SPACES = {"sRGB": "srgb", "Linear Rec.709": "linear", "Linear": "linear"}


def is_linear(name: str) -> bool:
    return name in _LINEAR_NAMES or name.startswith("Linear ")


def blending_space(scene: bpy.types.Scene) -> str:
    """ "encoded" or "linear". Raises RefusedError for another space, for which no layer can be made."""
    name = scene.sequencer_colorspace_settings.name
    if name == "sRGB":
        return ENCODED
    if is_linear(name):
        return LINEAR
    raise RefusedError(
        f"{scene.name}: the sequencer blends in {name}, for which no layer can be made;"
        " choose sRGB or Linear Rec.709 under Render > Color Management > Sequencer"
    )


def plate_space(strip: bpy.types.Strip) -> str | None:
    """The core's name of the strip's colour space; None if the file itself states it."""
    name = strip.colorspace_settings.name
    if strip.type == "MOVIE" and name == "sRGB" or not name or name in ("Non-Color", "Raw"):
        return None
    return _PLATE_SPACES.get(name, name)


def read_layer_as(strip: bpy.types.Strip, blend_space: str, plate_colorspace: str | None = None) -> None:
    """Set a layer strip's colour settings so that Alpha Over in the sequencer equals the core's composite.

    An encoded layer is in the sequencer's own sRGB; with that setting Blender does not convert it. A layer for
    linear light has the plate's primaries.
    """
    linear = plate_colorspace if plate_colorspace and is_linear(plate_colorspace) else "Linear Rec.709"
    strip.colorspace_settings.name = "sRGB" if blend_space == ENCODED else linear
    strip.alpha_mode = "PREMUL"
    strip.blend_type = "ALPHA_OVER"
