"""Ray as the engine: it finds workers for shots, and begins those again whose worker died.

A shot is a Ray task. The process that ran one keeps its model warm for the next. What is done is on the disk, so
a shot that is begun again goes on where it was, and one that is whole is left alone.
"""

from __future__ import annotations

import os
import socket
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

# Read when ray is imported. It would report its use to its makers, and try a task that runs out of memory forever.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_task_oom_retries", "3")

import ray
from ray.exceptions import GetTimeoutError, RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from vera.core.backends import load_backend
from vera.core.errors import InputError, one_line
from vera.core.farm.shots import Shot
from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT, render
from vera.core.model.offload import computing_device
from vera.core.service.worker import WarmModel

if TYPE_CHECKING:
    import torch

    from vera.core.farm.report import Report
    from vera.core.model.interfaces import Transformer
    from vera.core.sampling.denoise import Guided

Event = dict[str, Any]  # event, shot, host, pid, and what the event tells
Look = tuple["torch.Tensor", tuple[int, int], "torch.Tensor"]  # latents, span and timestep of a window

LOOK_SECONDS = 0.5  # between looks at what the workers say
PATIENCE_SECONDS = 60.0  # for workers to stop


@dataclass(frozen=True)
class Means:
    """What one worker takes of its machine, and what else all shots share.

    cpus, gpus: Ray's resources, fractions allowed. retries: how often a shot is begun again whose worker died.
    share_windows: all workers look at the windows of one shot, and shots come one after the other.
    """

    cpus: float
    gpus: float
    retries: int = 3
    share_windows: bool = False

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_retries": self.retries}


@dataclass(frozen=True)
class Outcome:
    """code: core.render's exit code for the shot. made: whether there was anything to do."""

    shot: Shot
    code: int
    said: str
    made: bool = False


def connect(address: str | None) -> None:
    """To the cluster at an address, or that of $RAY_ADDRESS or of this machine, or to one that begins here and now.

    Raises InputError.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "this machine"
    try:
        if where.rpartition(":")[2].isdecimal():  # Ray would knock for minutes
            host, _, port = where.rpartition("/")[2].rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError, RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"--address {where}: no Ray there that takes us in ({reason}); see docs/farm.md") from None


def places(means: Means) -> int:
    """How many such workers the cluster holds at once. Raises InputError if there is room for none."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": means.cpus, "GPU": means.gpus}
    count = sum(int(min(there.get(k, 0) / n for k, n in asked.items() if n)) for there in machines)
    if count == 0:
        largest = ", ".join(f"{max(there.get(k, 0) for there in machines):g} {k}" for k in asked)
        raise InputError(f"--cpus {means.cpus:g} --gpus {means.gpus:g}: no machine has that; the most are {largest}")
    return count


def gpus_there() -> bool:
    return ray.cluster_resources().get("GPU", 0) > 0


def run(shots: Sequence[Shot], means: Means, report: Report, stopping: Callable[[], bool]) -> list[Outcome]:
    """Render the shots; an outcome for each, in their order. report: vera.core.farm.report.Report. Raises
    InputError."""
    workers = places(means)
    report.begin()
    ask = ray.remote(max_calls=0)(render_shot).options(**means.options)  # max_calls: processes are kept, with a GPU too
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    board = ray.remote(Board).options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()
    outcomes: dict[int, Outcome] = {}
    running: dict[Any, Shot] = {}
    events = board.read.remote()

    def ended(outcome: Outcome) -> None:
        outcomes[outcome.shot.number] = outcome
        report.ended(outcome)

    for shot in shots:
        if shot.error:
            ended(Outcome(shot, WRONG_INPUT, f"error: {shot.error}"))
    waiting = [shot for shot in shots if not shot.error]
    while (waiting or running) and not stopping():
        while waiting and not (running and means.share_windows):
            shot = waiting.pop(0)
            running[ask.remote(shot, means, workers, board)] = shot
        done, _ = ray.wait(list(running), timeout=LOOK_SECONDS)
        if ray.wait([events], timeout=0)[0]:
            report.heard(_read(events))
            events = board.read.remote()
        for ref in done:
            ended(_outcome(ref, running.pop(ref), report))
    for ref in running:
        ray.cancel(ref)
    if running:
        report.stopping(len(running))
        ray.wait(list(running), num_returns=len(running), timeout=PATIENCE_SECONDS)
    for ref, shot in running.items():
        ended(_outcome(ref, shot, report))
    for shot in waiting:
        ended(Outcome(shot, STOPPED, "not begun"))
    return [outcomes[shot.number] for shot in shots]


def _outcome(ref: Any, shot: Shot, report: Report) -> Outcome:
    try:
        return ray.get(ref, timeout=1)
    except (TaskCancelledError, GetTimeoutError):
        return Outcome(shot, STOPPED, "stopped; the same command goes on from here")
    except RayError as error:
        reason = report.faults.get(shot.number) or _in_words(error)
        times = f"{report.begun[shot.number]} time{'s' if report.begun[shot.number] != 1 else ''}"
        return Outcome(shot, FAULT, f"fault: begun {times}, and its worker ended each time; the last: {reason}")


