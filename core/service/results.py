"""Serve the files of a finished job, whole or one byte range.

Files are opened within the allowed folders, without following links.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from starlette.responses import StreamingResponse

from vera.core import files
from vera.core.errors import InputError
from vera.core.service.security import RequestError

# Files of a job that can be fetched -> media type.
RESULTS = {"preview.mp4": "video/mp4", "contact_sheet.png": "image/png", "report.png": "image/png"}
RECIPE = "recipe.json"
RECIPE_BYTES = 256 * 1024
CHUNK = 256 * 1024  # bytes read at once, the memory of a download; raising it is hardly faster
MAX_VERSIONS = 10_000  # version numbers of one folder's name that are tried
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_VERSION = re.compile(r"(?P<name>.*?)(?:_v(?P<number>\d{1,6}))?", re.DOTALL)


@dataclass(frozen=True)
class Result:
    """An open file of a delivery, and its size in bytes."""

    file: BinaryIO
    kind: str
    size: int


def open_result(out: str, name: str, identity: str | None, roots: Sequence[str]) -> Result:
    """The file `name` of the delivery in `out`, which must be the one of the job with this identity.

    Raises RequestError: 403 outside the allowed folders, 404 if the file does not exist, 409 if the folder now has
    another job's results.
    """
    with _open_inside(out, RECIPE, roots) as file:
        content = file.read(RECIPE_BYTES + 1)
    if identity is None or _recipe_hash(content) != identity:
        raise RequestError(409, f"{out} holds another job's results by now")
    file = _open_inside(out, name, roots)
    return Result(file, RESULTS[name], os.fstat(file.fileno()).st_size)


def response(result: Result, range_header: str | None) -> StreamingResponse:
    """The file as a response. range_header: the request's Range header, of one range, or None. Raises RequestError."""
    try:
        first, last = _range(range_header, result.size)
    except RequestError:
        result.file.close()
        raise
    headers = {
        "Content-Length": str(last - first + 1),
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    if range_header is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{result.size}"
    body = _chunks(result.file, first, last - first + 1)
    return StreamingResponse(body, 200 if range_header is None else 206, headers, result.kind)


def next_version(out: str, taken: set[str]) -> str:
    """The folder's name with the next version number (`_v002`) that neither exists nor is in `taken`.

    Raises InputError if none is free.
    """
    folder = Path(out)
    parts = _VERSION.fullmatch(folder.name)
    assert parts is not None  # the expression matches any text
    digits = max(3, len(parts["number"] or ""))
    first = int(parts["number"] or 1) + 1
    for number in range(first, first + MAX_VERSIONS):
        path = folder.with_name(f"{parts['name']}_v{number:0{digits}d}")
        if str(path) not in taken and not os.path.lexists(path):
            return str(path)
    raise InputError(f"out {out}: the next {MAX_VERSIONS} versions exist already; name another folder")


def can_show_folders() -> bool:
    """Whether this machine has a file manager that could be started."""
    return _file_manager() is not None


def show_folder(out: str, roots: Sequence[str]) -> None:
    """Open the folder in the file manager. Raises RequestError."""
    manager = _file_manager()
    if manager is None:
        raise RequestError(409, "there is no file manager here; copy the folder's path instead")
    real = _real_path(out, roots)
    if not os.path.isdir(real):
        raise RequestError(404, f"{out} is not there any more")
    quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        subprocess.Popen([*manager, real], start_new_session=True, **quiet)
    except OSError as error:
        raise RequestError(409, f"{manager[0]} cannot be started ({error.strerror}); copy the folder's path") from None


def _file_manager() -> list[str] | None:
    """The command that shows a folder; the folder is appended as its last argument."""
    if sys.platform == "win32":
        return ["explorer"]
    if sys.platform == "darwin":
        return ["open", "-a", "Finder"]  # without -a, a folder named like a program would be started
    screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    command = shutil.which("xdg-open") if screen else None
    return [command] if command else None


def _recipe_hash(content: bytes) -> str | None:
    try:
        recipe = files.parse_json(content, files.JsonLimits(bytes=RECIPE_BYTES))
    except files.JsonError:
        return None
    value = recipe.get("recipe_hash") if isinstance(recipe, dict) else None
    return value if isinstance(value, str) else None


def _real_path(out: str, roots: Sequence[str]) -> str:
    """The real path of a folder within the allowed ones. Raises RequestError."""
    real = os.path.realpath(out)
    if _root_of(real, roots) is None:
        raise RequestError(403, f"{out}: outside the folders that the service may use")
    return real


def _root_of(real: str, roots: Sequence[str]) -> str | None:
    """The allowed folder that a real path is in, or None."""
    return next((root for root in roots if real == root or Path(root) in Path(real).parents), None)


def _open_inside(out: str, name: str, roots: Sequence[str]) -> BinaryIO:
    """Open a regular file in the folder `out`. Raises RequestError.

    Starting at the allowed folder, each folder is opened relative to the one before and never through a link, so that
    none can be replaced meanwhile.
    """
    real = _real_path(out, roots)
    root = _root_of(real, roots)
    assert root is not None
    try:
        if os.open not in os.supports_dir_fd:
            return files.open_regular(Path(real, name))
        return _open_step_by_step(root, (*Path(real).relative_to(root).parts, name))
    except OSError:
        raise RequestError(404, f"{out} has no {name}") from None


def _open_step_by_step(root: str, parts: tuple[str, ...]) -> BinaryIO:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = inner
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("not a regular file")
    return os.fdopen(descriptor, "rb")


def _range(header: str | None, size: int) -> tuple[int, int]:
    """First and last byte of the requested range. Raises RequestError (416) unless it is one range of the file."""
    if header is None:
        return 0, size - 1
    bounds = _RANGE.fullmatch(header.strip())
    if bounds is None or bounds[1] == bounds[2] == "":
        raise RequestError(416, "Range: one range of bytes is taken, such as bytes=0-999")
    if bounds[1] == "":
        first, last = max(0, size - int(bounds[2])), size - 1
    else:
        first, last = int(bounds[1]), min(size - 1, int(bounds[2] or size - 1))
    if not 0 <= first <= last:
        raise RequestError(416, f"Range: not within the file's {size} bytes")
    return first, last


def _chunks(file: BinaryIO, first: int, count: int) -> Iterator[bytes]:
    with file:
        file.seek(first)
        while count > 0 and (chunk := file.read(min(CHUNK, count))):
            count -= len(chunk)
            yield chunk
