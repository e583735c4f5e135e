"""Train the lift's gate: clips are made, spoiled and lifted once, and kept as samples; then the network is fitted.

RUN/samples/000123.safetensors   features and truth of some pixels of clip 123
RUN/state.safetensors            the network and its optimiser
RUN/gate.safetensors             the network as the lift reads it: as it was at the step that does best on the clips
                                 that are held out
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vera.core.data.engine.clips import SPAN, draw_labels, make_clip
from vera.core.errors import InputError
from vera.core.lifting.gate import FEATURES, Gate, frame_features
from vera.core.lifting.lift_window import classical_estimate
from vera.core.lifting.matching import same_size
from vera.core.model.tensors import save_tensors
from vera.core.training.configuration import read_settings, setting
from vera.core.training.console import Console
from vera.core.training.lift.kinds import draw_edit, real_plate
from vera.core.training.lift.spoils import spoil
from vera.core.training.state import load_state, log_line, save_state, trapezoid

NETWORK = "gate.safetensors"
MIN_EDIT_ALPHA = 1 / 255  # alpha above which a pixel is the edit's: half a code value at the most contrast there is
PLAIN_EFFECT = 0.03  # change in the code range at which a lost pixel counts as much as one wrongly kept
OBJECTS = 0.5  # share of the engine's clips that add an object; half of the rest each are effects and backgrounds
LEAST_WEIGHT = 0.1  # weight of a touched pixel whose change is invisible
SAVE_EVERY = 500  # steps
FEATURE_NOISE = (
    0.1  # noise on each feature in training, in its deviations; raising it makes the network rely less on any one
)


@dataclass(frozen=True)
class GateSettings:
    """Of the gate's training.

    seed: of the first clip; clips: how many, the last `held_out` of which are only judged. engine: share of clips of
    the data engine; the rest are of kinds.py. sizes: (height, width) in pixels, of which a clip draws one; frames: of
    each. pixels: at most, of those that the estimate covers, touched and untouched each. steps, batch, rate: the
    fit's.
    """

    train: str = setting("lift", choices=("lift",))
    seed: int = setting(9_500_000, 0, 2**31)
    clips: int = setting(400, 2, 1_000_000)
    held_out: int = setting(40, 1, 1_000_000)
    engine: float = setting(0.5, 0, 1)
    sizes: tuple[tuple[int, int], ...] = setting(((144, 256), (192, 320)), 64, 1080)
    frames: int = setting(5, 2, 48)
    pixels: int = setting(2000, 1, 1_000_000)
    steps: int = setting(10_000, 1, 10_000_000)
    batch: int = setting(2048, 1, 1_000_000)
    rate: float = setting(3e-3, 1e-6, 1)


@dataclass(frozen=True)
class TrainingClip:
    """A plate, its edited version as it came, and the truth; all (T, C, H, W), display-encoded."""

    kind: str
    plate: torch.Tensor
    edited: torch.Tensor
    alpha: torch.Tensor
    composite: torch.Tensor


def training_clip(settings: GateSettings, number: int) -> TrainingClip:
    """Clip `number` of a run: the same everywhere."""
    seed = settings.seed + number
    rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
    height, width = rng.choice(settings.sizes)
    first = rng.randint(0, SPAN - settings.frames + 1)
    times = torch.arange(first, first + settings.frames)
    if rng.random() < settings.engine:
        # Effects and new backgrounds are where a codec's smear is taken for the edit.
        clip = make_clip(seed, height, width, times, draw_labels(rng, OBJECTS))
        kind, plate, edit, alpha = clip.labels["edit"], clip.source, clip.edit, clip.alpha
        if rng.random() < 0.1:
            kind, alpha = "nothing", torch.zeros_like(alpha)
    else:
        plate = real_plate(rng, gen, times, height, width)
        kind, (edit, alpha) = draw_edit(rng, gen, plate)
    composite = torch.lerp(plate, edit, alpha)
    return TrainingClip(kind, plate, spoil(composite, seed), alpha, composite)


def samples_of(clip: TrainingClip, most: int, seed: int) -> dict[str, torch.Tensor]:
    """features (N, FEATURES) fp16, truth and weight (N,): pixels that the classical estimate covers."""
    with torch.inference_mode():
        estimate = classical_estimate(clip.plate, same_size(clip.edited, clip.plate.shape[2:]))
    gen = torch.Generator().manual_seed(seed)
    effect = (clip.composite - clip.plate).abs().amax(1, keepdim=True)
    touched = clip.alpha > MIN_EDIT_ALPHA
    weight = torch.where(touched, (effect / PLAIN_EFFECT).clamp(LEAST_WEIGHT, 2.0), torch.ones_like(effect))
    found = []
    for asked in (touched, clip.alpha == 0):
        places = ((estimate.alpha > 0) & asked)[:, 0].nonzero()
        found.append(places[torch.randperm(len(places), generator=gen)[:most]])
    places = torch.cat(found)
    features = torch.zeros(len(places), FEATURES)
    for t in range(len(clip.plate)):
        here = places[:, 0] == t
        if here.any():
            features[here] = frame_features(estimate, t)[:, places[here, 1], places[here, 2]].T
    at = places[:, 0], torch.zeros(len(places), dtype=torch.long), places[:, 1], places[:, 2]
    return {"features": features.half(), "truth": touched[at].float(), "weight": weight[at].float()}


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Train until the network is fitted, or until stop() returns True; the same call resumes. Raises InputError."""
    settings, console = read_settings(GateSettings, config), console or Console()
    if settings.held_out >= settings.clips:
        raise InputError(f"'held_out': {settings.held_out} of {settings.clips} clips leaves none to learn from")
    if not _make_samples(settings, folder / "samples", stop, console):
        return
    learnt, held_out = _read_samples(settings, folder / "samples")
    torch.manual_seed(0)
    gate = Gate()
    gate.mean.copy_(learnt["features"].mean(0))
    gate.deviation.copy_(learnt["features"].std(0).clamp_min(1e-3))
    optimizer = torch.optim.AdamW(gate.parameters(), lr=settings.rate, weight_decay=1e-2)
    step, _ = load_state(folder, {"gate": gate}, optimizer, console)
    gen, count = torch.Generator(), len(learnt["truth"])
    console.say(f"fitting to {count:,} pixels from step {step:,}; state and log.jsonl are in {folder}")
    while step < settings.steps and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, settings.steps, settings.rate)
        chosen = torch.randint(count, (settings.batch,), generator=gen.manual_seed(step))
        batch = {name: value[chosen] for name, value in learnt.items()}
        noise = torch.randn(batch["features"].shape, generator=gen)
        batch["features"] = batch["features"] + FEATURE_NOISE * gate.deviation * noise
        loss = _loss(gate, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % SAVE_EVERY == 0 or step == settings.steps:
            figures = _judged(gate, held_out)
            log_line(folder, step=step, loss=loss.item(), **figures)
            console.step(step, settings.steps, {"loss": loss.item(), **figures}, optimizer.param_groups[0]["lr"], 0)
            save_state(folder, step, {"gate": gate}, optimizer)
            if figures["held_out"] < _best(folder / NETWORK):
                tensors = {name: value.contiguous() for name, value in gate.state_dict().items()}
                save_tensors(folder / NETWORK, tensors, {"step": str(step), "held_out": str(figures["held_out"])})
    save_state(folder, step, {"gate": gate}, optimizer)
    if step >= settings.steps:
        console.say(f"{folder / NETWORK}: the best network, as core/weights/lift holds it")


def _best(path: Path) -> float:
    """The loss on held-out clips of the network that is kept; without one, infinity."""
    if not _whole(path):
        return math.inf
    with safe_open(path, "pt") as file:
        return float(file.metadata()["held_out"])


def _make_samples(settings: GateSettings, folder: Path, stop: Callable[[], bool], console: Console) -> bool:
    """Make the samples that are missing; whether all are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(settings.clips):
        path = folder / f"{number:06d}.safetensors"
        if _whole(path):
            continue
        if stop():
            return False
        clip = training_clip(settings, number)
        save_tensors(path, samples_of(clip, settings.pixels, number), {"kind": clip.kind})
        console.progress("lifting", number + 1, settings.clips, "clips")
    return True


def _whole(path: Path) -> bool:
    try:
        return bool(load_file(path))
    except (OSError, SafetensorError):
        return False


def _read_samples(settings: GateSettings, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Those of the clips to learn from, and those of the clips that are held out."""
    each = [load_file(folder / f"{number:06d}.safetensors") for number in range(settings.clips)]
    apart = settings.clips - settings.held_out
    return tuple({n: torch.cat([s[n].float() for s in part]) for n in each[0]} for part in (each[:apart], each[apart:]))  # type: ignore[return-value]


def _loss(gate: Gate, samples: dict[str, torch.Tensor]) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(gate(samples["features"]), samples["truth"], samples["weight"])


@torch.no_grad()
def _judged(gate: Gate, samples: dict[str, torch.Tensor]) -> dict[str, float]:
    """The loss on held-out clips, the share of untouched pixels that pass, and of touched ones (weighted) that do
    not."""
    kept, truth = gate(samples["features"]) > 0, samples["truth"] > 0
    lost = (samples["weight"] * (truth & ~kept)).sum() / (samples["weight"] * truth).sum().clamp_min(1e-6)
    passed = (kept & ~truth).sum() / (~truth).sum().clamp_min(1)
    return {"held_out": float(_loss(gate, samples)), "passed": float(passed), "lost": float(lost)}
