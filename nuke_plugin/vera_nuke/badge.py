"""Show a VeraEdit's state in the node graph: version, running, failed or stale. Main thread only.

The text is returned when Nuke draws the node's label. It is in no knob, so that nothing is saved. The tile's colour
changes when a job begins or ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import nuke

from . import plate
from .host import no_undo, unsaved

PLAIN, RUNNING, FAILED, STALE = 0x2F6F8FFF, 0x3F8F3FFF, 0x9F2F2FFF, 0xAF7F1FFF
IDLE_SHARE = 20  # the stale check uses at most 1/IDLE_SHARE of Nuke's idle time; raising it uses less
_words: dict[str, str] = {}  # text by a node's full name: "v003: generating, 3 of 8", "failed", "stale"
_looked: dict[str, float] = {}  # time at which a node may be compared with its plate again


def running(node: nuke.Node, words: str) -> None:
    _say(node, words, RUNNING)


def ended(node: nuke.Node, words: str) -> None:
    """Set a node's state. words: "failed", "stale", or "" for normal."""
    _say(node, words, {"failed": FAILED, "stale": STALE}.get(words, PLAIN))


def clear(node: nuke.Node) -> None:
    ended(node, "")


def words_of(node: nuke.Node) -> str:
    return _words.get(node.fullName(), "")


def label() -> str | None:
    """Callback for nuke.addAutolabel of VeraEdit and Group: the node's name, version and state."""
    node = nuke.thisNode()
    if not plate.is_edit(node):
        return None  # a Group of another kind: Nuke's own label
    shown = f"v{int(node['version'].value()):03d}" if node["result_shown"].value() else "not rendered"
    words = words_of(node)
    own = str(node["label"].value())
    lines = [node.name(), words if words[:1] == "v" and ":" in words else f"{shown} {words}".strip(), own]
    return "\n".join(filter(None, lines))


def look(stale: Callable[[nuke.Gizmo], str]) -> None:
    """Callback for nuke.addUpdateUI, which Nuke calls when it is idle: checks occasionally whether layers are stale.

    stale: returns the reason for a node, or ""
    """
    node = nuke.thisNode()
    if not plate.is_edit(node):
        return
    name, now = node.fullName(), time.monotonic()
    if words_of(node) not in ("", "stale") or now < _looked.get(name, 0):
        return
    is_stale = "stale" if stale(cast("nuke.Gizmo", node)) else ""
    took = time.monotonic() - now
    _looked[name] = time.monotonic() + max(2.0, IDLE_SHARE * took)
    if is_stale != words_of(node):
        ended(node, is_stale)


def _say(node: nuke.Node, words: str, color: int) -> None:
    name = node.fullName()
    changed = _words.get(name, "") != words
    if words:
        _words[name] = words
    else:
        _words.pop(name, None)
    if int(node["tile_color"].value()) != color:
        with unsaved() if color == RUNNING else no_undo():
            node["tile_color"].setValue(color)
    elif changed and nuke.GUI:
        node.redraw()
