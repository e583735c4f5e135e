"""What the service does with a worker that fails, hangs, is slow, or goes; the stand-in worker is all of these."""

import os
import signal

import pytest

from tests.service.conftest import ENDS_WITHIN, STAND_IN, Running, until
from vera.core.service import client
from vera.core.service.client import ServiceError


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie is gone too; it may also be reaped before it is looked at.
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_job_runs_to_its_end(service, recipe):
    job = service.client.submit(recipe("steps=3 pause=0.1"))
    assert (job["state"], job["cancelling"]) in (("queued", False), ("running", False))
    seen = [(j["state"], j["stage"], j["done"]) for j in service.client.watch(job["id"], 60)]
    assert seen[-1] == ("done", None, None)
    assert ("running", "denoise", 2) in seen
    assert service.client.job(job["id"])["report"] == {"donors": []}


def test_the_same_pixels_are_offered_to_the_worker(service, recipe):
    first = service.client.wait(service.client.submit(recipe("one", "a"))["id"], 60)
    second = service.client.wait(service.client.submit(recipe("one", "b"))["id"], 60)
    assert second["report"] == {"donors": [first["recipe"]["out"]]}


@pytest.mark.parametrize(
    "prompt, kind, words",
    [
        ("crash", "crash", "SIGABRT"),
        ("hang", "hang", "sign of life"),
        ("stall", "hang", "no progress"),
        ("garbage", "crash", "SIGKILL"),
        ("input", "input", "fix it"),
        ("memory", "memory", "fix it"),
    ],
)
def test_a_failure_has_its_reason_and_the_queue_goes_on(make_service, recipe, prompt, kind, words):
    service = make_service(hang=1.5, stall=2.5).start()
    bad = service.client.submit(recipe(prompt, "bad"))
    good = service.client.submit(recipe("good", "good"))
    assert service.client.wait(good["id"], 60)["state"] == "done"
    bad = service.client.job(bad["id"])
    assert (bad["state"], bad["kind"]) == ("failed", kind)
    assert words in bad["reason"] and "\n" not in bad["reason"]


@pytest.mark.parametrize("kills, state", [(1, "done"), (2, "done"), (3, "failed")])
def test_a_job_whose_worker_was_killed_by_the_system_is_tried_again_twice(service, recipe, kills, state):
    bad = service.client.submit(recipe(f"killed={kills}", "bad"))
    good = service.client.submit(recipe("good", "good"))
    assert service.client.wait(good["id"], 60)["state"] == "done"
    bad = service.client.job(bad["id"])
    assert bad["state"] == state and len((service.folder / "tries.txt").read_text()) == min(kills + 1, 3)
    if state == "failed":
        assert bad["kind"] == "crash" and "SIGKILL" in bad["reason"]
        service.client.retry(bad["id"])
        assert service.client.wait(bad["id"], 60)["state"] == "done"


def test_cheaper_settings_are_among_the_jobs_warnings(service, recipe):
    job = service.client.wait(service.client.submit(recipe("cheaper"))["id"], 60)
    assert job["state"] == "done" and job["warnings"] == ["memory ran out; retrying with less"]


def test_cancel_of_a_running_job_keeps_the_worker(service, recipe):
    job = service.client.submit(recipe("steps=600 pause=0.1"))["id"]
    until(lambda: service.client.job(job)["done"], 60, "progress")
    pid = service.client.health()["worker_pid"]
    service.client.cancel(job)
    assert service.client.wait(job, 10)["state"] == "cancelled"
    assert service.client.health()["worker_pid"] == pid


def test_cancel_of_a_deaf_worker_ends_it(service, recipe):
    job = service.client.submit(recipe("deaf steps=600 pause=0.1"))["id"]
    after = service.client.submit(recipe("after", "after"))["id"]
    until(lambda: service.client.job(job)["done"], 60, "progress")
    pid = service.client.health()["worker_pid"]
    service.client.cancel(job)
    assert service.client.wait(job, 10)["state"] == "cancelled"
    assert service.client.wait(after, 60)["state"] == "done"
    assert gone(pid)


def test_retry_runs_again(make_service, recipe):
    service = make_service().start()
    job = service.client.submit(recipe("crash"))["id"]
    for _ in range(2):
        assert service.client.wait(job, 60)["kind"] == "crash"
        assert service.client.retry(job)["state"] in ("queued", "running")
    assert service.client.wait(job, 60)["state"] == "failed"


