"""Versions on the disk. This module does not import nuke.

FOLDER/v003/request.json       the node's request; written before the job
FOLDER/v003/edit/, manifest.json, ...    the core's delivery; its manifest is written last
FOLDER/plates/STATE/           the plate and the mask, where Nuke had to write them
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import namedtuple
from typing import Any

from .host_rules import RefusedError, kept_in, layer_file

# recipe: the core's fields, without `out`. state: a hash that changes with the plate's and the mask's files.
# plate_write, mask_write: where Nuke has to write them first, or None. first, last: frames.
Request = namedtuple("Request", "recipe state plate_write mask_write first last")
Delivery = namedtuple("Delivery", "first last edit missing warnings")

NOTE_CHARACTERS = 300
FRAMES = 1_000_000  # largest number of frames of a delivery; bounds the effect of a damaged manifest
_DELIVERED_ANEW = ("layer_space", "also")  # fields that change the delivery, but not the latents
_VERSION = re.compile(r"v(\d{3,})")
_SPECIAL = re.compile(r'[\[\]{}$"\\#%]')  # characters with a meaning in Tcl or in frame patterns


def path(base: str, number: int) -> str:
    return f"{base}/v{number:03d}"


def check_base(base: str) -> None:
    """Refuse a folder whose name would mean something else in a Read's file name."""
    if not os.path.isabs(base):
        raise RefusedError(f"results in {base}: not an absolute path; choose a folder")
    special = _SPECIAL.search(base)
    if special:
        raise RefusedError(
            f"results in {base}: {special[0]} in a folder's name would be misread; choose another folder"
        )


def numbers(base: str) -> list[int]:
    """The versions that are there, in order."""
    try:
        found = [_VERSION.fullmatch(name) for name in os.listdir(base)]
    except OSError:
        return []
    return sorted(int(match[1]) for match in found if match)


def find(base: str, request: Request, shown: int) -> int | None:
    """The version with the same request, preferably the shown one; None if there is none."""
    wanted = _noted(request)
    for number in sorted(numbers(base), key=lambda n: (n != shown, -n)):
        if _read_json(path(base, number) + "/request.json") == wanted:
            return number
    return None


def asked(out: str) -> dict[str, Any]:
    """The recipe of a version's request."""
    return _read_json(out + "/request.json").get("recipe", {})


def mark_of(out: str) -> str:
    """A short hash of the plate and the mask that a version was made for."""
    return mark_of_state(str(_read_json(out + "/request.json").get("state") or ""))


def mark_of_state(state: str) -> str:
    return hashlib.sha256(state.encode()).hexdigest()[:16] if state else ""


def kept_for(base: str, request: Request) -> str:
    """The folder of kept latents of the same edit in another working space, or ""."""
    wanted = {name: value for name, value in request.recipe.items() if name not in _DELIVERED_ANEW}
    for number in reversed(numbers(base)):
        noted = _read_json(path(base, number) + "/request.json")
        recipe = noted.get("recipe")
        if not isinstance(recipe, dict) or noted.get("state") != request.state:
            continue
        kept = kept_in(path(base, number))
        if kept and {name: value for name, value in recipe.items() if name not in _DELIVERED_ANEW} == wanted:
            return kept
    return ""


def note(out: str) -> str:
    """The artist's note on a version, one line."""
    try:
        with open(out + "/note.txt", encoding="utf-8") as stream:
            return " ".join(stream.read(NOTE_CHARACTERS).split())
    except (OSError, ValueError):
        return ""


def set_note(out: str, text: str) -> None:
    """Raises RefusedError."""
    try:
        with open(out + "/note.txt", "w", encoding="utf-8") as stream:
            stream.write(" ".join(text.split())[:NOTE_CHARACTERS])
    except OSError as error:
        raise RefusedError(f"{out}: cannot be written ({error.strerror})") from None


def delete(out: str) -> None:
    """Delete a version's folder. Raises RefusedError if the folder is no version."""
    whole = _VERSION.fullmatch(os.path.basename(out)) and os.path.isfile(out + "/request.json")
    if not whole or os.path.islink(out):
        raise RefusedError(f"{out}: is no version of Vera's; nothing was deleted")
    try:
        shutil.rmtree(out)
    except OSError as error:
        raise RefusedError(f"{out}: cannot be deleted ({error.strerror})") from None


def begin(base: str, request: Request) -> int:
    """Create a new version for this request, safely against others that do so at the same time."""
    try:
        os.makedirs(base, exist_ok=True)
        number = max(numbers(base), default=0) + 1
        while True:
            try:
                os.mkdir(path(base, number))
                break
            except FileExistsError:
                number += 1
        _write_json(path(base, number) + "/request.json", _noted(request))
    except OSError as error:
        raise RefusedError(
            f"{base}: cannot be written ({error.strerror}); choose another folder for the results"
        ) from None
    return number


def forget_if_empty(out: str) -> None:
    """Remove an empty version whose request was refused."""
    try:
        if os.listdir(out) == ["request.json"]:
            os.unlink(out + "/request.json")
            os.rmdir(out)
    except OSError:
        pass


def delivered(out: str) -> Delivery | None:
    """The complete delivery in `out`, or None. `missing`: frames whose files were removed since."""
    manifest = _read_json(out + "/manifest.json")
    try:
        files = {entry["frame"]: f"edit/{layer_file(entry['frame'])}" for entry in manifest["frames"]}
        first, last = min(files), max(files)
        if not all(isinstance(f, int) for f in files) or last - first >= FRAMES:
            return None
        missing = [f for f in range(first, last + 1) if f not in files or not os.path.isfile(f"{out}/{files[f]}")]
        return Delivery(first, last, f"{out}/edit/edit.####.exr", missing, manifest["extra"].get("warnings", []))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def missing(pattern: str, first: int, last: int) -> list[int]:
    """The frames of a sequence that are not on the disk."""
    return [frame for frame in range(first, last + 1) if not os.path.isfile(file_of(pattern, frame))]


def file_of(pattern: str, frame: int) -> str:
    """The file of a frame: `plate.####.exr`, `plate.%04d.exr`, or a name without a pattern."""
    folder, name = os.path.split(pattern)
    name = re.sub(r"%(0\d+)?d|#+", lambda m: f"{frame:{_width(m[0])}d}", name)
    return os.path.join(folder, name)


def _width(token: str) -> str:
    return token[1:-1] if token.startswith("%") else f"0{len(token)}"


def mark_written(folder: str, first: int, last: int) -> None:
    """Plate and mask in `folder` are whole."""
    _write_json(folder + "/written.json", {"first": first, "last": last})


def is_written(folder: str, first: int, last: int) -> bool:
    return _read_json(folder + "/written.json") == {"first": first, "last": last}


def _noted(request: Request) -> dict[str, Any]:
    return {"recipe": request.recipe, "state": request.state}


def _read_json(file: str) -> dict[str, Any]:
    """A JSON object, or an empty one if the file cannot be read."""
    try:
        with open(file, encoding="utf-8") as stream:
            value = json.load(stream)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_json(file: str, value: Any) -> None:
    with open(file + ".part", "w", encoding="utf-8") as stream:
        json.dump(value, stream, indent=1, sort_keys=True)
    os.replace(file + ".part", file)
