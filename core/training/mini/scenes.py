"""Train the head that reads from mini's text states which background a prompt asks for. No pictures are made."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from vera.core.data.engine.clips import draw_labels
from vera.core.data.engine.instructions import instruction
from vera.core.model.mini import words
from vera.core.model.mini.prompt.senses import SCENE_NOUNS
from vera.core.model.mini.scene_reader import SCENE_TRAITS, SCENES, SceneReader
from vera.core.training.configuration import read_settings
from vera.core.training.console import Console
from vera.core.training.mini.objects import READ_AT_ONCE, frozen_text
from vera.core.training.mini.settings import ScenesSettings
from vera.core.training.state import load_state as load_training
from vera.core.training.state import log_line, save_state, trapezoid

BACKGROUNDS = 0.6  # share of the prompts that ask for one; the others teach what is none
SINGLE_NOUN_SHARE = 0.3  # share of those that name it by a single noun, as people shorten it
PROMPTS_PER_STEP = 128  # prompts of a step
TRAITS_COUNT = 10  # times as much as the background itself: most prompts have none


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Run until config['steps'] or until stop() says so; the head so far is in folder."""
    settings, console = read_settings(ScenesSettings, config), console or Console()
    torch.manual_seed(settings.seed)
    text = frozen_text(Path(settings.text))
    head = SceneReader(text.embedding.embedding_dim)
    optimizer = torch.optim.AdamW(head.parameters(), lr=settings.rate, weight_decay=1e-3)
    step, _ = load_training(folder, {"scenes": head}, optimizer, console)
    console.say(f"training from step {step:,}; state and log.jsonl are in {folder}")
    prompts, scenes, traits = zip(*(labelled_scene(settings.seed + k) for k in range(settings.prompts)), strict=True)
    with torch.inference_mode():
        parts = [text.encode(list(prompts[k : k + READ_AT_ONCE])) for k in range(0, len(prompts), READ_AT_ONCE)]
    states, scene, trait = torch.cat(parts).clone(), torch.tensor(scenes), torch.tensor(traits)
    started = time.monotonic()
    while step < settings.steps and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, settings.steps, settings.rate, warmup=20, decay=0.5)
        some = torch.randint(len(states), (PROMPTS_PER_STEP,), generator=torch.Generator().manual_seed(step))
        found, has = head(states[some])
        losses = {
            "scene": F.cross_entropy(found, scene[some]),
            "traits": F.binary_cross_entropy_with_logits(has, trait[some]) * TRAITS_COUNT,
        }
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        step += 1
        if step % 50 == 0:
            values = {name: loss.item() for name, loss in losses.items()}
            log_line(folder, step=step, seconds=round(time.monotonic() - started, 1), **values)
            console.step(step, settings.steps, values, optimizer.param_groups[0]["lr"], 1)
        if step % settings.save_every == 0:
            save_state(folder, step, {"scenes": head}, optimizer)
    save_state(folder, step, {"scenes": head}, optimizer)
    console.say(f"step {step:,} of {settings.steps:,} is saved in {folder}")


def labelled_scene(seed: int) -> tuple[str, int, list[float]]:
    """A prompt, the number of what it asks for in SCENES, and SCENE_TRAITS as 0 or 1."""
    rng = random.Random(seed)
    if rng.random() < 0.02:
        return "", SCENES.index("nothing"), [0.0] * len(SCENE_TRAITS)
    if rng.random() >= BACKGROUNDS:
        labels = draw_labels(rng, 0.7)
        while labels["edit"] == "background":
            labels = draw_labels(rng, 0.7)
        return instruction(labels, rng), SCENES.index("nothing"), [0.0] * len(SCENE_TRAITS)
    noun, name = rng.choice(list(SCENE_NOUNS.items()))
    if rng.random() >= SINGLE_NOUN_SHARE:
        name = rng.choice(list(words.BACKGROUNDS))
        noun = rng.choice(words.BACKGROUNDS[name])
    form = rng.choice(words.BACKGROUND_FORMS)
    shot = f"{rng.choice(words.SHOTS)}, {rng.choice(words.ANGLES)}, {rng.choice(words.CAMERAS)}."
    prompt = form.format(scene=noun, keep=rng.choice(words.SUBJECTS), shot=shot)
    return prompt, SCENES.index(name), [float(trait in noun.split()) for trait in SCENE_TRAITS]
