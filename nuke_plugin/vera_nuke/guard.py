"""Check when a script is opened, and before a Write renders, that no edit is missing. Main thread only.

Scripts without an edit are not checked: a flag is set when Nuke creates a node that can be an edit. An internal error
of the check is reported and never stops a render.
"""

from __future__ import annotations

import nuke

from . import badge, plate, run, show
from .host import say, set_status
from .host_rules import RefusedError

_seen = False  # whether this session has made a node that may be an edit


def note_node() -> None:
    """Callback for nuke.addOnCreate of VeraEdit and Group: renders are checked from now on."""
    global _seen
    try:
        _seen = _seen or plate.is_edit(nuke.thisNode())
    except Exception as error:
        _seen = True
        say(f"a new node could not be looked at: {error}")


def check_script() -> None:
    """When a script is opened: report missing frames of every node. Nothing that renders is changed."""
    for node in plate.edits():
        pending = int(node["pending"].value())
        try:
            if nuke.GUI and pending:
                run.resume(node, pending)
                continue
            words = show.missing(node) or show.other_space(node) or show.stale(node)
        except RefusedError as error:
            words = str(error)
        if words and not (words == "not rendered yet" and nuke.GUI):
            set_status(node, words)
            badge.ended(node, "stale" if node["result_shown"].value() else "")
            if nuke.GUI:
                nuke.warning(f"Vera: {node.fullName()}: {words}")


def check_before_render() -> None:
    """Before a Write renders: a missing edit must not silently be left out of the picture.

    Nuke aborts a render whose beforeRender raises.
    """
    if not _seen:
        return
    try:
        words = _why_not(nuke.thisNode())
    except Exception as error:  # such as Nuke Indie, whose Python reaches few nodes
        say(f"could not look for missing edits before this render ({type(error).__name__}: {error}); it goes on")
        return
    if words:
        say(words)
        raise RuntimeError(f"Vera: {words}, or disable the node")


def _why_not(writer: nuke.Node) -> str:
    """The reason why an edit would be missing from the picture, or "". Other problems are reported."""
    parent = writer.parent()
    if parent is not None and plate.is_edit(parent):
        return ""  # the node writes its own plate
    for node in plate.edits_upstream(writer):
        words = show.missing(node)
        if words:
            return f"{node.fullName()}: {words}"
        for words in (show.other_space(node), "" if nuke.root()["proxy"].value() else show.stale(node)):
            if words:
                say(f"{node.fullName()}: {words}")
    return ""


def update_badge() -> None:
    """Callback for nuke.addUpdateUI: show on the node whether its layer is stale."""
    badge.look(show.stale)
