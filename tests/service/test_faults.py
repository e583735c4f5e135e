"""The real worker under faults: kills at random moments, full disks, changed plates, bombs.

VERA_FAULTS kills in all (a few by default; `make fault-test` has 100).
"""

import json
import os
import random
import shutil
import signal
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest

from tests.plate.media import write_image, write_sequence
from tests.service.conftest import until
from vera.core.layer import image_file
from vera.kernels.pixel_hash import pixel_hash

KILLS = int(os.environ.get("VERA_FAULTS", 3))
PATIENCE = 300 if KILLS < 20 else 3600  # seconds for the queue to be done with
FRAMES = 3

pytestmark = pytest.mark.faults


def plate(folder, frames=range(1001, 1001 + FRAMES), size=(48, 64, 3)):
    folder.mkdir(parents=True, exist_ok=True)
    return str(write_sequence(folder, frames, size=size))


def recipe(plate, out, **changes):
    return {"plate": plate, "prompt": "Add a red balloon", "out": str(out), "steps": 1, "guidance": 1, **changes}


def pixels(out):
    """frame -> the hashes in the manifest, each checked against its file."""
    manifest = json.loads((out / "manifest.json").read_text())
    found = {}
    for entry in manifest["frames"]:
        for kind in ("edit", "composite"):
            file = out / entry[kind]["file"]
            assert pixel_hash(image_file.read_codes(file)) == entry[kind]["pixels"]
            found[entry["frame"], kind] = entry[kind]["pixels"]
    return found


def all_readable(folder):
    """No file under a final name is half."""
    for file in folder.rglob("*.exr"):
        if ".part" not in file.name:
            image_file.read_codes(file)
    for file in folder.rglob("*.json"):
        if ".part" not in file.name:
            json.loads(file.read_text())


def processes_of(service):
    worker = service.client.health()["worker_pid"]
    return {"server": service.process.pid, "worker": worker}


