"""The progress and remaining time of a whole job."""

from types import SimpleNamespace

import pytest

from vera.core.service import progress_estimate
from vera.core.service.jobs import Queue
from vera.core.service.progress_estimate import ProgressEstimate
from vera.core.service.supervisor import Supervisor

EARLIER = {"frames": 10, "seconds": {"read": 1.0, "denoise": 5.0, "deliver": 4.0}}


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress_estimate.time, "monotonic", lambda: now[0])
    return now


def test_the_share_never_falls_and_ends_below_one():
    estimate = ProgressEstimate()
    shares = [
        estimate.update(stage, done, total, None)[0]
        for stage, total in (("read", 5), ("denoise", 4), ("denoise", 4), ("deliver", 5), ("finish", 1))
        for done in range(total + 1)
    ]
    assert shares == sorted(shares) and 0.9 < shares[-1] < 1


def test_time_left_is_estimated_only_from_an_earlier_job():
    assert ProgressEstimate().update("denoise", 2, 4, 9.0)[1] is None
    estimate = ProgressEstimate(EARLIER)
    estimate.frames = 20
    share, left = estimate.update("denoise", 2, 4, 5.0)
    assert share == pytest.approx((2 + 5) / 20) and left == pytest.approx(5 + 8)


def test_a_lift_has_stages_of_its_own():
    assert ProgressEstimate(lifts=True).update("lift", 1, 2, None)[0] == pytest.approx(0.325)


def test_an_unknown_stage_changes_nothing():
    estimate = ProgressEstimate()
    estimate.update("read", 1, 2, None)
    assert estimate.update("prepare", 0, 1, None) == (estimate.share, None)


def test_seconds_of_stages_are_noted(clock):
    estimate = ProgressEstimate()
    for stage, done, at in (("read", 0, 0), ("denoise", 0, 2), ("denoise", 3, 5), ("deliver", 0, 9), ("finish", 0, 11)):
        clock[0] = at
        estimate.update(stage, done, 3, None)
    assert estimate.seconds == {"read": 2, "denoise": 7, "deliver": 2} and estimate.whole


def test_a_resumed_job_is_not_whole():
    estimate = ProgressEstimate()
    estimate.update("deliver", 7, 10, None)
    assert not estimate.whole


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
    found = Supervisor(queue, None, SimpleNamespace(folder=tmp_path))._facts_of_earlier(job)
    queue.close()
    assert (found and sum(found["seconds"].values())) == seconds