def test_reordered_jobs_run_in_the_new_order(service, recipe):
    service.client.submit(recipe("steps=15 pause=0.1", "0"))
    a, b, c = (service.client.submit(recipe(n, n))["id"] for n in "abc")
    service.client.move(c, a)
    service.client.move(a)
    until(lambda: service.client.job(a)["state"] == "done", 60, "all")
    worked = (service.folder / "worked.txt").read_text().split()
    assert [os.path.basename(out) for out in worked] == ["0", "c", "b", "a"]


def test_the_worker_is_ready_before_the_first_job(make_service, recipe):
    service = make_service(warm=True).start()
    until(lambda: service.client.health()["worker"] == "ready", 20, "the worker")
    pid = service.client.health()["worker_pid"]
    service.client.wait(service.client.submit(recipe("one", "a"))["id"], 60)
    assert service.client.health()["worker_pid"] == pid


def test_the_model_goes_after_its_time_and_comes_back(make_service, recipe):
    service = make_service(model_idle=0.5).start()
    assert service.client.health()["worker"] == "off"
    job = service.client.submit(recipe("steps=600 pause=0.05", "a"))["id"]
    pid = until(lambda: service.client.health()["worker_pid"], 5, "a worker")
    service.client.cancel(job)  # only now: an idle worker may be gone before it is asked for
    until(lambda: service.client.health()["worker"] == "off", 10, "the worker to go")
    assert gone(pid)
    assert service.client.wait(service.client.submit(recipe("two", "b"))["id"], 60)["state"] == "done"


def test_unload_gives_the_memory_back_now(service, recipe):
    service.client.wait(service.client.submit(recipe("one"))["id"], 60)
    pid = until(lambda: service.client.health()["worker_pid"], 5, "a worker")
    service.client.unload()
    until(lambda: gone(pid), 10, "the worker to go")


def test_an_idle_service_ends_and_one_that_works_does_not(make_service, recipe):
    service = make_service(idle=1.5).start()
    job = service.client.submit(recipe("steps=25 pause=0.1"))["id"]
    until(lambda: (service.client.job(job)["done"] or 0) >= 20, 60, "two seconds of work")
    assert service.process.poll() is None
    service.client.wait(job, 60)
    assert service.process.wait(ENDS_WITHIN) == 0
    assert not (service.folder / "service.json").exists()


def test_shutdown_keeps_the_queue_and_the_running_job_is_first_again(service, recipe):
    ids = [service.client.submit(recipe(f"steps={n} pause=0.1", f"{n}"))["id"] for n in (30, 2)]
    until(lambda: service.client.job(ids[0])["done"], 60, "progress")
    pid = service.client.health()["worker_pid"]
    service.client.shutdown()
    assert service.process.wait(ENDS_WITHIN) == 0
    assert gone(pid)
    service.start()
    jobs = service.client.jobs()
    assert [job["id"] for job in jobs] == ids and jobs[1]["state"] == "queued"
    assert [service.client.wait(n, 60)["state"] for n in ids] == ["done", "done"]


def test_a_terminated_service_ends_in_order(service, recipe):
    job = service.client.submit(recipe("deaf steps=600 pause=0.1"))["id"]
    until(lambda: service.client.job(job)["done"], 60, "progress")
    pid = service.client.health()["worker_pid"]
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(ENDS_WITHIN) == 0
    assert gone(pid)


def test_the_worker_goes_with_a_killed_server(service, recipe):
    job = service.client.submit(recipe("steps=600 pause=0.1"))["id"]
    until(lambda: service.client.job(job)["done"], 60, "progress")
    pid = service.client.health()["worker_pid"]
    service.kill()
    until(lambda: gone(pid), 10, "the worker to go")


def test_two_servers_at_once_are_one(make_service, tmp_path):
    import subprocess
    import sys

    from tests.service.conftest import ROOT

    command = [sys.executable, "-m", "vera", "serve", "--folder", str(tmp_path / "one")]
    servers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    try:
        until(lambda: sum(s.poll() is not None for s in servers) == 3, 60, "three to give up")
        for server in servers:
            if server.poll() is not None:
                out, err = server.communicate()
                assert server.returncode == 3 and out == "" and len(err.strip().splitlines()) == 1
                assert "is already running" in err or "starting" in err
    finally:
        for server in servers:
            if server.poll() is None:
                server.terminate()
            server.communicate(timeout=ENDS_WITHIN)


