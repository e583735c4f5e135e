"""Run one job from its recipe: the exit codes, the stop request, and render()."""

import signal
from dataclasses import replace

from vera.core.errors import InputError, OutOfMemory, Stopped

DONE, FAULT, WRONG_INPUT, STOPPED = 0, 1, 2, 3


def stop_request():
    """A function that says whether Ctrl-C or a termination was asked for; the first one waits for a safe place."""
    asked = []

    def note(number, frame):
        if asked:
            signal.signal(number, signal.SIG_DFL)
        asked.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    return lambda: bool(asked)


def render(recipe, device, progress, stopping, verbose=False, load=None, window_runner=None) -> tuple[bool, str]:
    """Make the recipe's delivery where it is not yet whole; returns whether there was anything to do, and a sentence.

    Raises InputError, OutOfMemory, Stopped. load: see vera.core.backends.generate.prepare; window_runner: see vera.core.backends.generate.Job.
    """
    # Only now, so that --help and wrong arguments answer at once.
    from vera.core.backends.generate import edit, nothing_to_do
    from vera.core.job.explain import explain
    from vera.core.job.memory import within_memory
    from vera.core.model.load import load_model

    warned = set()

    def work(job):
        for warning in job.warnings:
            if warning not in warned:
                progress.warn(warning)
                warned.add(warning)
        for line in explain(job, device) if verbose else ():
            progress.note(line)
        if nothing_to_do(job):
            return False, f"nothing to do: {recipe.out} holds this edit, whole"
        report = edit(replace(job, window_runner=window_runner) if window_runner else job, progress, stopping)
        return True, (
            f"{len(job.plate.frames)} frames in {recipe.out}, read as {job.color.space.name};"
            f" layer covers {report['coverage']:.1%} of the picture;"
            f" layers agree with the model's composite to {report['agreement_psnr']} dB"
        )

    return within_memory(work, recipe, device, load or load_model)


def exit_status(error) -> tuple[int, str]:
    """The exit code for what was raised, and a line on it."""
    if isinstance(error, InputError):
        return WRONG_INPUT, f"error: {error}"
    if isinstance(error, OutOfMemory):
        return FAULT, f"error: {error}"
    if isinstance(error, Stopped):
        return STOPPED, f"{error}; the same command goes on from here"
    if isinstance(error, OSError):  # a disk that is full or gone; it names the file
        return FAULT, f"error: {error}; mend that and give the same command again: finished frames are kept"
    return FAULT, f"fault: {error.__class__.__name__}: {error}"
