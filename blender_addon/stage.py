"""Render strips that differ from their files first, with another Blender, from a copy of the file.

The interface stays responsive, the open file is not changed, and the plate is the visible picture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bpy

from . import host
from .host_rules import RefusedError

SCRIPT = Path(__file__).with_name("render_stage.py")


def copy_file(folder: str) -> str:
    """Save a copy of the open file into folder; returns its path. Raises RefusedError."""
    path = os.path.join(folder, "scene.blend")
    try:
        bpy.ops.wm.save_as_mainfile(filepath=path, copy=True, check_existing=False)
    except RuntimeError as error:
        raise RefusedError(f"{path}: the copy to render from cannot be saved ({str(error).strip()})") from None
    return path


def strips_of_picture(strip: bpy.types.Strip, scene: bpy.types.Scene) -> list[str]:
    """Names of the strips that make a strip's picture: itself first, then its contents and the effects on it alone."""
    names, grown = {strip.name}, True
    while grown:
        before = len(names)
        for other in host.all_strips(scene):
            inputs = [getattr(other, n) for n in ("input_1", "input_2") if getattr(other, n, None)]
            if other.name in names:
                names.update(i.name for i in inputs)
                names.update(s.name for s in (host.strips(other) if other.type == "META" else ()))
            elif inputs and all(i.name in names for i in inputs):
                names.add(other.name)
        grown = len(names) > before
    parent = strip.parent_meta()
    while parent:
        names.add(parent.name)
        parent = parent.parent_meta()
    return [strip.name, *sorted(names - {strip.name})]


def start(stage: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start rendering the files that are missing; returns the process."""
    folder = Path(stage["folder"])
    order = folder / "stage.json"
    order.write_text(json.dumps(stage), encoding="utf-8")
    if bpy.app.binary_path:
        command = [
            bpy.app.binary_path,
            "--background",
            "--python-exit-code",
            "1",
            "--python",
            str(SCRIPT),
            "--",
            str(order),
        ]
    else:  # Blender as a Python module
        command = [sys.executable, str(SCRIPT), "--", str(order)]
    log = open(folder / "stage.log", "w")
    with log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def files(stage: dict[str, Any]) -> list[str]:
    """All files that the stage writes."""
    return [path for part in stage["passes"] for path in part["files"]]


def progress(stage: dict[str, Any]) -> tuple[int, int]:
    """(number of files that exist, number of all files)."""
    wanted = files(stage)
    return sum(os.path.isfile(path) for path in wanted), len(wanted)


def last_words(stage: dict[str, Any]) -> str:
    """The last line of the log that is not empty."""
    try:
        lines = (Path(stage["folder"]) / "stage.log").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if "Error" in line]
    return (errors or lines or ["its log is empty"])[-1]
