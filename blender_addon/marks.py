"""Find the strip that a layer or job belongs to, also after cuts and copies.

An edited strip gets a mark. Blender copies it with the strip (K, Shift-D), so that several strips can have the same
mark. `settle` gives each its own mark and stores the earlier ones. The strip of a layer or job is the one with its mark
whose media frames and time overlap it most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from . import host, tickets

if TYPE_CHECKING:
    import bpy

LAYER = "vera"  # custom property of a layer strip, see place.py
# Properties of a source: its mark, and its earlier marks, separated by spaces.
MARK, EARLIER = tickets.STRIP, "vera_strip_before"


@dataclass(frozen=True)
class Stretch:
    """A part of a source. first, end: timeline frames; start: timeline frame at which its media begins."""

    first: int
    end: int
    start: int


def stretch_of(strip: bpy.types.Strip) -> Stretch:
    return Stretch(host.left(strip), host.right(strip), host.content_start(strip))


def sources(scene: bpy.types.Scene) -> list[bpy.types.Strip]:
    """The strips that may be a source."""
    return [s for s in host.all_strips(scene) if LAYER not in s]


def carries(strip: bpy.types.Strip, mark: str) -> bool:
    """Whether the strip has the mark, or had it before it was cut or copied."""
    return bool(mark) and (strip.get(MARK) == mark or mark in strip.get(EARLIER, "").split())


def best(found: list[bpy.types.Strip], wanted: Stretch) -> bpy.types.Strip | None:
    """The strip whose media frames and time overlap a `Stretch` most; None if there are no strips."""

    def fit(strip: bpy.types.Strip) -> tuple[int, int, int, int]:
        own = stretch_of(strip)
        in_time = min(own.end, wanted.end) - max(own.first, wanted.first)
        in_media = min(own.end - own.start, wanted.end - wanted.start) - max(
            own.first - own.start, wanted.first - wanted.start
        )
        both = min(max(in_time, 0), max(in_media, 0))
        return both, max(in_media, 0), -abs(own.start - wanted.start), -own.first

    return max(found, key=fit, default=None)


def settle(scene: bpy.types.Scene, layers: list[tuple[str, Stretch, Callable[[str], None]]]) -> None:
    """Give each copied strip a mark of its own.

    layers: (mark of the source, Stretch, keep) of each layer; keep(mark) stores the new mark of the layer's source
    """
    by_mark: dict[str, list[bpy.types.Strip]] = {}
    for strip in sources(scene):
        if MARK in strip:
            by_mark.setdefault(strip[MARK], []).append(strip)
    for mark, found in by_mark.items():
        if len(found) == 1:
            continue
        for copy in sorted(found, key=lambda s: (len(s.name), s.name))[1:]:
            copy[EARLIER] = f"{copy.get(EARLIER, '')} {mark}".strip()
            copy[MARK] = tickets.new_id()
        for source, wanted, keep in layers:
            if source == mark:
                keep(cast("bpy.types.Strip", best(found, wanted))[MARK])
