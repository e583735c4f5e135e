"""Run one job from its recipe to its delivery: exit codes, the stop request, and render()."""

import errno
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import FrameType
from typing import TYPE_CHECKING, Any

from vera.core.errors import InputError, OutOfMemoryError, StoppedError, one_line
from vera.core.imports import uncollected
from vera.core.progress import Progress, ProgressLike
from vera.core.recipe import EditRecipe
from vera.kernels import NativeVersionError

if TYPE_CHECKING:
    from vera.core.backends.base import Job, Loader

DONE, FAULT, WRONG_INPUT, STOPPED = 0, 1, 2, 3
# Errors of names that the file system refuses, and of circular links. They occur before anything is written.
_WRONG_NAME = {errno.ENAMETOOLONG, errno.ELOOP}


def stop_request() -> Callable[[], bool]:
    """A function that returns whether Ctrl-C or a termination signal was received.

    The first signal lets the job stop at a safe point. The third one ends the process; the second does not, because
    programs such as `timeout` send each signal twice.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            signal.signal(number, signal.SIG_DFL)
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return lambda: bool(asked)


def nothing_to_do(job: "Job") -> bool:
    """Whether the delivery and the latents to keep are complete."""
    return job.delivery.complete() and job.keeps_all()


def run_job(job: "Job", progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
    """Make and deliver the layer of every frame; returns the report that goes into the manifest.

    stopping() is polled between windows and between frames. If it returns true, StoppedError is raised, and the same
    command resumes later. Finished steps and frames are reused.
    """
    from vera.core.backends import load_backend

    job.delivery.start()
    if not job.recipe.keep and (report := job.delivery.report_to_restore()) is not None:
        job.delivery.finish(report)  # damaged files are made again from the frames, which are complete
        return report
    return load_backend(job.recipe.model).run(job, progress, stopping)


@dataclass(frozen=True)
class RenderOptions:
    """Options of `render` that do not change pixels.

    verbose: print the choices that the backend made
    wait: wait for another job in the same folder to end, instead of refusing
    load: loads the model; None: `load_model`
    planned: False starts without a plan for one GPU's memory
    window_runner: see `GenerateJob`; None leaves the job's own
    """

    verbose: bool = False
    wait: bool = False
    load: "Loader | None" = None
    planned: bool = True
    window_runner: Callable | None = None


def render(
    recipe: EditRecipe,
    device: str,
    progress: ProgressLike,
    stopping: Callable[[], bool],
    options: RenderOptions = RenderOptions(),
) -> tuple[bool, str]:
    """Make the recipe's delivery unless it is complete. Returns whether there was work, and a summary.

    Raises InputError, OutOfMemoryError, StoppedError.
    """
    # Modules that import torch are imported here, so that --help, wrong arguments and wrong paths respond at once.
    with uncollected():
        from vera.core.job.opening import open_inputs

        inputs = open_inputs(recipe)
        from vera.core.backends import load_backend
        from vera.core.job.memory import ModelLoading, within_memory
        from vera.core.model.load import load_model

        backend = load_backend(recipe.model)
    warned: set[str] = set()

    def work(job: Any) -> tuple[bool, str]:
        for warning in job.warnings:
            if warning not in warned:
                progress.warn(warning)
                warned.add(warning)
        for line in backend.explain(job, device) if options.verbose else ():
            progress.note(line)
        nothing = False, f"nothing to do: {recipe.out} holds this edit, whole"
        if nothing_to_do(job):
            return nothing
        with job.delivery.claimed(options.wait, stopping=stopping, say=progress.say):
            if nothing_to_do(job):  # another process has completed it
                return nothing
            if options.window_runner:
                job = replace(job, window_runner=options.window_runner)
            report = run_job(job, progress, stopping)
        return True, (
            f"{len(job.plate.frames)} frames in {recipe.out}, read as {job.color.space.name};"
            f" layer covers {report['coverage']:.1%} of the picture;"
            f" layers agree with the model's composite to {report['agreement_psnr']} dB"
        )

    loading = ModelLoading(options.load or load_model, planned=options.planned)
    return within_memory(work, recipe, device, loading, inputs)


def failed(error: BaseException, progress: Progress | None = None) -> int:
    """Print an error's message, and the traceback of an unexpected error; return the exit code.

    Every command ends with this function; errors are printed nowhere else.
    """
    code, line = exit_status(error)
    if line.startswith("fault"):
        traceback.print_exception(error)
    (progress or Progress("none")).fail(line, code)
    return code


def exit_status(error: BaseException) -> tuple[int, str]:
    """The exit code of an error, and its message."""
    if isinstance(error, InputError):
        return WRONG_INPUT, one_line(f"error: {error}")
    if isinstance(error, (OutOfMemoryError, NativeVersionError)):
        return FAULT, one_line(f"error: {error}")
    if isinstance(error, StoppedError):
        return STOPPED, one_line(f"{error}; the same command goes on from here")
    if isinstance(error, OSError) and error.errno in _WRONG_NAME:
        return WRONG_INPUT, one_line(f"error: {error.filename}: {error.strerror}; give another name")
    if isinstance(error, OSError):  # a full or lost disk; the message names the file
        return FAULT, one_line(f"error: {error}; fix that and give the same command again: finished frames are kept")
    return FAULT, one_line(f"fault: {error.__class__.__name__}: {error}")
