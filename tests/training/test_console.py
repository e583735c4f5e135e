"""What the terminal shows during training, by a clock that stands still until it is moved."""

import io
from types import SimpleNamespace

import pytest
import torch

from vera.core.training import console as console_file
from vera.core.training.console import GIB, Console, duration


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(console_file.time, "monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def console():
    return Console(out=io.StringIO(), interval=10.0)


def lines(console):
    return console.out.getvalue().splitlines()


def test_progress_has_the_time_left_from_the_speed_of_this_start(clock, console):
    console.progress("encoding", 100, 9000, "rows")  # a hundred were cached
    clock.now += 10
    console.progress("encoding", 110, 9000, "rows")
    assert lines(console) == ["encoding: 100 of 9,000 rows", "encoding: 110 of 9,000 rows, 2 h 28 min left"]


def test_a_kind_of_line_comes_at_most_every_ten_seconds_and_at_the_end(clock, console):
    for done in range(1, 26):
        console.progress("encoding", done, 25, "rows")
        console.step(done, 100, {"edit": 1.0}, 1e-4, 2)
        clock.now += 1
    found = [line.split()[1] for line in lines(console) if line.startswith("encoding")]
    assert found == ["1", "11", "21", "25"]
    assert [line.split()[1] for line in lines(console) if line.startswith("step")] == ["1", "11", "21"]


def test_a_step_has_losses_rate_speed_and_time_left(clock, console, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: int(20.25 * GIB))
    console.step(1000, 8000, {"edit": 0.5, "alpha": 0.25}, 2e-5, 16)
    clock.now += 40
    console.step(1020, 8000, {"edit": 0.4, "alpha": 0.125}, 2e-5, 16)
    assert lines(console)[1] == (
        "step 1,020 of 8,000: edit 0.4000, alpha 0.1250; rate 2e-05; 8.00 clips/s; 3 h 53 min left;"
        " 20.2 GiB of the GPU's memory at most"
    )


def test_other_ranks_print_nothing(clock):
    console = Console(silent=True, out=io.StringIO())
    console.say("text")
    console.progress("encoding", 1, 1, "rows")
    console.step(1, 1, {}, 0.1, 1)
    assert lines(console) == []


@pytest.mark.parametrize(
    "seconds, text",
    [
        (89, "89 s"),
        (90, "2 min"),
        (3599, "1 h 00 min"),
        (3660, "1 h 01 min"),
        (172_800, "2 days 0 h"),
        (190_800, "2 days 5 h"),
    ],
)
def test_durations_are_in_words(seconds, text):
    assert duration(seconds) == text