def test_a_worker_that_cannot_start_fails_the_job(make_service, recipe, tmp_path):
    service = make_service(worker=[str(tmp_path / "no-such-python")]).start()
    job = service.client.wait(service.client.submit(recipe("one"))["id"], 60)
    assert (job["state"], job["kind"]) == ("failed", "system")
    service = make_service(worker=["/bin/false"]).start()
    job = service.client.wait(service.client.submit(recipe("one"))["id"], 60)
    assert (job["state"], job["kind"]) == ("failed", "crash") and "exit code 1" in job["reason"]


def test_a_long_poll_answers_at_the_change_and_at_its_end(service, recipe):
    first = service.client.submit(recipe("steps=10 pause=0.1", "0"))["id"]
    job = service.client.submit(recipe("one", "a"))["id"]
    known = service.client.job(job)["revision"]
    changed = service.client._ask(client.Request("GET", f"/v1/jobs/{job}?after={known}&wait=20"), 40)
    assert changed["revision"] != known
    service.client.wait(job, 60)
    ended = service.client.job(first)["revision"]
    assert (
        service.client._ask(client.Request("GET", f"/v1/jobs/{first}?after={ended}&wait=0.3"), 40)["revision"] == ended
    )
    listed = service.client._ask(client.Request("GET", "/v1/jobs"), 40)["revision"]
    assert service.client._ask(client.Request("GET", f"/v1/jobs?after={listed}&wait=0.3"), 40)["revision"] == listed


def test_a_damaged_queue_is_one_clear_message(make_service, tmp_path):
    import subprocess
    import sys

    from tests.service.conftest import ROOT

    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "queue.sqlite").write_bytes(b"not a database " * 1000)
    done = subprocess.run(
        [sys.executable, "-m", "vera", "serve", "--folder", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "move it away" in done.stderr


def test_errors_of_the_client_are_one_line(service):
    with pytest.raises(ServiceError, match="no job 99"):
        service.client.job(99)
    with pytest.raises(ServiceError, match="prompt is missing") as caught:
        service.client.submit({"plate": "/a.exr", "out": "/b"})
    assert caught.value.status == 400


def test_health_tells_of_the_worker(service, recipe):
    job = service.client.submit(recipe("steps=600 pause=0.05"))["id"]
    working = until(lambda: (h := service.client.health())["memory"].get("worker") and h, 30, "a beat")
    assert working["worker"] == "working" and working["worker_pid"] and working["jobs"]["running"] == 1
    service.client.cancel(job)
    service.client.wait(job, 30)
    service.client.unload()
    off = until(lambda: (h := service.client.health())["worker"] == "off" and h, 30, "the worker to go")
    assert off["memory"] == {"limit": None} and off["worker_pid"] is None and off["trouble"] is None


def test_a_full_disk_under_the_queue_is_said_and_loses_no_job(recipe, tmp_path):
    """On a disk of 1 MiB, where this user may mount one: refused in words, then taken again once there is room."""
    import shutil
    import subprocess
    import sys

    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    service = Running(disk, [tmp_path], worker=[sys.executable, str(STAND_IN)])
    try:
        service.start()
        first = service.client.submit(recipe("steps=1000 pause=0.1", "first"))["id"]
        until(lambda: service.client.job(first)["done"], 60, "progress")
        (disk / "filler").write_bytes(b"x" * (shutil.disk_usage(disk).free - 16384))
        taken = [first]
        with pytest.raises(ServiceError, match="the queue cannot be written .*full.*; make room") as refused:
            for number in range(300):
                taken.append(service.client.submit(recipe("x" * 3000 + str(number), str(number)))["id"])
        assert refused.value.status == 507
        assert [job["id"] for job in service.client.jobs()] == taken and service.client.health()["contract"]
        (disk / "filler").unlink()
        taken.append(service.client.submit(recipe("last", "last"))["id"])
        assert [job["id"] for job in service.client.jobs()] == taken
        service.kill()
        service.start()
        assert [job["id"] for job in service.client.jobs()] == taken
    finally:
        service.stop()
        subprocess.run(["umount", "-l", str(disk)], check=True)
