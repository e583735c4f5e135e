"""The benchmark of all rows: turns, the least of the runs, ratios beside limit and other commit."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks import all as everything
from benchmarks import delivery
from vera.core.plate.color_space import find_space


def test_checkouts_take_turns_and_the_least_counts():
    asked = []
    course = {"here": iter([4.0, 2.0]), "there": iter([6.0, 8.0])}

    def seconds(checkout):
        asked.append(checkout.name)
        return next(course[checkout.name])

    row = everything.Row("a row", seconds, iter([1.0, 0.5]).__next__, "its limit")
    result = everything.measure(row, [Path("here"), Path("there")], 2)
    assert asked == ["here", "there"] * 2 and result["seconds"] == [2.0, 6.0] and result["limit_seconds"] == 0.5
    assert everything.table([result]).splitlines()[-1] == "| a row | 2.000 | 4.00 | its limit | 0.33 |"
    assert everything.table([{**result, "seconds": [2.0]}]).endswith("| not measured |")


def test_the_checkout_that_is_measured_is_the_one_that_is_imported(tmp_path):
    (tmp_path / "vera").mkdir()
    (tmp_path / "vera/__init__.py").write_text("")
    everything.spent(everything.FIRST, checkout=tmp_path)
    with pytest.raises(RuntimeError, match="exit code 3"):
        everything.spent("raise SystemExit(3)")


def test_a_frame_s_delivery_is_measured_with_its_preview(tmp_path):
    result = delivery.measure(tmp_path / "frame", "object", (64, 96), 1, find_space("linear"), False)
    assert {"read, refine", "over", "write", "preview", "peer"} == set(result["seconds"])
    assert result["ratio"] > 0 and 0 < result["coverage"] < 1


def test_the_worktree_of_a_killed_run_is_removed_and_that_of_a_running_one_stays(tmp_path, monkeypatch):
    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=repository, check=True)

    repository = tmp_path / "repository"
    repository.mkdir()
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed, running = (tmp_path / f"{everything.FOLDER}{process}-x/against" for process in (ended.pid, os.getpid()))
    for path in (killed, running):
        git("worktree", "add", "-q", "--detach", str(path))
    monkeypatch.setattr(everything, "ROOT", repository)
    with everything.work_folder() as folder:
        assert folder.is_dir() and folder.name.startswith(everything.FOLDER)
        assert running.is_dir() and not killed.parent.exists()
    assert not folder.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True).stdout
    assert str(running) in listed and str(killed) not in listed
