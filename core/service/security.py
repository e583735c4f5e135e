"""Access control of the service: the token, the request's origin, strict JSON, allowed folders."""

from __future__ import annotations

import asyncio
import getpass
import hmac
import json
import os
import re
import secrets
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vera.core import files
from vera.core.errors import InputError
from vera.core.recipe import table
from vera.core.recipe.parse import EMBEDDED, MAX_TEXT
from vera.core.recipe.path_kind import PathKind
from vera.core.recipe.paths import paths_of
from vera.core.service import client

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

MAX_BODY = 64 * 1024  # bytes
MAX_HEADERS = 16 * 1024
MAX_DEPTH = 8
BODY_SECONDS = 10.0  # limit for receiving a body
MAX_NAME = 255  # bytes of one name in a path, the limit of most file systems
MAX_FOLDERS = 200  # deepest path, in folders
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class RequestError(Exception):
    """The request is refused, with an HTTP status and a message of one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def new_token() -> str:
    return secrets.token_urlsafe(32)


def make_private_folder(path: Path) -> None:
    """Make a folder that only this user can enter. Raises OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    if os.name == "posix":
        path.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only this user can read. Raises OSError."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        if os.name == "nt":
            # On Windows, file modes have no effect: remove inherited rights before the secret is written.
            rights = f"{getpass.getuser()}:F"
            subprocess.run(["icacls", str(part), "/inheritance:r", "/grant:r", rights], check=True, capture_output=True)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Guard:
    """ASGI middleware that refuses requests not from this user's client or page, before their body is read.

    Host must be this loopback address (against DNS rebinding). A browser's Origin and Sec-Fetch-Site must be those of
    the page. Everything except the page's own files requires the token.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app, self.token = app, token
        self.hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check(scope)
        except RequestError as refusal:
            await _answer(send, refusal)
            return
        await self.app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers: dict[bytes, str] = {}
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            raise RequestError(431, f"the headers are larger than {MAX_HEADERS} bytes")
        for name, value in scope["headers"]:
            if name in headers and name in (b"host", b"origin", b"authorization", b"content-type", b"sec-fetch-site"):
                raise RequestError(400, f"the header {name.decode('latin-1')} is there twice")
            headers[name] = value.decode("latin-1")
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if host not in self.hosts:
            raise RequestError(403, "Host is not this service")
        if origin is not None and origin != f"http://{host}":
            raise RequestError(403, "requests from other origins are refused")
        site = headers.get(b"sec-fetch-site", "none")
        is_api = scope["path"].startswith("/v1/")
        # The page itself contains no secret and may be opened by a link.
        link = not is_api and scope["method"] == "GET" and headers.get(b"sec-fetch-mode") == "navigate"
        link = link and headers.get(b"sec-fetch-dest") == "document"
        if site not in ("none", "same-origin") and not link:
            raise RequestError(403, "cross-site requests are refused")
        if is_api:
            scheme, _, token = headers.get(b"authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self.token.encode()):
                raise RequestError(401, "the token is missing or wrong")
        if scope["method"] not in ("GET", "HEAD"):
            kind = headers.get(b"content-type", "").split(";")[0].strip().lower()
            if kind != "application/json":
                raise RequestError(415, "only application/json is accepted")


async def read_json(request: Request) -> dict[str, Any]:
    """The body of a request as a JSON object. Raises RequestError for anything else."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY:
                    raise RequestError(413, f"the body is larger than {MAX_BODY} bytes")
    except TimeoutError:
        raise RequestError(408, f"the body took longer than {BODY_SECONDS:g} s") from None
    return parse_json(bytes(body))


def parse_json(body: bytes) -> dict[str, Any]:
    """Parse JSON strictly: a UTF-8 object, at most MAX_DEPTH deep, no long numbers, no NaN, no duplicate names."""
    try:
        value = files.parse_json(body, files.JsonLimits(bytes=MAX_BODY, depth=MAX_DEPTH))
    except files.JsonError as error:
        raise RequestError(400, f"the body {error}") from None
    if not isinstance(value, dict):
        raise RequestError(400, "the body is not a JSON object")
    return value


