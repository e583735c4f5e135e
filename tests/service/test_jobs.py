import sqlite3
import threading

import pytest

from vera.core.errors import InputError
from vera.core.service import jobs
from vera.core.service.jobs import Queue, QueueRefusedError


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue.sqlite")
    yield queue
    queue.close()


def recipe(name):
    return {"plate": "/p.exr", "prompt": name, "out": f"/{name}"}


def add(queue, *names):
    return [queue.submit(recipe(name), f"r-{name}")[0]["id"] for name in names]


def order(queue):
    return [job["id"] for job in queue.list() if job["state"] == "queued"]


def test_first_in_is_first_out(queue):
    a, b = add(queue, "a", "b")
    assert queue.take()["id"] == a
    queue.end(a, "done", report={"coverage": 0.5})
    assert queue.take()["id"] == b
    assert queue.take() is None
    assert queue.get(a)["report"] == {"coverage": 0.5}


def test_a_request_sent_twice_is_one_job_even_when_done(queue):
    first, is_new = queue.submit(recipe("a"), "same")
    assert is_new
    queue.take()
    queue.end(first["id"], "done")
    again, is_new = queue.submit(recipe("a"), "same")
    assert (again["id"], is_new) == (first["id"], False)


def test_a_recipe_that_waits_is_not_queued_twice_but_one_that_runs_is(queue):
    first, _ = queue.submit(recipe("a"), "1")
    assert queue.submit(recipe("a"), "2")[0]["id"] == first["id"]
    queue.take()
    assert queue.submit(recipe("a"), "3")[0]["id"] != first["id"]


def test_order_does_not_follow_the_clock(queue, monkeypatch):
    now = [1e9]
    monkeypatch.setattr(jobs.time, "time", lambda: now[0])
    ids = []
    for name in "abc":
        now[0] -= 86400
        ids += add(queue, name)
    assert order(queue) == ids
    assert queue.take()["id"] == ids[0]


def test_move(queue):
    a, b, c = add(queue, "a", "b", "c")
    queue.move(c, a)
    assert order(queue) == [c, a, b]
    queue.move(c, None)
    assert order(queue) == [a, b, c]
    queue.move(b, b)
    assert sorted(order(queue)) == [a, b, c]
    assert [queue.position(x) for x in order(queue)] == [1, 2, 3]
    queue.take()
    with pytest.raises(QueueRefusedError):
        queue.move(a, b)


def test_cancel_and_retry_go_to_the_end(queue):
    a, b = add(queue, "a", "b")
    assert queue.cancel(a)["state"] == "cancelled"
    assert queue.cancel(a)["state"] == "cancelled"
    queue.retry(a)
    assert queue.retry(a)["state"] == "queued"
    assert order(queue) == [b, a]
    queue.take()
    queue.end(b, "done")
    for change in (queue.retry, queue.cancel):
        with pytest.raises(QueueRefusedError):
            change(b)
    with pytest.raises(KeyError):
        queue.retry(99)


def test_what_ran_is_first_after_a_start(queue, tmp_path):
    a, b = add(queue, "a", "b")
    queue.take()
    again = Queue(tmp_path / "queue.sqlite")
    again.reopen()
    assert order(again) == [a, b]


def test_what_was_being_cancelled_is_cancelled_after_a_start(queue):
    (a,) = add(queue, "a")
    queue.take()
    assert queue.cancel(a)["state"] == "running"
    queue.reopen()
    assert queue.get(a)["state"] == "cancelled"


def test_a_job_that_ends_the_service_each_time_fails_at_last(queue):
    (a,) = add(queue, "a")
    for _ in range(jobs.MAX_INTERRUPTIONS):
        queue.take()
        queue.reopen()
    assert queue.get(a)["state"] == "queued"
    queue.take()
    queue.reopen()
    job = queue.get(a)
    assert job["state"] == "failed" and "retry" in job["reason"]
    queue.retry(a)
    assert queue.get(a)["interruptions"] == 0


def test_a_full_disk_refuses_and_loses_nothing(queue):
    ids = add(queue, "a", "b")
    pages = queue.db.execute("PRAGMA page_count").fetchone()[0]
    queue.db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        for n in range(1000):
            queue.submit({**recipe(f"n{n}"), "prompt": "x" * 2000}, f"n{n}")
    kept = order(queue)
    assert kept[:2] == ids
    queue.db.execute(f"PRAGMA max_page_count={pages + 100}")
    assert order(queue) == kept
    assert add(queue, "c")[0] == order(queue)[-1]


def test_other_files_are_refused_and_kept(tmp_path):
    path = tmp_path / "queue.sqlite"
    path.write_bytes(b"no database " * 500)
    with pytest.raises(InputError, match="move it away"):
        Queue(path)
    assert path.read_bytes() == b"no database " * 500


