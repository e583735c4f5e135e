"""Render shots with Ray, which assigns them to workers and restarts shots whose worker died.

A shot is a Ray task. A worker process keeps its model loaded for the next shot. Finished work is on disk, so a
restarted shot resumes, and a complete shot is skipped.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

# Ray reads these when it is imported: no usage statistics are sent, and a task that runs out of memory is retried three
# times instead of forever.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_task_oom_retries", "3")

import ray
from ray.exceptions import GetTimeoutError, RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vera.core.errors import InputError, one_line
from vera.core.farm.shot_lists import Shot
from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT, RenderOptions, render
from vera.core.service.worker import WarmModel

if TYPE_CHECKING:
    import torch

    from vera.core.farm.report import Report
    from vera.core.model.interfaces import Transformer
    from vera.core.sampling.denoise import Guided, WindowInput

Event = dict[str, Any]  # keys: event, shot, host, pid, and values that depend on the event

POLL_SECONDS = 0.5  # between two reads of the workers' events; raising it makes progress less smooth
STOP_SECONDS = 60.0  # time for workers to stop; raising it lets longer steps finish before they are killed
ANSWER_SECONDS = 10  # time for an address to accept a connection
MAX_REASON = 300  # characters of Ray's error that a message repeats


@dataclass(frozen=True)
class WorkerResources:
    """Resources of one worker, and options that all shots share.

    cpus, gpus: Ray's resources; fractions are allowed. retries: how often a shot is restarted after its worker died.
    share_windows: all workers sample the windows of one shot, and shots run one after the other.
    """

    cpus: float
    gpus: float
    retries: int = 3
    share_windows: bool = False

    @property
    def device(self) -> str:
        """ "cuda" for workers with a GPU, else "cpu"."""
        return "cuda" if self.gpus else "cpu"

    @property
    def options(self) -> dict[str, Any]:
        """The options of a Ray task."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": self.retries}


@dataclass(frozen=True)
class Outcome:
    """The end of a shot. code: exit code as of `vera render`. message: one line. rendered: False if the shot was
    complete before."""

    shot: Shot
    code: int
    message: str
    rendered: bool = False


def connect(address: str | None) -> None:
    """Connect to the Ray cluster at an address, at $RAY_ADDRESS or on this machine, or else start one here.

    Raises InputError if no cluster answers.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "this machine"
    try:
        if where.rpartition(":")[2].isdecimal():  # fail fast: Ray itself retries for minutes
            host, _, port = where.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise InputError(
            f"--address {where}: no Ray cluster accepts a connection ({reason}); see docs/farm.md"
        ) from None


def worker_count(resources: WorkerResources) -> int:
    """How many of these workers fit the cluster at once. Raises InputError if no machine has room for one."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    needed = {"CPU": resources.cpus, "GPU": resources.gpus}
    count = sum(int(min(machine.get(k, 0) / n for k, n in needed.items() if n)) for machine in machines)
    if count == 0:
        largest = ", ".join(f"{max(machine.get(k, 0) for machine in machines):g} {k}" for k in needed)
        options = f"--cpus {resources.cpus:g} --gpus {resources.gpus:g}"
        raise InputError(f"{options}: no machine has that; the most are {largest}")
    return count


def cluster_has_gpus() -> bool:
    """Whether any machine of the cluster has a GPU."""
    return ray.cluster_resources().get("GPU", 0) > 0


class Crew:
    """The workers of one command, which keep their models from list to list. `count`: how many fit the cluster."""

    def __init__(self, resources: WorkerResources) -> None:
        """Raises InputError if no machine has room for a worker."""
        self.resources, self.count = resources, worker_count(resources)
        # max_calls=0 keeps the worker processes, with a GPU too.
        self.task = ray.remote(max_calls=0)(render_shot).options(**resources.options)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._queue = ray.remote(EventQueue).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here)

    def queue(self) -> Any:
        """A new queue for the events of one list: late events of another one, of the same numbers, stay in its own."""
        return self._queue.remote()

    def begin(self, shot: Shot, queue: Any) -> Any:
        """Ray's reference of the shot's Outcome. queue: receives the shot's events."""
        return self.task.remote(shot, self.resources, self.count, queue)


