"""A finished version into the node; and what is missing. On the main thread."""

from typing import Optional, cast

import nuke

from . import color, plate, versions
from .host import VeraError, inner, say, set_status, undo_step


def show(node: nuke.Gizmo, base, number):
    """Let the node's Read see a version that is there. Raises VeraError."""
    out = versions.path(base, number)
    delivery = versions.delivered(out)
    if delivery is None:
        raise VeraError(f"{out}: is not rendered; press Render, or choose another version")
    if delivery.missing:
        raise VeraError(f"{out}: {versions.show_frames(delivery.missing)} gone since it was rendered; press Render")
    request = versions.asked(out)
    with undo_step("VeraEdit: show a version"):
        node["result_file"].setValue(delivery.edit)
        node["result_first"].setValue(delivery.first)
        node["result_last"].setValue(delivery.last)
        node["result_space"].setValue(str(request.get("layer_space") or ""))
        node["result_shown"].setValue(1)
        node["version"].setValue(number)
        node["pending"].setValue(0)
    cast("nuke.Script_Knob", inner(node, "Layer")["reload"]).execute()  # the same names may hold other pixels now
    words = [f"v{number:03d}: frames {delivery.first}-{delivery.last}"]
    words += [str(warning) for warning in delivery.warnings]
    set_status(node, "; ".join(filter(None, [*words, other_space(node)])))


def edits():
    """All VeraEdit nodes of the script, in groups too."""
    return nuke.allNodes(plate.CLASS, recurseGroups=True)


def edits_upstream(node: Optional[nuke.Node]):
    """The VeraEdit nodes that a node's picture is made with, those that are switched off left out."""
    found, waiting, seen = [], [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or node.fullName() in seen:
            continue
        seen.add(node.fullName())
        if node.Class() == plate.CLASS and not node["disable"].value():
            found.append(node)
        waiting += plate.upstream(node, nuke.INPUTS | nuke.HIDDEN_INPUTS)
    return found


def missing(node: nuke.Gizmo):
    """What this node has no picture of, in one line; None if all is there."""
    if not node["result_shown"].value():
        return "not rendered yet"
    pattern = str(node["result_file"].value())
    gone = versions.missing(pattern, int(node["result_first"].value()), int(node["result_last"].value()))
    if gone:
        return f"{pattern}: {versions.show_frames(gone)} missing here; bring the files, or press Render"
    return None


def other_space(node: nuke.Gizmo):
    """A layer is right in the space that it was made for only: what to say of another; None if it is the same."""
    made = str(node["result_space"].value())
    own = color.known(str(node["working_space"].value()).strip())
    now = own or color.of_script(plate.root_knob)
    if not made or made == now:
        return None
    return f"made for the working space {made}, but the script now works in {now}: press Render"


def check_script():
    """When a script is opened: every node says what it lacks. Nothing that renders is changed."""
    from . import run

    for node in edits():
        pending = int(node["pending"].value())
        try:
            if nuke.GUI and pending:
                run.resume(node, pending)
                continue
            words = missing(node) or other_space(node)
        except VeraError as error:
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
    for node in edits_upstream(writer):
        words = missing(node)
        if words:
            say(f"{node.fullName()}: {words}")
            raise RuntimeError(f"Vera: {node.fullName()}: {words}, or disable the node")
        words = other_space(node)
        if words:
            say(f"{node.fullName()}: {words}")