def check_recipe(recipe: dict[str, Any], roots: Sequence[str]) -> None:
    """Raise InputError for a path in any field that is outside of the allowed folders, after resolving links."""
    for name, path, _ in _paths(recipe):
        if len(path) > MAX_TEXT or _CONTROL.search(path):
            raise InputError(f"{name}: longer than {MAX_TEXT} characters, or contains control characters")
        refuse_unusable_name(name, path)
        if not Path(path).is_absolute():
            raise InputError(f"{name} {path}: not an absolute path; the service has no current folder")
        _check_inside(name, path, roots)
    if len(recipe["prompt"]) > MAX_TEXT:
        raise InputError(f"prompt: longer than {MAX_TEXT} characters; shorten it")


def refuse_unusable_name(name: str, path: str | Path) -> None:
    """Raise InputError for a path that no file system accepts."""
    parts = Path(path).parts
    if len(parts) > MAX_FOLDERS or any(len(os.fsencode(part)) > MAX_NAME for part in parts):
        raise InputError(f"{name}: holds a name of over {MAX_NAME} bytes, or more than {MAX_FOLDERS} folders")


def check_files(recipe: dict[str, Any], roots: Sequence[str]) -> None:
    """`check_recipe` for every file that the job will read or write. Raises InputError.

    Existing files of a sequence are checked one by one.
    """
    from vera.core.layer.out_folder import FOLDERS
    from vera.core.plate.pattern import find_pattern

    check_recipe(recipe, roots)
    for name, value, kind in _paths(recipe):
        if kind not in (PathKind.PATTERN, PathKind.FILES, PathKind.LORAS):
            continue
        path = Path(value)
        pattern = None if path.is_file() or kind is not PathKind.PATTERN else find_pattern(path)
        try:
            frames = [path] if pattern is None else [pattern.file(frame) for frame in pattern.frames()]
        except OSError:
            frames = []  # opening the plate gives a better message
        for file in frames:
            _check_inside(name, file, roots)
            if file.exists() and not stat.S_ISREG(file.stat().st_mode) and not file.is_dir():
                raise InputError(f"{name} {file}: not a regular file; supply a file")
    for folder in FOLDERS:
        _check_inside("out", Path(recipe["out"]) / folder, roots)


def _paths(recipe: dict[str, Any]) -> list[tuple[str, str, PathKind]]:
    """(field, path, kind) of every path in the recipe, except the bundled model."""
    return [path for path in paths_of(recipe, table.FIELDS) if path[1:] != (EMBEDDED, PathKind.MODEL)]


def _check_inside(name: str, path: str | Path, roots: Sequence[str]) -> None:
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError):
        raise InputError(f"{name} {path}: not a usable path") from None
    if not any(real == root or root in real.parents for root in map(Path, roots)):
        raise InputError(
            f"{name} {path}: outside the folders that the service may use ({', '.join(map(str, roots))});"
            f" allow one with {client.allow_command()}"
        )


class Roots:
    """The folders that the user has allowed, stored in a file; the home folder if none was allowed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def folders(self) -> list[str]:
        """Real paths. Raises InputError if the file is damaged."""
        allowed = self._allowed()
        return [os.path.realpath(Path.home())] if allowed is None else allowed

    def allow(self, folder: str | Path) -> list[str]:
        """Add a folder. Raises InputError if it does not exist."""
        real = os.path.realpath(folder)
        if not os.path.isdir(real):
            raise InputError(f"--allow {folder}: no such folder")
        folders = list(dict.fromkeys([*(self._allowed() or ()), real]))
        write_private(self.path, json.dumps({"folders": folders}, indent=2) + "\n")
        return folders

    def _allowed(self) -> list[str] | None:
        """The folders in the file; None if no folder was ever allowed. Raises InputError if the file is damaged."""
        try:
            return [os.path.realpath(folder) for folder in files.read_json(self.path, {"folders": [str]})["folders"]]
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            raise InputError(f"{self.path}: damaged; delete it and allow the folders again") from None


async def _answer(send: Send, refusal: RequestError) -> None:
    body = json.dumps({"error": str(refusal)}).encode()
    length = str(len(body)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
