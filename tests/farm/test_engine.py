"""Rendering with Ray: killed workers and shared windows, compared with a run in one process.

The default is a short form. VERA_FAULTS=20 or more (`make fault-test`) runs 20 shots, 5 kills and shared windows.
"""

import io
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

pytest.importorskip("ray")

from ray import exceptions  # noqa: E402

from tests.layer.recorded import recorded_edits  # noqa: E402
from tests.plate.media import grey_levels, write_movie, write_sequence  # noqa: E402
from tests.tiny import Quiet, tiny_model  # noqa: E402
from vera.core.cli import farm as door  # noqa: E402
from vera.core.cli import render  # noqa: E402
from vera.core.farm import engine  # noqa: E402
from vera.core.farm.report import Report  # noqa: E402
from vera.core.farm.shot_lists import Shot  # noqa: E402
from vera.core.job.prepare import prepare  # noqa: E402
from vera.core.job.run import STOPPED, WRONG_INPUT, run_job  # noqa: E402
from vera.core.recipe import EditRecipe  # noqa: E402

ROOT = Path(__file__).parents[2]
FULL = int(os.environ.get("VERA_FAULTS", 0)) >= 20
SHOTS, KILLS, SEEDS = (20, 5, 4) if FULL else (4, 1, 2)
FRAMES = range(1001, 1006)
ONLY_IN_FULL = pytest.mark.skipif(not FULL, reason="takes a while: VERA_FAULTS=20")


