"""Teach the text encoder and the aim which path an instruction describes, from words and paths without pictures.

One second covers more instructions than an hour of training on pictures. Training teaches the aim before its first
step and adds a lesson to every later one: without the lessons, training samples of a single time would teach that
objects do not move.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from vera.core.data.engine.clips import SPAN, instructed_path
from vera.core.training.console import Console
from vera.core.training.state import trapezoid

if TYPE_CHECKING:
    from vera.core.model.mini.drawing import Aim
    from vera.core.model.mini.mini_text import MiniText

TIMES = list(range(0, SPAN + 1, 4))  # frames at which a lesson gives the path


class Lesson(NamedTuple):
    """Instructions, frame aspects (count,), and paths (count, T, 3) at TIMES, as `LayeredClip.path`."""

    texts: list[str]
    aspects: torch.Tensor
    paths: torch.Tensor


def aim_error(path: torch.Tensor, truth: torch.Tensor, has_text: torch.Tensor) -> torch.Tensor:
    """Root mean square error of each path (B, ..., 3), averaged over the clips with an instruction, has_text (B,).

    The root keeps instructions that name no place from dominating the loss.
    """
    error = ((path - truth).pow(2).sum(-1).flatten(1).mean(1) + 1e-4).sqrt()
    return (error * has_text).sum() / has_text.sum().clamp_min(1)


def lesson(seed: int, count: int) -> Lesson:
    """The lesson of instructions seed .. seed + count - 1."""
    texts, aspects, paths = zip(*(instructed_path(seed + k, TIMES) for k in range(count)))
    return Lesson(list(texts), torch.tensor(aspects), torch.stack(paths))


def lesson_error(
    aim: Aim, text: MiniText, texts: list[str], aspects: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """`aim_error` of the paths that the aim predicts for a lesson."""
    states = text.encode(texts)
    path = aim.path(states, None, torch.tensor(TIMES) / SPAN, aspects.to(states.device))
    return aim_error(path, truth.to(states.device), (states != 0).flatten(1).any(1))


@dataclass(frozen=True)
class Lessons:
    """Instructions seed .. seed + steps * batch - 1, at a learning rate."""

    seed: int
    steps: int
    batch: int = 128
    rate: float = 0.002


def teach_aim(
    aim: Aim, text: MiniText, lessons: Lessons, aim_only: bool = False, console: Console | None = None
) -> float:
    """Train the aim and the text encoder in place.

    aim_only: leave the text encoder unchanged. Returns the mean error of the last 50 steps.
    """
    parameters = [*aim.inner.parameters(), *aim.outer.parameters(), *([] if aim_only else text.parameters())]
    for parameter in parameters:
        parameter.requires_grad_()  # an average (EMA) has gradients switched off
    optimizer = torch.optim.AdamW(parameters, lr=lessons.rate, betas=(0.9, 0.98), weight_decay=0.01)
    errors, steps = [], lessons.steps
    for step in range(steps):
        error = lesson_error(aim, text, *lesson(lessons.seed + step * lessons.batch, lessons.batch))
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, steps, lessons.rate, warmup=20, decay=0.5)
        optimizer.step()
        errors.append(error.item())
        if console:
            console.progress("teaching the aim", step + 1, steps, "steps")
    return sum(errors[-50:]) / len(errors[-50:])
