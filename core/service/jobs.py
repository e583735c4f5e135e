"""The queue: jobs and their states in SQLite, safe against crashes of the service.

    queued -> running -> done | failed | cancelled;  failed | cancelled -> queued (retry)

One process writes it. Every change is one transaction, which is on the disk before the request is answered.
"""

import json
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from vera.core.errors import InputError
from vera.core.files import JsonError, parse_json

OPEN, ENDED = ("queued", "running"), ("done", "failed", "cancelled")
MAX_OPEN = 10_000  # waiting jobs; more are refused
MAX_ENDED = 2_000  # ended jobs that are remembered
MAX_INTERRUPTIONS = 5  # ends of the service during one job after which the job fails

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  request TEXT NOT NULL UNIQUE,      -- the client's own name for this submission
  recipe TEXT NOT NULL,
  state TEXT NOT NULL,
  place INTEGER NOT NULL,            -- the order of the queue; wall clocks have no say
  cancelling INTEGER NOT NULL DEFAULT 0,
  interruptions INTEGER NOT NULL DEFAULT 0,
  identity TEXT,                     -- hash of all that determines the pixels
  kind TEXT,                         -- of a failure: input, memory, system, crash, hang, fault
  reason TEXT,
  warnings TEXT NOT NULL DEFAULT '[]',
  report TEXT,
  submitted REAL NOT NULL, started REAL, ended REAL,  -- wall clock, for people
  facts TEXT                         -- of plate and delivery: frames, size, seconds a stage
);
CREATE INDEX IF NOT EXISTS by_state ON jobs (state, place);
CREATE INDEX IF NOT EXISTS by_identity ON jobs (identity, state);
"""
_VERSION = 1
# Columns that later versions added; earlier versions ignore them.
_ADDED_COLUMNS = {"facts": "TEXT"}
_JSON: dict[str, dict | list] = {
    "recipe": {},
    "warnings": [],
    "report": {},
    "facts": {},
}  # and what an unreadable one is taken for


Job = dict[str, Any]  # the table's columns by name
Jobs = list[Job]  # Queue has a method `list`


class QueueRefusedError(Exception):
    """The job's state does not allow the request. The message is one line."""


