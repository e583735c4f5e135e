"""The client of Vera's service, in one file of the standard library (Python >= 3.9).

Hosts carry a copy of this file and of host_rules.py, and nothing else of Vera:

    client = connect(python="/opt/vera/.venv/bin/python")   # finds the service, or starts it
    job = client.submit({"plate": "/shots/a.####.exr", "prompt": "Add falling snow", "out": "/shots/a_snow"})
    for job in client.watch(job["id"]):                     # a new state, a new frame, a new step
        print(job["state"], job["stage"], job["done"], job["total"])
    print(client.results(job)["edit"])

It runs inside Nuke and Blender, so nothing that it reads is trusted. The discovery file, answers and manifests are
limited in size, and each request in time. Content of another shape than documented raises ServiceError.

As a command: python client.py health | list | submit KEY=VALUE ... | watch ID | cancel ID | retry ID
"""

from __future__ import annotations

import functools
import http.client
import io
import json
import math
import os
import re
import shlex
import socket
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union, cast
from urllib.parse import quote

CONTRACT = 1  # version of the requests and answers below; the service states its own in `health`
OPEN_STATES = ("queued", "running")
ENDED_STATES = ("done", "failed", "cancelled")
START_SECONDS = 60  # time for the service to start; raising it helps slow machines
ANSWER_SECONDS = 30  # time for an answer, beyond the time that the request asks the service to wait
POLL_SECONDS = 25  # time that the service may hold back an answer until a job changes; raising it sends fewer requests
LOOK_SECONDS = 120  # seconds to wait for `look`, which may wait for another one
BUSY = 503  # status of an answer if the service has too many connections
BUSY_TRIES = 20  # of such a request
BUSY_SECONDS = 0.3  # between two tries
QUIET_SECONDS = 0.2  # before the next poll, if the answer came at once and without news
# Limits on answers and files. Raising them costs the host memory: an answer of n bytes can take 13 n.
DISCOVERY_BYTES = 16 * 2**10
ANSWER_BYTES = 3 * 2**20  # some thousand jobs
ANSWER_PARTS = 300_000  # values, names and lists of one answer
MANIFEST_BYTES, MANIFEST_PARTS = 32 * 2**20, 1_000_000  # some 20,000 frames
LINE_CHARACTERS = 600  # largest length of a text from the service that users see
PICTURE_PIXELS = 2048  # largest width and height of a preview


# The recipe fields that contain paths, with their kinds. A test compares them with the recipe's table.
PATH_FIELDS = {
    "plate": "pattern",
    "out": "folder",
    "mask": "pattern",
    "hold_out": "pattern",
    "model": "model",
    "reference": "files",
    "lora": "loras",
}
MODEL_PREFIXES = ("lift", "vace")  # prefixes of models' names that are followed by a path
_STRENGTH = re.compile(r"(.*):([-+]?(?:\d+\.?\d*|\.\d+))")  # FILE:STRENGTH

# Type aliases, in the syntax of Python 3.9.
Entry = dict[str, Any]  # {"port", "pid", "token", "contract"} of a running service
Job = dict[str, Any]  # as JOB_SHAPE says
Pairs = Sequence[tuple[Union[str, Path], Union[str, Path]]]  # [(path here, path there), ...]
Fits = Callable[[Any], bool]


class ServiceError(Exception):
    """The service refused or could not be reached: one line. `status` is HTTP's, or 0."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class NotRunningError(ServiceError):
    """There is no service to talk to."""


def allow_command(folder: str = "FOLDER") -> str:
    """The command that allows the service to use a folder; it names the state folder if that is not the default."""
    state = os.environ.get("VERA_SERVICE_DIR")
    option = f" --folder {shlex.quote(state)}" if state else ""
    return f"vera serve{option} --allow {folder if folder == 'FOLDER' else shlex.quote(folder)}"


def state_folder() -> Path:
    """The folder of the user's service, with queue and token. VERA_SERVICE_DIR names another one."""
    if os.environ.get("VERA_SERVICE_DIR"):
        return Path(os.environ["VERA_SERVICE_DIR"])
    try:
        home = Path.home()
    except RuntimeError:
        raise ServiceError("the user has no home folder; name the service's folder in VERA_SERVICE_DIR") from None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "vera"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "vera"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "vera"


