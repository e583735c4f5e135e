"""Vera in Nuke: what the VeraEdit node does. Python >= 3.9, the standard library and Nuke only.

    buttons     what the node's buttons call
    gather      node and script -> a Request, pure data; refuses what cannot be edited
    plate       the plate and the mask as files: the Read's own, or written by Nuke
    color       colour spaces by name
    versions    v001, v002, ... on the disk
    run         one job of the service, watched from a thread
    show        a finished version into the node; what it lacks
    guard       what is said when a script is opened, and before a Write renders
    bake        a Group with a plain Read
    settings    where the core is; panel: the same to look at
    host        Nuke's main thread, and words to the artist
    client, host_rules    copies of core/service/'s, put here when the plug-in is built

For scripts without an interface (nuke -t): `import vera_nuke; vera_nuke.render(node)`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import nuke


def render(node: nuke.Gizmo) -> None:
    """Render a VeraEdit node and wait: on the main thread. Raises vera_nuke.host_rules.RefusedError, in one line."""
    from . import run

    return run.render(node, wait=True)


def render_all(changed_only: bool = True) -> list[str]:
    """Render every VeraEdit node of the script, or those that differ from what they show; returns their names.

    Waits. Raises RefusedError at the first that cannot be rendered.
    """
    from . import plate, run

    done = []
    for node in plate.edits():
        if not changed_only or run.changed(node):
            run.render(node, wait=True)
            done.append(node.fullName())
    return done