@pytest.fixture(autouse=True)
def one_thread():
    """Use one thread, as the workers do; another number of threads rounds differently."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Farm:
    """`vera farm` with two workers on this machine; iterates over its events."""

    told = False

    def __init__(self, shots, *more):
        # Ray makes its workers give way to all else, and in a test there is nothing else.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
        cpus = ["--cpus", str(os.cpu_count() / 2), "--gpus", "0", "--address", "local"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "vera", "farm", str(shots), *cpus, "--retries", "20", "--progress", "jsonl", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __iter__(self):
        for line in self.process.stdout:
            yield json.loads(line)
        self.errors = self.process.communicate()[1]


def job(plate, out, **changes):
    return {"plate": str(plate), "prompt": "Add fog", "out": str(out), "steps": 3, "guidance": 1} | changes


def single(tmp_path, **values):
    """The frames in the manifest of a run by core.render, in this process."""
    (tmp_path / "job.json").write_text(json.dumps(values))
    assert render.main([str(tmp_path / "job.json"), "--progress", "none", "--device", "cpu"]) == 0
    return frames_of(values["out"])


def frames_of(out):
    return json.loads(Path(out, "manifest.json").read_text())["frames"]


def stamps(folder, pattern="*"):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob(pattern) if path.is_file()}


def test_shots_equal_a_single_run_although_workers_are_killed(tmp_path):
    plate = write_sequence(tmp_path, FRAMES, size=(48, 64, 3))
    jobs = [job(plate, f"out/{n}", seed=n % SEEDS) for n in range(SHOTS)]
    jobs.insert(2, job("none.####.exr", "out/wrong"))
    (tmp_path / "shots.json").write_text(json.dumps(jobs))
    rng, events, kept = random.Random(SHOTS), [], {}
    moments = sorted(rng.sample(range(5, 8 * SHOTS - 20), KILLS))
    farm = Farm(tmp_path / "shots.json")
    for event in farm:
        events.append(event)
        heard = sum(e.get("state") == "progress" for e in events)
        if moments and heard >= moments[0] and event.get("state") == "progress":
            moments.pop(0)
            for out in Path(tmp_path, "out").iterdir():
                kept |= recorded_edits(out)
            os.kill(event["pid"], 9)
    assert farm.process.returncode == 2 and not moments, farm.errors  # the code of the wrong shot
    said = Counter(e["state"] for e in events if e["event"] == "shot")
    assert said["done"] + said["whole"] == SHOTS and said["wrong"] == 1 and said["failed"] == 0
    # A killed shot is restarted in a process that loads the model again; otherwise each worker loads one model.
    # A single kill may come after a shot is complete, and then nothing is restarted.
    begun = sum(e.get("state") == "begun" and e["shot"] != 3 for e in events)
    assert SHOTS + (KILLS > 1) <= begun <= SHOTS + KILLS and said["model"] <= 2 + KILLS
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    truth = [single(tmp_path, **job(plate, tmp_path / f"single/{seed}", seed=seed)) for seed in range(SEEDS)]
    assert truth[0] != truth[1]
    for n in range(SHOTS):
        assert frames_of(tmp_path / f"out/{n}") == truth[n % SEEDS]
    assert not list(tmp_path.rglob("*.part*")) and not list(tmp_path.rglob(".job"))
    assert "none.####.exr" in next(e["text"] for e in events if e.get("state") == "wrong")
    if FULL:  # a second run renders nothing
        made = stamps(tmp_path / "out")
        again = Counter(e["state"] for e in Farm(tmp_path / "shots.json") if e["event"] == "shot")
        assert again["whole"] == SHOTS and again["done"] == 0 and stamps(tmp_path / "out") == made


@ONLY_IN_FULL
def test_a_shot_that_always_fails_is_reported_after_its_retries(tmp_path):
    plate = write_sequence(tmp_path, FRAMES, size=(48, 64, 3))
    (tmp_path / "out/broken").mkdir(parents=True)
    (tmp_path / "out/broken/edit").write_text("not a folder")
    (tmp_path / "shots.json").write_text(json.dumps([job(plate, "out/broken"), job(plate, "out/good")]))
    farm = Farm(tmp_path / "shots.json", "--retries", "1")
    events = list(farm)
    assert farm.process.returncode == 1, farm.errors
    failed = next(e for e in events if e.get("state") == "failed")
    assert failed["shot"] == 1 and "started 2 times" in failed["text"] and "NotADirectoryError" in failed["text"]
    assert events[-1]["failed"] == events[-1]["done"] == 1


@ONLY_IN_FULL
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_or_killed_farm_leaves_no_process_and_resumes(tmp_path, number):
    plate = write_sequence(tmp_path, FRAMES, size=(48, 64, 3))
    (tmp_path / "shots.json").write_text(json.dumps([job(plate, f"out/{n}") for n in range(3)]))
    farm, workers = Farm(tmp_path / "shots.json"), set()
    for event in farm:
        workers |= {event["pid"]} if "pid" in event else set()
        if event.get("stage") == "denoise" and not farm.told:
            farm.told = True
            farm.process.send_signal(number)
    assert farm.process.returncode == (3 if number == signal.SIGINT else -number), farm.errors
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < end:
        time.sleep(0.2)
    assert workers and not any(Path(f"/proc/{pid}").exists() for pid in workers)
    again = Farm(tmp_path / "shots.json")
    list(again)
    assert again.process.returncode == 0, again.errors
    truth = single(tmp_path, **job(plate, tmp_path / "single"))
    assert all(frames_of(tmp_path / f"out/{n}") == truth for n in range(3))


@ONLY_IN_FULL
def test_windows_shared_by_two_workers_give_the_same_bits(tmp_path):
    plate = write_movie(tmp_path / "in.mp4", grey_levels(120))
    hero = job(plate, "shared", guidance=3.0, steps=3)
    (tmp_path / "hero.json").write_text(json.dumps(hero))
    farm = Farm(tmp_path / "hero.json", "--share-windows")
    workers = {e["pid"] for e in farm if e.get("state") == "model"}
    assert farm.process.returncode == 0, farm.errors
    assert frames_of(tmp_path / "shared") == single(tmp_path, **hero | {"out": str(tmp_path / "single")})
    assert len(workers) == 1  # workers that only compute windows report nothing


class RayInProcess:
    """A stand-in for Ray that calls functions at once in this process, and pickles arguments and results."""

    def __init__(self):
        self.calls = []

    def put(self, value):
        return pickle.loads(pickle.dumps(value))

    get = put

    def remote(self, **_):
        return lambda function: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.calling(function)))

    def calling(self, function):
        def call(*given):
            self.calls.append(function.__name__)
            return self.put(function(*self.put(given)))

        return call


@pytest.mark.parametrize("guidance, one_batch, masked", [(1, False, False), (2.0, False, True), (2.0, True, False)])
def test_windows_computed_elsewhere_give_the_same_bits(tmp_path, monkeypatch, guidance, one_batch, masked):
    """The plate has 21 frames and windows have 9; every third window runs here, the others with another model."""
    ray = RayInProcess()
    monkeypatch.setattr(engine, "ray", ray)
    monkeypatch.setattr(engine, "PROCESS_MODEL", lambda name, device: tiny_model())
    plate = write_movie(tmp_path / "in.mp4", grey_levels(21))
    mask = str(plate) if masked else None
    made = {}
    for name in ("single", "shared"):
        recipe = EditRecipe(
            str(plate),
            "Add a red ball",
            str(tmp_path / name),
            mask,
            guidance=guidance,
            one_batch=one_batch,
            cuts="none",
        )
        job = prepare(recipe, "cpu", lambda *_: tiny_model())
        if name == "shared":
            job = replace(job, window_runner=engine.SharedWindows("tiny", engine.WorkerResources(1, 0), 3))
        run_job(job, Quiet(), lambda: False)
        made[name] = frames_of(tmp_path / name)
    assert made["single"] == made["shared"] and ray.calls == ["window_velocity"] * 4


@pytest.mark.parametrize(
    "error, fault, begun, code, words",
    [
        (exceptions.WorkerCrashedError(), None, 4, 1, "started 4 times,.* the last reason: it was killed from outside"),
        (exceptions.WorkerCrashedError(), "OSError: no room", 4, 1, "the last reason: OSError: no room"),  # it told
        (exceptions.OutOfMemoryError("nearly full"), None, 1, 1, "started 1 time, .*; give workers more --cpus"),
        (exceptions.RayError("an odd\nfault"), None, 2, 1, "the last reason: an odd fault"),
        (exceptions.TaskCancelledError(), "OSError: no room", 1, 3, "the same command resumes it"),
    ],
)
def test_a_shot_whose_worker_died_has_the_reason_that_the_worker_gave(monkeypatch, error, fault, begun, code, words):
    def get(ref, timeout):
        raise error

    monkeypatch.setattr(engine, "ray", SimpleNamespace(get=get))
    report = SimpleNamespace(faults={1: fault} if fault else {}, begun={1: begun})
    outcome = engine._outcome(None, Shot(1, "shots.json"), report)
    assert outcome.code == code and re.search(words, outcome.message)


@pytest.mark.parametrize("port", ["1", "99999"])
def test_an_address_without_a_cluster_is_one_line(tmp_path, port, capsys):
    (tmp_path / "shots.json").write_text(json.dumps([job("plate.mov", "out")]))
    assert door.main([str(tmp_path / "shots.json"), "--address", f"127.0.0.1:{port}"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "no Ray cluster" in said.err


def test_the_dashboard_is_left_off(monkeypatch):
    """A web page could reach it through DNS rebinding."""
    asked = {}
    monkeypatch.setattr(engine.ray, "init", lambda **named: asked.update(named))
    engine.connect("local")
    assert asked["include_dashboard"] is False
    pages = [ROOT / "docs/farm.md", ROOT / "core/cli/farm.py"]
    heads = [line for page in pages for line in page.read_text().splitlines() if "ray start --head" in line]
    assert len(heads) == 2 and all("--include-dashboard=false" in line for line in heads)


def test_workers_are_counted_per_machine(monkeypatch):
    machines = [({"CPU": 8, "GPU": 2}, True), ({"CPU": 3}, True), ({"CPU": 64, "GPU": 8}, False)]
    nodes = [{"Resources": resources, "Alive": alive} for resources, alive in machines]
    monkeypatch.setattr(engine.ray, "nodes", lambda: nodes)
    assert (
        engine.worker_count(engine.WorkerResources(1, 0)) == 11
        and engine.worker_count(engine.WorkerResources(2, 0)) == 5
    )
    assert (
        engine.worker_count(engine.WorkerResources(1, 1)) == 2
        and engine.worker_count(engine.WorkerResources(1, 0.5)) == 4
    )
    with pytest.raises(engine.InputError, match="--cpus 9 --gpus 0: no machine has that; the most are 8 CPU, 2 GPU"):
        engine.worker_count(engine.WorkerResources(9, 0))


@pytest.mark.parametrize("options, gpus", [([], 1), (["--gpus", "0"], 0), (["--gpus", "0.5"], 0.5)])
def test_a_worker_takes_a_gpu_where_there_are_some_unless_told_otherwise(tmp_path, monkeypatch, options, gpus):
    asked = []
    monkeypatch.setattr(engine, "connect", lambda address: None)
    monkeypatch.setattr(engine, "cluster_has_gpus", lambda: True)
    monkeypatch.setattr(engine, "Crew", lambda resources: asked.append(resources.gpus))
    monkeypatch.setattr(engine, "run", lambda *given: None)
    list_of_one = tmp_path / "shots.json"
    list_of_one.write_text(json.dumps([{"plate": "p.png", "prompt": "Add fog", "out": "out"}]))
    door.farm(door.parser().parse_args([str(list_of_one), "--page", "none", "--progress", "none", *options]))
    assert asked == [gpus]


def test_shots_that_a_stopped_farm_did_not_begin_are_stopped_not_done(monkeypatch):
    monkeypatch.setattr(engine, "ray", MagicMock())
    monkeypatch.setattr(engine, "NodeAffinitySchedulingStrategy", MagicMock())
    monkeypatch.setattr(engine, "worker_count", lambda resources: 1)
    shots = [Shot(1, "a"), Shot(2, "b", error="no plate"), Shot(3, "c")]
    report = Report(shots, "none")
    outcomes = engine.run(shots, MagicMock(), report, stopping=lambda: True)
    assert [(o.shot.number, o.code) for o in outcomes] == [(1, STOPPED), (2, WRONG_INPUT), (3, STOPPED)]
    assert not any(o.rendered for o in outcomes)


def test_lists_given_later_are_rendered_by_the_same_workers(tmp_path, monkeypatch):
    """A list that cannot be read stops nothing but itself, and the exit code tells of it."""
    monkeypatch.setattr(engine, "connect", lambda address: None)
    monkeypatch.setattr(engine, "Crew", lambda resources: object())
    monkeypatch.setattr(door, "stop_request", lambda: lambda: False)
    rendered = []
    monkeypatch.setattr(engine, "run", lambda shots, crew, report, stopping: rendered.append((len(shots), crew)))
    lists = [tmp_path / f"{count}.json" for count in (1, 2, 3)]
    for count, path in enumerate(lists, 1):
        path.write_text(json.dumps([job("plate.####.png", f"out{n}") for n in range(count)]))
    later = f"{lists[1]}\n\n{tmp_path}/none.json\n".encode() + b"\xff.json\r\n" + os.fsencode(lists[2])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(later), "utf-8", "strict"))
    assert door.main([str(lists[0]), "--keep", "--gpus", "0", "--page", "none", "--progress", "none"]) == 2
    assert [count for count, _ in rendered] == [1, 2, 3] and len({crew for _, crew in rendered}) == 1


@pytest.mark.parametrize("stopped, code", [(False, 0), (True, 3)])
def test_lists_given_later_are_reported_where_the_first_is(tmp_path, monkeypatch, capsys, stopped, code):
    """Standard input may be closed; a farm that is stopped while it waits says so by its exit code."""
    monkeypatch.setattr(engine, "connect", lambda address: None)
    monkeypatch.setattr(engine, "Crew", lambda resources: object())
    monkeypatch.setattr(door, "stop_request", lambda: lambda: stopped)
    monkeypatch.setattr(engine, "run", lambda shots, crew, report, stopping: report.begin())
    shots = tmp_path / "a.json"
    shots.write_text(json.dumps([job("plate.####.png", "out")]))
    given = None if stopped else io.TextIOWrapper(io.BytesIO(os.fsencode(shots)))
    monkeypatch.setattr(sys, "stdin", given)
    options = ["--keep", "--gpus", "0", "--page", "none", "--progress", "jsonl"]
    assert door.main([str(shots), *options]) == code
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events.count("done") == (1 if stopped else 2)


def test_a_closed_input_gives_no_lines():
    assert list(door.lines_given(None, lambda: False)) == []


def test_events_are_reported_before_the_end_of_their_shot(monkeypatch):
    """What a worker wrote just before it ended is taken from the queue first."""
    monkeypatch.setattr(engine, "ray", MagicMock())
    shot = Shot(1, "a")
    monkeypatch.setattr(engine.ray, "wait", lambda refs, timeout=None, **_: (refs, []))
    event = {"event": "warning", "shot": 1, "host": "h", "pid": 1, "text": "late"}
    answers = iter([[], [event], [], []])
    monkeypatch.setattr(engine.ray, "get", lambda ref, **_: engine.Outcome(shot, 0, "") if ref == 7 else next(answers))
    crew = MagicMock()
    crew.begin.return_value = 7
    order = []
    report = MagicMock(begin=lambda: None)
    report.receive = lambda events: order.extend(e["text"] for e in events)
    report.ended = lambda outcome: order.append("ended")
    engine.run([shot], crew, report, lambda: False)
    assert order == ["late", "ended"]
