"""The worker: a separate process that keeps the model loaded and runs one job at a time.

It reads commands from standard input, one JSON object per line: {"do": "job", ...}, {"do": "go", ...}, {"do": "stop"}.
It writes events to standard output. When its input ends, the server has ended, and the worker ends at once. Files are
written atomically, so this is safe at any time.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vera.core.errors import InputError, OutOfMemoryError, StoppedError, one_line
from vera.core.files import FileLock, LockHeldError
from vera.core.service.security import check_files

if TYPE_CHECKING:
    from vera.core.backends.base import Job
    from vera.core.layer.delivery import Delivery
    from vera.core.layer.outputs.output import FramePixels

BEAT_SECONDS = 1.0  # interval of the heartbeat
THUMBNAILS = 6  # number of thumbnails per job, evenly spread over its frames


class EventSender(Protocol):
    """Receives the events of a job."""

    def send(self, event: str, **values: Any) -> Any: ...


class Line:
    """The pipes to the server: commands in, events out. Nothing else may write there."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # output of libraries goes to the log
        self.commands: queue.Queue = queue.Queue()
        self.stopping = threading.Event()
        self.working = threading.Event()
        self.writing = threading.Lock()
        for target in (self._read, self._beat):
            threading.Thread(target=target, daemon=True).start()

    def send(self, event: str, **values: Any) -> None:
        try:
            with self.writing:
                self.out.write(json.dumps({"event": event, **values}) + "\n")
                self.out.flush()
        except OSError:
            os._exit(0)

    def _read(self) -> None:
        for line in sys.stdin:
            command = json.loads(line)
            if command["do"] == "job":
                self.stopping.clear()
            if command["do"] == "stop":
                self.stopping.set()
            else:
                self.commands.put(command)
        os._exit(0)

    def _beat(self) -> None:
        while True:
            self.working.wait()
            self.send("beat", memory=memory_used())
            time.sleep(BEAT_SECONDS)