class Queue:
    """Jobs as dictionaries of the table's columns, with recipe, warnings and report as objects.

    Raises InputError if the file is no queue, OSError if it cannot be opened (full disk, permissions), and
    sqlite3.OperationalError if a change cannot be written; the earlier content then stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.db = sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False)
            self.db.row_factory = sqlite3.Row
            self.db.execute("PRAGMA journal_mode=WAL")
            self.db.execute("PRAGMA synchronous=FULL")
            self.db.execute("PRAGMA journal_size_limit=4194304")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise InputError(f"{path}: of another version ({version}); start that version, or move the file away")
            self.db.executescript(_SCHEMA)
            self.db.execute(f"PRAGMA user_version={_VERSION}")
            self._add_columns()
            self._refuse_damaged()
        except sqlite3.Error as error:
            # A full disk, or another process that is writing, does not mean that the file is damaged.
            if isinstance(error, sqlite3.OperationalError) and re.search("full|locked|readonly|I/O", str(error)):
                raise OSError(f"{path}: the queue cannot be written ({error})") from None
            raise InputError(f"{path}: not a queue, or damaged ({error}); move it away and start again") from None

    def _columns(self) -> set[str]:
        return {row["name"] for row in self.db.execute("PRAGMA table_info(jobs)")}

    def _add_columns(self) -> None:
        """Add a column to a queue of an earlier version."""
        for name, kind in _ADDED_COLUMNS.items():
            if name not in self._columns():
                self.db.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")

    def _refuse_damaged(self) -> None:
        """Raise sqlite3.DatabaseError if pages are damaged or columns are missing."""
        (found,) = self.db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError("malformed pages")
        lacking = set(re.findall(r"^  ([a-z]+) (?:INTEGER|TEXT|REAL)", _SCHEMA, re.M)) - self._columns()
        if lacking:
            raise sqlite3.DatabaseError(f"its table lacks {', '.join(sorted(lacking))}")

    def close(self) -> None:
        self.db.close()

    def submit(self, recipe: dict[str, Any], request: str) -> tuple[Job, bool]:
        """The job, and whether it is new. An equal request, or an equal recipe that is waiting, is the same job."""
        text = _pack(recipe)
        with self._change():
            known = self._row("request = ?", request) or self._row("state = 'queued' AND recipe = ?", text)
            if known:
                return known, False
            if self.count("queued") >= MAX_OPEN:
                raise QueueRefusedError(f"{MAX_OPEN} jobs wait already; try again later")
            self.db.execute(
                "INSERT INTO jobs (request, recipe, state, place, submitted) VALUES (?, ?, 'queued', ?, ?)",
                (request, text, self._last_place() + 1, time.time()),
            )
            self._forget_old()
            return self._row("request = ?", request) or _raise(KeyError(request)), True

    def get(self, job: int) -> Job | None:
        return self._row("id = ?", job)

    def list(self, ended: int = 200) -> Jobs:
        """The running job, the queue in its order, then ended jobs, latest first."""
        rows = self.db.execute(
            "SELECT * FROM jobs WHERE state IN ('running', 'queued') ORDER BY state = 'queued', place"
        )
        jobs = [_unpack(row) for row in rows]
        rows = self.db.execute(
            "SELECT * FROM jobs WHERE state NOT IN ('running', 'queued') ORDER BY place DESC LIMIT ?", (ended,)
        )
        return jobs + [_unpack(row) for row in rows]

    def count(self, state: str) -> int:
        return self.db.execute("SELECT COUNT(*) FROM jobs WHERE state = ?", (state,)).fetchone()[0]

    def position(self, job: int) -> int:
        """The job's position in the queue, from 1."""
        place = "(SELECT place FROM jobs WHERE id = ?)"
        count = f"SELECT COUNT(*) FROM jobs WHERE state = 'queued' AND place <= {place}"
        return self.db.execute(count, (job,)).fetchone()[0]

    def take(self) -> Job | None:
        """Take the next job and mark it as running; None if none waits."""
        with self._change():
            row = self.db.execute("SELECT id FROM jobs WHERE state = 'queued' ORDER BY place LIMIT 1").fetchone()
            if row is None:
                return None
            return self._set(row["id"], state="running", started=time.time(), ended=None)

    def note(self, job: int, **values: Any) -> Job:
        """Store a running job's identity, warnings and facts."""
        with self._change():
            return self._set(job, **values)

    def end(
        self,
        job: int,
        state: str,
        kind: str | None = None,
        reason: str | None = None,
        report: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Job:
        """Store the end of a running job. facts: replace those stored before, if given."""
        with self._change():
            ended: dict[str, Any] = {"cancelling": 0, "interruptions": 0, "ended": time.time()}
            if facts is not None:
                ended["facts"] = facts
            return self._set(job, state=state, kind=kind, reason=reason, report=report, **ended)

    def forget(self, jobs: Sequence[int]) -> Sequence[int]:
        """Remove ended jobs from the list; their files stay. Returns the removed ones; others are ignored."""
        with self._change():
            known = [row for row in map(self.get, dict.fromkeys(jobs)) if row is not None and row["state"] in ENDED]
            self.db.executemany("DELETE FROM jobs WHERE id = ?", [(row["id"],) for row in known])
            return [row["id"] for row in known]

    def latest_done(self, count: int = 50) -> Jobs:
        """The latest finished jobs, latest first."""
        rows = self.db.execute("SELECT * FROM jobs WHERE state = 'done' ORDER BY ended DESC LIMIT ?", (count,))
        return [_unpack(row) for row in rows]

    def cancel(self, job: int) -> Job:
        """Cancel a queued job, or mark a running one for the worker to stop. A second call has no effect."""
        with self._change():
            now = self._known(job)
            if now["state"] == "cancelled":
                return now
            if now["state"] == "queued":
                return self._set(job, state="cancelled", ended=time.time())
            if now["state"] == "running":
                return self._set(job, cancelling=1)
            raise QueueRefusedError(f"job {job} is {now['state']}; only a job that waits or runs can be cancelled")

    def retry(self, job: int) -> Job:
        """Put a failed or cancelled job at the end of the queue; it resumes. A second call has no effect."""
        with self._change():
            now = self._known(job)
            if now["state"] == "queued":
                return now
            if now["state"] not in ("failed", "cancelled"):
                raise QueueRefusedError(
                    f"job {job} is {now['state']}; only a failed or cancelled job can be tried again"
                )
            return self._set(
                job, state="queued", place=self._last_place() + 1, kind=None, reason=None, interruptions=0, ended=None
            )

    def move(self, job: int, before: int | None) -> Job:
        """Move a queued job before another one, or (None) to the end."""
        with self._change():
            for each in (job, before):
                if each is not None and self._known(each)["state"] != "queued":
                    raise QueueRefusedError(f"job {each} does not wait in the queue; only waiting jobs have an order")
            rows = self.db.execute("SELECT id, place FROM jobs WHERE state = 'queued' ORDER BY place").fetchall()
            order = [row["id"] for row in rows if row["id"] != job]
            order.insert(len(order) if before is None or before == job else order.index(before), job)
            self.db.executemany("UPDATE jobs SET place = ? WHERE id = ?", zip((r["place"] for r in rows), order))
            return self._known(job)

    def reopen(self) -> None:
        """After a start: put the job that was running when the last service ended at the head of the queue.

        A job that was marked for cancelling is cancelled. A job that was interrupted MAX_INTERRUPTIONS times fails,
        because it may be the cause.
        """
        with self._change():
            for row in self.db.execute("SELECT * FROM jobs WHERE state = 'running'").fetchall():
                count = row["interruptions"] + 1
                if row["cancelling"]:
                    self._set(row["id"], state="cancelled", cancelling=0, ended=time.time())
                elif count > MAX_INTERRUPTIONS:
                    reason = f"the service ended {count} times during this job; a retry continues where it stopped"
                    self._set(row["id"], state="failed", kind="crash", reason=reason, ended=time.time())
                else:
                    self._set(row["id"], state="queued", place=self._first_place() - 1, interruptions=count)

    def put_back(self, job: int) -> Job:
        """Put a running job back to the head of the queue; this does not count as an interruption."""
        with self._change():
            return self._set(job, state="queued", place=self._first_place() - 1)

    def rendered(self, identity: str) -> Sequence[str]:
        """Folders of finished jobs with these pixels, latest first."""
        rows = self.db.execute(
            "SELECT recipe FROM jobs WHERE identity = ? AND state = 'done' ORDER BY place DESC LIMIT 8", (identity,)
        )
        outs = (_read(row["recipe"], {}).get("out") for row in rows)
        return list(dict.fromkeys(out for out in outs if isinstance(out, str)))

    def _known(self, job: int) -> Job:
        return self._row("id = ?", job) or _raise(KeyError(job))

    def _row(self, where: str, *values: Any) -> Job | None:
        row = self.db.execute(f"SELECT * FROM jobs WHERE {where} ORDER BY id DESC LIMIT 1", values).fetchone()
        return row and _unpack(row)

    def _set(self, job: int, **values: Any) -> Job:
        values = {n: _pack(v) if n in _JSON and v is not None else v for n, v in values.items()}
        names = ", ".join(f"{name} = ?" for name in values)
        self.db.execute(f"UPDATE jobs SET {names} WHERE id = ?", (*values.values(), job))
        return self._known(job)

    def _first_place(self) -> int:
        return self.db.execute("SELECT COALESCE(MIN(place), 0) FROM jobs WHERE state = 'queued'").fetchone()[0]

    def _last_place(self) -> int:
        return self.db.execute("SELECT COALESCE(MAX(place), 0) FROM jobs").fetchone()[0]

    def _forget_old(self) -> None:
        self.db.execute(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE state NOT IN ('running', 'queued')"
            " ORDER BY place DESC LIMIT -1 OFFSET ?)",
            (MAX_ENDED,),
        )

    @contextmanager
    def _change(self) -> Iterator[None]:
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.db.execute("COMMIT")
        except BaseException:
            # On a full disk, SQLite may have rolled back already.
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            raise


def _pack(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _unpack(row: sqlite3.Row) -> Job:
    """The job of a row. An unreadable row is a job without recipe, which fails without affecting others."""
    job = dict(row)
    for name, empty in _JSON.items():
        if job[name] is not None:
            job[name] = _read(job[name], empty)
    return job


def _read(text: str, empty: Any) -> Any:
    """The JSON value of a column; `empty` if it is no JSON or of another type."""
    try:
        value = parse_json(text.encode())
    except (AttributeError, JsonError):
        return empty
    return value if isinstance(value, type(empty)) else empty


def _raise(error: Exception) -> NoReturn:
    raise error
