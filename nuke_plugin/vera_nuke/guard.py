"""What is said when a script is opened, and before a Write renders. On the main thread."""

import nuke

from . import plate, run, show
from .host import say, set_status
from .host_rules import RefusedError


def check_script():
    """When a script is opened: every node says what it lacks. Nothing that renders is changed."""
    for node in show.edits():
        pending = int(node["pending"].value())
        try:
            if nuke.GUI and pending:
                run.resume(node, pending)
                continue
            words = show.missing(node) or show.other_space(node)
        except RefusedError as error:
            words = str(error)
        if words and not (words == "not rendered yet" and nuke.GUI):
            set_status(node, words)
            if nuke.GUI:
                nuke.warning(f"Vera: {node.fullName()}: {words}")


def check_before_render():
    """Before a Write renders: an edit that is not there must not leave the picture in silence.

    Nuke aborts a render whose beforeRender raises.
    """
    writer = nuke.thisNode()
    parent = writer.parent()
    if parent is not None and parent.Class() == plate.CLASS:
        return  # the node writes its own plate
    for node in show.edits_upstream(writer):
        words = show.missing(node)
        if words:
            say(f"{node.fullName()}: {words}")
            raise RuntimeError(f"Vera: {node.fullName()}: {words}, or disable the node")
        words = show.other_space(node)
        if words:
            say(f"{node.fullName()}: {words}")
