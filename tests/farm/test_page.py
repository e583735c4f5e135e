"""The farm's page, and messages about dead workers: without Ray, from recorded events and outcomes."""

import json
import os
import socket
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.layer.stand_in import StandInPlate
from tools.browser import AXE
from vera.core.farm.page_writer import FarmPage
from vera.core.farm.report import Report, ordinal
from vera.core.farm.shot_lists import read_shots
from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT
from vera.core.layer import preview

engine = pytest.importorskip("vera.core.farm.engine", reason="needs ray")
HOST = socket.gethostname()


def write_preview(folder):
    plate = StandInPlate(size=(72, 128), frames=(1, 2), fps=Fraction(24))
    picture = np.zeros((144, 256, 3), np.uint8)
    picture[:72, :128] = (200, 40, 40)
    folder.mkdir(parents=True)
    preview.write_movie(folder / "preview.mp4", [picture] * 2, plate)


@pytest.fixture
def report(tmp_path):
    jobs = [
        {"plate": "p.####.exr", "prompt": f"Add {what}", "out": f"out/{what}"}
        for what in ("rain", "snow", "fog", "hail")
    ]
    (tmp_path / "shots.json").write_text(json.dumps([*jobs, {"prompt": "<img src=x onerror=alert(1)>"}]))
    shots = read_shots([str(tmp_path / "shots.json")])
    write_preview(tmp_path / "out/rain")
    return Report(shots, "jsonl", FarmPage(tmp_path / "shots.farm", shots))


def event(number, kind, **values):
    return {"event": kind, "shot": number, "host": HOST, "pid": os.getpid(), **values}


def outcome(report, number, code, said, made=False):
    report.ended(engine.Outcome(report.shots[number], code, said, made))


def data(report):
    text = (report.page.folder / "data.js").read_text()
    return json.loads(text.removeprefix("show(").rstrip().removesuffix(");"))


def rows(report):
    return {shot["number"]: shot for shot in data(report)["shots"]}


def begin(report):
    report.progress.out = sys.stdout  # that of the test, not of its fixture
    report.begin()


def worked(report):
    """Every state that there is."""
    begin(report)
    outcome(report, 5, WRONG_INPUT, f"error: {report.shots[5].error}")
    report.receive(
        [event(1, "begun"), event(1, "warning", text="a word is not known"), event(2, "begun"), event(3, "begun")]
    )
    report.receive([event(2, "progress", stage="denoise", done=3, total=5)])
    outcome(report, 1, DONE, "2 frames", made=True)
    outcome(report, 3, FAULT, "fault: begun 4 times, and its worker ended each time; the last: no room")
    report.page.write()


def test_the_page_shows_states_while_the_shots_are_rendered(report):
    worked(report)
    shown, told = rows(report), data(report)
    assert [shown[n]["state"] for n in (1, 2, 3, 4, 5)] == ["done", "running", "failed", "waiting", "wrong"]
    assert not told["ended"] and (shown[2]["stage"], shown[2]["done"], shown[2]["total"]) == ("denoise", 3, 5)
    assert shown[1]["warnings"] == ["a word is not known"] and shown[1]["seconds"] is not None
    assert "Correct it in the list" in shown[5]["todo"] and "resumes it" in shown[3]["todo"]
    with Image.open(report.page.folder / shown[1]["poster"]) as poster:
        assert poster.size == (128, 72) and poster.getpixel((64, 36))[0] > 150
    assert Path(shown[1]["preview"].removeprefix("file://")).is_file()


def test_at_the_end_it_says_how_it_went(report, capsys):
    worked(report)
    outcome(report, 2, DONE, "nothing to do")
    outcome(report, 4, STOPPED, "not begun")
    report.close()
    told = data(report)
    assert told["ended"] and told["words"] == "5 shots: 1 done, 1 already complete, 1 wrong, 1 failed, 1 stopped"
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["page"] == str(report.page.file) and last["text"].endswith("index.html")


@pytest.mark.parametrize("kind", ["bar", "none", "jsonl"])
def test_each_wrong_line_is_said_once(report, kind, capsys):
    quiet = Report(list(report.shots.values()), kind)
    quiet.begin()
    outcome(quiet, 5, WRONG_INPUT, f"error: {quiet.shots[5].error}")
    quiet.close()
    said = capsys.readouterr()
    text = said.out if kind == "jsonl" else said.err
    assert text.count("plate is missing") == 1 and "error: " not in text


def test_a_local_workers_death_is_reported_at_once(report, capsys):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    begin(report)
    report.receive([event(2, "begun", pid=gone.pid) | {"pid": gone.pid}])
    report.receive([])
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    died = [each for each in said if each.get("state") == "died"]
    assert len(died) == 1 and died[0]["shot"] == 2
    assert f"process {gone.pid}, died, killed from outside or for lack of memory" in died[0]["text"]
    report.receive([event(2, "begun")])
    report.receive([])
    assert "started again, the 2nd time" in capsys.readouterr().out and report.page.rows[2].state == "running"


def test_deaths_that_ray_tells_of_are_put_in_words():
    from ray.exceptions import NodeDiedError, WorkerCrashedError

    assert "killed from outside" in engine._reason_of(WorkerCrashedError())
    assert engine._reason_of(NodeDiedError("a long story")) == "its machine disappeared"


def test_ordinals():
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th",
    ]  # fmt: skip


def test_a_page_that_cannot_be_written_stops_no_farm(report, tmp_path, capsys):
    (tmp_path / "taken").write_text("a file")
    report.page = FarmPage(tmp_path / "taken", list(report.shots.values()))
    worked(report)
    report.close()
    warnings = [line for line in capsys.readouterr().out.splitlines() if "page cannot be written" in line]
    assert len(warnings) == 1


def test_the_page_in_a_browser(chromium, report):
    worked(report)
    chromium.look(1100, 900)
    chromium.open(report.page.file.as_uri())
    chromium.wait_for("return document.querySelectorAll('.shot').length === 5")
    assert chromium.run("return [...document.querySelectorAll('.badge')].map(b => b.textContent)") == [
        "Done", "Running", "Failed", "Waiting", "Wrong input",
    ]  # fmt: skip
    chromium.wait_for("const i = document.querySelector('.poster img'); return i && i.naturalWidth > 0")
    outcome(report, 2, DONE, "2 frames", made=True)
    report.page.write()
    chromium.wait_for("return document.querySelectorAll('.badge')[1].textContent === 'Done'")
    assert chromium.run("return document.querySelectorAll('#shots img').length") == 1, "text became markup"
    if AXE.is_file():
        for scheme in ("dark", "light"):
            chromium.look(1100, 900, scheme)
            assert chromium.axe() == []
    assert chromium.errors() == []
