"""What is said of the shots while they are rendered, and at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT
from vera.core.progress import Progress

if TYPE_CHECKING:
    from vera.core.farm.engine import Outcome
    from vera.core.farm.shots import Shot

STATES = {DONE: "done", FAULT: "failed", WRONG_INPUT: "wrong", STOPPED: "stopped"}
GRAVEST = (STOPPED, FAULT, WRONG_INPUT)  # of several exit codes, the first of these


class Report:
    """Of `shots`, told as vera.core.progress.Progress's `kind` says; begun and faults by a shot's number."""

    def __init__(self, shots: Sequence[Shot], kind: str) -> None:
        self.shots = {shot.number: shot for shot in shots}
        self.progress = Progress(kind)
        self.begun: Counter[int] = Counter()
        self.faults: dict[int, str] = {}
        self.outcomes: list[Outcome] = []
        self.now: dict[int, str] = {}
        self.since: dict[int, float] = {}  # by the monotonic clock
        self.warned: set[tuple[int, str]] = set()
        self.over: set[int] = set()

    def begin(self) -> None:
        self.progress.stage("shots", len(self.shots))

    def heard(self, events: Iterable[dict[str, Any]]) -> None:
        """What workers wrote: dicts with event, shot, host and pid."""
        for event in events:
            number = event["shot"]
            kind, where = event.pop("event"), f"on {event['host']}, process {event['pid']}"
            if kind == "begun":
                self.begun[number] += 1
                self.since[number] = time.monotonic()
                again = f" again ({self.begun[number] - 1} workers ended)" if self.begun[number] > 1 else ""
                self._say(number, f"begun{again} {where}", kind, **event)
            elif kind == "progress" and number not in self.over:
                self.now[number] = f"{number}: {event['stage']} {event['done']}/{event['total']}"
                if self.progress.kind == "jsonl":
                    self._say(number, self.now[number], kind, **event)
            elif kind == "fault":
                self.faults[number] = event["text"]
                self._say(number, f"fault {where}: {event.pop('text')}", kind, **event)
            elif kind == "warning" and (number, event["text"]) not in self.warned:
                self.warned.add((number, event["text"]))
                self.progress.warn(f"{self.shots[number].name}: {event['text']}")
            elif kind == "model":
                self._say(number, f"{event['model']} is ready {where}", kind, **event)
        if self.progress.bar is not None:
            self.progress.bar.set_postfix_str("; ".join(self.now.values()))

    def ended(self, outcome: Outcome) -> None:
        number = outcome.shot.number
        self.outcomes.append(outcome)
        self.over.add(number)  # of which a worker's last words may come later
        self.now.pop(number, None)
        took = f" in {time.monotonic() - self.since[number]:.0f} s" if outcome.made and number in self.since else ""
        state = "whole" if outcome.code == DONE and not outcome.made else STATES[outcome.code]
        self._say(number, f"{state}{took}: {outcome.said}", state)
        self.progress.advance()

    def stopping(self, count: int) -> None:
        self.progress.say(f"stopping {count} shots; what is done is kept")

    def close(self) -> int:
        """Say how it went; returns the exit code."""
        self.progress.close()
        made = Counter(STATES[o.code] if o.code != DONE or o.made else "whole" for o in self.outcomes)
        named = {"done": "done", "whole": "already whole", "wrong": "wrong", "failed": "failed", "stopped": "stopped"}
        counts = ", ".join(f"{made[state]} {words}" for state, words in named.items() if made[state])
        for outcome in self.outcomes:
            if outcome.code in (WRONG_INPUT, FAULT):
                self.progress.note(f"{outcome.shot.name}: {outcome.said}")
        self.progress.say(f"{len(self.shots)} shots: {counts}", event="done", **made)
        return next((code for code in GRAVEST if any(o.code == code for o in self.outcomes)), DONE)

    def _say(self, number: int, text: str, state: str, **values: Any) -> None:
        self.progress.say(f"{self.shots[number].name} {text}", event="shot", **{"shot": number} | values, state=state)
