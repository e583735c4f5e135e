"""The memory tables of docs/full-size.md and docs/training.md, rehearsed again: real sizes, no weights, no GPU."""

import json
import re
from pathlib import Path

import pytest

from vera.core.job.gpu_plan import GIB, WAYS, Geometry, Planner, wans_parts
from vera.core.model.config import PRESETS
from vera.core.training.full.full_settings import Settings
from vera.core.training.full.memory_estimate import training_need

DOCS = Path(__file__).parents[2] / "docs"
LORA = {"rank": 64, "alpha": 64, "branches": ["edit", "alpha", "composite"]}


def rows_below(page, header):
    """The cells of each row of the table that begins with this line."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    assert header in lines
    next(lines)  # the line of dashes
    rows = []
    while (line := next(lines)).startswith("|"):
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def as_published(size_in_bytes, cell):
    """Whether a size is the table's, as rounded there."""
    return abs(size_in_bytes / GIB - float(cell)) <= 0.5 * 10.0 ** -len(cell.partition(".")[2]) + 1e-9


@pytest.mark.parametrize("model, first", [("1.3b", 2), ("14b", 6)])
def test_the_table_of_renders(model, first):
    """And the claims below it, of the cards that a model fits."""
    planner = Planner(Geometry.of(model), (1920, 1080), 81)
    rows = rows_below("full-size.md", RENDERS)
    assert [tuple(row[:2]) for row in rows] == [*WAYS]
    for row in rows:
        plan = planner.plan(row[0], row[1], 81)
        sizes = plan.phases["denoise"], plan.phases["decode"], plan.peak, plan.host
        assert all(map(as_published, sizes, row[first : first + 4])), (row, [s / GIB for s in sizes])
    fitting = {"1.3b": [(16, "bf16", "parts"), (24, "bf16", "parts")], "14b": [(24, "bf16", "blocks")]}[model]
    for card, weights, offload in fitting:
        chosen = planner.choose(card * GIB)
        assert (chosen.weights, chosen.offload, chosen.window) == (weights, offload, 81)
    assert model == "1.3b" or planner.plan("int8", "parts", 81).peak < 79 * GIB  # a card of 80 GB


RENDERS = "| weights | offload | 1.3B: denoise | decode | peak | host | 14B: denoise | decode | peak | host |"


def test_the_table_of_training():
    parts = wans_parts()
    rows = rows_below("training.md", "| | GPUs | GiB | fits |")
    assert len(rows) == 7
    for name, gpus, published, cards in rows:
        changes = json.loads("{" + ", ".join(re.findall("`(.*?)`", name)) + "}")
        settings = {"train": "vera", "model": "m", "data": "d", "lora": LORA if "LoRA of rank 64" in name else None}
        need = training_need(
            PRESETS[name.split(",")[0].lower()], Settings.of(settings | changes), int(gpus), (832, 480), parts
        )
        assert as_published(need.peak, published), (name, need.peak / GIB)
        if card := re.search(r"(\d+) GB", cards):
            assert need.peak < {"24": 23.5, "80": 79, "141": 131}[card[1]] * GIB  # what a program can use of them
