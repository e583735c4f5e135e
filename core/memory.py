"""Out of memory: the same job again by the next cheaper means."""

import functools
import gc
from dataclasses import dataclass, replace

import torch

from core.edit import Job, choose_device, prepare
from core.errors import OutOfMemory
from core.model.load import load_model
from core.recipe import EditRecipe


@dataclass(frozen=True)
class Means:
    """How a job is computed: its recipe, the device asked for, whether parts of the model wait outside it.

    said: in words, what was changed to save memory.
    """

    recipe: EditRecipe
    device: str
    offload: bool = False
    said: tuple[str, ...] = ()

    def prepare(self, load=load_model) -> Job:
        """As core.edit.prepare; the job's warnings, and so its report, say what was changed."""
        job = prepare(self.recipe, self.device, functools.partial(load, offload=True) if self.offload else load)
        return replace(job, warnings=(*job.warnings, *(f"memory ran out; once more with {words}" for words in self.said)))


def within_memory(work, recipe, device):
    """work(means), again by cheaper means while memory runs out; returns what it returns.

    Raises OutOfMemory once nothing is left to change, and what `work` raises for other reasons.
    """
    means = Means(recipe, device)
    while True:
        try:
            return work(means)
        except Exception as error:
            if not out_of_memory(error):
                raise
            of_gpu = isinstance(error, torch.OutOfMemoryError)
            cheaper = next_cheaper(means, of_gpu)
            if cheaper is None:
                where = "the GPU's memory" if of_gpu else "memory"
                tried = f", also with {' and '.join(means.said)}" if means.said else ""
                mend = "free some, give fewer frames with --frames, or use --device cpu or a smaller model"
                raise OutOfMemory(f"out of {where}{tried}; {mend}") from error
        # Only now has the error let go of what it held.
        release()
        means = cheaper


def next_cheaper(means, of_gpu) -> Means | None:
    """The next step down, or None. First what changes nothing in the picture but rounding."""

    def step(words, **changes):
        return replace(means, said=(*means.said, words), **changes)

    on_gpu = choose_device(means.device) == "cuda"
    if on_gpu and not of_gpu:
        return None  # the host's memory, which no step here spares
    if means.recipe.one_batch:
        return step("both guidance passes one after the other", recipe=replace(means.recipe, one_batch=False))
    if on_gpu and not means.offload:
        return step("text encoder and codec outside the GPU while they wait", offload=True)
    if on_gpu and means.device == "auto":
        return step("the CPU, which is slow", device="cpu", offload=False)
    return None


def out_of_memory(error) -> bool:
    """Of the GPU, or of the host; torch's allocator for the host says it in words only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def release():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
