"""Find out where a strip is transparent, and whether anything lies below it there.

This matters only for half transparent pixels with nothing below (see `plate_reading.transparency_warning`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import bpy

from . import animation, host, media

_OVER = ("REPLACE", "ALPHA_OVER", "CROSS")  # blend types that hide what is below opaque pixels
_WHOLE_FRAME = ("COLOR", "SCENE", "META")  # types of strips that are always as large as the scene
_CHANGES_ALPHA = ("MASK",)  # types of modifiers


class Pixels(NamedTuple):
    """Properties of a media file. opaque: every pixel has an alpha of 1."""

    width: int
    height: int
    is_float: bool
    opaque: bool


_pixels_of_files: dict[tuple[str, int], Pixels] = {}  # by path and modification time in ns


def strips_in(strip: bpy.types.Strip) -> Iterator[bpy.types.Strip]:
    """The strip and, for a meta strip, all strips in it."""
    yield strip
    for part in host.strips(strip) if strip.type == "META" else ():
        yield from strips_in(part)


def is_float(strip: bpy.types.Strip) -> bool:
    """Whether the strip's media has float pixels; False for a strip without media."""
    return getattr(strip, "use_float", False) or any(p.is_float for p in _pixels(strip))


def lies_on_opaque(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> bool:
    """Whether every pixel below the strip is opaque in every frame, in its own meta strip or below that."""
    current: bpy.types.Strip | None = strip
    while current is not None:
        below = (s for s in host.strips(host.home(scene, current)) if s.channel < current.channel)
        if _cover(scene, below, frames):
            return True
        current = current.parent_meta()
    return False


def may_show_through(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> bool:
    """Whether the strip may have half transparent 8-bit pixels, apart from its own opacity and its edges."""
    if strip.type in ("IMAGE", "MOVIE"):
        return any(not p.opaque and not p.is_float for p in _pixels(strip))
    if strip.type == "META":
        contents, shown_frames = list(host.strips(strip)), frames
    elif strip.type == "SCENE" and strip.scene_input == "SEQUENCER" and strip.scene and strip.scene.sequence_editor:
        contents, scene = list(host.strips(strip.scene.sequence_editor)), strip.scene
        shown_frames = range(scene.frame_start, scene.frame_end + 1)
    else:
        return False  # a camera's pixels are floats
    return not _cover(scene, contents, shown_frames) and any(
        s.blend_alpha != 1
        or s.type not in ("IMAGE", "MOVIE", "COLOR", "SOUND")
        or may_show_through(scene, s, shown_frames)
        for s in contents
        if not s.mute
    )


def fills_frame(scene: bpy.types.Scene, strip: bpy.types.Strip) -> bool:
    """Whether the strip's picture covers the whole frame."""
    t, c = strip.transform, strip.crop
    settings = scene.render
    size = (settings.resolution_x, settings.resolution_y)
    moves = {path for path in animation.moving(scene, strip) if path.startswith(("transform", "crop"))}
    if t.rotation or moves or any((c.min_x, c.max_x, c.min_y, c.max_y)):
        return False
    pictures = [size] if strip.type in _WHOLE_FRAME else [p[:2] for p in _pixels(strip)]
    placement = ((t.scale_x, t.offset_x), (t.scale_y, t.offset_y))
    return bool(pictures) and all(
        side * scale / 2 - abs(offset) >= frame_side / 2 - 1e-3
        for picture in pictures
        for side, frame_side, (scale, offset) in zip(picture, size, placement)
    )


def _cover(scene: bpy.types.Scene, strips: Iterable[bpy.types.Strip], frames: range) -> bool:
    """Whether the strips together cover the whole frame with opaque pixels, at each of the frames."""
    covered: set[int] = set()
    for strip in strips:
        span = range(max(frames[0], host.left(strip)), min(frames[-1] + 1, host.right(strip)))
        if span and _is_opaque(scene, strip, span):
            covered.update(span)
    return covered.issuperset(frames)


def _is_opaque(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> bool:
    """Whether the strip is visible and covers the whole frame with opaque pixels at all of the frames."""
    moving = animation.moving(scene, strip)
    channel = host.channels(host.home(scene, strip))[strip.channel]
    if strip.mute or channel.mute or "mute" in moving or strip.blend_type not in _OVER:
        return False
    if strip.blend_alpha != 1 or animation.OPACITY in moving:
        return False
    if any(m.type in _CHANGES_ALPHA and not m.mute for m in strip.modifiers):
        return False
    if strip.type == "COLOR":
        return True
    inputs = media.inputs(strip)
    if inputs:
        return strip.type != "TRANSFORM" and all(_cover(scene, [i], frames) for i in inputs)
    if not hasattr(strip, "transform") or not fills_frame(scene, strip):
        return False
    if strip.type == "META":
        return _cover(scene, host.strips(strip), frames)
    if strip.type == "SCENE" and strip.scene:
        return strip.scene_input == "CAMERA" and not strip.scene.render.film_transparent
    return strip.type in ("IMAGE", "MOVIE") and all(p.opaque for p in _pixels(strip))


def _pixels(strip: bpy.types.Strip) -> list[Pixels]:
    """Properties of a movie, or of the first, middle and last file of an image strip; empty for other strips."""
    if strip.type == "MOVIE":
        paths = [bpy.path.abspath(strip.filepath)]
    elif strip.type == "IMAGE":
        names = [strip.elements[i].filename for i in (0, len(strip.elements) // 2, -1)]
        paths = [os.path.join(bpy.path.abspath(strip.directory), name) for name in dict.fromkeys(names)]
    else:
        paths = []
    return [_read_pixels(path) for path in paths if os.path.isfile(path)]


def _read_pixels(path: str) -> Pixels:
    """Properties of a file; read once for each of its versions."""
    version = (path, os.stat(path).st_mtime_ns)
    if version not in _pixels_of_files:
        image: Any = bpy.data.images.load(path, check_existing=False)
        try:
            width, height = image.size
            has_alpha = image.depth in (32, 128) and image.channels == 4
            if has_alpha and image.source == "FILE" and not image.is_float:
                image.alpha_mode = "CHANNEL_PACKED"  # as stored
                alpha = memoryview(bytearray(4 * 4 * width * height)).cast("f")
                image.pixels.foreach_get(alpha)
                has_alpha = min(alpha[3::4], default=1.0) < 1
            _pixels_of_files[version] = Pixels(width, height, image.is_float, not has_alpha)
        finally:
            bpy.data.images.remove(image)
    return _pixels_of_files[version]
