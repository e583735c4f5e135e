"""Train mini's object field: from text states to kind, colour and material; from points to distance and surface.

Training needs no pictures. Prompts come from the data engine; points come from its solids, with labels in closed form.
Points are drawn close to outlines, and so to thin parts, to keep edges crisp at large sizes.
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
from vera.core.model.mini.object_field import KINDS, MAX_EXTENT, TRAITS, ObjectField, point_features
from vera.core.training.configuration import read_settings
from vera.core.training.console import Console
from vera.core.training.mini.settings import ObjectsSettings
from vera.core.training.state import load_state as load_training
from vera.core.training.state import log_line, save_state, trapezoid

OBJECT_SHARE = 0.8  # share of the prompts that name an object; the others name effects, backgrounds or nothing
TIME_SPAN = 600.0  # frames; points get a random time up to this. Raising it separates the rates of motions better
CANDIDATES_PER_POINT = 4  # candidate points for each kept point; raising it samples thin parts better, and takes longer
# Half heights; scale of the distance to an outline in the sampling and in the loss. Lowering it gives sharper edges and
# larger errors far from them.
DISTANCE_SCALE = 0.015
MAX_DISTANCE = 0.3  # half heights; larger distances count as this one
SURFACE_MARGIN = 0.03  # half heights outside the outline where the surface still counts; anti-aliasing reads it there
EDGE_WIDTHS = (0.012, 0.05)  # half heights; widths of the drawn outlines that the loss compares
AMOUNTS = {"light": "little", "heavy": "much"}  # the data engine's label -> the name of a trait
READ_AT_ONCE = 64  # prompts in one call of the text encoder; raising it needs more memory
PROMPTS_PER_STEP = 128  # prompts in a training step; raising it gives steadier gradients of the heads, and slower steps
KEPT_BATCHES = 40  # batches of points that are kept for reuse; raising it gives more variety, and takes more memory
FRESH_STEPS = 3  # steps from one new batch to the next; lowering it spends more time on labelling
Batch = tuple[Tensor, Tensor, Tensor]  # features, distances and surfaces, of every kind (K, N, ...)
MATERIALS = dict(zip(("glossy", "metallic", "glowing", "matte"), TRAITS))  # a label's material -> the name of a trait
# Weights of the surface's channels (CHANNELS in core/data/engine/solids.py); gloss, openness and emission count less.
CHANNEL_WEIGHTS = (1, 1, 1, 1, 1, 1, 0.4, 0.5, 0.7)


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Train until config['steps'], or until stop() returns True. The folder holds the field's latest state."""
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
    """Load the text encoder of an edition, without gradients. Raises InputError."""
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
        some = torch.randint(len(self.kinds), (PROMPTS_PER_STEP,), generator=torch.Generator().manual_seed(step))
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
    """Return a random prompt and its labels: index in KINDS, index in `words.COLORS`, and 0 or 1 for each of TRAITS."""
    rng = random.Random(seed)
    labels = draw_labels(rng, OBJECT_SHARE)
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
    """Batches of labelled points. Each is used in several steps, because labelling takes as long as a training step."""

    def __init__(self, seed: int, points: int) -> None:
        self.seed, self.points = seed, points
        self.batches: list[Batch] = []

    def at(self, step: int) -> Batch:
        """The batch of a step: a new one every FRESH_STEPS steps, otherwise a random kept one."""
        fresh = step % FRESH_STEPS == 0 or not self.batches
        if not fresh:
            return self.batches[random.Random(step).randrange(len(self.batches))]
        generator = torch.Generator().manual_seed(self.seed + step)
        drawn = [labelled_points(kind, self.points, generator) for kind in SOLIDS]
        features, distance, surface = (torch.stack(x) for x in zip(*drawn))
        self.batches = [*self.batches[-KEPT_BATCHES + 1 :], (features, distance, surface)]
        return self.batches[-1]


def shape_losses(field: ObjectField, batch: Batch) -> dict[str, Tensor]:
    """Losses of distances, drawn edges and surfaces at a batch's points."""
    features, distance, surface = batch
    out = field(features, torch.arange(len(features)))
    found, error = out[..., 0], (out[..., 1:] - surface).abs()
    near = distance.clamp(-MAX_DISTANCE, MAX_DISTANCE)
    far = ((found.clamp(-MAX_DISTANCE, MAX_DISTANCE) - near).abs() / (DISTANCE_SCALE + near.abs())).mean()
    # `far` weights errors little at points far from the outline. The drawn edges still penalise a wrong side there.
    edges = sum(((0.5 - found / w).clamp(0, 1) - (0.5 - distance / w).clamp(0, 1)).abs().mean() for w in EDGE_WIDTHS)
    inside = (distance < SURFACE_MARGIN).float()[..., None]
    weight = error.new_tensor(CHANNEL_WEIGHTS)
    return {"distance": 0.1 * far, "edge": edges, "surface": (error * weight * inside).sum(-1).mean()}


def labelled_points(kind: str, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Features (count, POINT_FEATURES), distances (count,) and surfaces (count, 9) of random points of a kind. Half of
    the points lie close to the outline, half inside it."""
    u, v = (torch.rand(2, CANDIDATES_PER_POINT * count, generator=generator) * 2 - 1) * MAX_EXTENT
    times = torch.rand(CANDIDATES_PER_POINT * count, generator=generator) * TIME_SPAN
    rough = shapes.SHAPES[kind](u, v, (0.5, 0.5, 0.5), times)[0]
    close = torch.multinomial(1 / (DISTANCE_SCALE + rough.abs()), count // 2, generator=generator)
    inner = torch.multinomial((rough < SURFACE_MARGIN).float() + 1e-6, count - count // 2, generator=generator)
    kept = torch.cat([close, inner])
    u, v, times = u[kept], v[kept], times[kept]
    distance, surface = solid(kind, u, v, times)
    return point_features(u, v, times), distance, surface
