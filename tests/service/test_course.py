"""How far a whole job is."""

from types import SimpleNamespace

import pytest

from vera.core.service import course
from vera.core.service.course import Course
from vera.core.service.jobs import Queue
from vera.core.service.supervisor import Supervisor

EARLIER = {"frames": 10, "seconds": {"read": 1.0, "denoise": 5.0, "deliver": 4.0}}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(course.time, "monotonic", lambda: now[0])
    return now


def test_the_share_never_falls_and_ends_below_one():
    told = Course()
    shares = [
        told.at(stage, done, total, None)[0]
        for stage, total in (("read", 5), ("denoise", 4), ("denoise", 4), ("deliver", 5), ("finish", 1))
        for done in range(total + 1)
    ]
    assert shares == sorted(shares) and 0.9 < shares[-1] < 1


def test_time_left_is_estimated_only_from_an_earlier_job():
    assert Course().at("denoise", 2, 4, 9.0)[1] is None
    told = Course(EARLIER)
    told.frames = 20
    share, left = told.at("denoise", 2, 4, 5.0)
    assert share == pytest.approx((2 + 5) / 20) and left == pytest.approx(5 + 8)


def test_a_lift_has_stages_of_its_own():
    assert Course(lifts=True).at("lift", 1, 2, None)[0] == pytest.approx(0.325)


def test_what_is_not_known_to_take_time_changes_nothing():
    told = Course()
    told.at("read", 1, 2, None)
    assert told.at("prepare", 0, 1, None) == (told.share, None)


def test_seconds_of_stages_are_noted(clock):
    told = Course()
    for stage, done, at in (("read", 0, 0), ("denoise", 0, 2), ("denoise", 3, 5), ("deliver", 0, 9), ("finish", 0, 11)):
        clock[0] = at
        told.at(stage, done, 3, None)
    assert told.seconds == {"read": 2, "denoise": 7, "deliver": 2} and told.whole


def test_a_job_that_went_on_tells_nothing_of_the_next():
    told = Course()
    told.at("deliver", 7, 10, None)
    assert not told.whole


@pytest.mark.parametrize(
    "model, seconds",
    [("mini", 3.0), (None, 3.0), ("/models/vera", 700.0), ("lift:/a.mov", 40.0), ("/models/other", None)],
)
def test_the_time_of_a_job_is_that_of_the_latest_whole_job_of_its_model(tmp_path, model, seconds):
    """No model is mini. A job that was copied from another folder says nothing."""
    ended = [("mini", {"denoise": 2.0}), ("mini", {"denoise": 3.0}), ("/models/vera", {"denoise": 700.0})]
    ended += [("lift:/a.mov", {"lift": 40.0}), ("mini", {"deliver": 0.1}), ("/models/vera", {"deliver": 0.2})]
    queue = Queue(tmp_path / "queue.sqlite")
    for number, (name, stages) in enumerate(ended):
        job, _ = queue.submit({"model": name, "prompt": str(number)}, f"request{number}")
        queue.take()
        queue.end(job["id"], "done", facts={"frames": 10, "seconds": stages})
    recipe = {"prompt": "the next"} | ({} if model is None else {"model": model})
    job, _ = queue.submit(recipe, "next")
    found = Supervisor(queue, None, SimpleNamespace(folder=tmp_path))._earlier(job)
    queue.close()
    assert (found and sum(found["seconds"].values())) == seconds
