"""What the knobs of VeraEdit call. Nothing here raises: what goes wrong is said in words."""

import contextlib
import os
import random
import subprocess
import sys
import traceback

import nuke

from . import bake as baking
from . import gather, run, show, versions
from .host import complain, no_undo, set_status
from .host_rules import RefusedError


def render():
    with _told() as node:
        run.render(node, wait=not nuke.GUI)


def render_changed():
    with _told() as node:
        if run.changed(node):
            run.render(node, wait=not nuke.GUI)
        else:
            set_status(node, f"v{int(node['version'].value()):03d}: nothing has changed")


def render_all_changed():
    """Of the menu: every node of the script that shows something else than it asks for."""
    for node in show.edits():
        with _told(node):
            if run.changed(node):
                run.render(node, wait=not nuke.GUI)


def cancel():
    with _told() as node:
        run.cancel(node)


def dice():
    with _told() as node:
        node["seed"].setValue(random.randrange(2**31 - 1))


def open_folder():
    with _told() as node:
        folder = gather.folder(node)
        if not os.path.isdir(folder):
            raise RefusedError(f"{folder}: not there yet; press Render")
        if sys.platform == "win32":
            os.startfile(folder)
        else:
            subprocess.Popen(["open" if sys.platform == "darwin" else "xdg-open", folder])


def bake():
    with _told() as node:
        group = baking.bake(node)
        set_status(node, f"baked to {group.name()}")


def settings():
    with _told():
        from . import panel

        panel.show()


def knob_changed():
    name = nuke.thisKnob().name()
    if name in ("range", "quality", "use_region", "door", "showPanel"):
        _enable(nuke.thisNode())
    elif name == "version":
        with _told(quietly=True) as node:
            _show_version(node)


def _show_version(node: nuke.Gizmo):
    base, number = gather.folder(node), gather.whole(node, "version", 1, 10**6)
    # Showing a version sets the knob too: nothing more is to be done then.
    if not str(node["result_file"].value()).startswith(versions.path(base, number) + "/"):
        show.show(node, base, number)


def _enable(node: nuke.Node):
    for name, switch, on in (
        ("first", "range", "own"), ("last", "range", "own"), ("steps", "quality", "own"), ("guidance", "quality", "own"),
        ("region", "use_region", True), ("model", "door", "Vera"),
    ):  # fmt: skip
        node[name].setEnabled(node[switch].value() == on)
    node["model_path"].setEnabled(node["door"].value() != "Vera")


@contextlib.contextmanager
def _told(node=None, quietly=False):
    """The node of the button; errors go into its status and, in words, to who pressed it."""
    node = node or nuke.thisNode()
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