class JobProgress:
    """Implements `ProgressLike`: reports stages and steps to the server, and makes thumbnails."""

    def __init__(self, line: Line, thumbnails: Path) -> None:
        self.line, self.thumbnails = line, thumbnails
        self.name = ""

    def begin(self, job: Job) -> None:
        self.job = job
        frames = job.plate.frames
        self.poster = frames[len(frames) // 2]
        count = min(THUMBNAILS, len(frames))
        self.shown = {frames[round(i * (len(frames) - 1) / max(count - 1, 1))] for i in range(count)}

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total = name, total
        self.done = self.skipped = done
        self.started = time.monotonic()
        self._say(None, None)

    def advance(self, count: int = 1) -> None:
        self.done += count
        left = (time.monotonic() - self.started) / (self.done - self.skipped) * (self.total - self.done)
        frame = self.job.plate.frames[self.done - 1] if self.name in ("read", "deliver") else None
        if frame is not None and self.name == "deliver":
            self.thumbnail(frame)
        self._say(round(left, 1) if self.done < self.total else None, frame)
        if self.name == "deliver" and self.done >= self.total:
            self.stage("finish", 1)  # preview and check of all files take as long as some frames

    def thumbnail(self, frame: int) -> None:
        if frame not in self.shown and frame != self.poster:
            return
        from vera.core.layer.preview import write_poster, write_thumbnail

        job = self.job
        try:
            self.thumbnails.mkdir(parents=True, exist_ok=True)
            if frame == self.poster:
                picture = job.color.for_display(job.delivery.read_composite(frame))
                write_poster(self.thumbnails / "poster.png", picture, job.plate)
                self.line.send("poster")
            if frame in self.shown:
                layer = job.delivery.read_layer(frame)
                write_thumbnail(self.thumbnails / f"{frame}.png", layer, job.plate, job.blending)
                self.line.send("thumbnail", frame=frame)
        except OSError:
            traceback.print_exc()  # a missing thumbnail must not fail the job

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _say(self, left: float | None, frame: int | None) -> None:
        self.line.send("progress", stage=self.name, done=self.done, total=self.total, seconds_left=left, frame=frame)


class WarmModel:
    """`load_model` with a cache of the latest model, valid while its files and the arguments are the same.

    learned: plans that fit the memory for jobs of this model (core/job/memory.py), valid while its files are the same
    """

    def __init__(self, line: EventSender) -> None:
        self.line = line
        self.key: tuple[Any, ...] | None = None
        self.model: Any = None
        self.learned: dict[Any, Any] = {}

    def __call__(self, name: str, device: str, **asked: Any) -> Any:
        from vera.core.model.load import load_model
        from vera.core.model.names import folder_of
        from vera.core.recipe import parse_lora

        folders = [folder_of(name), *(Path(parse_lora(text)[0]) for text in asked.get("lora", ()))]
        key = (name, device, tuple(map(_state_of, folders)), tuple(sorted(asked.items())))
        if key != self.key:
            if self.key and key[:-1] != self.key[:-1]:
                self.learned.clear()
            self.key = self.model = None  # so that two models are never in memory together
            started = time.monotonic()
            self.model = load_model(name, device, **asked)
            self.key = key
            self.line.send("model", model=name, device=str(self.model.device), seconds=time.monotonic() - started)
        return self.model


def make(command: dict[str, Any], line: Line, load: WarmModel) -> dict[str, Any]:
    """Run one job from its recipe to the delivery; return the report. Raises the backend's errors, OutOfMemoryError."""
    from vera.core.job.memory import ModelLoading, within_memory
    from vera.core.recipe import EditRecipe

    progress = JobProgress(line, Path(command["thumbnails"]))
    recipe = EditRecipe.from_values(command["recipe"], "the job")
    progress.stage("prepare", 1)
    check_files(command["recipe"], command["roots"])

    def work(job: Job) -> dict[str, Any]:
        report = attempt(job, line, progress)
        line.send("delivered", facts=facts_of(job) | {"views": views_of(job)})
        return report

    return within_memory(work, recipe, command["device"], ModelLoading(load, load.learned))


def attempt(job: Job, line: Line, progress: JobProgress) -> dict[str, Any]:
    """Run the job once: finished parts are reused, the rest is made."""
    from vera.core.job.run import nothing_to_do

    progress.begin(job)
    line.send("prepared", identity=job.hash, warnings=list(job.warnings), facts=facts_of(job))
    donors = line.commands.get()["donors"]
    if line.stopping.is_set():
        raise StoppedError("stopped before the first frame")
    if not nothing_to_do(job):
        with job.delivery.claimed():
            return copy_or_run(job, donors, line, progress)
    for frame in job.plate.frames:
        progress.thumbnail(frame)
    manifest = job.delivery.manifest()
    return manifest.extra if manifest else {}


def facts_of(job: Job) -> dict[str, Any]:
    """Facts about a job that the page shows, for any backend."""
    plate = job.plate
    return {
        "frames": len(plate.frames),
        "first": plate.frames[0],
        "last": plate.frames[-1],
        "width": plate.width,
        "height": plate.height,
        "fps": float(plate.fps) if plate.fps else None,
        "model": job.model_name,
        "steps": job.steps,
    }


def views_of(job: Job) -> dict[str, list[int]]:
    """Positions of the preview's pictures, {name: [row, column]}; empty for an earlier version's preview."""
    from vera.core.layer.preview import VIEWS, has_views

    there = has_views(job.delivery.dir / "preview.mp4", job.plate)
    return {name: list(place) for name, place in VIEWS.items()} if there else {}


def copy_or_run(job: Job, donors: list[str], line: Line, progress: JobProgress) -> dict[str, Any]:
    """Deliver from a folder that already has these pixels; generate them if there is none."""
    from vera.core.job.run import run_job

    if not job.recipe.keep:  # a copied delivery has no latents to keep
        for donor in (_delivery_in(out, job) for out in donors):
            try:
                if donor and donor.complete():
                    return copy(donor, job, progress, line.stopping)
            except JobVanishedError:
                pass  # copied frames stay, the rest is generated
    return run_job(job, progress, line.stopping.is_set)


class JobVanishedError(Exception):
    """A delivery that was complete before cannot be read, or differs from its manifest."""


def copy(donor: Delivery, job: Job, progress: JobProgress, stopping: threading.Event) -> dict[str, Any]:
    """Copy a delivery of the same pixels from another folder; files are written and verified like new ones.

    Raises JobVanishedError if that folder changes meanwhile.
    """
    manifest = donor.manifest()
    if manifest is None:
        raise JobVanishedError
    job.delivery.start()
    progress.stage("deliver", len(job.plate.frames))
    for frame in job.plate.frames:
        if stopping.is_set():
            raise StoppedError(f"stopped before frame {frame}")
        if not job.delivery.done(frame):
            pixels = _pixels_of(donor, frame)
            try:
                job.delivery.write(frame, pixels, manifest.records[frame].facts)
            except ValueError as error:  # the files' shape does not match their digests
                raise JobVanishedError from error
        progress.advance()
    job.delivery.finish(manifest.extra)
    return manifest.extra


def _pixels_of(donor: Delivery, frame: int) -> FramePixels:
    """A delivered frame. Raises JobVanishedError."""
    try:
        return donor.read_frame(frame)
    except (OSError, ValueError) as error:
        raise JobVanishedError from error


def _delivery_in(out: str, job: Job) -> Delivery | None:
    from vera.core.layer.delivery import Delivery

    own = job.delivery
    if Path(out) == own.dir:
        return None
    return Delivery(replace(own.shot, dir=Path(out)), own.color, own.recipe, own.generation)


def failure(error: Exception, limit: int) -> tuple[str, str]:
    """(kind, reason) of an error; the reason is one line with the fix."""
    # File names may contain bytes that are no text.
    text = one_line(error)
    if isinstance(error, InputError):
        return "input", text
    if isinstance(error, OutOfMemoryError):
        allowed = f" (the worker may take {limit / 2**30:.1f} GiB)" if limit and "GPU" not in text else ""
        return "memory", text + allowed
    # Libraries wrap system errors in errors of their own.
    if isinstance(error, OSError) or "(os error " in text:
        return "system", f"{text}; fix that and retry: finished frames are kept"
    return "fault", f"{type(error).__name__}: {text}; the service's log has more"


def limit_memory(limit: int) -> None:
    """Limit this process's memory to `limit` bytes if the system can (Linux).

    A decompression bomb then ends at most this process.
    """
    if limit and sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def memory_used() -> dict[str, int | None]:
    """{"worker": resident bytes of this process, "gpu": bytes it uses on the GPU}; None if unknown."""
    used: dict[str, int | None] = {"worker": None, "gpu": None}
    try:
        with open("/proc/self/statm") as file:
            used["worker"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        pass
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_initialized():
        used["gpu"] = torch.cuda.memory_reserved()
    return used


def wait_for_lock(path: Path, line: Line) -> FileLock:
    """Ensure that only one worker runs, also while the worker of a killed server is still ending."""
    while True:
        try:
            return FileLock(path)
        except LockHeldError:
            line.send("waiting")
            time.sleep(0.2)


def main(folder: str, limit: int) -> None:
    line = Line()
    lock = wait_for_lock(Path(folder) / "worker.lock", line)  # noqa: F841  held to the end
    limit_memory(limit)
    load = WarmModel(line)
    import vera.core.backends.generate  # noqa: F401  imported here, so that the first job need not wait for it
    import vera.core.job.memory  # noqa: F401

    line.send("ready", pid=os.getpid())
    while True:
        command = line.commands.get()
        line.working.set()
        try:
            line.send("done", report=make(command, line, load))
        except StoppedError:
            line.send("stopped")
        except Exception as error:
            traceback.print_exc()
            kind, reason = failure(error, limit)
            line.send("failed", kind=kind, reason=reason)
            if kind in ("memory", "fault"):
                return  # a new process starts with all of its memory and a clean state
        finally:
            line.working.clear()


def _state_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
