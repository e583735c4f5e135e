"""Nuke's main thread, and words to the artist."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import nuke

from .host_rules import RefusedError


class HostGoneError(Exception):
    """The main thread did not run what it was asked to: Nuke is closing."""


def on_main(call: Callable[..., Any], *args: Any) -> Any:
    """Run `call` on the main thread, wait, and return or raise what it did.

    Nuke's own function prints an error and returns None; here errors come back.
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
    """Into the terminal, where a farm's log finds it."""
    nuke.tprint("Vera: " + text)


def complain(text: str) -> None:
    """To the artist who pressed a button, or into the terminal."""
    if nuke.GUI:
        nuke.message(text)
    else:
        say(text)


@contextlib.contextmanager
def no_undo() -> Iterator[None]:
    """What this package notes in its own knobs is nothing to undo."""
    nuke.Undo.disable()
    try:
        yield
    finally:
        nuke.Undo.enable()


@contextlib.contextmanager
def unsaved() -> Iterator[None]:
    """What is only looked at (a thumbnail) is nothing to undo, and makes no script one that wants to be saved."""
    root = nuke.root()
    modified = root.modified()
    with no_undo():
        try:
            yield
        finally:
            root.setModified(modified)


@contextlib.contextmanager
def full_size() -> Iterator[None]:
    """Proxy mode is off for the while: Reads name their full files, and all is looked at and written at full size."""
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
    """A path as Nuke opens it: through the filters that a studio or a farm has set (nuke.addFilenameFilter).

    Looking with os.path for what a knob says finds nothing where a farm maps paths.
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
    """What is done inside is one step back for the artist."""
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
