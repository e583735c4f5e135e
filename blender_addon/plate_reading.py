"""Decide how a strip's picture is read: from its own files, or rendered first.

The core reads the strip's files ("plain") only if every check confirms that the strip shows their pixels. Placement and
opacity, with their keyframes, can be copied exactly to the layer. Otherwise the strip is rendered first (see stage.py).
Strips that neither way can reproduce are refused with a message.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import animation, host, media, opaque
from .host_rules import RefusedError

if TYPE_CHECKING:
    import bpy

# Relative difference of frame rates; raising it makes 29.97 and 30 frames a second count as equal.
RATE_TOLERANCE = 2e-4
# Properties that a layer copies from its source strip if the plate is the strip's own file: name -> neutral value.
# Opacity is copied too, see `animation.OPACITY`.
LOOK = {
    "transform.scale_x": 1.0,
    "transform.scale_y": 1.0,
    "transform.offset_x": 0.0,
    "transform.offset_y": 0.0,
    "transform.rotation": 0.0,
    "transform.origin": [0.5, 0.5],
    "transform.filter": None,
    "crop.min_x": 0,
    "crop.max_x": 0,
    "crop.min_y": 0,
    "crop.max_y": 0,
    "use_flip_x": False,
    "use_flip_y": False,
}
# Properties that change the picture and that a layer cannot copy.
_GRADED = ("color_multiply", "color_saturation", "strobe", "use_reverse_frames")
_BLENDS = ("REPLACE", "ALPHA_OVER", "CROSS")  # blend types with which a layer composites exactly


@dataclass
class PlateReading:
    """How a strip's picture is read.

    top: the strip that shows the picture: the last effect over the strip, or the strip itself
    why: why the picture differs from the strip's files, in a few words; "" if it does not
    mixed: effects that mix the strip with others; the layer lies below them, in the same meta strip
    """

    top: bpy.types.Strip
    why: str = ""
    mixed: list[bpy.types.Strip] = field(default_factory=list)


def decide(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> PlateReading:
    """How a strip is read over a range of timeline frames. Raises RefusedError."""
    chain, mixed = _effects(scene, strip, frames)
    top = chain[-1] if chain else strip
    _refuse_unreproducible(scene, strip, top, mixed)
    _refuse_below_multicam(scene, top, frames)
    _refuse_lost_keyframes(scene, strip, top)
    reasons = (check(scene, strip, frames) for check in _CHECKS)
    why = next(filter(None, reasons), "") or (f"{_article(chain[0].type)} effect" if chain else "")
    return PlateReading(top, why, mixed)


def transparency_warning(scene: bpy.types.Scene, strip: bpy.types.Strip, top: bpy.types.Strip, frames: range) -> str:
    """A warning, one line, if a layer would change half transparent pixels with nothing below them; else "".

    Blender premultiplies 8-bit pixels in linear light and float pixels in the sequencer's space, and with a layer all
    pixels are float. Raises RefusedError if more than the picture's edges would change.
    """
    if opaque.is_float(strip) or opaque.lies_on_opaque(scene, top, frames):
        return ""
    fix = f"put something opaque below, or turn on Convert Float of {strip.name}"
    if is_faded(scene, top):
        raise RefusedError(f"{top.name}: is half transparent over nothing, which a layer would change; {fix}")
    if opaque.may_show_through(scene, strip, frames):
        raise RefusedError(f"{strip.name}: may be half transparent over nothing, which a layer would change; {fix}")
    if not opaque.fills_frame(scene, strip):
        return f"{strip.name}: its edges over nothing may change by some code values; {fix}"
    return ""


def strips_without_opacity(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> list[str]:
    """Names of the strips that are rendered opaque for the plate, because the layer copies their opacity."""
    chain, _ = _effects(scene, strip, frames)
    return [strip.name, *(effect.name for effect in chain)]


def is_faded(scene: bpy.types.Scene, strip: bpy.types.Strip) -> bool:
    """Whether the strip's own opacity is below 1 at some frame."""
    return strip.blend_alpha != 1 or animation.OPACITY in animation.moving(scene, strip)


def top_of(scene: bpy.types.Scene, strip: bpy.types.Strip) -> bpy.types.Strip:
    """The strip whose opacity applies to the whole picture."""
    chain, _ = _effects(scene, strip, range(host.left(strip), host.right(strip)))
    return chain[-1] if chain else strip


def value(strip: bpy.types.Strip, path: str) -> Any:
    """The value of a property by its path; None if the strip lacks it."""
    for name in path.split("."):
        strip = getattr(strip, name, None)
    return list(strip) if hasattr(strip, "__len__") and not isinstance(strip, str) else strip


def look_hash(scene: bpy.types.Scene, strip: bpy.types.Strip) -> str:
    """A hash of the strip's look without its opacity. While it is unchanged, a rendered plate is up to date."""
    start = host.content_start(strip)
    chain, _ = _effects(scene, strip, range(host.left(strip), host.right(strip)))
    curves = animation.curves(scene, strip)
    values = {  # the keys are part of the hashes in saved files
        "look": [
            _rounded(max(1, strip.strobe) if path == "strobe" else value(strip, path)) for path in (*LOOK, *_GRADED)
        ],
        "curves": {
            path: animation.digest(c, start) for path, c in curves.items() if path not in (animation.OPACITY, "mute")
        },
        "effects": [effect.type for effect in chain],
        "modifiers": [modifier.type for modifier in strip.modifiers if not modifier.mute],
    }
    driven = animation.drivers(scene, strip)
    values["drivers"] = {path: curve.driver.expression for path, curve in driven.items()}
    # An animated property has another value at each frame, so its curve or driver is hashed instead.
    constant = [path not in curves and path not in driven for path in (*LOOK, *_GRADED)]
    values["look"] = [value for value, kept in zip(values["look"], constant) if kept]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return round(value, 4) if isinstance(value, float) else value


