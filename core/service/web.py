"""The server's answers: the API of `vera.core.service.api`, and the page for people."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from vera import __version__
from vera.core.errors import InputError
from vera.core.recipe import EditRecipe
from vera.core.service import api
from vera.core.service.client import CONTRACT
from vera.core.service.jobs import Job, QueueRefusedError
from vera.core.service.security import RequestError, check_recipe, read_json

if TYPE_CHECKING:
    from vera.core.service.server import Service

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MAX_ID = 2**53
# Of a job in the queue, what the API shows as it is there.
_COLUMNS = (
    "id",
    "state",
    "recipe",
    "identity",
    "kind",
    "reason",
    "warnings",
    "report",
    "submitted",
    "started",
    "ended",
)


def application(service: Service) -> Starlette:
    """The ASGI application, without its guard. service: see `vera.core.service.server.Service`."""
    answers = Answers(service)
    routes = [_route(operation, getattr(answers, operation.name)) for operation in api.OPERATIONS]
    routes += [Route(path, _file(name), methods=["GET"]) for path, name in PAGE_FILES.items()]
    handlers = {HTTPException: _refused, Exception: _fault}
    return Starlette(routes=routes, exception_handlers=handlers)


class Answers:
    """One method an operation: answer(id, query, body) -> a dictionary or a Response."""

    def __init__(self, service: Service) -> None:
        self.service, self.queue, self.supervisor = service, service.queue, service.supervisor

    async def health(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        supervisor = self.supervisor
        return {
            "contract": CONTRACT,
            "version": __version__,
            "pid": os.getpid(),
            "worker": supervisor.worker_state,
            "worker_pid": supervisor.worker.process.pid if supervisor.worker else None,
            "device": supervisor.device or self.service.settings.device,
            "recipe": list(api.SCHEMAS["Recipe"]["properties"]),
            "model": supervisor.model,
            "memory": {**supervisor.memory, "limit": self.service.settings.memory_limit},
            "jobs": {state: self.queue.count(state) for state in api.STATES},
            "roots": [str(folder) for folder in self.service.roots.folders()],
            "trouble": supervisor.trouble,
        }

    async def submit(self, job: None, query: dict[str, Any], body: Any) -> Response:
        recipe = {name: value for name, value in body["recipe"].items() if value is not None}
        EditRecipe.from_values(recipe, "the recipe")
        # The disk may be far away: not in the loop.
        await run_in_threadpool(check_recipe, recipe, self.service.roots.folders())
        row, is_new = self.queue.submit(recipe, body.get("request") or os.urandom(16).hex())
        self.supervisor.submitted()
        return JSONResponse(self._job(row), 201 if is_new else 200)

    async def list(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        await self._until_changed(query, lambda: self._turn())
        jobs = self.queue.list(query.get("ended", 200))
        waiting = [row["id"] for row in jobs if row["state"] == "queued"]
        positions = {number: place for place, number in enumerate(waiting, 1)}
        return {"revision": self._turn(), "jobs": [self._job(row, positions) for row in jobs]}

    async def watch(self, job: int, query: dict[str, Any], body: Any) -> dict[str, Any]:
        await self._until_changed(query, lambda: self._job(self._row(job))["revision"])
        return self._job(self._row(job))

    async def preview(self, job: int, query: dict[str, Any], body: Any) -> Response:
        self._row(job)
        frames = self.supervisor.thumbnails(job)
        frame = query.get("frame", frames[-1] if frames else None)
        if frame not in frames:
            raise RequestError(404, "there is no thumbnail of that")
        file = self.supervisor.thumbnail_folder(job) / f"{frame}.png"
        try:
            return Response(file.read_bytes(), media_type="image/png", headers={"Cache-Control": "no-store"})
        except OSError:
            raise RequestError(404, "the thumbnail has gone") from None

    async def cancel(self, job: int, query: dict[str, Any], body: Any) -> dict[str, Any]:
        self._row(job)
        self.supervisor.cancel(job)
        return self._job(self._row(job))

    async def retry(self, job: int, query: dict[str, Any], body: Any) -> dict[str, Any]:
        self._row(job)
        self.queue.retry(job)
        self.supervisor.submitted()
        return self._job(self._row(job))

    async def move(self, job: int, query: dict[str, Any], body: Any) -> dict[str, Any]:
        for each in (job, body["before"]):
            if each is not None:
                self._row(each)
        self.queue.move(job, body["before"])
        self.supervisor.submitted()
        return self._job(self._row(job))

    async def unload(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        self.supervisor.unload()
        return await self.health(None, {}, None)

    async def shutdown(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        answer = await self.health(None, {}, None)
        self.service.end()
        return answer

    async def description(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        return api.description()

    def _row(self, job: int) -> Job:
        row = self.queue.get(job) if job <= MAX_ID else None
        if row is None:
            raise RequestError(404, f"there is no job {job}")
        return row

    def _turn(self) -> str:
        return f"{self.service.epoch}.{self.supervisor.turn}"

    def _job(self, row: Job, positions: dict[int, int] | None = None) -> dict[str, Any]:
        """A job as the API shows it."""
        place = None
        if row["state"] == "queued":
            place = positions[row["id"]] if positions else self.queue.position(row["id"])
        running = self.supervisor.progress if row["id"] == self.supervisor.running else {}
        job = {name: row[name] for name in _COLUMNS}
        job |= {name: running.get(name) for name in ("stage", "done", "total", "frame", "seconds_left")}
        job |= {"position": place, "cancelling": bool(row["cancelling"])}
        job["thumbnails"] = self.supervisor.thumbnails(row["id"])
        return job | {"revision": api.revision(job)}

    async def _until_changed(self, query: dict[str, Any], revision: Callable[[], str]) -> None:
        """A long poll: while the revision is the known one, and there is time."""
        loop = self.service.loop
        end = loop.time() + query.get("wait", 0)
        while not self.service.ending and query.get("after") == revision() and loop.time() < end:
            await self.supervisor.changed(end - loop.time())


def _route(operation: api.Operation, answer: Callable[..., Awaitable[dict[str, Any] | Response]]) -> Route:
    async def respond(request: Request) -> Response:
        try:
            query = api.check_query(operation, request.query_params.multi_items())
            body = None
            if operation.body:
                body = await read_json(request)
                api.check_body(operation, body)
            result = await answer(_job_number(request), query, body)
        except RequestError as refusal:
            return _error(refusal.status, refusal)
        except InputError as error:
            return _error(400, error)
        except QueueRefusedError as refused:
            return _error(409, refused)
        except sqlite3.Error as error:
            return _error(507, f"the queue cannot be written ({error}); make room for it, then ask again")
        return result if isinstance(result, Response) else JSONResponse(result)

    return Route(operation.path, respond, methods=[operation.method])


def _job_number(request: Request) -> int | None:
    """The job in the path; None where the operation has none. Raises RequestError."""
    text = request.path_params.get("id")
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,16}", text):
        raise RequestError(404, f"there is no job {text[:40]}")
    return int(text)


def _file(name: str) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return FileResponse(PAGE / name, headers=PAGE_HEADERS)

    return respond


def _error(status: int, words: object) -> JSONResponse:
    # As the words may quote what was asked for, lone surrogates are taken out.
    return JSONResponse({"error": str(words).encode("utf-8", "replace").decode()}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # as it is registered for
    return _error(error.status_code, error.detail)


async def _fault(request: Request, error: Exception) -> Response:
    return _error(500, f"fault: {type(error).__name__}; the service's log has more")
