"""Progress of long work: a bar for users, JSON lines for programs, or nothing."""

import json
import sys
import time
from typing import Any, Protocol, TextIO

from vera.core.errors import printable

KINDS = ("bar", "jsonl", "none")


class ProgressLike(Protocol):
    """The interface through which work reports its progress; the service's worker implements it too.

    stage("denoise", 20) begins a stage of 20 units, of which `done` are finished already; advance() counts units.
    """

    def stage(self, name: str, total: int, done: int = 0) -> None: ...

    def advance(self, count: int = 1) -> None: ...

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        """Report a line of text, shown if progress is shown."""
        ...

    def note(self, text: str) -> None:
        """Report a line that the user asked for (`--verbose`), shown in every mode."""
        ...

    def warn(self, text: str) -> None:
        """Report a warning, shown in every mode."""
        ...

    def close(self) -> None: ...


class Progress:
    """Progress in a terminal. kind: one of KINDS.

    "jsonl" writes one object per line to standard output: {"event": "progress", "stage", "done", "total",
    "seconds_left"} and {"event": "message", "text"}. Bars and text go to standard error.
    """

    def __init__(self, kind: str = "bar") -> None:
        self.kind = kind
        self.out: TextIO = sys.stdout
        self.bar: Any = None

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.close()
        self.name, self.total = name, total
        self.done = self.done_before = done  # units; those of an earlier run do not count for the speed
        self.started = time.monotonic()
        if self.kind == "bar":
            from tqdm import tqdm  # slow to import, because it reads its version from the packages' metadata

            self.bar = tqdm(total=total, initial=done, desc=name, file=sys.stderr, dynamic_ncols=True)

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.kind == "jsonl":
            spent = time.monotonic() - self.started
            left = spent / (self.done - self.done_before) * (self.total - self.done)
            self._line(event="progress", stage=self.name, done=self.done, total=self.total, seconds_left=round(left, 1))

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        if self.kind == "jsonl":
            self._line(event=event, text=text, **values)
        elif self.kind == "bar":
            self._show(text)

    def note(self, text: str) -> None:
        """See `ProgressLike.note`."""
        if self.kind == "jsonl":
            self._line(event="message", text=text)
        else:
            self._show(text)

    def warn(self, text: str) -> None:
        """See `ProgressLike.warn`."""
        if self.kind == "jsonl":
            self._line(event="warning", text=text)
        else:
            self._show(f"warning: {text}")

    def fail(self, text: str, code: int) -> None:
        """Report an error and its exit code, on standard error and as an event."""
        if self.kind == "jsonl":
            self._line(event="error", text=text, code=code)
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _show(self, text: str) -> None:
        """Print a line on standard error, above the bar if there is one."""
        if self.bar is None:
            print(printable(text), file=sys.stderr, flush=True)
        else:
            self.bar.write(printable(text), file=sys.stderr)

    def _line(self, **values: Any) -> None:
        print(json.dumps(values), file=self.out, flush=True)
