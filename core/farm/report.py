"""Report on shots while they are rendered, and at the end."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT
from vera.core.progress import Progress

if TYPE_CHECKING:
    from vera.core.farm.engine import Outcome
    from vera.core.farm.page_writer import FarmPage
    from vera.core.farm.shot_lists import Shot

STATES = {DONE: "done", FAULT: "failed", WRONG_INPUT: "wrong", STOPPED: "stopped"}
SEVERITY = (STOPPED, FAULT, WRONG_INPUT)  # exit codes, the most severe first; the farm returns the most severe one

# The next step for the user about a shot, by its exit code.
REMEDIES = {
    WRONG_INPUT: "{said}. Correct it in the list and run the same command again; complete shots are skipped.",
    FAULT: "{said}. The same command resumes it.",
    STOPPED: "not finished. The same command resumes it.",
}


class Report:
    """The report of a list of shots, on the terminal and on a page. kind: as of vera.core.progress.Progress.

    begun: how often each shot was started, by number. faults: the last fault of each shot, by number.
    """

    def __init__(self, shots: Sequence[Shot], kind: str, page: FarmPage | None = None) -> None:
        self.shots = {shot.number: shot for shot in shots}
        self.page = page
        self.progress = Progress(kind)
        self.begun: Counter[int] = Counter()
        self.faults: dict[int, str] = {}
        self.outcomes: list[Outcome] = []
        self.now: dict[int, str] = {}  # stage and progress of each running shot
        self.since: dict[int, float] = {}  # start of each shot, seconds of the monotonic clock
        self.warned: set[tuple[int, str]] = set()
        self.over: set[int] = set()
        self.workers: dict[int, tuple[str, int]] = {}  # host and process at each shot that is rendered

    def begin(self) -> None:
        """Show that the work starts."""
        self.progress.stage("shots", len(self.shots))
        if self.page:
            self.page.begin()
            self.progress.say(f"page: {self.page.file}", event="page", file=str(self.page.file))

    def receive(self, events: Iterable[dict[str, Any]]) -> None:
        """Report events of workers: dicts with event, shot, host and pid."""
        for event in events:
            number = event["shot"]
            kind, where = event.pop("event"), f"on {event['host']}, process {event['pid']}"
            if kind == "begun":
                self.begun[number] += 1
                self.since[number] = time.monotonic()
                self.workers[number] = (event["host"], event["pid"])
                again = f" again, the {ordinal(self.begun[number])} time," if self.begun[number] > 1 else ""
                self._row(number, state="running", host=event["host"], pid=event["pid"], begun=self.begun[number])
                self._say(number, f"started{again} {where}", kind, **event)
            elif kind == "progress" and number not in self.over:
                self.now[number] = f"{number}: {event['stage']} {event['done']}/{event['total']}"
                self._row(number, **{name: event[name] for name in ("stage", "done", "total")})
                if self.progress.kind == "jsonl":
                    self._say(number, self.now[number], kind, **event)
            elif kind == "fault":
                self.faults[number] = event["text"]
                self._say(number, f"fault {where}: {event.pop('text')}", kind, **event)
            elif kind == "warning" and (number, event["text"]) not in self.warned:
                self.warned.add((number, event["text"]))
                self.progress.warn(f"{self.shots[number].name}: {event['text']}")
                if self.page:
                    self.page.rows[number].warnings.append(event["text"])
            elif kind == "model":
                self._say(number, f"{event['model']} is ready {where}", kind, **event)
        if self.progress.bar is not None:
            self.progress.bar.set_postfix_str("; ".join(self.now.values()))
        self._report_deaths()
        if self.page:
            for number in self.now:
                self.page.rows[number].seconds = time.monotonic() - self.since[number]
            self.page.write(rarely=True)

    def ended(self, outcome: Outcome) -> None:
        """Report the end of a shot."""
        number = outcome.shot.number
        self.outcomes.append(outcome)
        self.over.add(number)  # later progress events of the shot are ignored
        self.now.pop(number, None)
        self.workers.pop(number, None)
        seconds = time.monotonic() - self.since[number] if outcome.rendered and number in self.since else None
        took = "" if seconds is None else f" in {seconds:.0f} s"
        state = _state_of(outcome)
        said = outcome.message.removeprefix("error: ").removeprefix("fault: ")
        self._say(number, f"{state}{took}: {said}", state)
        remedy = REMEDIES.get(outcome.code, "").format(said=said)
        self._row(number, state=state, seconds=seconds, said=said, todo=remedy)
        if self.page and outcome.code == DONE:
            self.page.add_preview(number)
        self.progress.advance()

    def stopping(self, count: int) -> None:
        """Report that running shots are being stopped."""
        self.progress.say(f"stopping {count} shots; finished frames and steps are kept")

    def close(self) -> int:
        """Report the totals; return the exit code."""
        self.progress.close()
        totals = Counter(map(_state_of, self.outcomes))
        titles = {"done": "done", "whole": "already complete", "wrong": "wrong", "failed": "failed"}
        titles["stopped"] = "stopped"
        counts = ", ".join(f"{totals[state]} {title}" for state, title in titles.items() if totals[state])
        if self.progress.kind == "none":  # the other kinds have reported each shot already
            for outcome in self.outcomes:
                if outcome.code in (WRONG_INPUT, FAULT):
                    self.progress.note(f"{outcome.shot.name}: {outcome.message.removeprefix('error: ')}")
        summary = f"{len(self.shots)} shot{'s' if len(self.shots) != 1 else ''}: {counts}"
        where = {}
        if self.page:
            self.page.write(summary)
            where = {"page": str(self.page.file)}
            if self.page.error:
                self.progress.warn(self.page.error)
        self.progress.say("; ".join([summary, *where.values()]), event="done", **totals, **where)
        return most_severe(outcome.code for outcome in self.outcomes)

    def _report_deaths(self) -> None:
        """Report dead workers of this machine at once; those of other machines appear when Ray restarts their shot."""
        for number, (host, pid) in list(self.workers.items()):
            if host != socket.gethostname() or is_there(pid):
                continue
            del self.workers[number]
            self.now.pop(number, None)
            why = "" if number in self.faults else ", killed from outside or for lack of memory"
            said = f"its worker, process {pid}, died{why}; the shot resumes when a worker is free"
            self._row(number, state="waiting", said=said)
            self._say(number, said, "died", host=host, pid=pid)

    def _row(self, number: int, **values: Any) -> None:
        """Set values of a shot on the page."""
        if self.page:
            for name, value in values.items():
                setattr(self.page.rows[number], name, value)

    def _say(self, number: int, text: str, state: str, **values: Any) -> None:
        self.progress.say(f"{self.shots[number].name} {text}", event="shot", **{"shot": number} | values, state=state)


def _state_of(outcome: Outcome) -> str:
    """The state of an ended shot in events: one of STATES, or "whole" for a shot that was complete before."""
    return "whole" if outcome.code == DONE and not outcome.rendered else STATES[outcome.code]


def most_severe(codes: Iterable[int]) -> int:
    """The most severe of some exit codes; DONE for none."""
    found = set(codes)
    return next((code for code in SEVERITY if code in found), DONE)


def ordinal(number: int) -> str:
    """An ordinal number, such as "2nd"."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def is_there(pid: int) -> bool:
    """Whether a process of this machine runs; True if that is unknown."""
    if os.name != "posix":
        return True  # os.kill would end the process there
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
