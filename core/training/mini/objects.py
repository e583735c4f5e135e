"""Train mini's field of objects: words to kind, colour and material, points to distance and surface.

No pictures are made: prompts are those of the data engine, points those of its solids, labelled in closed form. Points
lie close to outlines, and to thin parts therefore, so that edges are crisp where they are drawn large.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.data.engine import shapes
from vera.core.data.engine.clips import FACING, draw_labels
from vera.core.data.engine.instructions import instruction
from vera.core.data.engine.solids import SOLIDS, solid
from vera.core.model.mini import words
from vera.core.model.mini.edition import load_state
from vera.core.model.mini.edition_files import TEXT, vocabulary_of
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.object_field import HALF, KINDS, TRAITS, ObjectField, point_features
from vera.core.training.configuration import read_settings
from vera.core.training.console import Console
from vera.core.training.mini.settings import ObjectsSettings
from vera.core.training.state import load_state as load_training
from vera.core.training.state import log_line, save_state, trapezoid

OBJECTS = 0.8  # share of the prompts that name one
TIMES = 600.0  # frames, over which points are drawn in time; more parts the rates of different motions better
POOL = 4  # points drawn for each one that is kept; more finds thinner parts
NEAR = 0.015  # half heights from an outline, within which points are sought most; lower: sharper, and wilder far away
FARTHEST = 0.3  # half heights: distances beyond count as this far
SEEN = 0.03  # half heights outside the outline, up to which a surface counts: what anti-aliasing looks at
DRAWN = (0.012, 0.05)  # half heights: widths at which an outline is drawn to be compared
AMOUNTS = {"light": "little", "heavy": "much"}
READ_AT_ONCE, LESSON = 64, 128  # prompts that the text encoder reads at once, and prompts of a step
BANK, FRESH = 40, 3  # batches that are kept, and the steps from one new one to the next; fewer: more time for labels
Batch = tuple[Tensor, Tensor, Tensor]  # features, distances and surfaces, of every kind (K, N, ...)
MATERIALS = dict(zip(("glossy", "metallic", "glowing", "matte"), TRAITS))  # of a prompt, and their traits


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Run until config['steps'] or until stop() says so; the field so far is in folder."""
    settings, console = read_settings(ObjectsSettings, config), console or Console()
    torch.manual_seed(settings.seed)
    text = frozen_text(Path(settings.text))
    field = ObjectField(text.embedding.embedding_dim)
    optimizer = torch.optim.AdamW(field.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=1e-4)
    step, _ = load_training(folder, {"field": field}, optimizer, console)
    console.say(f"training from step {step:,}; state and log.jsonl are in {folder}")
    bank, lessons = Bank(settings.seed, settings.points), Lessons(text, settings.seed, settings.prompts)
    started, seen = time.monotonic(), []
    while step < settings.steps and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, settings.steps, settings.rate, warmup=40, decay=0.6)
        losses = shape_losses(field, bank.at(step)) | lessons.losses(field, step)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(field.parameters(), 1.0)
        optimizer.step()
        step += 1
        seen.append({name: loss.item() for name, loss in losses.items()})
        if step % 50 == 0:
            means = {name: sum(s[name] for s in seen) / len(seen) for name in losses}
            log_line(folder, step=step, seconds=round(time.monotonic() - started, 1), **means)
            console.step(step, settings.steps, means, optimizer.param_groups[0]["lr"], 1)
            seen = []
        if step % settings.save_every == 0:
            save_state(folder, step, {"field": field}, optimizer)
    save_state(folder, step, {"field": field}, optimizer)
    console.say(f"step {step:,} of {settings.steps:,} is saved in {folder}")


def frozen_text(edition: Path) -> MiniText:
    """The text encoder of an edition, not to be trained. Raises InputError."""
    text = MiniText(list(vocabulary_of(edition / TEXT)))
    load_state(text, edition / TEXT)
    return text.float().eval().requires_grad_(False)


