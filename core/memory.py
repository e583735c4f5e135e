"""Out of memory: the same job again by the next cheaper means."""

import gc
from dataclasses import dataclass, replace

import torch

from core.edit import prepare
from core.errors import OutOfMemory
from core.model.device import choose_device
from core.model.load import load_model
from core.recipe import EditRecipe, split_model

LEAST_WINDOW = 9  # frames: in shorter ones there is little but overlap


@dataclass(frozen=True)
class Means:
    """How a job is computed.

    recipe, device: as asked for, or cheaper. offload: whether text encoder and codec wait outside
    the device. window: frames that the model sees at once at most, None for its own number.
    said: in words, what was changed to save memory.
    """

    recipe: EditRecipe
    device: str
    offload: bool = False
    window: int | None = None
    said: tuple[str, ...] = ()

    def model(self, load):
        """load, for core.edit.prepare, with these means."""

        def load_so(name, device):
            model = load(name, device, offload=True) if self.offload else load(name, device)
            window = self.window or model.limits.max_frames
            return replace(model, limits=replace(model.limits, max_frames=window))

        return load_so


def within_memory(work, recipe, device, load=load_model):
    """Prepare the job and return work(job), again by cheaper means while memory runs out.

    The job's warnings, and so its report, say what was changed. Raises OutOfMemory once nothing is
    left to change, and what prepare() and `work` raise for other reasons.
    """
    means = Means(recipe, device)
    while True:
        window = None
        try:
            job = prepare(means.recipe, means.device, means.model(load))
            window = job.model.limits and min(len(job.plate.frames), job.model.limits.max_frames)
            said = tuple(f"memory ran out; once more with {words}" for words in means.said)
            return work(replace(job, warnings=(*job.warnings, *said)))
        except Exception as error:
            if not out_of_memory(error):
                raise
            of_gpu = isinstance(error, torch.OutOfMemoryError)
            cheaper = next_cheaper(means, of_gpu, window)
            if cheaper is None:
                where = "the GPU's memory" if of_gpu else "memory"
                tried = f", also with {' and '.join(means.said)}" if means.said else ""
                mend = "free some, give fewer frames with --frames, or use --device cpu or a smaller model"
                raise OutOfMemory(f"out of {where}{tried}; {mend}") from error
        # Only now has the error let go of what it held.
        job = None
        release()
        means = cheaper


def next_cheaper(means, of_gpu, window) -> Means | None:
    """The next step down, or None. First what changes nothing in the picture but rounding, then what does.

    window: frames that the model saw at once, None where it did not come to that, or where a layer is lifted.
    """

    def step(words, **changes):
        return replace(means, said=(*means.said, words), **changes)

    on_gpu = choose_device(means.device) == "cuda"
    if on_gpu and not of_gpu:
        return None  # the host's memory, which no step here spares
    if means.recipe.one_batch:
        return step("both guidance passes one after the other", recipe=replace(means.recipe, one_batch=False))
    if on_gpu and not means.offload and not split_model(means.recipe.model)[0]:
        return step("text encoder and codec outside the GPU while they wait", offload=True)
    if window and window > LEAST_WINDOW:
        fewer = max((window + 1) // 2, LEAST_WINDOW)
        return step(f"windows of {fewer} frames, which is another picture where they meet", window=fewer)
    if on_gpu and means.device == "auto":
        return step("the CPU, which is slow", device="cpu", offload=False, window=None)
    return None


def out_of_memory(error) -> bool:
    """Of the GPU, or of the host; torch's allocator for the host says it in words only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def release():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