def discover(folder: str | Path | None = None) -> Entry:
    """The running service's entry: {"port", "pid", "token", "contract"}. Raises NotRunningError, ServiceError.

    A file that another user wrote or can read is refused. A damaged file counts as missing.
    """
    path = Path(folder or state_folder()) / "service.json"
    try:
        entry = _strict_json(_read_own_file(path, DISCOVERY_BYTES), ANSWER_PARTS)
        port, pid, token = entry["port"], entry["pid"], entry["token"]
    except (OSError, ValueError, KeyError):
        raise NotRunningError(f"no service: {path} is not there or damaged; start it with vera serve") from None
    fits = _is_whole(port, 1, 65535) and _is_whole(pid, 1, 2**31) and isinstance(token, str)
    if not fits or not re.fullmatch(r"[!-~]{1,512}", token):
        raise NotRunningError(f"no service: {path} is damaged; start it with vera serve")
    return {"port": port, "pid": pid, "token": token, "contract": entry.get("contract")}


def _read_own_file(path: Path, limit: int) -> bytes:
    """Bytes of a regular file of this user. Raises OSError, ValueError, and ServiceError if others can read it."""
    flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    number = os.open(path, os.O_RDONLY | flags)  # a pipe in its place must not block the host
    with os.fdopen(number, "rb") as file:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a file")
        if os.name == "posix" and (status.st_uid != os.getuid() or status.st_mode & 0o077):
            raise ServiceError(f"{path}: others can read or write it; delete it and start the service again")
        return _read_at_most(file, limit)


def _read_at_most(file: BinaryIO, limit: int) -> bytes:
    content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"more than {limit} bytes")
    return content


def _strict_json(content: bytes | bytearray, parts: int) -> dict[str, Any]:
    """The JSON object in `content`: no NaN, no endless numbers, a limit on its parts. Raises ValueError."""
    if sum(map(content.count, (b",", b":", b"[", b"{"))) > parts:
        raise ValueError(f"more than {parts} parts")
    try:
        value = json.loads(
            content.decode("utf-8"), parse_int=_whole_number, parse_float=_finite_number, parse_constant=_finite_number
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - as all that JSON may be wrong in
    return value


def _whole_number(text: str) -> int:
    if len(text) > 20:
        raise ValueError("a number of more than 20 digits")
    return int(text)


def _finite_number(text: str) -> float:
    value = float(text) if len(text) <= 40 else math.nan
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def one_line(text: object, limit: int = LINE_CHARACTERS) -> str:
    """Untrusted text as one line: without control characters, at most `limit` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def own_environment() -> dict[str, str]:
    """This process's environment without the host's settings of its own Python."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP")}


def connect(
    python: str | Path | None = None,
    root: str | Path | None = None,
    folder: str | Path | None = None,
    path_map: Pairs = (),
    wait: float = START_SECONDS,
    options: Sequence[str] = (),
) -> Client:
    """A Client of the running service; starts one if `python` names an interpreter that has torch.

    root: folder of Vera's `core`, if it is not installed in that environment
    folder: the service's state folder
    path_map: see PathMap
    options: of `vera serve`, for a service that is started, such as ("--device", "cpu")
    Raises ServiceError.
    """
    starter = None if not python else functools.partial(start, python, root, folder, wait, options)
    client = Client(folder, path_map, starter)
    client.health()
    return client


