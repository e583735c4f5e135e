"""What a training run says on the terminal while it works: one line at a time, no more often than one cares to read."""

import sys
import time
from typing import TextIO

import torch

GIB = 2**30

# Seconds between two lines of the same kind; fewer make the terminal scroll, more make the first wait longer.
PAUSE = 10.0


class Talk:
    """Says lines to `out`; a silent one says nothing (of all processes but the first).

    Of progress and steps a line is said when the last one of its kind is PAUSE seconds old, and at the end.
    """

    def __init__(self, silent: bool = False, out: TextIO | None = None, pause: float = PAUSE) -> None:
        self.silent, self.out, self.pause = silent, out or sys.stderr, pause
        self._said: dict[str, float] = {}
        self._began: dict[str, tuple[float, int]] = {}

    def say(self, text: str) -> None:
        if not self.silent:
            print(text, file=self.out, flush=True)

    def progress(self, what: str, done: int, total: int, things: str) -> None:
        """Such as "encoding: 120 of 9,000 rows, 1 h 12 min left"."""
        left = self._left(what, done, total)
        if self._due(what, done == total):
            self.say(f"{what}: {done:,} of {total:,} {things}" + (f", {duration(left)} left" if left else ""))

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float, clips: float) -> None:
        """A step that is done: losses by name, learning rate, and clips (a step) for the clips a second."""
        left = self._left("step", step, steps)
        if not self._due("step", step == steps):
            return
        parts = [f"step {step:,} of {steps:,}: " + ", ".join(f"{name} {value:.4f}" for name, value in losses.items())]
        parts.append(f"rate {rate:.2g}")
        if left:
            parts += [f"{clips * (steps - step) / left:.2f} clips/s", f"{duration(left)} left"]
        if torch.cuda.is_available():
            parts.append(f"{torch.cuda.max_memory_allocated() / GIB:.1f} GiB of the GPU's memory at most")
        self.say("; ".join(parts))

    def _left(self, kind: str, done: int, total: int) -> float:
        """Seconds left by the speed so far; 0 where that is not known."""
        began, first = self._began.setdefault(kind, (time.monotonic(), done))
        return (time.monotonic() - began) / (done - first) * (total - done) if done > first else 0.0

    def _due(self, kind: str, last: bool) -> bool:
        now = time.monotonic()
        due = last or kind not in self._said or now - self._said[kind] >= self.pause
        if due:
            self._said[kind] = now
        return due


def duration(seconds: float) -> str:
    """Such as "40 s", "12 min", "3 h 05 min", "2 days 4 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"
