"""Imports between the rooms of core point one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

CORE = Path(__file__).parents[1] / "core"


def room(module):
    """core.layer.matte is in the room core.layer; core.edit is one of its own."""
    return ".".join(module.split(".")[:2])


def imported(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from [f"core.{n.name}" for n in node.names] if node.module == "core" else [node.module]
        elif isinstance(node, ast.Import):
            yield from (n.name for n in node.names)


def test_no_room_is_reached_back_into():
    rooms = {}
    for file in CORE.rglob("*.py"):
        here = room(".".join(file.relative_to(CORE.parent).with_suffix("").parts))
        rooms.setdefault(here, set()).update(room(m) for m in imported(file) if m.startswith("core.") and room(m) != here)
    assert "core.lifting" in rooms["core.edit"] and "core.edit" not in rooms["core.lifting"]
    list(TopologicalSorter(rooms).static_order())  # raises CycleError, which names the circle
