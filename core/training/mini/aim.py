"""Teach the text encoder and the aim which path an instruction tells: words and paths alone, no pictures.

A second shows more instructions than an hour of training on pictures. `vera.core.cli.train` does this before its first
step,
and keeps a lesson beside every later one: pictures of one time alone would teach that nothing moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vera.core.data.engine.clips import SPAN, instructed_path
from vera.core.training.state import trapezoid
from vera.core.training.talk import Talk

if TYPE_CHECKING:
    from vera.core.model.mini.drawing import Aim
    from vera.core.model.mini.mini_text import MiniText

TIMES = list(range(0, SPAN + 1, 4))


def aim_error(path: torch.Tensor, truth: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
    """Root mean square error of each of the paths (B, ..., 3), its mean over clips that were told anything (B,).

    Roots, so that an instruction that leaves the place open does not drown those that tell it.
    """
    error = ((path - truth).pow(2).sum(-1).flatten(1).mean(1) + 1e-4).sqrt()
    return (error * told).sum() / told.sum().clamp_min(1)


def lesson(seed: int, count: int) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    """Instructions seed .. seed + count - 1, shapes of frames (count,) and the paths there (count, T, 3) at TIMES."""
    texts, aspects, paths = zip(*(instructed_path(seed + k, TIMES) for k in range(count)))
    return list(texts), torch.tensor(aspects), torch.stack(paths)


def lesson_error(
    aim: Aim, text: MiniText, texts: list[str], aspects: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Of a lesson, what `aim_error` says."""
    states = text.encode(texts)
    path = aim.path(states, None, torch.tensor(TIMES) / SPAN, aspects.to(states.device))
    return aim_error(path, truth.to(states.device), (states != 0).flatten(1).any(1))


def teach_aim(
    aim: Aim,
    text: MiniText,
    seed: int,
    steps: int,
    batch: int = 128,
    rate: float = 0.002,
    aim_only: bool = False,
    talk: Talk | None = None,
) -> float:
    """Train both in place, or the aim alone, on instructions seed .. seed + steps * batch - 1; the mean error of the
    last fifty steps."""
    parameters = [*aim.inner.parameters(), *aim.outer.parameters(), *([] if aim_only else text.parameters())]
    for parameter in parameters:
        parameter.requires_grad_()  # those of an average have none
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    errors = []
    for step in range(steps):
        error = lesson_error(aim, text, *lesson(seed + step * batch, batch))
        optimizer.zero_grad()
        error.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, steps, rate, warmup=20, decay=0.5)
        optimizer.step()
        errors.append(error.item())
        if talk:
            talk.progress("teaching the aim", step + 1, steps, "steps")
    return sum(errors[-50:]) / len(errors[-50:])
