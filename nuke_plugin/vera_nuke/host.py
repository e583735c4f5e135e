"""Nuke's main thread, and messages to the artist."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import nuke

from .host_rules import RefusedError


class HostGoneError(Exception):
    """The main thread did not run the call: Nuke is closing."""


def on_main(call: Callable[..., Any], *args: Any) -> Any:
    """Run `call` on the main thread, wait, and return its result or raise its error.

    Nuke's own function prints an error and returns None.
    """
    if not nuke.GUI or threading.current_thread() is threading.main_thread():
        return call(*args)
    outcome = {}

    def run() -> None:
        try:
            outcome["value"] = call(*args)
        except BaseException as error:
            outcome["error"] = error

    nuke.executeInMainThreadWithResult(run)
    if "error" in outcome:
        raise outcome["error"]
    if "value" not in outcome:
        raise HostGoneError("the main thread did not answer")
    return outcome["value"]


def say(text: str) -> None:
    """Print to the terminal, which a farm logs."""
    nuke.tprint("Vera: " + text)


def complain(text: str) -> None:
    """Show a message to the artist, or print it without an interface."""
    if nuke.GUI:
        nuke.message(text)
    else:
        say(text)


@contextlib.contextmanager
def no_undo() -> Iterator[None]:
    """Context without undo steps, for changes of the package's own knobs."""
    nuke.Undo.disable()
    try:
        yield
    finally:
        nuke.Undo.enable()


@contextlib.contextmanager
def unsaved() -> Iterator[None]:
    """Context without undo steps and without marking the script as modified, for pictures such as thumbnails."""
    root = nuke.root()
    modified = root.modified()
    with no_undo():
        try:
            yield
        finally:
            root.setModified(modified)


@contextlib.contextmanager
def full_size() -> Iterator[None]:
    """Context with proxy mode off: Reads use their full-size files, and everything is written at full size."""
    proxy = nuke.root()["proxy"]
    before = proxy.value()
    if not before:
        yield
        return
    with unsaved():
        proxy.setValue(False)
        try:
            yield
        finally:
            proxy.setValue(before)


def as_nuke_finds(path: str) -> str:
    """A path as Nuke opens it, after the filters of a studio or farm (nuke.addFilenameFilter).

    Where a farm maps paths, the unfiltered path of a knob does not exist.
    """
    filters = getattr(getattr(nuke, "callbacks", None), "filenameFilter", None)
    try:
        found = filters(path) if filters and path else path
    except Exception as error:
        say(f"a filename filter failed on {path}: {error}")
        found = path
    return str(found or path).replace("\\", "/")


@contextlib.contextmanager
def undo_step(name: str) -> Iterator[None]:
    """Context whose changes are one undo step."""
    nuke.Undo.begin(name)
    try:
        yield
    finally:
        nuke.Undo.end()


def inner(node: nuke.Group, name: str) -> nuke.Node:
    """A node inside. Raises RefusedError."""
    found = node.node(name)
    if found is None:
        raise RefusedError(f"{node.fullName()} has no {name} inside; make the node anew")
    return found


def set_status(node: nuke.Node, text: str) -> None:
    """The node's status line. On the main thread."""
    with no_undo():
        node["status"].setValue(text)
    if not nuke.GUI:
        say(node.fullName() + ": " + text)
