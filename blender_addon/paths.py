"""Paths stored in a .blend: relative to the file if possible, so that a project can be moved or sent."""

from __future__ import annotations

import os
import re

import bpy


def stored(path: str) -> str:
    """A path as Blender stores it: //vera/shot/encoded, with forward slashes; absolute in an unsaved file."""
    if bpy.data.filepath and not path.startswith("//"):
        try:
            path = bpy.path.relpath(path)
        except ValueError:
            pass  # on Windows: another drive
    return path.replace("\\", "/")


def found(path: str, beside: str = "") -> str:
    """The absolute path, on this machine, of a stored one.

    beside: a delivery's folder of the same project that exists here. If the stored path does not exist on this machine
        (the project came from another system, or was saved elsewhere), it is searched beside that folder.
    """
    absolute = os.path.normpath(bpy.path.abspath(path.replace("\\", "/") if path.startswith("//") else path))
    if os.path.exists(absolute) or not beside:
        return absolute
    parts = [part for part in re.split(r"[\\/]", path) if part]
    root = os.path.dirname(os.path.dirname(beside))
    moved = os.path.join(root, *parts[-2:])
    return moved if len(parts) >= 2 and os.path.exists(moved) else absolute
