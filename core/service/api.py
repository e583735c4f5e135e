"""The table of the API. Requests are checked against it, and the OpenAPI description is generated from it."""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vera import __version__
from vera.core.recipe.json_schema import recipe_schema
from vera.core.service.client import CONTRACT
from vera.core.service.results import RESULTS
from vera.core.service.security import RequestError

# Increases with each added operation or field. Clients of the same contract that know fewer of them keep working.
CONTRACT_MINOR = 2
MAX_WAIT = 30  # seconds of one long poll
MAX_CLEARED = 2000  # jobs in one request to clear
STATES = ("queued", "running", "done", "failed", "cancelled")

_MAYBE_TEXT = {"type": ["string", "null"]}
_MAYBE_NUMBER = {"type": ["number", "null"]}
_MAYBE_WHOLE = {"type": ["integer", "null"]}
_WAITING = {
    "after": {"type": "string", "maxLength": 64, "description": "the revision known already"},
    "wait": {"type": "number", "minimum": 0, "maximum": MAX_WAIT, "description": "seconds to wait for another one"},
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Recipe": recipe_schema(),
    "Submission": {
        "type": "object",
        "properties": {
            "recipe": {"$ref": "#/components/schemas/Recipe"},
            "request": {
                "type": "string",
                "pattern": "^[A-Za-z0-9_.-]{1,64}$",
                "description": "the client's own name for this submission; sent twice, it is one job",
            },
        },
        "required": ["recipe"],
        "additionalProperties": False,
    },
    "Question": {
        "type": "object",
        "properties": {"recipe": {"$ref": "#/components/schemas/Recipe"}},
        "required": ["recipe"],
        "additionalProperties": False,
    },
    "Page": {"type": "object", "properties": {"lines": {"type": "array", "items": {"type": "string"}}}},
    "Move": {
        "type": "object",
        "properties": {"before": {"type": ["integer", "null"], "minimum": 1, "maximum": 2**53}},
        "required": ["before"],
        "additionalProperties": False,
    },
    "Again": {
        "type": "object",
        "properties": {
            "change": {**recipe_schema(), "required": [], "description": "fields of the recipe in place of the job's"},
            "another_seed": {"type": "boolean", "description": "the next seed that no job of this prompt had"},
            "same_folder": {
                "type": "boolean",
                "description": "deliver what was kept again, in another way; else the folder's next version is taken",
            },
            "request": {"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,64}$"},
        },
        "required": [],
        "additionalProperties": False,
    },
    "Clear": {
        "type": "object",
        "properties": {
            "jobs": {
                "type": "array",
                "maxItems": MAX_CLEARED,
                "items": {"type": "integer", "minimum": 1, "maximum": 2**53},
                "description": "jobs that have ended; their files stay",
            }
        },
        "required": ["jobs"],
        "additionalProperties": False,
    },
    "Cleared": {
        "type": "object",
        "properties": {"jobs": {"type": "array", "items": {"type": "integer"}, "description": "that were taken off"}},
    },
    "Key": {
        "type": "object",
        "properties": {"key": {"type": "string", "description": "proves a later service to this page, and it to that"}},
    },
    "Nothing": {"type": "object", "properties": {}, "additionalProperties": False},
    "Job": {
        "type": "object",
        "properties": {
            "id": {"type": "integer"},
            "state": {"type": "string", "enum": list(STATES)},
            "revision": {"type": "string", "description": "changes whenever anything here does"},
            "position": {**_MAYBE_WHOLE, "description": "in the queue, from 1"},
            "cancelling": {"type": "boolean"},
            "recipe": {"type": "object"},
            "stage": {
                **_MAYBE_TEXT,
                "description": "of a running job: start, prepare, read, denoise, lift, deliver, finish",
            },
            "done": {**_MAYBE_WHOLE, "description": "frames or steps of the stage"},
            "total": _MAYBE_WHOLE,
            "frame": {**_MAYBE_WHOLE, "description": "the frame just read or delivered"},
            "seconds_left": {**_MAYBE_NUMBER, "description": "of this stage, as it has gone so far"},
            "progress": {**_MAYBE_NUMBER, "description": "of the whole job, from 0 to 1; it never falls"},
            "job_seconds_left": {**_MAYBE_NUMBER, "description": "of the whole job, by what the last one took"},
            "thumbnails": {"type": "array", "items": {"type": "integer"}, "description": "frames that have one"},
            "poster": {"type": "boolean", "description": "whether there is a picture of the composite"},
            "facts": {
                "type": ["object", "null"],
                "description": "frames, first, last, width, height, fps, model, steps; of a done job also seconds (a"
                " stage) and views: where the pictures of preview.mp4 are, {name: [row, column]} of two by two",
            },
            "identity": {**_MAYBE_TEXT, "description": "hash of all that determines the pixels"},
            "kind": {**_MAYBE_TEXT, "description": "of a failure: input, memory, system, crash, hang, fault"},
            "reason": {**_MAYBE_TEXT, "description": "of a failure: one line with the fix"},
            "warnings": {"type": "array", "items": {"type": "string"}},
            "report": {"type": ["object", "null"]},
            "submitted": {"type": "number", "description": "seconds since 1970, by the wall clock"},
            "started": _MAYBE_NUMBER,
            "ended": _MAYBE_NUMBER,
        },
    },
    "Jobs": {
        "type": "object",
        "properties": {
            "revision": {"type": "string"},
            "jobs": {"type": "array", "items": {"$ref": "#/components/schemas/Job"}},
        },
    },
    "Health": {
        "type": "object",
        "properties": {
            "contract": {"type": "integer"},
            "contract_minor": {"type": "integer", "description": "grows with each operation or field that is added"},
            "version": {"type": "string"},
            "pid": {"type": "integer"},
            "worker": {"type": "string", "enum": ["off", "starting", "ready", "working"]},
            "worker_pid": _MAYBE_WHOLE,
            "device": {"type": "string"},
            "recipe": {
                "type": "array",
                "items": {"type": "string"},
                "description": "the fields of a recipe that this version knows; it refuses others",
            },
            "model": _MAYBE_TEXT,
            "memory": {"type": "object"},
            "jobs": {"type": "object"},
            "roots": {"type": "array", "items": {"type": "string"}},
            "shows_folders": {"type": "boolean", "description": "whether a file manager can be started here"},
            "trouble": _MAYBE_TEXT,
        },
    },
    "Error": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
}


