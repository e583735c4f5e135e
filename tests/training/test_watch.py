"""A run's page: what it says, and how it looks in a browser."""

import json

import pytest
from PIL import Image

from tools.browser import AXE
from vera.core.training.watch import MAX_POINTS, read_run, write_page


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "a run"
    run.mkdir()
    Image.new("RGB", (40, 20), "red").save(run / "samples-000100.png")
    return run


def log(run, rows):
    (run / "log.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")


def row(step, seconds=None, **losses):
    return {
        "step": step,
        "steps": 1000,
        "losses": losses or {"edit": 1 / step, "alpha": 2.0},
        "seconds": seconds or step,
    }


def test_a_run_without_a_line_is_said_to_have_none(run):
    shown = read_run(run)
    assert shown["step"] is None and shown["points"] == [] and shown["samples"][0]["file"] == "samples-000100.png"


@pytest.mark.parametrize(
    "steps, left",
    [
        ([(1, 3), (11, 33)], 989 * 3),  # 3 s a step
        ([(100, 5000), (101, 1), (111, 21)], 889 * 2),  # started anew at step 101: 2 s a step
        ([(90, 5000), (91, 7), (100, 70), (101, 1), (111, 21)], 889 * 2),  # the last start counts
        ([(100, 5000), (101, 1)], None),  # a single step since
    ],
)
def test_time_left_is_of_this_start(run, steps, left):
    log(run, [row(step, seconds) for step, seconds in steps])
    assert read_run(run)["seconds_left"] == (left and pytest.approx(left))


def test_long_logs_are_means_of_stretches(run):
    log(run, [row(n) for n in range(1, 3 * MAX_POINTS)])
    shown = read_run(run)
    assert len(shown["points"]) == MAX_POINTS and shown["points"][-1]["step"] == 3 * MAX_POINTS - 1
    assert shown["points"][0]["values"] == [pytest.approx((1 + 1 / 2 + 1 / 3) / 3), 2.0]


def test_lines_that_are_half_written_or_of_other_kinds_do_no_harm(run):
    log(run, [row(1), {"encoded": 3}, {"step": 2, "losses": [0.5, 0.25, 1, 0, 0]}, {"step": 3, "psnr": 30.5}])
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 4, "loss')
    shown = read_run(run)
    assert shown["step"] == 3 and shown["names"] == ["edit", "alpha", "composite", "drawing", "aim", "psnr"]


def test_the_page_in_a_browser(chromium, run):
    log(run, [row(n) for n in range(1, 300)])
    chromium.look(1100, 900)
    chromium.open(write_page(run).as_uri())
    chromium.wait_for("return document.querySelectorAll('#curve path').length === 2")
    assert chromium.run("return document.querySelector('#now').textContent").startswith(
        "step 299 of 1,000, about 12 min left"
    )
    chromium.wait_for("const i = document.querySelector('#samples img'); return i.complete && i.naturalWidth === 40")
    log(run, [row(n) for n in range(1, 400)])
    write_page(run)
    chromium.run("read()")
    chromium.wait_for("return document.querySelector('#now').textContent.startsWith('step 399')")
    if AXE.is_file():
        for scheme in ("dark", "light"):
            chromium.look(1100, 900, scheme)
            assert chromium.axe() == []
    assert chromium.errors() == []
