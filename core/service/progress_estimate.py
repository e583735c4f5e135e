"""Estimate the progress and remaining time of a whole job, from its stages and from the times of an earlier job."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

STAGES = ("read", "denoise", "lift", "deliver", "finish")
# Shares of the stages if no job of the same model is known. They are a guess and give no remaining time.
GUESSED_SHARES = {"read": 5.0, "denoise": 55.0, "deliver": 38.0, "finish": 2.0}
GUESSED_LIFT = {"read": 5.0, "lift": 55.0, "deliver": 38.0, "finish": 2.0}
MIN_SECONDS = 0.5  # of an earlier job; a shorter one is ignored. Raising it leaves more jobs without an estimate


class ProgressEstimate:
    """The progress of one running job.

    earlier: {"frames": n, "seconds": {stage: seconds}} of the latest job of the same model, or None
    lifts: whether the job is a lift
    whole: False once a stage has resumed an earlier run; `seconds` are then not those of a whole job
    """

    def __init__(self, earlier: Mapping[str, Any] | None = None, lifts: bool = False) -> None:
        known = earlier is not None and sum(earlier["seconds"].values()) > MIN_SECONDS
        self.earlier, self.lifts, self.whole = earlier if known else None, lifts, True
        self.frames: int | None = None  # of this job
        self.seconds: dict[str, float] = {}  # seconds of each stage so far
        self.share = 0.0
        self._stage, self._since = "", time.monotonic()

    def update(self, stage: str, done: int, total: int, stage_left: float | None) -> tuple[float, float | None]:
        """Note a stage's progress. Returns the finished share of the job, and the remaining seconds or None.

        The share is from 0 to 1 and never falls.
        stage_left: remaining seconds of this stage at its present speed
        """
        now = time.monotonic()
        if stage != self._stage and stage in STAGES and done > 0:
            self.whole = False  # the stage resumes an earlier run
        if self._stage:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
        self._stage, self._since = stage, now
        if stage not in STAGES:
            return self.share, None
        expected, number = self._expected(), STAGES.index(stage)
        before = sum(expected.get(name, 0.0) for name in STAGES[:number])
        current = expected.get(stage, 0.0)
        share = (before + current * done / max(total, 1)) / max(sum(expected.values()), 1e-9)
        self.share = max(self.share, min(share, 0.999))
        if self.earlier is None:
            return self.share, None
        if stage_left is None or not done:
            stage_left = current * (1 - done / max(total, 1))
        return self.share, stage_left + sum(expected.get(name, 0.0) for name in STAGES[number + 1 :])

    def _expected(self) -> dict[str, float]:
        """Expected seconds of each stage: the earlier job's, scaled to this job's number of frames.

        Without an earlier job, guessed shares.
        """
        if self.earlier is None:
            return GUESSED_LIFT if self.lifts else GUESSED_SHARES
        scale = (self.frames or self.earlier["frames"]) / max(self.earlier["frames"], 1)
        return {name: seconds * scale for name, seconds in self.earlier["seconds"].items()}