@dataclass(frozen=True)
class Operation:
    name: str
    method: str
    path: str
    summary: str
    answer: str = "Job"
    body: str | None = None
    query: dict[str, Any] = field(default_factory=dict)
    statuses: tuple[int, ...] = ()  # beside 200, and those that every operation may answer


_CHANGES = (404, 409, 507)  # what a change of a job may answer beside
OPERATIONS = (
    Operation("health", "GET", "/v1/health", "Contract, version, device, memory, model, worker", "Health"),
    Operation("submit", "POST", "/v1/jobs", "Put a recipe into the queue", body="Submission", statuses=(201, 409, 507)),
    Operation(
        "look",
        "POST",
        "/v1/look",
        "How a recipe's plate, mask and prompt are read; nothing is queued or written",
        "Page",
        body="Question",
        statuses=(422,),
    ),
    Operation(
        "list",
        "GET",
        "/v1/jobs",
        "The running job, the queue in its order, then what ended",
        "Jobs",
        query={**_WAITING, "ended": {"type": "integer", "minimum": 0, "maximum": 2000}},
    ),
    Operation(
        "watch", "GET", "/v1/jobs/{id}", "One job, at once or when it has changed", query=_WAITING, statuses=(404,)
    ),
    Operation(
        "preview",
        "GET",
        "/v1/jobs/{id}/preview",
        "A frame's layer over a checkerboard, or the poster: a frame of the composite",
        "image/png",
        query={
            "frame": {"type": "integer", "minimum": -(10**9), "maximum": 10**9},
            "view": {"type": "string", "enum": ["layer", "poster"]},
        },
        statuses=(404,),
    ),
    Operation(
        "result",
        "GET",
        "/v1/jobs/{id}/result",
        "A file of a done job's folder, whole or one range of bytes of it",
        "application/octet-stream",
        query={"name": {"type": "string", "enum": list(RESULTS)}},
        statuses=(206, 404, 409, 416),
    ),
    Operation(
        "again",
        "POST",
        "/v1/jobs/{id}/again",
        "Put a job like this one into the queue: with other values, another seed, a new folder",
        body="Again",
        statuses=(201, *_CHANGES),
    ),
    Operation(
        "show",
        "POST",
        "/v1/jobs/{id}/show",
        "Open the job's folder in this machine's file manager",
        body="Nothing",
        statuses=(404, 409),
    ),
    Operation("clear", "POST", "/v1/jobs/clear", "Take jobs that have ended off the list", "Cleared", body="Clear"),
    Operation(
        "cancel", "POST", "/v1/jobs/{id}/cancel", "Cancel a job that waits or runs", body="Nothing", statuses=_CHANGES
    ),
    Operation(
        "retry", "POST", "/v1/jobs/{id}/retry", "Try a failed or cancelled job again", body="Nothing", statuses=_CHANGES
    ),
    Operation(
        "move",
        "POST",
        "/v1/jobs/{id}/move",
        "Put a waiting job before another, or (null) last",
        body="Move",
        statuses=_CHANGES,
    ),
    Operation(
        "unload",
        "POST",
        "/v1/model/unload",
        "Give the model's memory back, after the job that runs",
        "Health",
        body="Nothing",
    ),
    Operation("shutdown", "POST", "/v1/shutdown", "End the service; the queue stays", "Health", body="Nothing"),
    Operation("key", "GET", "/v1/key", "For the page: the key with which it finds the next service", "Key"),
    Operation("description", "GET", "/v1/openapi.json", "This description", "Description"),
)

