"""The server's answers: the operations of api.py, and the page for users."""

from __future__ import annotations

import asyncio
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
from vera.core.recipe.parse import EMBEDDED
from vera.core.recipe.table import MAX_SEED
from vera.core.service import api, results
from vera.core.service.client import CONTRACT
from vera.core.service.jobs import Job, QueueRefusedError
from vera.core.service.look import look
from vera.core.service.renewal import RenewalError
from vera.core.service.security import RequestError, check_recipe, read_json

if TYPE_CHECKING:
    from vera.core.service.server import Service

PAGE = Path(__file__).parent / "page"
PAGE_FILES = {"/": "index.html"} | {
    f"/{name}": name for name in ("page.css", "page.js", "connection.js", "viewer.js", "words.js")
}
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:;"
    " media-src blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MAX_ID = 2**53
_NEW = 201
# Columns of a job that the API returns unchanged.
_COLUMNS = (
    "id",
    "state",
    "recipe",
    "identity",
    "kind",
    "reason",
    "warnings",
    "report",
    "facts",
    "submitted",
    "started",
    "ended",
)

# Fields of the running job that its worker reports.
_RUNNING = ("stage", "done", "total", "frame", "seconds_left", "progress", "job_seconds_left")


def application(service: Service) -> Starlette:
    """The ASGI application without access control. service: see `Service` in server.py."""
    answers = Answers(service)
    routes = [_route(operation, getattr(answers, operation.name)) for operation in api.OPERATIONS]
    routes += [Route(path, _file(name), methods=["GET"]) for path, name in PAGE_FILES.items()]
    routes.append(Route("/renew", _renewal(service), methods=["POST"]))
    handlers = {HTTPException: _refused, Exception: _fault}
    return Starlette(routes=routes, exception_handlers=handlers)


