"""Load a finished version into the node, and report missing frames. Main thread only."""

from __future__ import annotations

from typing import cast

import nuke

from . import badge, color, gather, plate, versions
from .host import as_nuke_finds, inner, set_status, undo_step
from .host_rules import RefusedError, frames_in_words


def show(node: nuke.Gizmo, base: str, number: int) -> None:
    """Show an existing version in the node's Read. Raises RefusedError."""
    out = versions.path(base, number)
    delivery = versions.delivered(out)
    if delivery is None:
        raise RefusedError(f"{out}: is not rendered; press Render, or choose another version")
    if delivery.missing:
        raise RefusedError(f"{out}: {frames_in_words(delivery.missing)} gone since it was rendered; press Render")
    request = versions.asked(out)
    with undo_step("VeraEdit: show a version"):
        node["result_file"].setValue(delivery.edit)
        node["result_first"].setValue(delivery.first)
        node["result_last"].setValue(delivery.last)
        node["result_space"].setValue(str(request.get("layer_space") or ""))
        node["result_shown"].setValue(1)
        node["result_state"].setValue(versions.mark_of(out))
        node["version"].setValue(number)
        node["pending"].setValue(0)
    cast("nuke.Script_Knob", inner(node, "Layer")["reload"]).execute()  # the same names may hold other pixels now
    words = [f"v{number:03d}: frames {delivery.first}-{delivery.last}"]
    words += [str(warning) for warning in delivery.warnings]
    words += [f"note: {versions.note(out)}"] if versions.note(out) else []
    set_status(node, "; ".join(filter(None, [*words, other_space(node)])))
    badge.clear(node)


def nothing(node: nuke.Gizmo) -> None:
    """Show no version: the node's output is empty, as before the first render."""
    with undo_step("VeraEdit: no version"):
        node["result_shown"].setValue(0)
        node["result_state"].setValue("")
    set_status(node, "not rendered yet")
    badge.clear(node)


def missing(node: nuke.Gizmo) -> str | None:
    """A line on the frames that this node lacks, or None."""
    if not node["result_shown"].value():
        return "not rendered yet"
    pattern = as_nuke_finds(str(node["result_file"].value()))
    gone = versions.missing(pattern, int(node["result_first"].value()), int(node["result_last"].value()))
    if gone:
        return f"{pattern}: {frames_in_words(gone)} missing here; bring the files, or press Render"
    return None


def stale(node: nuke.Gizmo) -> str:
    """The reason if the layer was made for another plate or mask than is connected now; "" if it was not, or if
    unknown.

    It checks every file above the node, so it must not be called for each frame.
    """
    made = str(node["result_state"].value())
    if not made or not node["result_shown"].value():
        return ""
    try:
        frames = int(node["result_first"].value()), int(node["result_last"].value())
        now = versions.mark_of_state(gather.request(node, write=False, frames=frames).state)
    except RefusedError:
        return ""  # unknown: a farm without the plate's files, several views, or no plate
    return (
        "" if now == made else "made for another plate or mask than is connected now: press Render, or connect that one"
    )


def other_space(node: nuke.Gizmo) -> str | None:
    """A warning if the working space differs from the one that the layer was made for, else None."""
    made = str(node["result_space"].value())
    own = color.known(str(node["working_space"].value()).strip())
    now = own or color.of_script(plate.root_knob)
    if not made or made == now:
        return None
    return f"made for the working space {made}, but the script now works in {now}: press Render"
