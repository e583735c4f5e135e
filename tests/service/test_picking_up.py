"""Through the API: the results of a finished job, its next version, clearing, and the port of the next service."""

import json
import os

import pytest

from tests.service.conftest import until
from tests.service.test_security import ask


def posted(service, path, body=None):
    status, content = ask(service, "POST", path, {} if body is None else body)
    return status, json.loads(content)


def recipe(service, prompt, name, **values):
    return {"plate": str(service.home / "p.####.exr"), "prompt": prompt, "out": str(service.home / name), **values}


@pytest.fixture(scope="module")
def done(shared):
    """A job that is done, with a preview of ten bytes."""
    (shared.folder / "preview.mp4").write_bytes(b"0123456789")
    job = shared.client.submit(recipe(shared, "movie Add rain", "rain", seed=4))
    return shared.client.wait(job["id"], 60)


def test_a_done_job_says_what_was_made(done):
    assert done["state"] == "done" and done["facts"]["views"]["alpha"] == [1, 1]
    assert (done["facts"]["frames"], done["facts"]["width"]) == (25, 1280)
    assert done["facts"]["seconds"]["denoise"] >= 0


def test_its_preview_is_served_whole_and_in_part(shared, done):
    path = f"/v1/jobs/{done['id']}/result?name=preview.mp4"
    assert ask(shared, path=path) == (200, b"0123456789")
    assert ask(shared, path=path, range="bytes=2-4") == (206, b"234")
    assert ask(shared, path=path, range="bytes=0-1,3-4")[0] == 416
    assert ask(shared, path=path, authorization=None)[0] == 401
    assert ask(shared, path=path, sec_fetch_site="cross-site")[0] == 403


@pytest.mark.parametrize(
    "name", ["", "?name=recipe.json", "?name=../../queue.sqlite", "?name=preview.mp4&name=preview.mp4"]
)
def test_no_other_file_is(shared, done, name):
    assert ask(shared, path=f"/v1/jobs/{done['id']}/result{name}")[0] == 400


def test_a_job_that_is_not_done_has_no_results(shared):
    job = shared.client.wait(shared.client.submit(recipe(shared, "input", "wrong"))["id"], 60)
    assert ask(shared, path=f"/v1/jobs/{job['id']}/result?name=preview.mp4")[0] == 409
    assert ask(shared, path="/v1/jobs/9999/result?name=preview.mp4")[0] == 404


def test_again_takes_the_next_seed_and_folder(shared, done):
    status, second = posted(shared, f"/v1/jobs/{done['id']}/again", {"another_seed": True})
    assert status == 201
    assert second["recipe"] == {**recipe(shared, "movie Add rain", "rain_v002"), "seed": 5}
    third = posted(shared, f"/v1/jobs/{done['id']}/again", {"another_seed": True})[1]["recipe"]
    assert (third["seed"], third["out"][-5:]) == (6, "_v003")
    shared.client.wait(second["id"], 60)


def test_again_with_another_prompt_keeps_the_rest(shared, done):
    made = posted(shared, f"/v1/jobs/{done['id']}/again", {"change": {"prompt": "Add hail", "seed": 0}})[1]["recipe"]
    assert made["prompt"] == "Add hail" and made["seed"] == 0 and made["plate"] == done["recipe"]["plate"]


@pytest.mark.parametrize(
    "name, same_folder, expected",
    [("elsewhere", False, "elsewhere"), ("elsewhere", True, "elsewhere"), (None, True, "rain")],
)
def test_again_delivers_into_the_folder_that_is_named(shared, done, name, same_folder, expected):
    folder = os.path.dirname(done["recipe"]["out"])
    change = {"prompt": f"Add {name}, {same_folder}"} | ({"out": f"{folder}/{name}"} if name else {})
    body = {"change": change, "same_folder": same_folder}
    assert posted(shared, f"/v1/jobs/{done['id']}/again", body)[1]["recipe"]["out"] == f"{folder}/{expected}"


def test_kept_layers_are_delivered_again_into_the_same_folder(shared, done):
    body = {"change": {"blend_space": "encoded", "also": ["png"]}, "same_folder": True}
    made = posted(shared, f"/v1/jobs/{done['id']}/again", body)[1]["recipe"]
    assert made["out"] == done["recipe"]["out"] and made["blend_space"] == "encoded" and made["also"] == ["png"]


@pytest.mark.parametrize(
    "body, words",
    [
        ({"change": {"out": "/etc/x"}}, "outside"),
        ({"change": {"nothing": 1}}, "unknown"),
        ({"change": {"seed": -1}}, "outside"),
        ({"another_seed": "yes"}, "boolean"),
    ],
)
def test_again_is_checked_as_a_submission_is(shared, done, body, words):
    status, answer = posted(shared, f"/v1/jobs/{done['id']}/again", body)
    assert status == 400 and words in answer["error"]


def test_clearing_takes_ended_jobs_off_the_list_and_leaves_their_files(shared, done):
    job = shared.client.wait(shared.client.submit(recipe(shared, "picture movie", "cleared"))["id"], 60)
    thumbnails = shared.folder / "thumbnails" / str(job["id"])
    assert thumbnails.is_dir() and job["poster"] and job["thumbnails"] == [1, 2, 3]
    assert posted(shared, "/v1/jobs/clear", {"jobs": [job["id"], 9999]}) == (200, {"jobs": [job["id"]]})
    assert ask(shared, path=f"/v1/jobs/{job['id']}")[0] == 404
    assert not thumbnails.exists() and (shared.home / "cleared" / "preview.mp4").exists()


def test_a_running_job_tells_how_far_the_whole_of_it_is(shared):
    job = shared.client.submit(recipe(shared, "steps=50 pause=0.02", "running"))
    seen = [each["progress"] for each in shared.client.watch(job["id"]) if each["stage"] == "denoise"]
    assert seen == sorted(seen) and 0 < seen[0] < seen[-1] < 1


def test_the_next_service_takes_the_same_port_where_it_is_free(make_service):
    import socket

    first = make_service().start()
    port = first.entry["port"]
    first.stop()
    first.start()
    assert first.entry["port"] == port
    first.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        first.start()
        assert first.entry["port"] != port
    until(first.answers, 10, "the service at another port")
