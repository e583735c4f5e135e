"""Find the frames and files that a strip shows, so that the core can read the original media (see plate_reading.py)."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from typing import Any, cast

import bpy

from . import host
from .color import plate_space
from .host_rules import RefusedError

_NUMBERED = re.compile(r"(.*?)(\d+)(\.[^.]+)")
_ORIENTATION = 0x0112  # the tag of EXIF and TIFF
_PATTERN_SIGNS = "#@%"  # characters that the core would read as a frame pattern


@dataclass
class MediaFrames:
    """The media frames that a range of timeline frames shows.

    plate: a file or a padded pattern, as the core names it
    first: timeline frame of numbers[0]
    numbers: for each timeline frame the number of the plate's frame; so speed, direction and held frames are included
    color_space: of the plate; None lets the core choose
    """

    plate: str
    first: int
    numbers: list[int]
    color_space: str | None = None

    def frames(self) -> str:
        """The plate's frames as in a recipe: "1001-1049"."""
        return f"{min(self.numbers)}-{max(self.numbers)}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_files(strip: bpy.types.Strip, frames: range) -> None:
    """Raise RefusedError for missing media, for which Blender would show nothing, without a message."""
    if strip.type == "MOVIE":
        missing = [path for path in [bpy.path.abspath(strip.filepath)] if not os.path.isfile(path)]
    elif strip.type == "IMAGE":
        elements = (strip.strip_elem_from_frame(frame) for frame in frames)
        names = dict.fromkeys(element.filename for element in elements if element)
        paths = [os.path.join(bpy.path.abspath(strip.directory), name) for name in names]
        missing = [path for path in paths if not os.path.isfile(path)]
    else:
        missing = []
    if missing:
        more = f" and {len(missing) - 1} more are not there" if len(missing) > 1 else " is not there"
        raise RefusedError(f"{strip.name}: {missing[0]}{more}; relink the strip or supply the files")


def media_frames(strip: bpy.types.Strip, frames: range) -> MediaFrames:
    """The `MediaFrames` of a movie or image strip for a range of timeline frames.

    Frames before and after the media show its first and last frame, as the sequencer does.
    """
    return _movie(strip, frames) if strip.type == "MOVIE" else _images(strip, frames)


def content_frames(strip: bpy.types.Strip) -> range:
    """The timeline frames for which the strip has media, hidden ones included."""
    start = host.content_start(strip)
    return range(start, start + host.content_length(strip))


def _movie(strip: bpy.types.Strip, frames: range) -> MediaFrames:
    path = bpy.path.abspath(strip.filepath)
    length, start, skipped = host.content_length(strip), host.content_start(strip), host.animation_offset(strip)

    def number(frame: int) -> int:
        index = min(max(frame - start, 0), length - 1)
        return 1 + skipped + (length - 1 - index if strip.use_reverse_frames else index)

    return MediaFrames(path, frames[0], [number(f) for f in frames], plate_space(strip))


def _images(strip: bpy.types.Strip, frames: range) -> MediaFrames:
    folder = bpy.path.abspath(strip.directory)
    names = [strip.strip_elem_from_frame(frame).filename for frame in frames]
    if len(strip.elements) == 1:
        return MediaFrames(os.path.join(folder, names[0]), frames[0], [_number_of_still(names[0])], plate_space(strip))
    numbers = [int(_parts(name)[2]) for name in names]
    return MediaFrames(os.path.join(folder, cast("str", _pattern(strip))), frames[0], numbers, plate_space(strip))


def _parts(name: str) -> re.Match[str]:
    """(prefix, number, extension) of a file of a sequence."""
    return cast("re.Match[str]", _NUMBERED.fullmatch(name))


def _number_of_still(name: str) -> int:
    """The core's frame number of a single still: plate.1001.exr is frame 1001, other names are frame 1."""
    match = re.fullmatch(r".*[._](-?[0-9]{1,7})", os.path.splitext(name)[0])
    return int(match[1]) if match else 1


def orientation(path: str) -> int:
    """A still's EXIF Orientation; 1 if the file states none. Blender ignores it and shows the pixels as stored."""
    with open(path, "rb") as file:
        head = file.read(1 << 16)
        if head[:4] in (b"SDPX", b"XPDS"):
            value = int.from_bytes(head[768:770], "big" if head[:1] == b"S" else "little")
            return 1 + value if value < 8 else 1  # all bits set: the file states none
        starts = [head.find(mark) + len(mark) for mark in (b"Exif\0\0", b"eXIf") if mark in head]
        start = 0 if head[:4] in (b"II*\0", b"MM\0*") else next(iter(starts), -1)
        if start < 0:
            return 1
        order: Any = "little" if head[start : start + 2] == b"II" else "big"

        def number(at: int, size: int) -> int:
            file.seek(start + at)
            return int.from_bytes(file.read(size), order)

        directory = number(4, 4)
        entries = (directory + 2 + 12 * index for index in range(number(directory, 2)))
        return next((number(entry + 8, 2) for entry in entries if number(entry, 2) == _ORIENTATION), 1)


def why_no_sequence(strip: bpy.types.Strip, frames: range) -> str | None:
    """The reason why an image strip's files are not one padded sequence, or None."""
    first = os.path.join(bpy.path.abspath(strip.directory), strip.elements[0].filename)
    if os.path.isfile(first) and orientation(first) not in (0, 1):
        return "the files' Orientation, which Blender ignores"
    if len(strip.elements) == 1 and len(frames) > 1:
        return "a still that is held for several frames"
    if len(strip.elements) == 1:
        name = strip.elements[0].filename
        return "the file's name" if any(sign in name for sign in _PATTERN_SIGNS) else None
    pattern = _pattern(strip)
    if pattern is None:
        return "the files' names"
    prefix, width, suffix = cast("re.Match[str]", re.fullmatch(r"([^#]*)(#+)([^#]*)", pattern)).groups()
    numbers = [int(_parts(e.filename)[2]) for e in strip.elements]
    folder = bpy.path.abspath(strip.directory)
    used = set(numbers)
    for number in range(min(numbers), max(numbers) + 1):
        name = f"{prefix}{number:0{len(width)}d}{suffix}"
        if number not in used and not os.path.isfile(os.path.join(folder, name)):
            return "gaps in its files' numbers"
    return None


def _pattern(strip: bpy.types.Strip) -> str | None:
    """ "shot.####.exr" if every file of the strip fits it, else None."""
    matches = [match for e in strip.elements if (match := _NUMBERED.fullmatch(e.filename))]
    if len(matches) < len(strip.elements) or any(sign in matches[0][0] for sign in _PATTERN_SIGNS):
        return None
    if len({(m[1], m[3]) for m in matches}) > 1:
        return None
    widths = {len(m[2]) for m in matches}
    padded = any(m[2].startswith("0") and len(m[2]) > 1 for m in matches)
    if len(widths) > 1 and padded:
        return None
    width = widths.pop() if len(widths) == 1 else 1
    return f"{matches[0][1]}{'#' * width}{matches[0][3]}"


def is_retimed(strip: bpy.types.Strip) -> bool:
    """Whether timeline frames do not match the media's frames one to one, because of speed keys or the media's rate."""
    if len(getattr(strip, "retiming_keys", ())):
        return True
    hidden_left, hidden_right = host.trims(strip)
    return host.right(strip) - host.left(strip) + hidden_left + hidden_right != host.content_length(strip)


def inputs(effect: bpy.types.Strip) -> list[bpy.types.Strip]:
    """The strips that an effect works on; empty for a strip that is no effect."""
    return [getattr(effect, name) for name in ("input_1", "input_2") if getattr(effect, name, None)]
