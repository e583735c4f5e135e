"""A client and a service of different versions: used, or refused in words that name both."""

import pytest

from vera.core.service import client
from vera.core.service.client import ServiceError


@pytest.mark.parametrize("contract", [client.CONTRACT - 1, client.CONTRACT + 1])
def test_another_contract_is_refused_before_any_request(shared, monkeypatch, contract):
    speaks = client.CONTRACT
    monkeypatch.setattr(client, "CONTRACT", contract)
    for call in (shared.client.health, shared.client.recipe_fields, lambda: client.connect(folder=shared.folder)):
        with pytest.raises(ServiceError, match=f"contract {speaks}, this client {contract}; install one version"):
            call()


def test_a_field_that_the_service_does_not_know_is_named_and_nothing_is_queued(shared):
    recipe = {"plate": str(shared.home / "p.exr"), "prompt": "a", "out": str(shared.home / "o"), "relight": True}
    with pytest.raises(ServiceError, match="'relight' is unknown") as refused:
        shared.client.submit(recipe)
    assert refused.value.status == 400 and shared.client.jobs() == []


def test_an_operation_that_the_service_does_not_have_is_not_there(shared):
    with pytest.raises(ServiceError) as refused:
        shared.client._ask(client.Request("POST", "/v1/jobs/1/pause", {}))
    assert refused.value.status == 404


def test_an_older_client_leaves_alone_what_it_does_not_know(shared, monkeypatch):
    for name in ("warnings", "thumbnails", "seconds_left"):
        monkeypatch.delitem(client.JOB_SHAPE, name)
    found = client.checked(
        {"id": 1, "state": "done", "revision": "a", "recipe": {}, "new": [1]}, client.JOB_SHAPE, "job"
    )
    assert found["new"] == [1] and "trouble" in shared.client.health()


def test_a_newer_client_takes_what_is_missing_as_its_shape_says(shared, monkeypatch):
    monkeypatch.setitem(client.HEALTH_SHAPE, "queue_paused", (lambda value: isinstance(value, bool), False))
    assert shared.client.health()["queue_paused"] is False
    monkeypatch.setitem(client.HEALTH_SHAPE, "licence", (lambda value: isinstance(value, str),))
    with pytest.raises(ServiceError, match="health has no valid licence; install one version of both"):
        shared.client.health()
