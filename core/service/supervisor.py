"""The supervisor: passes jobs from the queue to the worker, and monitors, stops and restarts the worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vera.core.errors import InputError
from vera.core.recipe.parse import EMBEDDED
from vera.core.service.jobs import Job, Queue
from vera.core.service.progress_estimate import ProgressEstimate

if TYPE_CHECKING:
    from vera.core.service.security import Roots
    from vera.core.service.server import Settings

ROOT = Path(__file__).parents[2]
WORKER = (sys.executable, "-m", "vera.core.service.worker")
CANCEL_SECONDS = 0.75  # time that a worker has to stop before it is killed; raising it delays cancelling
TICK_SECONDS = 0.25  # interval of the checks for a hung worker; lowering it costs processor time
MAX_RETRIES = 2  # retries of a job whose worker was killed; raising it lets too large a job block the queue longer
RETRY_SECONDS = 2.0  # between attempts to write the queue


class Supervisor:
    """Runs in the server's event loop, one job at a time. `changed()` waits for any change of any job.

    settings: see `vera.core.service.server.Settings`
    turn: number of changes so far; clients compare it to notice a change
    trouble: message for the user while the queue cannot be written, else None
    memory: the worker's memory use in bytes, as it last reported it
    facts: of the running job: number of frames, size, seconds of each stage
    """

    def __init__(self, queue: Queue, roots: Roots, settings: Settings) -> None:
        self.queue, self.roots, self.settings = queue, roots, settings
        self.turn = 0
        self.progress: dict[str, Any] = {}  # of the running job
        self.running: int | None = None  # its id
        self.cancelling = False
        self.worker: Worker | None = None
        self.model: str | None = None
        self.device: str | None = None
        self.trouble: str | None = None
        self.memory: dict[str, int | None] = {}
        self.unload_requested = self.ending = False
        self.estimate = ProgressEstimate()
        self.facts: dict[str, Any] = {}
        self._thumbnails: dict[int, set[int]] = {}
        self._posters: dict[int, bool] = {}
        self._kills: dict[int, int] = {}  # job -> kills of its worker since the user's last request
        self._event, self._wake = asyncio.Event(), asyncio.Event()
        self._forget_thumbnails()

    # Called by the API.

    def submitted(self) -> None:
        self._wake.set()
        self.notify()

    def cancel(self, job: int) -> None:
        """Mark the job as cancelled and stop it. Raises QueueRefusedError, KeyError."""
        self.queue.cancel(job)
        if job == self.running:
            self.cancelling = True
            if self.worker:
                self.worker.send({"do": "stop"})
        self._wake.set()
        self.notify()

    def unload(self) -> None:
        self.unload_requested = True
        self._wake.set()

    def end(self) -> None:
        self.ending = True
        if self.running and self.worker:
            self.worker.send({"do": "stop"})
        self._wake.set()
        self.notify()

    @property
    def worker_state(self) -> str:
        if self.worker is None:
            return "off"
        return "starting" if not self.worker.ready else "working" if self.running else "ready"

    def thumbnails(self, job: int) -> list[int]:
        """Frames of a job that have a thumbnail, in order."""
        if job not in self._thumbnails:
            with contextlib.suppress(OSError):
                pictures = self.thumbnail_folder(job).glob("*.png")
                self._thumbnails[job] = {int(path.stem) for path in pictures if re.fullmatch(r"-?\d+", path.stem)}
        return sorted(self._thumbnails.get(job, ()))

    def has_poster(self, job: int) -> bool:
        """Whether there is a picture of the job's composite."""
        if job not in self._posters:
            self._posters[job] = (self.thumbnail_folder(job) / "poster.png").is_file()
        return self._posters[job]

    def forget(self, jobs: Sequence[int]) -> Sequence[int]:
        """Remove ended jobs from the list, with their thumbnails; returns the removed ones."""
        removed = self.queue.forget(jobs)
        for job in removed:
            self._thumbnails.pop(job, None)
            self._posters.pop(job, None)
            shutil.rmtree(self.thumbnail_folder(job), ignore_errors=True)
        self.notify()
        return removed

    def thumbnail_folder(self, job: int) -> Path:
        return self.settings.folder / "thumbnails" / str(job)

    def notify(self) -> None:
        """Wake all waiters of changed()."""
        self.turn += 1
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def changed(self, seconds: float) -> None:
        """Wait for a change, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)

    # The work.

    async def run(self) -> None:
        """Run jobs one after another until end() is called; unload the model after its idle time."""
        try:
            if self.settings.warm:
                with contextlib.suppress(OSError):  # the first job tries again and reports the error
                    self.worker = await Worker.start(self.settings)
                    self.notify()
            while not self.ending:
                self._wake.clear()
                if self.unload_requested:
                    await self._unload()
                job = await self._write_queue(self.queue.take)
                if job is not None:
                    await self._run_job(job)
                    continue
                try:
                    await asyncio.wait_for(self._wake.wait(), self.settings.model_idle if self.worker else None)
                except TimeoutError:
                    await self._unload()
        finally:
            await self._unload()

    async def _run_job(self, job: Job) -> None:
        self.running, self.cancelling = job["id"], bool(job["cancelling"])
        lifts = _model_of(job).startswith("lift:")
        self.facts, self.estimate = {}, ProgressEstimate(self._facts_of_earlier(job), lifts)
        self._show_progress(stage="start")
        values = await self._outcome(job)
        if values is None:
            await self._write_queue(lambda: self.queue.put_back(job["id"]))
        else:
            self._kills.pop(job["id"], None)
            await self._write_queue(lambda: self.queue.end(job["id"], **values))
        self.running, self.progress = None, {}
        self.notify()

    async def _outcome(self, job: Job) -> dict[str, Any] | None:  # noqa: C901 - one branch an event or time limit
        """Arguments of Queue.end for the job; None if it resumes after the next start."""
        if self.worker is None:
            try:
                self.worker = await Worker.start(self.settings)
            except OSError as error:
                return {"state": "failed", "kind": "system", "reason": f"the worker cannot be started ({error}); retry"}
        worker, sent = self.worker, False
        # Seconds without any event, without progress, and since the request to stop.
        silent = stalled = stopping = 0.0
        last = time.monotonic()
        while True:
            if worker.ready and not sent and not self._must_stop:
                try:
                    worker.send(self._command(job))
                except InputError as error:
                    return {"state": "failed", "kind": "system", "reason": str(error)}
                sent = True
            event = await worker.next(TICK_SECONDS) or {}
            # A tick counts at most two seconds: after a sleep of the machine the worker has not hung.
            passed, last = min(time.monotonic() - last, 2), time.monotonic()
            kind = event.get("event")
            silent = 0 if event else silent + passed
            stalled = 0 if kind in ("progress", "prepared", "model") else stalled + passed
            stopping = stopping + passed if self._must_stop else 0
            if kind in ("done", "stopped", "failed"):
                if kind == "failed" and event["kind"] in ("memory", "fault"):
                    await self._unload()  # it ends, and a new one starts with free memory
                return self._end_values(event)
            if kind == "gone":
                await self._unload()
                if not worker.killed and self._should_retry(job["id"], event["code"]):
                    return None
                return self._stop_values("crash", _how_it_ended(event["code"]))
            if kind:
                self._note(worker, job, event)
            # The longer a model takes to load, the longer the worker may take to stop before it is killed.
            if self._must_stop and (not sent or stopping > max(CANCEL_SECONDS, worker.load_seconds / 4)):
                if sent:
                    await self._kill()
                return self._stop_values(None, None)
            limit = self.settings.hang if worker.ready else self.settings.stall
            if silent > limit:
                await self._kill()
                return self._stop_values("hang", f"the worker gave no sign of life for {silent:.0f} s and was ended")
            if stalled > self.settings.stall:
                stage = self.progress["stage"]
                await self._kill()
                return self._stop_values("hang", f"no progress for {stalled:.0f} s at '{stage}'; the worker was ended")

    def _should_retry(self, job: int, code: int) -> bool:
        """Whether to retry a job whose worker was killed from outside, mostly for lack of memory; counts the retry."""
        if code != -signal.SIGKILL or self._must_stop:
            return False
        self._kills[job] = self._kills.get(job, 0) + 1
        return self._kills[job] <= MAX_RETRIES

    @property
    def _must_stop(self) -> bool:
        return self.cancelling or self.ending

    def _end_values(self, event: dict[str, Any]) -> dict[str, Any] | None:
        """See `_outcome`, for a job that the worker has ended."""
        if event["event"] == "done":
            facts = self.facts
            if self.estimate.whole:
                facts |= {"seconds": {stage: round(seconds, 2) for stage, seconds in self.estimate.seconds.items()}}
            return {"state": "done", "report": event["report"], "facts": facts or None}
        if event["event"] == "failed":
            return {"state": "failed", "kind": event["kind"], "reason": event["reason"]}
        return self._stop_values("fault", "the worker stopped without a request")

    def _stop_values(self, kind: str | None, reason: str | None) -> dict[str, Any] | None:
        """See `_outcome`, for a job that was stopped or whose worker failed."""
        if self.cancelling:
            return {"state": "cancelled"}
        if self.ending:
            return None
        return {"state": "failed", "kind": kind, "reason": f"{reason}; a retry continues where the job stopped"}

    def _command(self, job: Job) -> dict[str, Any]:
        return {
            "do": "job",
            "recipe": job["recipe"],
            "device": self.settings.device,
            "roots": self.roots.folders(),
            "thumbnails": str(self.thumbnail_folder(job["id"])),
        }

    def _note(self, worker: Worker, job: Job, event: dict[str, Any]) -> None:
        """Take up an event of the running job: its identity, progress, pictures, model and memory."""
        kind = event["event"]
        if kind == "prepared":
            self._set_facts(event)
            donors: Sequence[str] = []  # folders of finished jobs with the same pixels, which the worker may copy
            with contextlib.suppress(sqlite3.Error):  # the next run reports them again
                donors = self.queue.rendered(event["identity"])
                self.queue.note(
                    job["id"], identity=event["identity"], warnings=event["warnings"], facts=self.facts or None
                )
            worker.send({"do": "go", "donors": donors})
        elif kind == "progress":
            self.progress = {n: event[n] for n in ("stage", "done", "total", "seconds_left", "frame")}
            share, left = self.estimate.update(event["stage"], event["done"], event["total"], event["seconds_left"])
            self.progress |= {"progress": round(share, 4), "job_seconds_left": left and round(left, 1)}
        elif kind == "delivered":
            self._set_facts(event)
        elif kind == "thumbnail":
            self._thumbnails.setdefault(job["id"], set()).add(event["frame"])
        elif kind == "poster":
            self._posters[job["id"]] = True
        elif kind == "model":
            self.model, self.device = event["model"], event["device"]
        elif kind == "beat":
            self.memory = event["memory"]
            return
        self.notify()

    def _set_facts(self, event: dict[str, Any]) -> None:
        self.facts = event.get("facts") or {}
        self.estimate.frames = self.facts.get("frames")

    def _facts_of_earlier(self, job: Job) -> dict[str, Any] | None:
        """Frames and seconds of the latest complete job of the same model, or None."""
        with contextlib.suppress(sqlite3.Error):
            for done in self.queue.latest_done():
                facts = done["facts"] or {}
                rendered = {"denoise", "lift"} & set(facts.get("seconds", {}))  # not copied from another folder
                if rendered and facts.get("frames") and _model_of(done) == _model_of(job):
                    return facts
        return None

    def _show_progress(self, **values: Any) -> None:
        self.progress = values
        self.notify()

    async def _unload(self) -> None:
        self.unload_requested = False
        if self.worker is not None:
            worker, self.worker = self.worker, None
            self.model = self.device = None
            self.memory = {}
            await worker.end()
            self.notify()

    async def _kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()
        await self._unload()

    async def _write_queue(self, change: Callable[[], Any]) -> Any:
        """Call `change`, which writes the queue, and return its result; None if the service ends first.

        On a full disk, wait and try again; `health` reports the error meanwhile.
        """
        while True:
            try:
                result = change()
                self.trouble = None
                return result
            except sqlite3.OperationalError as error:
                self.trouble = f"the queue cannot be written ({error}); make room at {self.settings.folder}"
                self.notify()
            if self.ending:
                return None
            await asyncio.sleep(RETRY_SECONDS)

    def _forget_thumbnails(self) -> None:
        """Delete the thumbnails of jobs that the queue has forgotten."""
        with contextlib.suppress(OSError):
            for folder in (self.settings.folder / "thumbnails").iterdir():
                if not (folder.name.isdigit() and self.queue.get(int(folder.name))):
                    shutil.rmtree(folder, ignore_errors=True)


class Worker:
    """The worker's process. `next` returns its events; the last one is "gone"."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None and process.stdout is not None  # both are pipes
        self.process, self._commands, self._events_pipe = process, process.stdin, process.stdout
        self.ready, self.load_seconds = False, 0.0
        self.killed = False  # whether the supervisor killed it
        self.events: asyncio.Queue = asyncio.Queue()
        self.reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, settings: Settings) -> Worker:
        """Start the process. Raises OSError."""
        with open(settings.folder / "service.log", "ab") as log:
            process = await asyncio.create_subprocess_exec(
                *settings.worker,
                str(settings.folder),
                str(settings.memory_limit or 0),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=2**20,
            )
        return cls(process)

    async def _read(self) -> None:
        try:
            async for line in self._events_pipe:
                event = json.loads(line)
                if event["event"] == "ready":
                    self.ready = True
                if event["event"] == "model":
                    self.load_seconds = event["seconds"]
                self.events.put_nowait(event)
        except ValueError:  # an incomplete line: the worker died while writing
            self.kill()
        self.events.put_nowait({"event": "gone", "code": await self.process.wait()})

    async def next(self, seconds: float) -> dict[str, Any] | None:
        """The next event, or None after `seconds`."""
        try:
            return await asyncio.wait_for(self.events.get(), seconds)
        except TimeoutError:
            return None

    def send(self, command: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            self._commands.write(json.dumps(command).encode() + b"\n")

    def kill(self) -> None:
        self.killed = True
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """Close the worker's input, which ends it; kill it if it does not end."""
        with contextlib.suppress(OSError):
            self._commands.close()
        try:
            await asyncio.wait_for(asyncio.shield(self.reading), 2)
        except TimeoutError:
            self.kill()
            await self.reading


def _model_of(job: Job) -> str:
    return str(job["recipe"].get("model", EMBEDDED))


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code}; the service's log has more"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = " (for lack of memory, or from outside)" if name == "SIGKILL" else ""
    return f"the worker was ended by {name}{hint}"
