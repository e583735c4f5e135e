"""Paths as a .blend keeps them: relative to the file where it can be, so that a project may be moved or sent."""

from __future__ import annotations

import os
import re

import bpy


def stored(path: str) -> str:
    """As Blender writes it: //vera/shot/encoded, with forward slashes; absolute in a file that was never saved."""
    if bpy.data.filepath and not path.startswith("//"):
        try:
            path = bpy.path.relpath(path)
        except ValueError:
            pass  # another drive of Windows
    return path.replace("\\", "/")


def found(path: str, beside: str = "") -> str:
    """The absolute path of a stored one, here.

    beside: a delivery's folder that is known to be here, of the same project. Where the stored path is nothing on
    this machine (the project came from another system, or was saved elsewhere), it is looked for beside that.
    """
    absolute = os.path.normpath(bpy.path.abspath(path.replace("\\", "/") if path.startswith("//") else path))
    if os.path.exists(absolute) or not beside:
        return absolute
    parts = [part for part in re.split(r"[\\/]", path) if part]
    root = os.path.dirname(os.path.dirname(beside))
    moved = os.path.join(root, *parts[-2:])
    return moved if len(parts) >= 2 and os.path.exists(moved) else absolute