_ALWAYS = {400: "not a request of this API", 401: "the token is missing or wrong", 403: "foreign Host or Origin"}
_STATUSES = {
    200: "as asked",
    201: "a new job",
    206: "one range of the file",
    404: "no such job",
    409: "the job's state does not allow it",
    413: "too large",
    415: "not JSON",
    416: "not one range of the file",
    422: "the files ended the process that reads them, or took too long",
    507: "the queue cannot be written",
}


def description() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Vera's service",
            "version": f"{CONTRACT}.{CONTRACT_MINOR}",
            "description": f"Contract {CONTRACT}.{CONTRACT_MINOR}, Vera {__version__}",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {"schemas": SCHEMAS, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def check_body(operation: Operation, value: Any) -> None:
    """Check a request's body. Raises RequestError if it differs from the description."""
    assert operation.body is not None  # asked only of those that have one
    _check(value, SCHEMAS[operation.body], "the body")


def check_query(operation: Operation, given: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The query's values, converted to their types. Raises RequestError."""
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in operation.query or name in values:
            raise RequestError(400, f"query: '{name[:40]}' is unknown, or there twice")
        kind = operation.query[name]["type"]
        try:
            values[name] = text if kind == "string" else int(text) if kind == "integer" else float(text)
        except ValueError:
            raise RequestError(400, f"query: {name} is no {kind}") from None
        _check(values[name], operation.query[name], f"query: {name}")
    return values


def _described(operation: Operation) -> dict[str, Any]:
    parameters = [{"name": n, "in": "query", "schema": s} for n, s in operation.query.items()]
    if "{id}" in operation.path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}})
    statuses = {200, *operation.statuses, *_ALWAYS, *((413, 415) if operation.body else ())}
    described = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": {str(s): _response(s, operation.answer) for s in sorted(statuses)},
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(operation.body)}}}
    return described


def _response(status: int, answer: str) -> dict[str, Any]:
    if status >= 400:
        content = {"application/json": {"schema": _ref("Error")}}
    elif "/" in answer:
        content = {answer: {}}
    else:
        content = {"application/json": {"schema": _ref(answer) if answer in SCHEMAS else {"type": "object"}}}
    return {"description": {**_ALWAYS, **_STATUSES}[status], "content": content}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "object": dict,
    "array": list,
    "null": type(None),
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def _check(value: Any, schema: dict[str, Any], where: str) -> None:  # noqa: C901 - one check a keyword
    """Check a value against the part of JSON Schema that SCHEMAS uses for requests. Raises RequestError."""
    if "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]]
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    # In Python, unlike in JSON, true is a number.
    if not any(isinstance(value, _TYPES[k]) and (k == "boolean" or not isinstance(value, bool)) for k in kinds):
        raise RequestError(400, f"{where} is not {' or '.join(kinds)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(400, f"{where} is not a finite number")
    if isinstance(value, (int, float)) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        raise RequestError(400, f"{where} is outside {schema.get('minimum')} to {schema.get('maximum')}")
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            most = schema.get("maxLength")
            raise RequestError(400, f"{where} has {len(value)} characters; from 1 to {most} are allowed")
        if "pattern" in schema and not re.fullmatch(schema["pattern"].strip("^$"), value):
            raise RequestError(400, f"{where} does not fit {schema['pattern']}")
        if value not in schema.get("enum", [value]):
            raise RequestError(400, f"{where} is none of {', '.join(schema['enum'])}")
    if isinstance(value, list):
        if len(value) > schema["maxItems"]:
            raise RequestError(400, f"{where} has {len(value)} items; at most {schema['maxItems']} are allowed")
        for item in value:
            _check(item, schema["items"], f"{where}: an item")
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                raise RequestError(400, f"{where}: {name} is missing")
        for name, part in value.items():
            if name not in schema["properties"]:
                raise RequestError(400, f"{where}: '{name[:40]}' is unknown")
            _check(part, schema["properties"][name], f"{where}: {name}")


def revision(job: dict[str, Any]) -> str:
    """A short hash of a job's current content, which changes whenever the content does."""
    text = json.dumps(job, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