def test_kills_at_random_moments(make_service, tmp_path):
    """Worker, server, or both, over a queue of jobs: all end complete and identical, or with a reason."""
    path = plate(tmp_path / "shot")
    service = make_service(real=True).start()
    jobs = max(3, min(8, KILLS // 2))
    ids = [service.client.submit(recipe(path, tmp_path / "out" / str(n), seed=n % 2))["id"] for n in range(jobs)]
    rng = random.Random(KILLS)
    told = {"crash": 0}
    for _ in range(KILLS):
        time.sleep(rng.uniform(0, 12 if KILLS < 20 else 8))
        victim = rng.choice(["server", "worker", "both"])
        pids = processes_of(service)
        if victim != "server" and pids["worker"]:
            try:
                os.kill(pids["worker"], signal.SIGKILL)
            except ProcessLookupError:
                pass
        if victim != "worker":
            service.kill()
        all_readable(tmp_path / "out")
        if victim != "worker":
            service.start()
        for job in service.client.jobs():
            if job["state"] == "failed":
                assert job["kind"] == "crash" and ("SIGKILL" in job["reason"] or "service ended" in job["reason"]), job
                told["crash"] += 1
                service.client.retry(job["id"])
        if all(job["state"] == "done" for job in service.client.jobs()):
            # All done before the kills were: another one.
            n = len(ids)
            ids.append(service.client.submit(recipe(path, tmp_path / "out" / str(n), seed=n))["id"])
    for number in ids:
        job = service.client.wait(number, PATIENCE)
        while job["state"] == "failed" and job["kind"] == "crash":
            service.client.retry(number)
            job = service.client.wait(number, PATIENCE)
        assert job["state"] == "done", (job, service.client.health())
    by_seed = {}
    for job in service.client.jobs():
        out = tmp_path / "out" / os.path.basename(job["recipe"]["out"])
        found = pixels(out)
        assert len(found) == 2 * FRAMES and not list(out.rglob("*.part*"))
        assert by_seed.setdefault(job["recipe"]["seed"], found) == found
    assert len(by_seed) >= 2 and by_seed[0] != by_seed[1]
    print(f"{KILLS} kills, {len(ids)} jobs, {told['crash']} failures told")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """One service with the real worker, warm, for the tests of this module that leave it running."""
    import pathlib

    from tests.service.conftest import Running

    folder = tmp_path_factory.mktemp("real")
    disk = pathlib.Path("/tmp") / f"vera-test-disk-{os.getpid()}"
    running = Running(folder / "state", [folder, disk], hang=120, memory_limit=2 * 2**30).start()
    running.home, running.disk = folder, disk
    first = running.client.wait(running.client.submit(recipe(plate(folder / "warm"), folder / "warm-out"))["id"], 300)
    assert first["state"] == "done", first
    yield running
    running.stop()


def test_the_same_recipe_elsewhere_is_answered_from_what_was_rendered(real):
    """Without the model: the job goes from prepare to deliver, and its pixels are the same."""
    job = real.client.submit(recipe(str(real.home / "warm" / "plate.####.exr"), real.home / "again"))
    seen = {j["stage"] for j in real.client.watch(job["id"], 120)}
    job = real.client.job(job["id"])
    assert job["state"] == "done" and "denoise" not in seen and "read" not in seen
    health = real.client.health()
    assert health["model"] == "mini" and health["device"] == "cpu" and health["memory"]["worker"] > 2**27
    assert pixels(real.home / "again") == pixels(real.home / "warm-out")
    assert job["thumbnails"] and real.client.preview(job["id"]).startswith(b"\x89PNG")
    assert json.loads((real.home / "again" / "recipe.json").read_text())["out"] == str(real.home / "again")


def test_the_same_recipe_again_does_nothing(real):
    before = (real.home / "warm-out" / "manifest.json").stat().st_mtime_ns
    job = real.client.submit(recipe(str(real.home / "warm" / "plate.####.exr"), real.home / "warm-out"))
    job = real.client.wait(job["id"], 120)
    assert job["state"] == "done" and job["report"]["model"] == "mini"
    assert (real.home / "warm-out" / "manifest.json").stat().st_mtime_ns == before


def test_another_plate_is_no_answer(real):
    other = real.home / "other"
    other.mkdir()
    for n in range(1001, 1001 + FRAMES):
        write_image(other / f"plate.{n}.exr", np.full((48, 64, 3), 0.3 + n % 7 / 10, np.float16))
    job = real.client.wait(
        real.client.submit(recipe(str(other / "plate.####.exr"), real.home / "other-out"))["id"], 120
    )
    assert job["state"] == "done"
    assert pixels(real.home / "other-out") != pixels(real.home / "warm-out")


def test_other_work_in_the_folder_is_refused(real):
    job = real.client.submit(recipe(str(real.home / "warm" / "plate.####.exr"), real.home / "warm-out", seed=9))
    job = real.client.wait(job["id"], 120)
    assert (job["state"], job["kind"]) == ("failed", "input") and "another job's delivery" in job["reason"]


@pytest.mark.parametrize("change", ["deleted", "changed"])
def test_a_plate_that_goes_half_way_is_one_message(real, change):
    path = plate(real.home / change, range(1, 21))
    out = real.home / f"{change}-out"
    job = real.client.submit(recipe(path, out))["id"]
    until(lambda: list(out.glob("edit/edit.*[0-9].exr")), 120, "the first frame")
    last = real.home / change / "plate.0020.exr"
    if change == "deleted":
        last.unlink()
    else:
        write_image(last, np.full((48, 64, 3), 0.9, np.float16))
    job = real.client.wait(job, 120)
    assert (job["state"], job["kind"]) == ("failed", "input")
    assert "frame 20" in job["reason"] and "\n" not in job["reason"]
    assert not (out / "manifest.json").exists()
    all_readable(out)


def test_cancel_stops_within_two_seconds_and_retry_goes_on(real):
    path = plate(real.home / "long", range(1, 21))
    out = real.home / "long-out"
    job = real.client.submit(recipe(path, out, steps=3))["id"]
    until(lambda: list(out.glob("edit/edit.*[0-9].exr")), 120, "the first frame")
    start = time.monotonic()
    real.client.cancel(job)
    assert real.client.wait(job, 30)["state"] == "cancelled"
    print(f"cancel to stopped: {time.monotonic() - start:.2f} s")
    kept = {file: file.stat().st_mtime_ns for file in out.glob("edit/edit.*[0-9].exr")}
    assert 0 < len(kept) < 20
    real.client.retry(job)
    seen = {j["stage"] for j in real.client.watch(job, 240)}
    assert real.client.job(job)["state"] == "done" and "denoise" not in seen
    noted = set(pixels(out))
    assert len(noted) == 40 and all(file.stat().st_mtime_ns == date for file, date in kept.items())


def test_sampling_goes_on_at_the_step_it_had_reached(real):
    path = plate(real.home / "steps", range(1, 10))
    job = real.client.submit(recipe(path, real.home / "steps-out", steps=100))["id"]

    def sampled():
        seen = real.client.job(job)
        return seen["stage"] == "denoise" and seen["done"]

    reached = until(lambda: (done := sampled()) and done > 10 and done, 120, "ten steps")
    os.kill(real.client.health()["worker_pid"], signal.SIGKILL)
    until(lambda: not sampled(), 60, "the next try")
    first = next(seen["done"] for seen in real.client.watch(job, 120) if seen["stage"] == "denoise")
    assert reached - 1 <= first < 100  # the step that was killed is made again
    real.client.cancel(job)
    assert real.client.wait(job, 60)["state"] == "cancelled"


def test_a_linked_frame_is_refused_by_the_worker(real):
    path = plate(real.home / "linked")
    outside = real.home.parent / "outside.exr"
    shutil.move(real.home / "linked" / "plate.1002.exr", outside)
    (real.home / "linked" / "plate.1002.exr").symlink_to(outside)
    job = real.client.wait(real.client.submit(recipe(path, real.home / "linked-out"))["id"], 120)
    assert (job["state"], job["kind"]) == ("failed", "input") and "outside" in job["reason"]
    assert not (real.home / "linked-out").exists()


def exr(width, height, *, attributes=b"", channels=(b"B", b"G", b"R")):
    """The header of a scan-line EXR that promises width x height of half, and no pixels."""

    def attribute(name, kind, value):
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(value)) + value

    listed = b"".join(c + b"\0" + struct.pack("<iiii", 1, 0, 1, 1) for c in channels) + b"\0"
    window = struct.pack("<iiii", 0, 0, width - 1, height - 1)
    return (
        struct.pack("<ii", 20000630, 2)
        + attribute(b"channels", b"chlist", listed)
        + attribute(b"compression", b"compression", b"\3")
        + attribute(b"dataWindow", b"box2i", window)
        + attribute(b"displayWindow", b"box2i", window)
        + attribute(b"lineOrder", b"lineOrder", b"\0")
        + attribute(b"pixelAspectRatio", b"float", struct.pack("<f", 1))
        + attribute(b"screenWindowCenter", b"v2f", bytes(8))
        + attribute(b"screenWindowWidth", b"float", struct.pack("<f", 1))
        + attributes
        + b"\0"
    )


def png(width, height):
    """A few kilobytes that unpack to width x height RGB."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pack = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    rows = b"".join(pack.compress(row) for _ in range(height)) + pack.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BOMBS = {
    "size.exr": lambda: exr(2**30, 2**30),
    "wide.exr": lambda: exr(60000, 60000) + bytes(4096),
    "negative.exr": lambda: exr(-5, 48),
    "attribute.exr": lambda: exr(64, 48, attributes=b"bomb\0string\0" + struct.pack("<i", 2**31 - 1)),
    "minus.exr": lambda: exr(64, 48, attributes=b"bomb\0string\0" + struct.pack("<i", -1)),
    "channels.exr": lambda: exr(64, 48, channels=tuple(b"c%d" % n for n in range(20000))),
    "offsets.exr": lambda: exr(64, 48) + b"\xff" * 8 * 48,
    "magic.exr": lambda: struct.pack("<ii", 20000630, 2) + b"\xff" * 1000,
    "empty.exr": lambda: b"",
    "size.png": lambda: (
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + struct.pack(">II", 2**31 - 1, 2**31 - 1) + b"\x10\x06\0\0\0" * 2
    ),
    "zeros.png": lambda: png(12000, 12000),
    "text.mp4": lambda: b"#EXTM3U\nfile:///etc/passwd\n",
    "concat.mov": lambda: b"ffconcat version 1.0\nfile /etc/passwd\n",
    "box.mp4": lambda: struct.pack(">I4sQ", 1, b"moov", 2**62) + b"\0" * 64,
}


# Those that cost the worker, or seconds, are for the full length; one bomb of memory is for every run.
if KILLS < 20:
    BOMBS.pop("magic.exr")
    BOMBS.pop("channels.exr")


def test_bombs_end_their_job_at_most(real):
    """Each is refused in words, or takes the worker with it; the service answers, and the next job is made."""
    ids = {}
    for name, make in BOMBS.items():
        (real.home / name).write_bytes(make())
        ids[name] = real.client.submit(recipe(str(real.home / name), real.home / f"{name}-out"))["id"]
    good = real.client.submit(recipe(str(real.home / "warm" / "plate.####.exr"), real.home / "after-bombs"))["id"]
    pid = real.process.pid
    for name, number in ids.items():
        job = real.client.wait(number, 300)
        assert job["state"] == "failed" and job["reason"], (name, job)
        print(f"{name}: {job['kind']}: {job['reason'][:100]}")
        assert not (real.home / f"{name}-out" / "manifest.json").exists()
    assert real.client.wait(good, 300)["state"] == "done"
    assert real.client.health()["pid"] == pid


@pytest.fixture
def small_disk(real):
    """A disk of 8 MiB, where this user may mount one."""
    real.disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(real.disk)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        real.disk.rmdir()
        pytest.skip("needs the right to mount a small disk")
    yield real.disk
    subprocess.run(["umount", str(real.disk)], check=True)
    real.disk.rmdir()


def test_a_full_disk_is_one_message_and_retry_goes_on(real, small_disk):
    path = str(real.home / "warm" / "plate.####.exr")
    out = small_disk / "out"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (8 * 1024 * 1024 - 90 * 1024))
    job = real.client.submit(recipe(path, out, seed=5))["id"]
    job = real.client.wait(job, 120)
    assert job["state"] == "failed" and job["kind"] in ("system", "input"), job
    assert "\n" not in job["reason"]
    print(job["kind"], job["reason"])
    all_readable(small_disk)
    filler.unlink()
    real.client.retry(job["id"])
    job = real.client.wait(job["id"], 120)
    assert job["state"] == "done", job
    assert len(pixels(out)) == 2 * FRAMES


def test_a_read_only_output_is_one_message(real, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    job = real.client.submit(recipe(str(real.home / "warm" / "plate.####.exr"), small_disk / "out", seed=6))
    job = real.client.wait(job["id"], 120)
    assert job["state"] == "failed" and job["kind"] in ("system", "input"), job
    assert "\n" not in job["reason"] and ("read-only" in job["reason"].lower() or "not writable" in job["reason"])