def run(shots: Sequence[Shot], crew: Crew, report: Report, stopping: Callable[[], bool]) -> list[Outcome]:
    """Render the shots and return their outcomes in order."""
    report.begin()
    outcomes: dict[int, Outcome] = {}
    running: dict[Any, Shot] = {}
    queue = crew.queue()
    inbox = Inbox(queue, report)

    def ended(outcome: Outcome) -> None:
        outcomes[outcome.shot.number] = outcome
        report.ended(outcome)

    for shot in shots:
        if shot.error:
            ended(Outcome(shot, WRONG_INPUT, f"error: {shot.error}"))
    waiting = [shot for shot in shots if not shot.error]
    while (waiting or running) and not stopping():
        while waiting and not (running and crew.resources.share_windows):
            shot = waiting.pop(0)
            running[crew.begin(shot, queue)] = shot
        done, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        inbox.report_new(complete=bool(done))
        for ref in done:
            ended(_outcome(ref, running.pop(ref), report))
    for ref in running:
        ray.cancel(ref)
    if running:
        report.stopping(len(running))
        ray.wait(list(running), num_returns=len(running), timeout=STOP_SECONDS)
    for ref, shot in running.items():
        ended(_outcome(ref, shot, report))
    for shot in waiting:
        ended(Outcome(shot, STOPPED, "not started"))
    return [outcomes[shot.number] for shot in shots]


def _outcome(ref: Any, shot: Shot, report: Report) -> Outcome:
    try:
        return ray.get(ref, timeout=1)
    except (TaskCancelledError, GetTimeoutError):
        return Outcome(shot, STOPPED, "stopped; the same command resumes it")
    except RayError as error:
        reason = report.faults.get(shot.number) or _reason_of(error)
        times = f"{report.begun[shot.number]} time{'s' if report.begun[shot.number] != 1 else ''}"
        return Outcome(shot, FAULT, f"fault: started {times}, and its worker died each time; the last reason: {reason}")


def _reason_of(error: RayError) -> str:
    """Why a worker died that could not report it itself."""
    known = {
        "WorkerCrashedError": "it was killed from outside, or by the system for lack of memory",
        "OutOfMemoryError": "Ray ended it because the machine's memory was nearly full; give workers more --cpus",
        "NodeDiedError": "its machine disappeared",
        "RuntimeEnvSetupError": "its environment could not be set up",
        "TaskUnschedulableError": "no machine has the worker's resources any more",
    }
    for kind in type(error).__mro__:
        if kind.__name__ in known:
            return known[kind.__name__]
    return " ".join(str(error).split())[:MAX_REASON]


def _taken(events: Any) -> list[Event]:
    """The events of a finished read; none if the queue's process died, which Ray restarts empty."""
    try:
        return ray.get(events)
    except RayError:
        return []


class Inbox:
    """Takes the events of a list's queue and reports them."""

    def __init__(self, queue: Any, report: Report) -> None:
        self.queue, self.report, self.events = queue, report, queue.take.remote()

    def report_new(self, complete: bool) -> None:
        """Report what has arrived. complete: also wait for all that was written before this call."""
        if ray.wait([self.events], timeout=0)[0]:
            self._report()
        if complete:
            self._report()

    def _report(self) -> None:
        self.report.receive(_taken(self.events))
        self.events = self.queue.take.remote()


class EventQueue:
    """An actor to which workers write events and from which the driver takes them."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, *events: Event) -> None:
        """Append events."""
        self.events += events

    def take(self) -> list[Event]:
        """Return the events and empty the queue."""
        events, self.events = self.events, []
        return events


class RayProgress:
    """A worker's progress (vera.core.progress.ProgressLike): writes to the queue, at most every POLL_SECONDS."""

    def __init__(self, queue: Any, shot: Shot) -> None:
        self.queue, self.shot, self.written_at = queue, shot.number, 0.0
        self.worker = {"host": socket.gethostname(), "pid": os.getpid()}

    def send(self, event: str, **values: Any) -> Any:
        """Write an event; returns Ray's reference of the call."""
        return self.queue.write.remote({"event": event, "shot": self.shot, **self.worker, **values})

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = name, total, done
        self._write()

    def advance(self, count: int = 1) -> None:
        self.done += count
        if time.monotonic() - self.written_at > POLL_SECONDS or self.done == self.total:
            self._write()

    def warn(self, text: str) -> None:
        self.send("warning", text=text)

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _write(self) -> None:
        self.written_at = time.monotonic()
        self.send("progress", stage=self.name, done=self.done, total=self.total)


