"""Train the lift's gate: clips are made, spoiled and lifted once, and kept as samples; then the network is fitted.

RUN/samples/000123.safetensors   features and truth of some pixels of clip 123
RUN/state.safetensors            the network and its optimiser
RUN/gate.safetensors             the network as the lift reads it: as it was at the step that does best on the clips
                                 that are held out
"""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from vera.core.data.engine.clips import SPAN, draw_labels, make_clip
from vera.core.errors import InputError
from vera.core.lifting.gate import (
    COLOR_FEATURES,
    MIRRORED_FEATURES,
    SIGNED_FEATURES,
    Answer,
    Estimate,
    Gate,
    GateInputs,
    frame_inputs,
    near_change,
)
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
OBJECTS = 0.4  # share of the engine's clips that add an object; half of the rest each are effects and backgrounds
LEAST_WEIGHT = 0.1  # weight of a touched pixel whose change is invisible
SAVE_EVERY = 250  # steps
MOST_MEASURED = 200_000  # pixels of which the features' means are taken
# Noise on each feature in training, in its deviations; raising it makes the network rely less on any one.
FEATURE_NOISE = 0.5
OF_TOUCHED = (1.0, 0.5, 0.2)  # shares of `pixels`: touched, untouched under the estimate, and untouched beside it
LEAST_ERROR = 2e-6  # mean square of a clip's error below which it no longer counts for more
MOST_ERROR = 60.0  # bound on a pixel's share of its clip's error; raising it weighs outliers more
SHARE_SCALE = 600.0  # factor that brings the shares to about one
ALPHA_WEIGHT = 3.0  # of alpha's mean error beside the other losses; raising it trades colour for matte


@dataclass(frozen=True)
class GateSettings:
    """Of the gate's training.

    seed: of the first clip; clips: how many, the last `held_out` of which are only judged. engine: share of clips of
    the data engine; the rest are of kinds.py. sizes: (height, width) in pixels, of which a clip draws one; frames: of
    each. pixels: touched ones of a frame at most; OF_TOUCHED has the others' share. steps, batch, rate: the fit's.
    """

    train: str = setting("lift", choices=("lift",))
    seed: int = setting(9_500_000, 0, 2**31)
    clips: int = setting(400, 2, 1_000_000)
    held_out: int = setting(40, 1, 1_000_000)
    engine: float = setting(0.5, 0, 1)
    sizes: tuple[tuple[int, int], ...] = setting(((144, 256), (192, 320)), 64, 1080)
    frames: int = setting(5, 2, 48)
    pixels: int = setting(700, 5, 1_000_000)
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
    """Pixels near the change that the classical estimate found, fp16, N each.

    The fields of `GateInputs`, and the truth: alpha and composite; weight: what a wrong decision costs; share: factor
    on a pixel's squared error that gives its share of the clip's error, which is 1 for the estimate's own.
    """
    with torch.inference_mode():
        return sampled(classical_estimate(clip.plate, same_size(clip.edited, clip.plate.shape[2:])), clip, most, seed)


