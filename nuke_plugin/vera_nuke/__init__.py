"""Vera in Nuke: the code of the VeraEdit node. Python >= 3.9, with the standard library and Nuke only.

    buttons     functions of the node's buttons
    gather      node and script -> a Request, pure data; refuses unsupported scripts
    plate       the plate and the mask as files: the Read's own, or written by Nuke
    color       colour spaces by name
    versions    v001, v002, ... on the disk
    run         one job of the service, watched from a thread
    show        load a finished version into the node; missing frames
    guard       checks when a script is opened, and before a Write renders
    bake        a Group with a plain Read
    settings    the location of the core; panel: its dialog
    host        Nuke's main thread, and messages to the artist
    client, host_rules    copies of the files in core/service/, made when the plug-in is built

For scripts without an interface (nuke -t): `import vera_nuke; vera_nuke.render(node)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nuke


def render(node: nuke.Gizmo) -> None:
    """Render a VeraEdit node and wait. Main thread only. Raises host_rules.RefusedError with a one-line message."""
    from . import run

    return run.render(node, wait=True)


def render_all(changed_only: bool = True) -> list[str]:
    """Render all VeraEdit nodes of the script, or the stale ones, and wait; returns their names.

    Raises RefusedError at the first node that cannot be rendered.
    """
    from . import plate, run

    done = []
    for node in plate.edits():
        if not changed_only or run.changed(node):
            run.render(node, wait=True)
            done.append(node.fullName())
    return done
