"""Keyframes and drivers of strips: find animated properties, and copy keyframes to layers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import bpy

# Properties whose keyframes a layer can carry: the same curve on the layer is the same movement of its picture.
OPACITY = "blend_alpha"
PLACEMENT = (
    "transform.scale_x",
    "transform.scale_y",
    "transform.offset_x",
    "transform.offset_y",
    "transform.rotation",
    "crop.min_x",
    "crop.max_x",
    "crop.min_y",
    "crop.max_y",
)
COPIED = (*PLACEMENT, OPACITY, "mute")
# Properties that change no pixel.
_SILENT = ("volume", "pan", "name", "lock", "select", "color_tag", "channel", "pitch")
_OF_STRIP = re.compile(r'(sequence_editor\.(?:strips|sequences)(?:_all)?)\["((?:[^"\\]|\\.)*)"\]\.(.+)')
_POINT = ("interpolation", "easing", "amplitude", "period", "back", "handle_left_type", "handle_right_type")


def curves(scene: bpy.types.Scene, strip: bpy.types.Strip) -> dict[str, bpy.types.FCurve]:
    """The strip's fcurves: {property path: fcurve}, of the scene's action."""
    bag = _bag(scene)
    return _named(bag.fcurves if bag else (), strip)


def drivers(scene: bpy.types.Scene, strip: bpy.types.Strip) -> dict[str, bpy.types.FCurve]:
    """The strip's drivers: {property path: driver curve}."""
    data = scene.animation_data
    return _named(data.drivers if data else (), strip)


def layered(scene: bpy.types.Scene, strip: bpy.types.Strip) -> bool:
    """Whether an action on a track of the nonlinear animation animates the strip."""
    data = scene.animation_data
    tracks = [t for t in data.nla_tracks if not t.mute] if data else []
    actions = {s.action for track in tracks for s in track.strips if s.action}
    return any(_named(found, strip) for action in actions for found in _all_curves(action))


def moving(scene: bpy.types.Scene, strip: bpy.types.Strip) -> set[str]:
    """Paths of the strip's animated properties that change its picture."""
    names = {*curves(scene, strip), *drivers(scene, strip)}
    return {name for name in names if name.split(".")[0].split("[")[0] not in _SILENT}


def copyable(curve: bpy.types.FCurve) -> bool:
    """Whether keyframes alone describe the curve: it has no modifiers and is not muted."""
    return not curve.modifiers and not curve.mute


def copy(
    scene: bpy.types.Scene, source_curve: bpy.types.FCurve, layer: bpy.types.Strip, path: str, shift: float = 0
) -> None:
    """Copy a curve's keyframes to the layer, `shift` frames later; they replace the layer's own."""
    bag = _bag(scene)
    remove(scene, layer, path)
    name = layer.name.replace("\\", "\\\\").replace('"', '\\"')
    # Up to 4.3 the collection has another name; the source's path contains it.
    collection = cast("re.Match[str]", _OF_STRIP.match(source_curve.data_path))[1]
    curve = bag.fcurves.new(f'{collection}["{name}"].{path}', index=0)
    curve.extrapolation = source_curve.extrapolation
    points = list(source_curve.keyframe_points)
    curve.keyframe_points.add(len(points))
    for new, old in zip(curve.keyframe_points, points):
        for attribute in _POINT:
            setattr(new, attribute, getattr(old, attribute))
        for attribute in ("co", "handle_left", "handle_right"):
            x, y = getattr(old, attribute)
            setattr(new, attribute, (x + shift, y))
    curve.update()


def remove(scene: bpy.types.Scene, strip: bpy.types.Strip, path: str) -> None:
    curve = curves(scene, strip).get(path)
    if curve is not None:
        _bag(scene).fcurves.remove(curve)


def digest(curve: bpy.types.FCurve, start: int) -> str:
    """A digest of a curve relative to a frame, equal for a strip and a copy that was moved with its keyframes."""
    told = [
        (
            round(p.co[0] - start, 3),
            *(round(float(v), 5) for v in (p.co[1], p.handle_left[1], p.handle_right[1])),
            p.interpolation,
        )
        for p in curve.keyframe_points
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _named(found: Iterable[bpy.types.FCurve], strip: bpy.types.Strip) -> dict[str, bpy.types.FCurve]:
    named = {}
    for curve in found:
        match = _OF_STRIP.match(curve.data_path)
        if match and re.sub(r"\\(.)", r"\1", match[2]) == strip.name:
            named[match[3]] = curve
    return named


def _bag(scene: bpy.types.Scene) -> Any:
    """The container of the scene's curves in any Blender version; None if nothing is animated."""
    data = scene.animation_data
    if data is None or data.action is None:
        return None
    slot = getattr(data, "action_slot", None)
    if slot is not None and hasattr(data.action, "layers"):  # from 4.4
        for layer in data.action.layers:
            for strip in layer.strips:
                bag = strip.channelbag(slot)
                if bag is not None:
                    return bag
        return None
    return data.action if hasattr(data.action, "fcurves") else None


def _all_curves(action: bpy.types.Action) -> list[Any]:
    if hasattr(action, "layers"):
        return [bag.fcurves for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [action.fcurves]
