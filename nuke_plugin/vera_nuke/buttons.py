"""Functions of VeraEdit's knobs. None of them raises: errors are shown as messages."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import cast

import nuke

from . import bake as baking
from . import gather, plate, run, show, versions
from . import settings as plugin_settings
from .host import complain, no_undo, set_status
from .host_rules import RefusedError


def render() -> None:
    with _told() as node:
        run.render(node, wait=not nuke.GUI)


def draft() -> None:
    """Render the current frame alone, in few steps."""
    with _told() as node:
        run.render(node, wait=not nuke.GUI, draft=True)


def look() -> None:
    """Show in a window how plate, mask and prompt would be read. Runs in a thread, because it takes seconds."""
    with _told() as node:
        run.look(node, wait=not nuke.GUI)


def open_queue() -> None:
    try:
        plugin_settings.open_page()
    except RefusedError as error:
        complain(f"Vera: {error}")


def compare() -> None:
    """Make Reads of all versions and a ContactSheet with their names, beside the node."""
    with _told() as node:
        baking.contact_sheet(node, gather.folder(node))


def edit_note() -> None:
    """Edit the artist's note on the shown version, which is stored in the version's folder."""
    with _told() as node:
        out = _shown(node)
        text = nuke.getInput(f"Note on {os.path.basename(out)}", versions.note(out))
        if text is not None:
            versions.set_note(out, text)
            show.show(node, gather.folder(node), int(node["version"].value()))


def delete_version() -> None:
    """Delete the shown version from the disk, and show the one before."""
    with _told() as node:
        base, number, out = gather.folder(node), int(node["version"].value()), _shown(node)
        if not nuke.ask(f"Delete {out}? Its layer is then lost, for other scripts too."):
            return
        others = [n for n in versions.numbers(base) if n != number and versions.delivered(versions.path(base, n))]
        versions.delete(out)
        if others:
            show.show(node, base, max([n for n in others if n < number] or others))
        else:
            show.nothing(node)


def _shown(node: nuke.Gizmo) -> str:
    if not node["result_shown"].value():
        raise RefusedError("no version is shown; press Render")
    return versions.path(gather.folder(node), int(node["version"].value()))


def render_changed() -> None:
    with _told() as node:
        if run.changed(node):
            run.render(node, wait=not nuke.GUI)
        else:
            set_status(node, f"v{int(node['version'].value()):03d}: nothing has changed")


def render_all_changed() -> None:
    """Menu command: render every stale node of the script."""
    for node in plate.edits():
        with _told(node):
            if run.changed(node):
                run.render(node, wait=not nuke.GUI)


def cancel() -> None:
    with _told() as node:
        run.cancel(node)


def dice() -> None:
    with _told() as node:
        node["seed"].setValue(random.randrange(2**31 - 1))


def open_folder() -> None:
    with _told() as node:
        folder = gather.folder(node)
        if not os.path.isdir(folder):
            raise RefusedError(f"{folder}: not there yet; press Render")
        if sys.platform == "win32":
            os.startfile(folder)
        else:
            subprocess.Popen(["open" if sys.platform == "darwin" else "xdg-open", folder])


def bake() -> None:
    with _told() as node:
        group = baking.bake(node)
        set_status(node, f"baked to {group.name()}")


def settings() -> None:
    with _told():
        from . import panel

        panel.show()


def knob_changed() -> None:
    name = nuke.thisKnob().name()
    if name in ("range", "quality", "use_region", "door", "showPanel"):
        _enable(nuke.thisNode())
        if name == "use_region":
            _start_region(nuke.thisNode())
    elif name == "version":
        with _told(quietly=True) as node:
            _show_version(node)


def _show_version(node: nuke.Gizmo) -> None:
    base, number = gather.folder(node), gather.whole(node, "version", 1, 10**6)
    # Showing a version sets the knob too; then nothing is left to do.
    if not str(node["result_file"].value()).startswith(versions.path(base, number) + "/"):
        show.show(node, base, number)


def _start_region(node: nuke.Node) -> None:
    """Set a region that was never drawn to the middle of the plate, so that there is a box to drag."""
    plate_node = node.input(0)
    if node["use_region"].value() and plate_node is not None and not any(node["region"].value()):
        form = plate_node.format()
        width, height = form.width(), form.height()
        node["region"].setValue([width / 4, height / 4, width * 3 / 4, height * 3 / 4])


def _enable(node: nuke.Node) -> None:
    for name, switch, on in (
        ("first", "range", "own"),
        ("last", "range", "own"),
        ("steps", "quality", "own"),
        ("guidance", "quality", "own"),
        ("region", "use_region", True),
        ("model", "door", "Vera"),
    ):
        node[name].setEnabled(node[switch].value() == on)
    node["model_path"].setEnabled(node["door"].value() != "Vera")


@contextlib.contextmanager
def _told(node: nuke.Gizmo | None = None, quietly: bool = False) -> Iterator[nuke.Gizmo]:
    """Context with the button's node. Errors are written to the node's status and shown to the artist."""
    node = node or cast("nuke.Gizmo", nuke.thisNode())
    try:
        yield node
    except RefusedError as error:
        if node.knob("status"):
            with no_undo():
                node["status"].setValue(str(error))
        if not quietly:
            complain(f"{node.fullName()}: {error}")
    except Exception as error:
        traceback.print_exc()
        complain(f"Vera: fault: {type(error).__name__}: {error}; the terminal has more")