class Answers:
    """One method per operation: answer(id, query, body) -> a dictionary or a Response."""

    def __init__(self, service: Service) -> None:
        self.service, self.queue, self.supervisor = service, service.queue, service.supervisor
        self.looking = asyncio.Semaphore(1)  # several of these at once would slow down the running job

    async def health(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        supervisor = self.supervisor
        return {
            "contract": CONTRACT,
            "contract_minor": api.CONTRACT_MINOR,
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
            "shows_folders": results.can_show_folders(),
            "trouble": supervisor.trouble,
        }

    async def submit(self, job: None, query: dict[str, Any], body: Any) -> Response:
        return await self._submit(body["recipe"], body.get("request"))

    async def again(self, job: int, query: dict[str, Any], body: Any) -> Response:
        former = self._row(job)
        recipe = former["recipe"] | body.get("change", {})
        if body.get("another_seed"):
            recipe["seed"] = self._next_seed(recipe)
        if not body.get("same_folder") and "out" not in body.get("change", {}):
            taken = {row["recipe"].get("out") for row in self.queue.list()}
            recipe["out"] = await run_in_threadpool(results.next_version, recipe.get("out", ""), taken)
        return await self._submit(recipe, body.get("request"))

    async def look(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        recipe = {name: value for name, value in body["recipe"].items() if value is not None}
        roots = self.service.roots.folders()
        EditRecipe.from_values(recipe, "the recipe")
        await run_in_threadpool(check_recipe, recipe, roots)
        async with self.looking:
            return {"lines": await look(recipe, roots, self.service.settings.memory_limit)}

    async def clear(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        return {"jobs": self.supervisor.forget(body["jobs"])}

    async def show(self, job: int, query: dict[str, Any], body: Any) -> dict[str, Any]:
        row = self._row(job)
        await run_in_threadpool(results.show_folder, row["recipe"].get("out", ""), self.service.roots.folders())
        return self._job(row)

    async def result(self, job: int, query: dict[str, Any], body: Any) -> results.Result:
        row = self._row(job)
        if row["state"] != "done":
            raise RequestError(409, f"job {job} is {row['state']}; its results are there when it is done")
        if "name" not in query:
            raise RequestError(400, f"query: name is missing; one of {', '.join(results.RESULTS)}")
        roots, out = self.service.roots.folders(), row["recipe"].get("out", "")
        return await run_in_threadpool(results.open_result, out, query["name"], row["identity"], roots)

    async def key(self, job: None, query: dict[str, Any], body: Any) -> dict[str, Any]:
        return {"key": self.service.renewal.key.hex()}

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
        if query.get("view") == "poster":
            return self._picture(job, "poster.png")
        frames = self.supervisor.thumbnails(job)
        frame = query.get("frame", frames[-1] if frames else None)
        if frame not in frames:
            raise RequestError(404, "there is no such thumbnail")
        return self._picture(job, f"{frame}.png")

    def _picture(self, job: int, name: str) -> Response:
        file = self.supervisor.thumbnail_folder(job) / name
        try:
            return Response(file.read_bytes(), media_type="image/png", headers={"Cache-Control": "no-store"})
        except OSError:
            raise RequestError(404, "the thumbnail no longer exists") from None

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

    async def _submit(self, given: dict[str, Any], request: str | None) -> Response:
        recipe = {name: value for name, value in given.items() if value is not None}
        EditRecipe.from_values(recipe, "the recipe")
        # In a thread, because the disk may be slow.
        await run_in_threadpool(check_recipe, recipe, self.service.roots.folders())
        row, is_new = self.queue.submit(recipe, request or os.urandom(16).hex())
        self.supervisor.submitted()
        return JSONResponse(self._job(row), _NEW if is_new else 200)

    def _next_seed(self, recipe: dict[str, Any]) -> int:
        """One more than the highest seed of a job with the same plate and prompt."""
        same = [row["recipe"] for row in self.queue.list() if _take_of(row["recipe"]) == _take_of(recipe)]
        seeds = [each.get("seed", 0) for each in (*same, recipe)]
        return (max(seed for seed in seeds if isinstance(seed, int)) + 1) % MAX_SEED

    def _turn(self) -> str:
        return f"{self.service.epoch}.{self.supervisor.turn}"

    def _job(self, row: Job, positions: dict[int, int] | None = None) -> dict[str, Any]:
        """A job in the form of the API."""
        place = None
        if row["state"] == "queued":
            place = positions[row["id"]] if positions else self.queue.position(row["id"])
        running = self.supervisor.progress if row["id"] == self.supervisor.running else {}
        job = {name: row[name] for name in _COLUMNS}
        job |= {name: running.get(name) for name in _RUNNING}
        job |= {"position": place, "cancelling": bool(row["cancelling"])}
        job["poster"] = self.supervisor.has_poster(row["id"])
        job["thumbnails"] = self.supervisor.thumbnails(row["id"])
        return job | {"revision": api.revision(job)}

    async def _until_changed(self, query: dict[str, Any], revision: Callable[[], str]) -> None:
        """Long poll: wait while the revision is the known one and time remains."""
        loop = self.service.loop
        end = loop.time() + query.get("wait", 0)
        while not self.service.ending and query.get("after") == revision() and loop.time() < end:
            await self.supervisor.changed(end - loop.time())


def _route(operation: api.Operation, answer: Callable[..., Awaitable[Any]]) -> Route:
    async def respond(request: Request) -> Response:
        try:
            query = api.check_query(operation, request.query_params.multi_items())
            body = None
            if operation.body:
                body = await read_json(request)
                api.check_body(operation, body)
            result = await answer(_job_number(request), query, body)
            if isinstance(result, results.Result):
                return results.response(result, request.headers.get("range"))
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


def _take_of(recipe: dict[str, Any]) -> tuple[Any, ...]:
    """The recipe fields that all versions of an edit share."""
    return recipe.get("plate"), recipe.get("prompt"), recipe.get("model", EMBEDDED)


def _renewal(service: Service) -> Callable[[Request], Awaitable[Response]]:
    """Token renewal for pages opened by an earlier service, see renewal.py."""

    async def respond(request: Request) -> Response:
        try:
            return JSONResponse(service.renewal.answer(await read_json(request)))
        except RequestError as refusal:
            return _error(refusal.status, refusal)
        except RenewalError as refusal:
            return _error(403, refusal)

    return respond


def _job_number(request: Request) -> int | None:
    """The job number in the path; None if the operation has none. Raises RequestError."""
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
    # The message may quote the request, so lone surrogates are removed.
    return JSONResponse({"error": str(words).encode("utf-8", "replace").decode()}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # as it is registered for
    return _error(error.status_code, error.detail)


async def _fault(request: Request, error: Exception) -> Response:
    return _error(500, f"fault: {type(error).__name__}; the service's log has more")