def start(
    python: str | Path,
    root: str | Path | None = None,
    folder: str | Path | None = None,
    wait: float = START_SECONDS,
    options: Sequence[str] = (),
) -> None:
    """Start the service as an independent process and wait until it answers. Raises ServiceError.

    Several clients may do so at once: one service remains, and all find it.
    """
    environment = own_environment()
    if folder:
        environment["VERA_SERVICE_DIR"] = str(folder)
    independence: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        independence = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        process = subprocess.Popen(
            [str(python), "-m", "vera", "serve", *options],
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **independence,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServiceError(f"{python}: cannot be started ({reason}); name the Python that has torch") from None
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            entry = discover(folder)
        except NotRunningError:
            entry = None
        if entry and _answers(entry, end):
            if os.name == "posix" and entry["pid"] != process.pid:
                process.terminate()  # another service is running: this one must not start when that one ends
            return
        if process.poll() not in (None, 3):  # 3: another service is running
            raise ServiceError(
                f"the service ended at once (exit code {process.returncode});"
                f" see {Path(folder or state_folder()) / 'service.log'}, or run {python} -m vera serve"
            )
        time.sleep(0.1)
    raise ServiceError(f"the service did not answer within {wait} s")


def _answers(entry: Entry, end: float) -> bool:
    """Whether a service answers. At the port of an ended service, another program may answer."""
    try:
        _exchange(entry, Request("GET", "/v1/health"), min(end, time.monotonic() + ANSWER_SECONDS))
    except ServiceError:
        return False
    return True


class PathMap:
    """Maps paths between this machine and the service's machine: [(here, there), ...].

    The longest matching prefix of whole folder names is used. Backslashes become slashes if the other side uses
    slashes, and vice versa.
    """

    def __init__(self, pairs: Pairs = ()) -> None:
        self.pairs = [(str(here).rstrip("/\\"), str(there).rstrip("/\\")) for here, there in pairs]

    def to_service(self, path: str | Path) -> str:
        return self._mapped(path, self.pairs)

    def to_host(self, path: str | Path) -> str:
        return self._mapped(path, [(there, here) for here, there in self.pairs])

    @staticmethod
    def _mapped(path: str | Path, pairs: list[tuple[str, str]]) -> str:
        plain = str(path).replace("\\", "/")
        for source, target in sorted(pairs, key=lambda pair: -len(pair[0])):
            prefix = source.replace("\\", "/")
            same = str.lower if ":" in prefix[:2] else str  # a drive letter means Windows, where case does not matter
            if same(plain) == same(prefix) or same(plain).startswith(same(prefix) + "/"):
                rest = plain[len(prefix) :]
                return target + (rest.replace("/", "\\") if "\\" in target else rest)
        return str(path)


def _with_paths(value: Any, kind: str, change: Callable[[str], str]) -> Any:
    """A field's value with its paths changed. A value of a wrong type stays, and the service refuses it."""
    if kind == "files" and isinstance(value, (list, tuple)):
        return [change(str(v)) if isinstance(v, (str, Path)) else v for v in value]
    if kind == "loras" and isinstance(value, (list, tuple)):
        return [_lora_with_path(v, change) if isinstance(v, str) else v for v in value]
    if kind in ("files", "loras") or not isinstance(value, (str, Path)):
        return value
    prefix, colon, path = str(value).partition(":")
    if kind == "model" and colon and prefix in MODEL_PREFIXES:
        return f"{prefix}:{change(path)}"
    return change(str(value))


def _lora_with_path(text: str, change: Callable[[str], str]) -> str:
    parts = _STRENGTH.fullmatch(text)
    return f"{change(parts[1])}:{parts[2]}" if parts else change(text)


class Client:
    """One service. Jobs are dictionaries as the service's OpenAPI description says (`Job`)."""

    def __init__(
        self,
        folder: str | Path | None = None,
        path_map: Pairs = (),
        starter: Callable[[], None] | None = None,
    ) -> None:
        self.folder, self.paths, self.starter = folder, PathMap(path_map), starter

    def health(self) -> dict[str, Any]:
        """{"contract", "version", "device", "memory", "model", "worker", "jobs", ...}."""
        answer = self._ask(Request("GET", "/v1/health"))
        contract = answer.get("contract")
        if contract != CONTRACT or isinstance(contract, bool):
            words = one_line(contract, 40)
            raise ServiceError(
                f"the service speaks contract {words}, this client {CONTRACT}; install one version of both"
            )
        return checked(answer, HEALTH_SHAPE, "health")

    def recipe_fields(self) -> set[str]:
        """Names of the recipe fields that this service knows; a host leaves the others out."""
        return set(self.health()["recipe"])

    def submit(self, recipe: Mapping[str, Any], request: str | None = None) -> Job:
        """Put a recipe into the queue. Sent again under the same `request` it is the same job."""
        return self._job(
            "POST", "/v1/jobs", {"recipe": self._with_service_paths(recipe), "request": request or uuid.uuid4().hex}
        )

    def look(self, recipe: Mapping[str, Any]) -> list[str]:
        """How the service reads this recipe's plate, mask and prompt, as lines; nothing is queued or written."""
        request = Request("POST", "/v1/look", {"recipe": self._with_service_paths(recipe)})
        try:
            lines = self._ask(request, LOOK_SECONDS).get("lines")
        except ServiceError as error:
            if error.status in (404, 405):
                raise ServiceError(
                    "this service is older and has no preview of the settings; install one version of both"
                ) from None
            raise
        if not _list_of(_text(_MAX_TEXT), 1000)(lines):
            raise ServiceError("the service's answer has no lines; install one version of both")
        return [one_line(line) for line in lines]

    def _with_service_paths(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe with the service's paths, without the fields that are None."""
        values = {name: value for name, value in dict(recipe).items() if value is not None}
        for name, kind in PATH_FIELDS.items():
            if values.get(name):
                values[name] = _with_paths(values[name], kind, self.paths.to_service)
        return values

    def jobs(self) -> list[Job]:
        """All jobs: those in the queue in its order, then those that ended, latest first."""
        jobs = self._ask(Request("GET", "/v1/jobs")).get("jobs")
        if not isinstance(jobs, list):
            raise ServiceError("the service's answer has no list of jobs; install one version of both")
        return [checked_job(job) for job in jobs]

    def job(self, number: int | str) -> Job:
        return self._job("GET", f"/v1/jobs/{int(number)}")

    def watch(self, number: int | str, seconds: float | None = None) -> Iterator[Job]:
        """Yield the job now and at every change until it has ended (or `seconds` are over)."""
        end = None if seconds is None else time.monotonic() + seconds
        job = self.job(number)
        yield job
        while job["state"] in OPEN_STATES:
            left = POLL_SECONDS if end is None else min(POLL_SECONDS, end - time.monotonic())
            if left <= 0:
                return
            before = job["revision"]
            path = f"/v1/jobs/{int(number)}?after={quote(before)}&wait={left:.1f}"
            began = time.monotonic()
            job = checked_job(self._ask(Request("GET", path), left + ANSWER_SECONDS))
            if job["revision"] != before:
                yield job
            elif time.monotonic() - began < QUIET_SECONDS:
                time.sleep(min(QUIET_SECONDS, left))  # the service did not wait as requested

    def wait(self, number: int | str, seconds: float | None = None) -> Job:
        """The job after its end, or after `seconds`."""
        last: Job = {}
        for last in self.watch(number, seconds):  # noqa: B007
            pass
        return last

    def cancel(self, number: int | str) -> Job:
        return self._job("POST", f"/v1/jobs/{int(number)}/cancel", {})

    def retry(self, number: int | str) -> Job:
        return self._job("POST", f"/v1/jobs/{int(number)}/retry", {})

    def move(self, number: int | str, before: int | None = None) -> Job:
        """Move a queued job before another one, or to the end."""
        return self._job("POST", f"/v1/jobs/{int(number)}/move", {"before": before})

    def preview(self, number: int | str, frame: int | None = None) -> bytes | None:
        """PNG bytes: the layer of the latest (or of one) frame over a checkerboard; None if there is none."""
        try:
            where = f"/v1/jobs/{int(number)}/preview" + ("" if frame is None else f"?frame={int(frame)}")
            return checked_picture(self._ask(Request("GET", where, picture=True)))
        except ServiceError as error:
            if error.status == 404:
                return None
            raise

    def unload(self) -> dict[str, Any]:
        """Free the model's memory, after the running job."""
        return dict(self._ask(Request("POST", "/v1/model/unload", {})))

    def shutdown(self) -> dict[str, Any]:
        """End the service. The queue is kept, and the running job resumes when the service starts again."""
        return dict(self._ask(Request("POST", "/v1/shutdown", {})))

    def results(self, job: Job) -> dict[str, Any]:
        """The results of a finished job with this machine's paths: {"out", "edit", "composite", "manifest"}.

        edit and composite are patterns (edit.####.exr), manifest is the content. Raises ServiceError.
        """
        out = Path(self.paths.to_host(job["recipe"]["out"]))
        try:
            with open(out / "manifest.json", "rb") as file:
                manifest = _strict_json(_read_at_most(file, MANIFEST_BYTES), MANIFEST_PARTS)
            kind = manifest["composite"]["format"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ServiceError(f"{out}: holds no whole delivery; is the job done, and the path mapped?") from None
        if not isinstance(kind, str) or not re.fullmatch(r"[a-z0-9]{1,8}", kind):
            raise ServiceError(f"{out / 'manifest.json'}: the composite's format is damaged; retry the job")
        return {
            "out": str(out),
            "edit": str(out / "edit" / "edit.####.exr"),
            "composite": str(out / "composite" / f"composite.####.{kind}"),
            "manifest": manifest,
        }

    def _job(self, method: str, path: str, body: dict[str, Any] | None = None) -> Job:
        return checked_job(self._ask(Request(method, path, body)))

    def _ask(self, request: Request, seconds: float | None = None) -> Any:
        """Send a request within `seconds`, and within as many again if a service must be found or started.

        Every request may be sent twice. Raises ServiceError.
        """
        is_retry = False
        seconds = ANSWER_SECONDS if seconds is None else seconds
        end = time.monotonic() + seconds
        for _ in range(BUSY_TRIES):
            try:
                return _exchange(discover(self.folder), request, end)
            except NotRunningError:
                if is_retry:
                    raise
                is_retry = True
                if self.starter:
                    self.starter()
                end = time.monotonic() + seconds
            except ServiceError as error:
                if error.status != BUSY:
                    raise
                if time.monotonic() + BUSY_SECONDS > end:
                    break
                time.sleep(BUSY_SECONDS)
        raise ServiceError("the service has too many clients; try again later", BUSY)


@dataclass(frozen=True)
class Request:
    """A request to the service. picture: whether the answer is a PNG; otherwise it is a JSON object."""

    method: str
    path: str
    body: dict[str, Any] | None = None
    picture: bool = False


def _exchange(entry: Entry, request: Request, end: float) -> Any:
    """The answer to one request, before the monotonic time `end`. Raises ServiceError; NotRunningError without answer.

    Proxies of the environment and redirections are ignored: no request leaves the machine.
    """
    headers = {"Authorization": f"Bearer {entry['token']}", "Content-Type": "application/json", "Connection": "close"}
    try:
        link = socket.create_connection(("127.0.0.1", entry["port"]), timeout=max(0.01, end - time.monotonic()))
        with link:
            connection = http.client.HTTPConnection("127.0.0.1", entry["port"])
            connection.sock = link
            body = None if request.body is None else json.dumps(request.body)
            connection.request(request.method, request.path, body, headers)
            response = http.client.HTTPResponse(cast("socket.socket", _LimitedSocket(link, end)), method=request.method)
            response.begin()
            kind = response.getheader("Content-Type", "")
            content = bytearray()
            while True:
                part = response.read(65536)
                if not part:
                    break
                content += part
    except _TooLargeError as error:
        raise ServiceError(f"the service's answer {error}; is it Vera's service that runs there?") from None
    except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
        words = one_line(error, 200) or type(error).__name__
        raise NotRunningError(f"the service does not answer ({words}); start it with vera serve") from None
    if request.picture and response.status == 200 and kind.startswith("image/"):
        return bytes(content)
    try:
        answer = _strict_json(content, ANSWER_PARTS)
    except ValueError:
        words = "the service answered with status {} and unreadable content"
        raise ServiceError(words.format(response.status), response.status) from None
    if response.status >= 300:
        refusal = answer.get("error")
        refusal = refusal if isinstance(refusal, str) else f"refused ({response.status})"
        raise ServiceError(one_line(refusal), response.status)
    if request.picture:
        raise ServiceError("the service answered without a picture")
    return answer


class _TooLargeError(Exception):
    """An answer over the limit of size or time."""


class _LimitedSocket(io.RawIOBase):
    """The stream from which http.client reads an answer, bounded by the time `end` and by ANSWER_BYTES."""

    def __init__(self, link: socket.socket, end: float) -> None:
        self.link, self.end, self.left = link, end, ANSWER_BYTES

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.end - time.monotonic()
        if seconds <= 0:
            raise _TooLargeError("takes too long")
        self.link.settimeout(seconds)
        try:
            count = self.link.recv_into(buffer)
        except socket.timeout:  # noqa: UP041 - two classes up to Python 3.9
            raise _TooLargeError("takes too long") from None
        self.left -= count
        if self.left < 0:
            raise _TooLargeError(f"is longer than {ANSWER_BYTES} bytes")
        return count


def _text(limit: int) -> Fits:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: object) -> bool:
    return _is_whole(value, -(2**53), 2**53)


def _list_of(fits: Fits, most: int) -> Fits:
    return lambda value: isinstance(value, list) and len(value) <= most and all(map(fits, value))


_MAX_TEXT = 20_000  # characters of a text in a recipe
_RECIPE_TEXTS = ("plate", "prompt", "out", "model")
# Name -> (check of its value, value if the answer leaves it out). None is a valid value if the second part is None. A
# name without a second part is required.
JOB_SHAPE: dict[str, tuple[Any, ...]] = {
    "id": (lambda value: _is_whole(value, 1, 2**53),),
    "state": (lambda value: value in OPEN_STATES + ENDED_STATES,),
    "revision": (_text(64),),
    "recipe": (
        lambda value: isinstance(value, dict) and all(_text(_MAX_TEXT)(value.get(n, "")) for n in _RECIPE_TEXTS),
    ),
    "position": (_whole, None),
    "cancelling": (lambda value: isinstance(value, bool), False),
    "stage": (_text(40), None),
    "done": (_whole, None),
    "total": (_whole, None),
    "frame": (_whole, None),
    "seconds_left": (_number, None),
    "thumbnails": (_list_of(_whole, 1000), []),
    "identity": (_text(200), None),
    "kind": (_text(40), None),
    "reason": (_text(_MAX_TEXT), None),
    "warnings": (_list_of(_text(_MAX_TEXT), 1000), []),
    "report": (lambda value: isinstance(value, dict), None),
    "submitted": (_number, None),
    "started": (_number, None),
    "ended": (_number, None),
}
HEALTH_SHAPE: dict[str, tuple[Any, ...]] = {
    "version": (_text(100),),
    "pid": (lambda value: _is_whole(value, 1, 2**31),),
    "device": (_text(100),),
    "model": (_text(_MAX_TEXT), None),
    "recipe": (_list_of(_text(100), 1000),),
    "roots": (_list_of(_text(_MAX_TEXT), 1000), []),
    "trouble": (_text(_MAX_TEXT), None),
}


def checked(answer: object, shape: dict[str, tuple[Any, ...]], title: str) -> dict[str, Any]:
    """The answer, checked against `shape`; additional fields of a newer service stay.

    title: of the answer in messages. Raises ServiceError.
    """
    if not isinstance(answer, dict):
        raise ServiceError(f"the service's {title} is not an object; install one version of both")
    result = dict(answer)
    for name, (fits, *default) in shape.items():
        value = answer.get(name)
        if value is None and default:
            result[name] = default[0]
        elif not fits(value):
            raise ServiceError(f"the service's {title} has no valid {name}; install one version of both")
    return result


def checked_job(answer: object) -> Job:
    """A job, checked for hosts; its texts are single lines. Raises ServiceError."""
    job = checked(answer, JOB_SHAPE, "job")
    job["reason"] = one_line(job["reason"]) if job["reason"] else job["reason"]
    job["warnings"] = [one_line(text) for text in job["warnings"]]
    job["recipe"] = {"prompt": "", "out": "", "model": "", **job["recipe"]}
    return job


def checked_picture(content: bytes) -> bytes:
    """PNG bytes whose size a host can decode. Raises ServiceError."""
    head = content[:24]
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    is_png = head.startswith(b"\x89PNG\r\n\x1a\n") and head[12:16] == b"IHDR"
    if not is_png or not (0 < width <= PICTURE_PIXELS and 0 < height <= PICTURE_PIXELS):
        raise ServiceError("the service's picture cannot be read")
    return content


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in ("health", "list", "submit", "watch", "cancel", "retry"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    command, *rest = arguments
    client = Client()
    try:
        if command == "health":
            print(json.dumps(client.health(), indent=2))
        elif command == "list":
            for job in client.jobs():
                print(f"{job['id']:>5}  {job['state']:9}  {job['recipe']['prompt']}")
        elif command == "submit":
            recipe: dict[str, Any] = dict(part.split("=", 1) for part in rest)
            numbers: dict[str, Any] = {n: json.loads(recipe[n]) for n in ("seed", "steps", "guidance") if n in recipe}
            print(client.submit({**recipe, **numbers})["id"])
        elif command == "watch":
            for job in client.watch(rest[0]):
                shown = ("state", "stage", "done", "total", "frame", "reason")
                print(json.dumps({name: job[name] for name in shown}), flush=True)
        else:
            print(getattr(client, command)(rest[0])["state"])
    except (ServiceError, ValueError, IndexError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