def _in_words(error: RayError) -> str:
    """How a worker ended that could not say so itself."""
    known = {
        "WorkerCrashedError": "it was killed from outside, or by the system for want of memory",
        "OutOfMemoryError": "Ray ended it, as the machine's memory was nearly full; give workers more --cpus",
        "NodeDiedError": "its machine went away",
        "RuntimeEnvSetupError": "its environment could not be set up",
        "TaskUnschedulableError": "no machine has what a worker takes any more",
    }
    for kind in type(error).__mro__:
        if kind.__name__ in known:
            return known[kind.__name__]
    return " ".join(str(error).split())[:300]


def _read(events: Any) -> list[Event]:
    try:
        return ray.get(events)
    except RayError:
        return []  # it begins again, and what it knew is told again as the work goes on


class Board:
    """Where workers write how they get on, and the driver reads it."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, *events: Event) -> None:
        self.events += events

    def read(self) -> list[Event]:
        events, self.events = self.events, []
        return events


class Teller:
    """vera.core.progress.Progress's face in a worker: writes on the board, a few times a second at most."""

    def __init__(self, board: Any, shot: Shot) -> None:
        self.board, self.shot, self.written_at = board, shot.number, 0.0
        self.worker = {"host": socket.gethostname(), "pid": os.getpid()}

    def send(self, event: str, **values: Any) -> Any:
        return self.board.write.remote({"event": event, "shot": self.shot, **self.worker, **values})

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = name, total, done
        self._tell()

    def advance(self, count: int = 1) -> None:
        self.done += count
        if time.monotonic() - self.written_at > LOOK_SECONDS or self.done == self.total:
            self._tell()

    def warn(self, text: str) -> None:
        self.send("warning", text=text)

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass

    def _tell(self) -> None:
        self.written_at = time.monotonic()
        self.send("progress", stage=self.name, done=self.done, total=self.total)


class Warm(WarmModel):
    """This process's model, kept from shot to shot."""

    def __init__(self) -> None:
        super().__init__(line=self)
        self.teller: Teller | None = None

    def send(self, event: str, **values: Any) -> None:
        if self.teller:
            self.teller.send(event, **values)


WARM = Warm()


def render_shot(shot: Shot, means: Means, workers: int, board: Any) -> Outcome:
    """One shot. Returns an Outcome where it is done, or its input is wrong; from anything else a new process is
    better, so this one ends, and Ray begins the shot again."""
    WARM.teller = teller = Teller(board, shot)
    teller.send("begun")
    recipe = shot.recipe
    assert recipe is not None  # a shot with an error is not sent to a worker
    try:
        window_runner = None
        if means.share_windows and load_backend(recipe.model).samples:
            if recipe.cache:
                raise InputError("--share-windows: a cache would have to stay with its window; leave one of them out")
            window_runner = SharedWindows(recipe.model, means, workers)
        made, said = render(recipe, means.device, teller, lambda: False, load=WARM, window_runner=window_runner)
        return Outcome(shot, DONE, said, made)
    except InputError as error:
        return Outcome(shot, WRONG_INPUT, one_line(f"error: {error}"))
    except Exception as error:
        traceback.print_exc()
        reason = f"{error.__class__.__name__}: {' '.join(str(error).split())[:1000]}"
        ray.wait([teller.send("fault", text=reason)], timeout=5)
        os._exit(1)


@dataclass(frozen=True)
class SharedWindows:
    """The like of vera.core.sampling.denoise.run_windows_serially: every so many-th window here, the others where
    there is room.

    Only velocities are computed elsewhere, by the same code; they are blended here and in the same order.
    """

    model: str
    means: Means
    workers: int

    def __call__(
        self, guided: Guided, transformer: Transformer, looks: Iterable[Look], caches: Any, check: Callable[[], None]
    ) -> Iterator[torch.Tensor]:
        device = computing_device(transformer)
        looks = [(latents.cpu(), span, timestep) for latents, span, timestep in looks]
        portable = replace(guided, text=guided.text.cpu(), empty_text=guided.empty_text.cpu())
        given = ray.put((self.model, self.means.device, transformer.attention, compiled(transformer), portable))
        ask = ray.remote(max_calls=0)(look_at).options(**self.means.options)
        there = {i: ask.remote(given, *look) for i, look in enumerate(looks) if i % self.workers}
        for i, look in enumerate(looks):
            check()
            yield ray.get(there[i]).to(device) if i in there else guided(transformer, *look, caches, check)


def look_at(
    given: tuple[str, str, str, bool, Guided], latents: torch.Tensor, span: tuple[int, int], timestep: torch.Tensor
) -> torch.Tensor:
    """The guided velocity of one window, (n, 3, C, H, W) fp32, on the CPU."""
    import torch

    from vera.core.sampling.speed_options import SpeedOptions

    name, device, attention, compile, guided = given
    model = WARM(name, device)
    if model.transformer.attention != attention or compiled(model.transformer) != compile:
        SpeedOptions(attention=attention, compile=compile).prepare(model.transformer)
    with torch.inference_mode():
        guided = replace(guided, text=guided.text.to(model.device), empty_text=guided.empty_text.to(model.device))
        return guided(model.transformer, latents, span, timestep, None).cpu()


def compiled(transformer: Transformer) -> bool:
    return transformer.blocks[0]._compiled_call_impl is not None