class Lessons:
    """Prompts with their labels. The frozen text encoder reads each prompt once."""

    def __init__(self, text: MiniText, seed: int, count: int) -> None:
        prompts, kinds, colors, traits = zip(*(labelled_prompt(seed + k) for k in range(count)))
        with torch.inference_mode():
            states = [text.encode(list(some)).half() for some in _parts(prompts, READ_AT_ONCE)]
        self.states = torch.cat(states).clone()
        self.kinds, self.colors, self.traits = torch.tensor(kinds), torch.tensor(colors), torch.tensor(traits)

    def losses(self, field: ObjectField, step: int) -> dict[str, Tensor]:
        """Losses of the field's heads for kind, colour and traits on some of the prompts."""
        some = torch.randint(len(self.kinds), (LESSON,), generator=torch.Generator().manual_seed(step))
        kinds = self.kinds[some]
        kind, color, traits = field.heads(self.states[some].float())
        objects = kinds < len(words.OBJECTS)
        wrong = F.cross_entropy(color, self.colors[some], reduction="none")
        return {
            "kind": F.cross_entropy(kind, kinds),
            "color": (wrong * objects).sum() / objects.sum().clamp_min(1),
            "traits": F.binary_cross_entropy_with_logits(traits, self.traits[some]) * 4,
        }


def labelled_prompt(seed: int) -> tuple[str, int, int, list[float]]:
    """A prompt, the number of its kind in KINDS and of its colour, and TRAITS as 0 or 1."""
    rng = random.Random(seed)
    labels = draw_labels(rng, OBJECTS)
    if rng.random() < 0.02:
        return "", KINDS.index("nothing"), 0, [0.0] * len(TRAITS)
    prompt = instruction(labels, rng)
    if labels["edit"] != "object":
        kind = labels["effect"] if labels["edit"] == "effect" else "nothing"
        has = {AMOUNTS.get(labels.get("amount") or ""): True}
        return prompt, KINDS.index(kind), 0, [float(has.get(t, False)) for t in TRAITS]
    name = labels["object"]
    has = {MATERIALS.get(labels["material"] or ""): True, "reflected": labels["reflection"]}
    has |= {"stands": name in words.STANDING, "faces left": name in FACING and labels["motion"] == "drifting left"}
    return (
        prompt,
        KINDS.index(name),
        list(words.COLORS).index(labels["color"]),
        [float(has.get(t, False)) for t in TRAITS],
    )


def _parts(values, size):
    return (values[k : k + size] for k in range(0, len(values), size))


class Bank:
    """Batches of points, each used for several steps: to label them takes as long as to learn them."""

    def __init__(self, seed: int, points: int) -> None:
        self.seed, self.points = seed, points
        self.batches: list[Batch] = []

    def at(self, step: int) -> Batch:
        """The batch of a step: a new one every so often, else one of those there."""
        fresh = step % FRESH == 0 or not self.batches
        if not fresh:
            return self.batches[random.Random(step).randrange(len(self.batches))]
        generator = torch.Generator().manual_seed(self.seed + step)
        drawn = [labelled_points(kind, self.points, generator) for kind in SOLIDS]
        features, distance, surface = (torch.stack(x) for x in zip(*drawn))
        self.batches = [*self.batches[-BANK + 1 :], (features, distance, surface)]
        return self.batches[-1]


def shape_losses(field: ObjectField, batch: Batch) -> dict[str, Tensor]:
    """How far distances and surfaces are wrong at a batch's points."""
    features, distance, surface = batch
    out = field(features, torch.arange(len(features)))
    found, error = out[..., 0], (out[..., 1:] - surface).abs()
    near = distance.clamp(-FARTHEST, FARTHEST)
    far = ((found.clamp(-FARTHEST, FARTHEST) - near).abs() / (NEAR + near.abs())).mean()
    edges = sum(((0.5 - found / w).clamp(0, 1) - (0.5 - distance / w).clamp(0, 1)).abs().mean() for w in DRAWN)
    # What is far outside must not be drawn inside, however little its distance counts.
    inside = (distance < SEEN).float()[..., None]
    weight = error.new_tensor([1, 1, 1, 1, 1, 1, 0.4, 0.5, 0.7])
    return {"distance": 0.1 * far, "edge": edges, "surface": (error * weight * inside).sum(-1).mean()}


def labelled_points(kind: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Features (count, POINT_FEATURES), distances (count,) and surfaces (count, 9) of points of a kind: half of them
    close to its outline, half inside it."""
    u, v = (torch.rand(2, POOL * count, generator=generator) * 2 - 1) * HALF
    times = torch.rand(POOL * count, generator=generator) * TIMES
    rough = shapes.SHAPES[kind](u, v, (0.5, 0.5, 0.5), times)[0]
    close = torch.multinomial(1 / (NEAR + rough.abs()), count // 2, generator=generator)
    inner = torch.multinomial((rough < SEEN).float() + 1e-6, count - count // 2, generator=generator)
    kept = torch.cat([close, inner])
    u, v, times = u[kept], v[kept], times[kept]
    distance, surface = solid(kind, u, v, times)
    return point_features(u, v, times), distance, surface
