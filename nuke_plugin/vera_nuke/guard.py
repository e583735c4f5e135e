"""What is said when a script is opened, and before a Write renders. On the main thread.

Scripts without an edit are left alone: whether there is one is known from the nodes that Nuke makes, so a render of
such a script costs one look at a flag. A fault of the guard's own is said and never stops a render.
"""

from __future__ import annotations

import nuke

from . import badge, plate, run, show
from .host import say, set_status
from .host_rules import RefusedError

_seen = False  # whether this session has made a node that may be an edit


def note_node() -> None:
    """For nuke.addOnCreate of VeraEdit and of Group: from now on renders are looked at."""
    global _seen
    try:
        _seen = _seen or plate.is_edit(nuke.thisNode())
    except Exception as error:
        _seen = True
        say(f"a new node could not be looked at: {error}")


def check_script() -> None:
    """When a script is opened: every node says what it lacks. Nothing that renders is changed."""
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
    """Before a Write renders: an edit that is not there must not leave the picture in silence.

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
    """Why the picture would be without an edit that it is made with, or ""; what else is wrong is said."""
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


def is_stale() -> None:
    """For nuke.addUpdateUI."""
    badge.look(show.stale)
