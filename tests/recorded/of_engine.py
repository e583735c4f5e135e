"""What the data engine draws: every shape, solid, effect and background; and how every listed prompt is read."""

import random
from pathlib import Path
from typing import Any

import torch

from tests.model.mini.prompts import CASES
from tests.recorded.recording import attempt, record
from vera.core.data.engine import backgrounds, effects, instructions, shapes, solids
from vera.core.model.mini.prompt.reader import PromptReader

SIDE = 32  # pixels of a drawn object
HALF = torch.linspace(-1.2, 1.2, SIDE)  # in half heights of the object
V, U = torch.meshgrid(HALF, HALF, indexing="ij")


@record
def objects(folder: Path) -> Any:
    """Distance and surface of each kind at two times."""
    times = torch.tensor([0.0, 0.4])[:, None, None]
    u, v = U.expand(2, -1, -1), V.expand(2, -1, -1)
    flat = {f"flat {name}": attempt(shape, u, v, (0.8, 0.3, 0.2), times) for name, shape in shapes.SHAPES.items()}
    return flat | {f"solid {name}": solids.solid(name, u, v, times) for name in solids.SOLIDS}


@record
def effects_and_backgrounds(folder: Path) -> Any:
    times, found = torch.tensor([0.0, 0.3]), {}
    for name in effects.EFFECTS:
        for amount in ("light", "heavy"):
            gen = torch.Generator().manual_seed(3)
            found[f"{name} {amount}"] = effects.effect(name, amount, random.Random(3), gen, times, (24, 40))
    for name in backgrounds.SCENES:
        gen = torch.Generator().manual_seed(4)
        found[name] = backgrounds.background(name, random.Random(4), gen, times, 24, 40)
    return found


@record
def prompts(folder: Path) -> Any:
    """The reading of every listed prompt, and what `check` says of it, with and without --anyway."""
    reader = PromptReader(instructions.vocabulary())
    found = {}
    for case in CASES:
        reading = reader.read(case.prompt)
        found[case.prompt] = [reading, attempt(reading.check, False), attempt(reading.check, True)]
    return found
