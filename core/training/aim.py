"""Teach the text encoder and the aim which path an instruction tells: words and paths alone, no pictures learned.

A clip's path is known from a small rendering of it, at all its times at once, so that a minute shows more
instructions than an hour of training on pictures. `core.train` does this before its first step, and keeps a lesson
beside every later one: pictures of one time alone would teach that nothing moves.
"""

import math
import time

import torch

from core.data.clips import SPAN, make_clip
from core.model.parts import halves
from core.training.state import trapezoid

SMALL = (24, 40)  # height, width
TIMES = list(range(0, SPAN + 1, 4))


def where(clip, every: int = 1):
    """An object's middle (x, y in halves of the frame) and the log of its radius (in halves of the height), over each
    `every` frames: (t, 3), as `Aim.path` tells them. NaN for what has no place: effects, backgrounds."""
    count, _, height, width = clip.alpha.shape
    if clip.labels["edit"] != "object":
        return torch.full((count // every, 3), float("nan"))
    alpha = clip.alpha[:, 0].unflatten(0, (-1, every)).mean(1)
    area = alpha.sum((1, 2)).clamp_min(1e-3)
    x = alpha.sum(1) @ halves(width, alpha.device) / area
    y = alpha.sum(2) @ halves(height, alpha.device) / area
    return torch.stack([x, y, (area / math.pi).sqrt().div(height / 2).log()], dim=1)


def aim_error(path, truth, told):
    """Mean squared error of paths (B, T, 3) where the truth is not NaN, of the clips that were told anything (B,)."""
    counts = truth.isfinite() & told[:, None, None]
    error = torch.where(counts, path - truth.nan_to_num(), 0.0).pow(2)
    return error.sum() / counts[..., 0].sum().clamp_min(1)


def lesson(seed: int, count: int):
    """Instructions of clips seed .. seed + count - 1, and their paths (count, T, 3) at TIMES."""
    clips = [make_clip(seed + k, *SMALL, TIMES) for k in range(count)]
    return [clip.instruction for clip in clips], torch.stack([where(clip) for clip in clips])


def lesson_error(aim, text, texts, truth):
    """Of a lesson, what `aim_error` says."""
    states = text.encode(texts)
    truth = truth.to(states.device)
    progress = torch.tensor(TIMES, device=states.device) / SPAN
    return aim_error(aim.path(states, None, progress), truth, (states != 0).flatten(1).any(1))


def teach_aim(aim, text, seed: int, steps: int, batch: int = 64, rate: float = 0.002) -> float:
    """Train both in place on clips seed .. seed + steps * batch - 1; the mean error of the last fifty steps."""
    parameters = [*aim.inner.parameters(), *aim.outer.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    errors, started = [], time.time()
    for step in range(steps):
        error = lesson_error(aim, text, *lesson(seed + step * batch, batch))
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, steps, rate, warmup=20)
        optimizer.step()
        errors.append(error.item())
        if step % 20 == 0:
            print(f"aim {step}/{steps} {sum(errors[-50:]) / len(errors[-50:]):.4f} {time.time() - started:.0f} s", flush=True)
    return sum(errors[-50:]) / len(errors[-50:])