def sampled(estimate: Estimate, clip: TrainingClip, most: int, seed: int) -> dict[str, torch.Tensor]:
    """`samples_of` for a clip whose estimate is known."""
    gen = torch.Generator().manual_seed(seed)
    effect = (clip.composite - clip.plate).abs().amax(1, keepdim=True)
    touched, near = clip.alpha > MIN_EDIT_ALPHA, near_change(estimate) > 0
    weight = torch.where(touched, (effect / PLAIN_EFFECT).clamp(LEAST_WEIGHT, 2.0), torch.ones_like(effect))
    error = (torch.lerp(clip.plate, estimate.color, estimate.alpha) - clip.composite).square().mean() + LEAST_ERROR
    found: dict[str, list[torch.Tensor]] = {}
    for t in range(len(clip.plate)):
        places, stands_for = [], []
        under = estimate.alpha[t] > 0
        asked = (near[t] & touched[t], under & ~touched[t], near[t] & ~touched[t] & ~under)
        for pixels, share in zip(asked, OF_TOUCHED):
            at = pixels.flatten().nonzero()[:, 0]
            chosen = at[torch.randperm(len(at), generator=gen)[: round(share * most)]]
            places.append(chosen)
            stands_for.append(torch.full((len(chosen),), len(at) / max(1, len(chosen))))
        at = torch.cat(places)
        given = frame_inputs(estimate, t).at(at)
        rows = {f.name: getattr(given, f.name) for f in fields(GateInputs)}
        rows["alpha"], rows["weight"] = (v[t].flatten()[at] for v in (clip.alpha, weight))
        rows["composite"] = clip.composite[t].flatten(1)[:, at].T
        rows["share"] = (torch.cat(stands_for) * SHARE_SCALE / error / clip.alpha.numel()).clamp(max=6e4)
        for name, value in rows.items():
            found.setdefault(name, []).append(value)
    return {name: torch.cat(values).half().contiguous() for name, values in found.items()}


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
    _normalise(gate, learnt["features"][:: max(1, len(learnt["features"]) // MOST_MEASURED)].float())
    optimizer = torch.optim.AdamW(gate.parameters(), lr=settings.rate, weight_decay=1e-2)
    step, _ = load_state(folder, {"gate": gate}, optimizer, console)
    gen, count = torch.Generator(), len(learnt["alpha"])
    console.say(f"fitting to {count:,} pixels from step {step:,}; state and log.jsonl are in {folder}")
    while step < settings.steps and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, settings.steps, settings.rate)
        chosen = torch.randint(count, (settings.batch,), generator=gen.manual_seed(step))
        batch = mirrored({name: value[chosen].float() for name, value in learnt.items()}, gen)
        noise = torch.randn(batch["features"].shape, generator=gen)
        batch["features"] = batch["features"] + FEATURE_NOISE * gate.deviation * noise
        loss = sum(_losses(gate, batch)[1].values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gate.parameters(), 1.0)
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


def _normalise(gate: Gate, features: torch.Tensor) -> None:
    """Set the gate's means and deviations from features (N, FEATURES), alike for those that `mirrored` exchanges."""
    mean, squares = features.mean(0), features.square().mean(0)
    mean[list(SIGNED_FEATURES)] = 0
    groups = [[first, first + 1, first + 2] for first in COLOR_FEATURES]
    groups += [[a + i, b + i] for a, b, count in MIRRORED_FEATURES for i in range(count)]
    for group in groups:
        mean[group], squares[group] = mean[group].mean(), squares[group].mean()
    gate.mean.copy_(mean)
    gate.deviation.copy_((squares - mean.square()).clamp_min(0).sqrt().clamp_min(1e-3))


def mirrored(samples: dict[str, torch.Tensor], gen: torch.Generator) -> dict[str, torch.Tensor]:
    """The samples with channels exchanged, as a negative, and with time reversed, each by chance.

    The answer to a pixel stays the same, so that the network cannot recognise clips by their colours.
    """
    samples, order = dict(samples), torch.arange(samples["features"].shape[1])
    channels = torch.randperm(3, generator=gen)
    negative, backward = (torch.rand(2, generator=gen) < 0.5).tolist()
    for first in COLOR_FEATURES:
        order[first : first + 3] = first + channels
    if backward:
        for before, after, count in MIRRORED_FEATURES:
            both = torch.cat([order[before : before + count], order[after : after + count]])
            order[before : before + count], order[after : after + count] = both[count:], both[:count]
    samples["features"] = samples["features"][:, order]
    if negative:
        samples["features"][:, list(SIGNED_FEATURES)] *= -1
    for name in ("composites", "plate", "composite"):
        value = samples[name][..., channels]
        samples[name] = 1 - value if negative else value
    return samples


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
    return tuple({n: torch.cat([s[n] for s in part]) for n in each[0]} for part in (each[:apart], each[apart:]))  # type: ignore[return-value]


def _losses(gate: Gate, samples: dict[str, torch.Tensor]) -> tuple[Answer, dict[str, torch.Tensor]]:
    """The answer, and its losses: of the decision, of alpha, and of the colour over the plate."""
    answer = gate(GateInputs(**{f.name: samples[f.name] for f in fields(GateInputs)}))
    over = torch.lerp(samples["plate"], answer.color, answer.alpha[:, None])
    squares = (over - samples["composite"]).square().mean(1)
    touched = (samples["alpha"] > MIN_EDIT_ALPHA).float()
    return answer, {
        "decision": F.binary_cross_entropy_with_logits(answer.logit, touched, samples["weight"]),
        "alpha": ALPHA_WEIGHT * (answer.alpha - samples["alpha"]).abs().mean(),
        "color": (squares * samples["share"]).clamp(max=MOST_ERROR).mean(),
    }


@torch.no_grad()
def _judged(gate: Gate, samples: dict[str, torch.Tensor]) -> dict[str, float]:
    """The losses on held-out clips, the share of untouched pixels that pass, and of touched ones (weighted) that do
    not."""
    samples = {name: value.float() for name, value in samples.items()}
    answer, losses = _losses(gate, samples)
    kept, truth, weight = answer.logit > 0, samples["alpha"] > MIN_EDIT_ALPHA, samples["weight"]
    lost = (weight * (truth & ~kept)).sum() / (weight * truth).sum().clamp_min(1e-6)
    passed = (kept & ~truth).sum() / (~truth).sum().clamp_min(1)
    found = {name: float(value) for name, value in losses.items()}
    return {"held_out": sum(found.values()), **found, "passed": float(passed), "lost": float(lost)}