class SharedModel(WarmModel):
    """The model of this worker process, kept from shot to shot."""

    def __init__(self) -> None:
        super().__init__(line=self)
        self.progress: RayProgress | None = None

    def send(self, event: str, **values: Any) -> None:
        """Report an event of the present shot."""
        if self.progress:
            self.progress.send(event, **values)


PROCESS_MODEL = SharedModel()


def render_shot(shot: Shot, resources: WorkerResources, workers: int, queue: Any) -> Outcome:
    """Render one shot in a worker. Returns an Outcome for a finished shot or wrong input.

    After any other error the process ends, and Ray restarts the shot in a new one.
    """
    PROCESS_MODEL.progress = progress = RayProgress(queue, shot)
    progress.send("begun")
    recipe = shot.recipe
    assert recipe is not None  # shots with an error are not sent to a worker
    try:
        from vera.core.backends import load_backend  # torch, which only workers need

        window_runner = None
        if resources.share_windows and load_backend(recipe.model).samples:
            if recipe.cache:
                raise InputError("--share-windows: not possible with a cache, which belongs to one process; omit one")
            window_runner = SharedWindows(recipe.model, resources, workers)
        options = RenderOptions(load=PROCESS_MODEL, window_runner=window_runner)
        rendered, message = render(recipe, resources.device, progress, lambda: False, options)
        return Outcome(shot, DONE, message, rendered)
    except InputError as error:
        return Outcome(shot, WRONG_INPUT, one_line(f"error: {error}"))
    except Exception as error:
        traceback.print_exc()
        reason = f"{error.__class__.__name__}: {' '.join(str(error).split())[:1000]}"
        ray.wait([progress.send("fault", text=reason)], timeout=5)
        os._exit(1)


class WindowTask(NamedTuple):
    """What another worker needs for a window, besides the window: model name, device, attention, compile, guidance."""

    model: str
    device: str
    attention: str
    compile: bool
    guided: Guided


@dataclass(frozen=True)
class SharedWindows:
    """A window runner as run_windows_serially (core/sampling/denoise.py) that spreads a step's windows over workers.

    Every `workers`-th window runs in this process. Other workers compute only velocities, with the same code; blending
    happens here, in the same order.
    """

    model: str
    resources: WorkerResources
    workers: int

    def __call__(
        self,
        guided: Guided,
        transformer: Transformer,
        inputs: Iterable[WindowInput],
        caches: Any,
        check: Callable[[], None],
    ) -> Iterator[torch.Tensor]:
        from vera.core.model.offload import computing_device

        device = computing_device(transformer)
        inputs = [(latents.cpu(), span, timestep) for latents, span, timestep in inputs]
        portable = guided.with_text_on("cpu")
        window_task = ray.put(
            WindowTask(self.model, self.resources.device, transformer.attention, is_compiled(transformer), portable)
        )
        remote = ray.remote(max_calls=0)(window_velocity).options(**self.resources.options)
        elsewhere = {i: remote.remote(window_task, *window) for i, window in enumerate(inputs) if i % self.workers}
        for i, window in enumerate(inputs):
            check()
            if i in elsewhere:
                yield ray.get(elsewhere[i]).to(device)
            else:
                yield guided(transformer, *window, caches, check)


def window_velocity(
    task: WindowTask, latents: torch.Tensor, span: tuple[int, int], timestep: torch.Tensor
) -> torch.Tensor:
    """The guided velocity of one window, (n, 3, C, H, W) fp32 on the CPU; runs in another worker."""
    import torch

    from vera.core.sampling.speed_options import SpeedOptions

    model, guided = PROCESS_MODEL(task.model, task.device), task.guided
    if model.transformer.attention != task.attention or is_compiled(model.transformer) != task.compile:
        SpeedOptions(attention=task.attention, compile=task.compile).prepare(model.transformer)
    with torch.inference_mode():
        return guided.with_text_on(model.device)(model.transformer, latents, span, timestep, None).cpu()


def is_compiled(transformer: Transformer) -> bool:
    """Whether the transformer's blocks are compiled."""
    return transformer.blocks[0]._compiled_call_impl is not None
