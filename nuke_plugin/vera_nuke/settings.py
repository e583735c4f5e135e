"""The location of the core, in one JSON file in the artist's settings folder. This module does not import nuke."""

from __future__ import annotations

import json
import os
import subprocess
from collections import namedtuple
from typing import TYPE_CHECKING

from .host_rules import RefusedError

if TYPE_CHECKING:
    from .client import Client

# python: of the core's environment. root: the folder of `core`, "" if it is installed. cache: results folder of unsaved
# scripts. folders: that the service may use. paths: ((here, there), ...) if the service's machine has other paths.
Settings = namedtuple("Settings", "python root cache folders paths")

_DEFAULT = Settings("", "", os.path.expanduser("~/vera").replace("\\", "/"), (), ())


def file() -> str:
    return os.environ.get("VERA_NUKE_SETTINGS") or os.path.expanduser("~/.nuke/vera_nuke.json")


def load() -> Settings:
    """Load the settings. VERA_PYTHON and VERA_ROOT, which a studio sets for all, override the file.

    Raises RefusedError.
    """
    values = _DEFAULT
    try:
        with open(file(), encoding="utf-8") as stream:
            stored = json.load(stream)
        values = values._replace(**{name: stored[name] for name in Settings._fields if name in stored})
        values = values._replace(paths=tuple((str(here), str(there)) for here, there in values.paths))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError):
        raise RefusedError(f"{file()}: damaged; press Settings and set it anew, or delete it") from None
    python, root = os.environ.get("VERA_PYTHON"), os.environ.get("VERA_ROOT")
    return values._replace(python=python or values.python, root=root or values.root)


def save(values: Settings) -> None:
    """Raises RefusedError."""
    try:
        os.makedirs(os.path.dirname(file()), exist_ok=True)
        with open(file() + ".part", "w", encoding="utf-8") as stream:
            json.dump(values._asdict(), stream, indent=1)
        os.replace(file() + ".part", file())
    except OSError as error:
        raise RefusedError(f"{file()}: cannot be written ({error.strerror})") from None


def allow(values: Settings) -> None:
    """Allow the service its folders. It takes a second: do not call it on the main thread. Raises RefusedError."""
    from .client import PathMap, own_environment

    no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows only
    for folder in values.folders:
        there = PathMap(values.paths).to_service(folder)
        command = [values.python, "-m", "vera", "serve", "--allow", there]
        try:
            done = subprocess.run(
                command,
                cwd=values.root or None,
                env=own_environment(),
                capture_output=True,
                text=True,
                timeout=60,
                creationflags=no_window,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RefusedError(f"{values.python}: cannot be started ({error}); name the Python of the core") from None
        if done.returncode:
            raise RefusedError(done.stderr.strip().split("\n")[-1] or f"{folder}: could not be allowed")


def open_page() -> None:
    """Open the service's page in a browser. It takes a second: do not call it on the main thread.

    Raises RefusedError.
    """
    from .client import own_environment

    values = load()
    if not values.python:
        raise RefusedError("the core's Python is not named; press Settings, or run: vera serve --open")
    command = [values.python, "-m", "vera", "serve", "--open"]
    try:
        subprocess.Popen(command, cwd=values.root or None, env=own_environment(), stdin=subprocess.DEVNULL)
    except OSError as error:
        raise RefusedError(f"{values.python}: cannot be started ({error}); name the Python of the core") from None


def connect(may_start: bool = True) -> Client:
    """A client of the service; starts one if the settings say how. Raises RefusedError, ServiceError."""
    from .client import NotRunningError
    from .client import connect as _connect

    values = load()
    python = values.python if may_start and values.python else None
    try:
        return _connect(python=python, root=values.root or None, path_map=values.paths)
    except NotRunningError as error:
        if values.python:
            raise
        raise RefusedError(f"{error}, or press Settings and name the core's Python, to have it started") from None
