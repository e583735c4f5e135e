"""Run the service's HTTP server. Each user has at most one, which accepts connections from this machine only."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from vera import __version__
from vera.core.files import FileLock, LockHeldError, read_json, write_json
from vera.core.service import client
from vera.core.service.connections import BACKLOG, protocol_of
from vera.core.service.jobs import Queue
from vera.core.service.renewal import Renewal, key_in
from vera.core.service.security import MAX_HEADERS, Guard, Roots, make_private_folder, new_token, write_private
from vera.core.service.supervisor import WORKER, Supervisor
from vera.core.service.web import application

LOG_SECONDS = 10.0  # seconds between checks of the log's size
LAST_PORT = "port.json"  # file with the port, which the next service uses again
MAX_LOG = 4 * 2**20  # size in bytes at which the log is rotated; one earlier log is kept


@dataclass(frozen=True)
class Settings:
    """The settings of a service. folder: of queue, token and log.

    Times are in seconds, memory_limit in bytes, or None.
    """

    folder: Path
    device: str = "auto"
    idle: float = 1800  # time without a job and a request after which the service ends
    model_idle: float = 300  # time without a job after which the model is unloaded
    hang: float = 60  # time without a heartbeat after which the worker is killed
    stall: float = 1800  # time without progress after which the job is ended
    memory_limit: int | None = None
    warm: bool = True  # the worker starts with the service, so that the first job need not wait for its imports
    worker: tuple[str, ...] = WORKER


class AlreadyRunningError(Exception):
    """Another server of this user is running. The message is one line with its address."""


class Service:
    """The state behind the answers. Raises InputError if the list of allowed folders is damaged.

    epoch: random name of this run of the service; it makes revisions of an earlier run invalid
    requests: number of requests being answered
    """

    def __init__(self, settings: Settings, port: int, token: str) -> None:
        self.settings = settings
        self.renewal = Renewal(key_in(settings.folder), token, port)
        self.loop = asyncio.get_running_loop()
        self.roots = Roots(settings.folder / "roots.json")
        self.roots.folders()  # raises InputError for a damaged file
        self.queue = Queue(settings.folder / "queue.sqlite")
        self.queue.reopen()
        self.supervisor = Supervisor(self.queue, self.roots, settings)
        self.epoch = os.urandom(4).hex()
        self.ending = False
        self.requests, self.last_request = 0, time.monotonic()
        self.server: uvicorn.Server | None = None  # set once the server listens

    def end(self) -> None:
        """Finish open requests, stop the worker, and end; the queue is kept."""
        self.ending = True
        if self.server is not None:
            self.server.should_exit = True
        self.supervisor.end()

    def with_request_count(self, app: ASGIApp) -> ASGIApp:
        """ASGI middleware that counts the requests of the app."""

        async def count(scope: Scope, receive: Receive, send: Send) -> None:
            self.requests += 1
            try:
                await app(scope, receive, send)
            finally:
                self.requests -= 1
                self.last_request = time.monotonic()

        return count

    async def end_when_idle(self) -> None:
        """End after the idle time without jobs and clients."""
        while not self.ending:
            await asyncio.sleep(min(max(self.settings.idle / 10, 0.2), 30))
            busy = self.requests or self.supervisor.running or self.queue.count("queued")
            if busy:
                self.last_request = time.monotonic()
            elif time.monotonic() - self.last_request > self.settings.idle:
                self.end()


def run(settings: Settings, started: Callable[[str], None] = print) -> None:
    """Serve until told to end, or idle.

    started: called with the page's address when the service listens
    Raises AlreadyRunningError, InputError, OSError.
    """
    folder = settings.folder
    make_private_folder(folder)
    try:
        lock = FileLock(folder / "server.lock")
    except LockHeldError:
        raise AlreadyRunningError(_where_it_runs(folder)) from None
    try:
        rotate_log(folder / "service.log")
        asyncio.run(_serve(settings, started))
    finally:
        lock.release()


async def _serve(settings: Settings, started: Callable[[str], None]) -> None:
    listener = _listener(settings.folder)
    port, token = listener.getsockname()[1], new_token()
    service = Service(settings, port, token)
    app = service.with_request_count(Guard(application(service), token, port))
    server = service.server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol_of(token),
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            h11_max_incomplete_event_size=2 * MAX_HEADERS,
            timeout_graceful_shutdown=2,
        )
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.loop.call_soon_threadsafe(service.end))
    work = asyncio.create_task(service.supervisor.run())
    work.add_done_callback(lambda _: service.end())
    idle = asyncio.create_task(service.end_when_idle())
    log = asyncio.create_task(_rotate_log_while_running(settings.folder / "service.log"))
    entry = {"port": port, "pid": os.getpid(), "token": token, "contract": client.CONTRACT, "version": __version__}
    write_private(settings.folder / "service.json", json.dumps(entry) + "\n")
    write_private(settings.folder / "open.html", _opener(port, token))
    try:
        started(f"http://127.0.0.1:{port}/")
        await server.serve(sockets=[listener])
    finally:
        for name in ("service.json", "open.html"):
            (settings.folder / name).unlink(missing_ok=True)
        idle.cancel()
        log.cancel()
        service.supervisor.end()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        service.queue.close()


def _listener(folder: Path) -> socket.socket:
    """A socket at the port of the last service, so that open pages find this one; at another port if that is in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":
        # Connections of the last service may remain for a while.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", read_json(folder / LAST_PORT, {"port": int})["port"]))
    except (OSError, ValueError, OverflowError):
        listener.bind(("127.0.0.1", 0))
        with contextlib.suppress(OSError):
            write_json(folder / LAST_PORT, {"port": listener.getsockname()[1]})
    listener.listen(BACKLOG)  # before the discovery file is written, so that its readers can connect at once
    return listener


def _opener(port: int, token: str) -> str:
    """A page that redirects a browser to the service's page; the token follows the #, which browsers do not send."""
    address = f"http://127.0.0.1:{port}/#token={token}"
    return f'<!doctype html><meta charset="utf-8"><script>location.replace("{address}")</script>\n'


def _where_it_runs(folder: Path) -> str:
    try:
        entry = client.discover(folder)
        return f"the service is already running: http://127.0.0.1:{entry['port']}/ (process {entry['pid']})"
    except client.ServiceError:
        return f"the service of {folder} is just starting or ending"


def rotate_log(path: Path) -> None:
    """Copy a large log to a second file and empty it. Its writers append, so they continue in the emptied file."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > MAX_LOG:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


async def _rotate_log_while_running(path: Path) -> None:
    while True:
        await asyncio.sleep(LOG_SECONDS)
        await asyncio.to_thread(rotate_log, path)


def default_memory_limit() -> int | None:
    """Three quarters of the machine's memory, in bytes; None if the system does not report it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
    except (AttributeError, ValueError, OSError):
        return None


def log_to(path: Path) -> None:
    """Redirect this process's output to the log, for a service in the background."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    words = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} service {__version__}, process {os.getpid()}"
    print(words, file=sys.stderr, flush=True)
