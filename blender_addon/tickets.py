"""Tickets: requests and their progress, one file each.

A ticket survives undo, reload, closing the file and a crash, because the scene contains only an identifier of the
document. Tickets hold no references to Blender's data: strips are found by their mark.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Container
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import bpy

from .host_rules import RefusedError

# stage: the plate is being rendered; submit: waits to be sent; open: in the service's queue; place: done, but not yet
# in the sequencer. All other states are final.
OPEN_STATES = ("stage", "submit", "open", "place")
ENDED_STATES = ("placed", "failed", "cancelled")

DOCUMENT, STRIP = "vera_document", "vera_strip"  # marks: custom properties of a scene and of a strip


@dataclass
class Ticket:
    """One request and its progress.

    id: also identifies the request: the service makes one job of a request that is sent twice
    recipe: the recipe that the service gets
    shown: see media.MediaFrames
    visible: [first, end) of the layer on the timeline
    source: mark, name and start of the edited strip
    stage: input of render_stage.py; None if nothing is rendered
    job: the service's latest report of the job
    blend_space: of the layer
    target: None adds the layer as a version to the strip with the source's other versions, "" makes a new strip
    version: id of the delivered version; another ticket's id if that version is delivered again
    kept: folder of the generated latents of that version, which are used again
    note: a warning for the user, one line
    """

    id: str
    document: str
    blend: str
    scene: str
    source: dict[str, Any]
    recipe: dict[str, Any]
    shown: dict[str, Any]
    visible: list[int]
    blend_space: str
    folder: str
    stage: dict[str, Any] | None = None
    target: str | None = None
    version: str = ""
    kept: str = ""
    state: str = "submit"
    number: int | None = None
    job: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    note: str = ""
    cancelling: bool = False
    created: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED_STATES

    def save(self) -> None:
        """Store the ticket. A crash leaves either the old file or the new one. Raises RefusedError."""
        path = store() / f"{self.id}.json"
        part = path.with_suffix(".part")
        try:
            part.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
            os.replace(part, path)
        except OSError as error:
            raise RefusedError(
                f"{path}: cannot be written ({error.strerror}); make room or fix its permissions"
            ) from None

    def forget(self) -> None:
        """Delete the ticket's files."""
        for suffix in (".json", ".png"):
            (store() / (self.id + suffix)).unlink(missing_ok=True)


def new_id() -> str:
    return uuid.uuid4().hex[:16]


def store() -> Path:
    """The user's folder of tickets."""
    return Path(user_folder("tickets"))


def user_folder(name: str) -> str:
    """A folder of this extension that updates do not delete. Raises RefusedError."""
    try:
        return bpy.utils.extension_path_user(__package__, path=name, create=True)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"Vera's own folder cannot be made ({error}); fix the permissions of Blender's user folder"
        ) from None


def load(blend: str, documents: Container[str]) -> list[Ticket]:
    """The tickets of a .blend file, found by its path or by the marks of its scenes, oldest first.

    Damaged tickets are left out.
    """
    tickets = []
    known = {f.name for f in fields(Ticket)}
    for path in store().glob("*.json"):
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            ticket = Ticket(**{k: v for k, v in values.items() if k in known})
        except (OSError, ValueError, TypeError):
            continue
        if ticket.document in documents or (
            blend and ticket.blend and os.path.normcase(ticket.blend) == os.path.normcase(blend)
        ):
            tickets.append(ticket)
    return sorted(tickets, key=lambda ticket: ticket.created)


def document_of(scene: bpy.types.Scene) -> str:
    """The scene's mark; a scene without one gets one."""
    if DOCUMENT not in scene:
        scene[DOCUMENT] = new_id()
    return scene[DOCUMENT]


def mark_of(strip: bpy.types.Strip) -> str:
    """The strip's mark; a strip without one gets one."""
    if STRIP not in strip:
        strip[STRIP] = new_id()
    return strip[STRIP]


def now() -> float:
    return time.time()