def test_a_queue_of_another_version_is_refused(queue, tmp_path):
    queue.db.execute("PRAGMA user_version=7")
    with pytest.raises(InputError, match="version"):
        Queue(tmp_path / "queue.sqlite")


def test_too_many_jobs_are_refused(queue, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_OPEN", 2)
    add(queue, "a", "b")
    with pytest.raises(QueueRefusedError):
        add(queue, "c")


def test_old_ended_jobs_are_forgotten(queue, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_ENDED", 3)
    for name in "abcdef":
        (job,) = add(queue, name)
        queue.take()
        queue.end(job, "done")
    assert [j["recipe"]["prompt"] for j in queue.list()] == ["f", "e", "d", "c"]


def test_rendered_finds_folders_of_the_same_pixels(queue):
    for name, state in (("a", "done"), ("b", "failed"), ("c", "done")):
        (job,) = add(queue, name)
        queue.take()
        queue.note(job, identity="same")
        queue.end(job, state)
    assert queue.rendered("same") == ["/c", "/a"]
    assert queue.rendered("other") == []


def test_a_reader_sees_whole_changes_only(queue, tmp_path):
    """Another process may look while jobs are written: never a job in two places, never none."""
    add(queue, *"abcdefgh")
    wrong = []

    def look():
        db = sqlite3.connect(tmp_path / "queue.sqlite")
        for _ in range(200):
            rows = db.execute("SELECT id, place FROM jobs WHERE state = 'queued'").fetchall()
            if len({place for _, place in rows}) != 8:
                wrong.append(rows)
        db.close()

    reader = threading.Thread(target=look)
    reader.start()
    while reader.is_alive():
        queue.move(order(queue)[-1], order(queue)[0])
    reader.join()
    assert not wrong


def test_a_queue_of_an_earlier_version_gets_the_columns_that_it_lacks(tmp_path):
    queue = jobs.Queue(tmp_path / "q.sqlite")
    kept, _ = queue.submit({"plate": "/p", "prompt": "a", "out": "/o"}, "1")
    columns = ", ".join(name for name in kept if name != "facts")
    queue.close()
    with sqlite3.connect(tmp_path / "q.sqlite") as db:
        db.execute("ALTER TABLE jobs RENAME TO later")
        db.execute(f"CREATE TABLE jobs AS SELECT {columns} FROM later")
        db.execute("DROP TABLE later")
    queue = jobs.Queue(tmp_path / "q.sqlite")
    assert queue.get(kept["id"]) == kept and kept["facts"] is None
    queue.take()
    assert queue.end(kept["id"], "done", facts={"frames": 3})["facts"] == {"frames": 3}


def test_only_what_has_ended_is_forgotten(tmp_path):
    queue = jobs.Queue(tmp_path / "q.sqlite")
    first, second = (queue.submit({"plate": "/p", "prompt": p, "out": "/o"}, p)[0]["id"] for p in "ab")
    queue.take()
    queue.end(first, "failed")
    assert queue.forget([first, second, first, 99]) == [first]
    assert [job["id"] for job in queue.list()] == [second]


def test_a_clock_that_jumps_changes_nothing_but_the_dates(tmp_path, monkeypatch):
    """Back and forth by years, at every change: the same states in the same order."""

    def story(path, clock):
        monkeypatch.setattr(jobs.time, "time", clock)
        queue = Queue(path)
        a, b, c, d = add(queue, "a", "b", "c", "d")
        queue.take(), queue.end(a, "failed", "crash", "killed"), queue.retry(a)
        queue.take(), queue.put_back(b), queue.move(d, c)
        queue.take(), queue.cancel(b), queue.cancel(c)
        queue.reopen()
        found = queue.list()
        queue.close()
        return [{n: v for n, v in job.items() if n not in ("submitted", "started", "ended")} for job in found]

    jumps = iter(1e9 * (-1) ** n * (1 + n % 3) for n in range(1000))
    assert story(tmp_path / "1.sqlite", lambda: next(jumps)) == story(tmp_path / "2.sqlite", lambda: 1.7e9)


@pytest.mark.parametrize("words", ["database or disk is full", "database is locked", "disk I/O error"])
def test_a_queue_that_cannot_be_written_at_the_start_is_one_line_and_kept(queue, tmp_path, monkeypatch, capsys, words):
    from vera.core import cli

    add(queue, "a")

    class Full(sqlite3.Connection):
        def executescript(self, text):
            raise sqlite3.OperationalError(words)

    connect = sqlite3.connect
    monkeypatch.setattr(jobs.sqlite3, "connect", lambda *a, **k: connect(*a, factory=Full, **k))
    assert cli.main(["serve", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and words in said
    assert len(queue.list()) == 1