def _kind(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    return None if strip.type in ("MOVIE", "IMAGE") else f"{_article(strip.type)} strip"


def _modifiers(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    return "modifiers" if any(not modifier.mute for modifier in strip.modifiers) else None


def _color(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    changed = strip.color_multiply != 1 or strip.color_saturation != 1 or getattr(strip, "multiply_alpha", False)
    return "colour settings" if changed else None


def _interlaced(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    return "deinterlacing" if getattr(strip, "use_deinterlace", False) else None


def _animated(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    """The first animation that the layer cannot copy keyframe by keyframe, in words; None if there is none."""
    if animation.layered(scene, strip):
        return "nonlinear animation"
    driven = animation.drivers(scene, strip)
    if driven:
        return f"a driver of {sorted(driven)[0]}"
    curves = animation.curves(scene, strip)
    for path in sorted(animation.moving(scene, strip)):
        if path not in animation.COPIED or not animation.copyable(curves[path]):
            return f"animation of {path}"
    return None


def _rate(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    """Why a movie's frame rate differs from the scene's, in words; None if it does not.

    Such a movie shows frames twice or skips some.
    """
    if strip.type != "MOVIE":
        return None
    own = strip.fps or (strip.elements[0].orig_fps if strip.elements else 0)
    scenes = scene.render.fps / scene.render.fps_base
    return (
        f"{own:g} frames a second in a scene of {scenes:g}" if own and abs(own / scenes - 1) > RATE_TOLERANCE else None
    )


def _speed(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    if strip.type != "MOVIE":
        return None  # an image strip names a file for each frame
    return "its speed" if strip.strobe > 1 or media.is_retimed(strip) else None


def _stream(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    return "a further video stream of its file" if getattr(strip, "stream_index", 0) > 0 else None


def _names(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> str | None:
    return media.why_no_sequence(strip, frames) if strip.type == "IMAGE" else None


_CHECKS = (_kind, _modifiers, _color, _interlaced, _animated, _rate, _speed, _stream, _names)


def _effects(
    scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range
) -> tuple[list[bpy.types.Strip], list[bpy.types.Strip]]:
    """(effects on the strip alone, in order; effects that mix it with others), among those visible in the frames."""
    chain, mixed, grown = [], [], True
    while grown:
        grown = False
        for other in host.all_strips(scene):
            inputs = media.inputs(other)
            if not inputs or other.mute or other in chain or other in mixed or not _overlaps(other, frames):
                continue
            ours = [i for i in inputs if i == strip or i in chain]
            if ours and len(ours) == len(inputs):
                chain.append(other)
                grown = True
            elif ours:
                mixed.append(other)
                grown = True
    return chain, mixed


def _refuse_unreproducible(
    scene: bpy.types.Scene, strip: bpy.types.Strip, top: bpy.types.Strip, mixed: list[bpy.types.Strip]
) -> None:
    if not mixed and top.blend_type not in _BLENDS:
        mode = top.blend_type.replace("_", " ").title()
        raise RefusedError(
            f"{top.name}: is composited by {mode}, which a layer cannot reproduce; set its blend to Alpha Over"
        )
    if scene.render.use_multiview and getattr(strip, "use_multiview", False):
        raise RefusedError(f"{strip.name}: is stereo, and a layer is one picture for both eyes; edit each view's files")
    if animation.OPACITY in animation.drivers(scene, top):
        raise RefusedError(f"{top.name}: a driver sets its opacity; set keyframes instead")
    if mixed and is_faded(scene, top):
        raise RefusedError(f"{top.name}: has an opacity of its own below {mixed[0].name}; set it to 1")
    if mixed and media.inputs(top):
        raise RefusedError(f"{top.name}: lies below {mixed[0].name}; make a meta strip of {top.name} first")


def _refuse_lost_keyframes(scene: bpy.types.Scene, strip: bpy.types.Strip, top: bpy.types.Strip) -> None:
    """Refuse keyframes of a scene strip's opacity before 5.0, see host.RENDERS_KEYS_OF_SCENES."""
    if host.RENDERS_KEYS_OF_SCENES or animation.OPACITY not in animation.moving(scene, top):
        return
    inside = [s for s in opaque.strips_in(strip) if s.type == "SCENE"]
    if inside:
        words = f"{top.name}: Blender before 5.0 renders keyframes of a scene strip's opacity at a wrong frame"
        raise RefusedError(f"{words}; render {inside[0].name} to files and fade these")


def _refuse_below_multicam(scene: bpy.types.Scene, top: bpy.types.Strip, frames: range) -> None:
    """Refuse a strip below a multicam strip, which shows one channel and hides the layer's."""
    for other in host.strips(host.home(scene, top)):
        if other.type != "MULTICAM" or other.mute or other.channel <= top.channel or not _overlaps(other, frames):
            continue
        if other.multicam_source == top.channel or "multicam_source" in animation.moving(scene, other):
            words = f"{top.name}: is shown by {other.name}, which would hide its layer"
            raise RefusedError(f"{words}; make a meta strip of {top.name} and edit in it")


def _overlaps(strip: bpy.types.Strip, frames: range) -> bool:
    return host.left(strip) <= frames[-1] and frames[0] < host.right(strip)


def _article(kind: str) -> str:
    word = kind.replace("_", " ").lower()
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"
