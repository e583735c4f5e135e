"""The API against its own description: random requests, right and wrong, find no 500."""

import json
import os
import random
import re

import pytest

from tests.service.test_security import ask
from vera.core.recipe.field import Field, Row
from vera.core.recipe.json_schema import field_schema
from vera.core.service import api
from vera.core.service.security import RequestError

COUNT = int(os.environ.get("VERA_FUZZ", 300))
ODD = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**70),
    1.5,
    -0.0,
    1e308,
    "",
    " ",
    "a",
    "../..",
    "/etc",
    "\u0000",
    "ü€😀",
    "\u202e",
    "%s%n",
    "'; DROP TABLE jobs",
    "x" * 5000,
    [],
    [[]],
    {},
    {"a": 1},
    ["x"] * 50,
]


def drawn(schema, rng, document):
    """A value of this schema; now and then none."""
    if rng.random() < 0.08:
        return rng.choice(ODD)
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = rng.choice(kinds)
    if "enum" in schema:
        return rng.choice(schema["enum"])
    if kind == "object":
        names = [n for n in schema["properties"] if n in schema.get("required", ()) or rng.random() < 0.4]
        if rng.random() < 0.05 and names:
            names.remove(rng.choice(names))
        value = {name: drawn(schema["properties"][name], rng, document) for name in names}
        return value | ({"surplus": 1} if rng.random() < 0.03 else {})
    if kind == "string":
        length = min(schema.get("maxLength", 20), rng.choice([1, 8, 40]))
        alphabet = "abc012._-" if "pattern" in schema else "abc/\\.:#%д \n\t\"'{}"
        return "".join(rng.choice(alphabet) for _ in range(length))
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "array":
        return [drawn(schema["items"], rng, document) for _ in range(rng.choice([0, 1, 3, schema["maxItems"] + 1]))]
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", -5), schema.get("maximum", 5)
        value = rng.choice([low, high, rng.uniform(low, high), low - 1])
        return int(value) if kind == "integer" else value
    return None


def test_random_requests_are_answered_as_described(shared):
    status, content = ask(shared, path="/v1/openapi.json")
    document = json.loads(content)
    rng = random.Random(20)
    seen = set()
    for _ in range(COUNT):
        path, methods = rng.choice(sorted(document["paths"].items()))
        if path == "/v1/shutdown":
            continue
        method, operation = rng.choice(sorted(methods.items()))
        where = path.replace("{id}", str(rng.choice([1, 2, 3, 0, 10**30])))
        query = [(p["name"], drawn(p["schema"], rng, document)) for p in operation["parameters"] if p["in"] == "query"]
        query = [(n, 0.05 if n == "wait" and isinstance(v, float) else v) for n, v in query if rng.random() < 0.5]
        if query:
            from urllib.parse import urlencode

            where += "?" + urlencode(query)
        body = None
        if "requestBody" in operation:
            body = drawn(operation["requestBody"]["content"]["application/json"]["schema"], rng, document)
            if isinstance(body, dict) and isinstance(body.get("recipe"), dict) and rng.random() < 0.7:
                body["recipe"] |= {"plate": f"{shared.home}/p.exr", "out": f"{shared.home}/o"}
        status, content = ask(shared, method.upper(), where, body)
        assert str(status) in operation["responses"], (method, where, body, status, content)
        assert status < 500
        seen.add((operation["operationId"], status))
        if content[:1] == b"{" and status < 300:
            agrees(json.loads(content), operation["responses"][str(status)], document)
    assert {("submit", 400), ("list", 200)} <= seen


def agrees(answer, response, document):
    """The answer has the fields described, of the types described."""
    schema = response["content"]["application/json"]["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        assert set(answer) == set(schema["properties"])
        checked = {**schema, "additionalProperties": False}
        api._check({k: v for k, v in answer.items() if not isinstance(v, (dict, list))}, checked, "the answer")


def test_the_description_names_every_operation_and_refers_to_what_is_there():
    document = api.description()
    text = json.dumps(document)
    for name in re.findall(r"#/components/schemas/(\w+)", text):
        assert name in document["components"]["schemas"]
    operations = [o["operationId"] for methods in document["paths"].values() for o in methods.values()]
    assert sorted(operations) == sorted(o.name for o in api.OPERATIONS)
    assert document["openapi"].startswith("3.1")


@pytest.mark.parametrize("value", [{}, {"before": 0}, {"before": "1"}, {"before": 1, "x": 2}, {"before": True}])
def test_bodies_are_checked_against_the_description(value):
    move = next(o for o in api.OPERATIONS if o.name == "move")
    with pytest.raises(RequestError):
        api.check_body(move, value)
    api.check_body(move, {"before": None})


def test_a_list_of_texts_is_checked_item_by_item():
    texts = field_schema(Field("names", (tuple,), None, Row(help="names")))
    assert texts["type"] == ["array", "null"] and texts["items"]["type"] == "string"
    api._check(["a", "b"], texts, "it")
    api._check(None, texts, "it")
    for wrong in ("a", [1], [""], ["a"] * 65, [["a"]]):
        with pytest.raises(RequestError):
            api._check(wrong, texts, "it")


def test_health_names_the_fields_that_a_recipe_may_have(shared):
    known = shared.client.health()["recipe"]
    assert {"plate", "prompt", "out", "attention", "cache", "compile", "one_batch"} <= set(known)
    assert known == list(
        json.loads(ask(shared, path="/v1/openapi.json")[1])["components"]["schemas"]["Recipe"]["properties"]
    )


def test_a_revision_changes_with_anything():
    job = {"id": 1, "state": "running", "done": 1}
    assert api.revision(job) == api.revision(dict(reversed(job.items())))
    assert api.revision(job) != api.revision({**job, "done": 2})
