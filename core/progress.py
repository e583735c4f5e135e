"""Progress of long work: a bar for people, JSON lines for programs, or nothing."""

import json
import sys
import time

from tqdm import tqdm

KINDS = ("bar", "jsonl", "none")


class Progress:
    """stage("denoise", 20), then advance() for each unit done; say(...) for a line of words.

    jsonl writes to standard output, one object a line: {"event": "progress", "stage",
    "done", "total", "seconds_left"}, and {"event": "message", "text"}; bars and words go
    to standard error.
    """

    def __init__(self, kind: str = "bar"):
        self.kind = kind
        self.out = sys.stdout
        self.bar = None

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.close()
        self.name, self.total, self.done, self.skipped, self.started = name, total, done, done, time.monotonic()
        if self.kind == "bar":
            self.bar = tqdm(total=total, initial=done, desc=name, file=sys.stderr, dynamic_ncols=True)

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        if self.kind == "jsonl":
            spent = time.monotonic() - self.started
            left = spent / (self.done - self.skipped) * (self.total - self.done)
            self._line(event="progress", stage=self.name, done=self.done, total=self.total, seconds_left=round(left, 1))

    def say(self, text: str, event: str = "message", **values) -> None:
        if self.kind == "jsonl":
            self._line(event=event, text=text, **values)
        elif self.kind == "bar":
            tqdm.write(text, file=sys.stderr)

    def note(self, text: str) -> None:
        """What was asked to be told, shown whatever the kind."""
        if self.kind == "jsonl":
            self._line(event="message", text=text)
        else:
            tqdm.write(text, file=sys.stderr)

    def warn(self, text: str) -> None:
        """Warnings are shown whatever the kind."""
        if self.kind == "jsonl":
            self._line(event="warning", text=text)
        else:
            tqdm.write(f"warning: {text}", file=sys.stderr)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _line(self, **values):
        print(json.dumps(values), file=self.out, flush=True)
