"""The wall clock may jump: it dates what people see, and nothing is measured or ordered by it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where it is asked, how often, and for what.
DATES = {
    "core/service/jobs.py": 6,  # submitted, started, ended
    "blender_addon/tickets.py": 1,  # a ticket's date
    "core/farm/page_writer.py": 2,  # when a farm began, and when its page was written
    "core/training/watch.py": 1,  # when a page was written
    "core/data/datasets/layered_cache.py": 1,  # against a file's date, which is of the same clock
}
WALL_CLOCKS = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}


def asked(path):
    text = path.read_text(encoding="utf-8")
    if not re.search(r"\b(time|now|utcnow|today|time_ns)\(", text):
        return 0
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    names = [(call.value, call.attr) for call in calls if isinstance(call, ast.Attribute)]
    return sum((getattr(of, "id", getattr(of, "attr", "")), name) in WALL_CLOCKS for of, name in names)


@pytest.mark.parametrize("folder", ["core", "kernels", "nuke_plugin", "blender_addon"])
def test_durations_and_orders_are_not_of_the_wall_clock(folder):
    found = {path.relative_to(ROOT).as_posix(): asked(path) for path in (ROOT / folder).rglob("*.py")}
    assert {name: count for name, count in found.items() if count} == {
        name: count for name, count in DATES.items() if name.startswith(folder)
    }
