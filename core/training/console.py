"""Progress lines of a training run on the terminal, limited in rate."""

import sys
import time
from typing import TextIO

import torch

GIB = 2**30

LINE_INTERVAL = 10.0  # seconds between two lines of one kind; raising it prints fewer lines


class Console:
    """Prints progress lines to `out`. A silent console prints nothing; all ranks but the first have one.

    A progress or step line is printed when the last one of its kind is `interval` seconds old, and at the end.
    """

    def __init__(self, silent: bool = False, out: TextIO | None = None, interval: float = LINE_INTERVAL) -> None:
        self.silent, self.out, self.interval = silent, out or sys.stderr, interval
        self._printed: dict[str, float] = {}  # kind of line -> time of the last one
        self._first: dict[str, tuple[float, int]] = {}  # kind of line -> (time, amount done) at its first call

    def say(self, text: str) -> None:
        """Print a line at once."""
        if not self.silent:
            print(text, file=self.out, flush=True)

    def progress(self, task: str, done: int, total: int, unit: str) -> None:
        """A line such as "encoding: 120 of 9,000 rows, 1 h 12 min left"."""
        left = self._left(task, done, total)
        if self._due(task, done == total):
            self.say(f"{task}: {done:,} of {total:,} {unit}" + (f", {duration(left)} left" if left else ""))

    def step(self, step: int, steps: int, losses: dict[str, float], rate: float, clips: float) -> None:
        """A line on a finished step: losses by name, learning rate, and speed. clips: number of clips per step."""
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
        """Estimate of the seconds left, from the speed since the first call; 0 if unknown."""
        since, first = self._first.setdefault(kind, (time.monotonic(), done))
        return (time.monotonic() - since) / (done - first) * (total - done) if done > first else 0.0

    def _due(self, kind: str, last: bool) -> bool:
        now = time.monotonic()
        due = last or kind not in self._printed or now - self._printed[kind] >= self.interval
        if due:
            self._printed[kind] = now
        return due


def duration(seconds: float) -> str:
    """A duration in words, such as "40 s", "12 min", "3 h 05 min", "2 days 4 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"
