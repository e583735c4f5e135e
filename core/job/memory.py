"""By which means a job is computed: planned for the GPU's memory, and the next cheaper ones where it runs out."""

import gc
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vera.core.backends.generate import prepare
from vera.core.errors import OutOfMemory
from vera.core.model.device import choose_device
from vera.core.model.load import load_model
from vera.core.job.plan import GIB, LEAST_WINDOW, Geometry, Planner, host_memory, lacking
from vera.core.plate.region import region_of
from vera.core.plate.source import open_plate
from vera.core.recipe import EditRecipe, parse_region, split_model


@dataclass(frozen=True)
class Means:
    """How a job is computed.

    recipe, device: as asked for, or cheaper. weights, offload: of the model, see vera.core.model.load.load_model;
    "auto" is as asked for, or as the files are. window: frames that the model sees at once at most, None for
    its own number. planned: in words, what was chosen for the GPU and is another picture. said: what was
    changed to save memory; the first `known` of it because of an earlier job.
    """

    recipe: EditRecipe
    device: str
    weights: str = "auto"
    offload: str = "auto"
    window: int | None = None
    planned: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    known: int = 0

    def of_next_job(self, recipe):
        """These means for another job of the same model."""
        return replace(self, recipe=replace(recipe, one_batch=False), known=len(self.said))

    def warnings(self):
        """What to tell of the job."""
        began = "memory had run out in a job before; this one too with"
        return [f"{began if i < self.known else 'memory ran out; once more with'} {s}" for i, s in enumerate(self.said)]

    def model(self, load):
        """load, for vera.core.backends.generate.prepare, with these means."""

        def load_so(name, device, **asked):
            kept = {"weights": self.weights, "offload": self.offload}
            model = load(name, device, **asked | {n: value for n, value in kept.items() if value != "auto"})
            window = min(self.window or model.limits.max_frames, model.limits.max_frames)
            return replace(model, limits=replace(model.limits, max_frames=window))

        return load_so


def planned_means(recipe, device) -> Means:
    """The means to begin with: on CUDA, for a model directory, what vera.core.job.plan chooses. Raises InputError."""
    means = Means(recipe, device)
    if choose_device(device) != "cuda" or not of_directory(recipe):
        return means
    plate = open_plate(recipe.plate, recipe.frames)
    region = region_of(plate, parse_region(recipe.region) if recipe.region else None)
    geometry, memory = Geometry.of(recipe.model), torch.cuda.get_device_properties(0).total_memory
    planner = Planner(geometry, (region.width, region.height), len(plate.frames), plate.pixel_aspect, recipe.one_batch)
    asked = recipe.weights, recipe.offload
    # Where nothing fits, the count may be wrong: let memory run out first.
    plan = planner.choose(memory, host_memory(), *asked) or planner.least(*asked)
    words = [f"weights of 8 bits ({plan.weights})"] if plan.weights != "bf16" and recipe.weights == "auto" else []
    words += [f"windows of {plan.window} frames"] if plan.window < planner.window else []
    planned = (f"to fit {memory / GIB:.0f} GiB: {' and '.join(words)}, which is another picture",) if words else ()
    return replace(means, weights=plan.weights, offload=plan.offload, window=plan.window, planned=planned)


def of_directory(recipe) -> bool:
    return not split_model(recipe.model)[0] and recipe.model != "mini" and Path(recipe.model).is_dir()


def within_memory(work, recipe, device, load=load_model, learned=None):
    """Prepare the job and return work(job), again by cheaper means while memory runs out.

    The job's warnings, and so its report, say what was changed. learned: a dictionary, in which the means
    that a model was brought to are kept, for its next job to begin with; but for the CPU, which is no
    place to stay. Raises OutOfMemory once nothing is left to change, and what prepare() and `work` raise
    for other reasons.
    """
    learned, model = {} if learned is None else learned, (recipe.model, device, recipe.weights, recipe.offload)
    means = learned[model].of_next_job(recipe) if model in learned else planned_means(recipe, device)
    while True:
        window = None
        try:
            job = prepare(means.recipe, means.device, means.model(load))
            window = job.model.limits and min(len(job.plate.frames), job.model.limits.max_frames)
            return work(replace(job, warnings=(*job.warnings, *means.planned, *means.warnings())))
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
        if means.device == device:
            learned[model] = means


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
    offload = means.recipe.offload if means.offload == "auto" else means.offload
    weights = means.recipe.weights if means.weights == "auto" else means.weights
    lifted, large = bool(split_model(means.recipe.model)[0]), of_directory(means.recipe)
    if on_gpu and not lifted and means.recipe.offload == "auto" and offload in ("auto", "none"):
        return step("text encoder and codec outside the GPU while they wait", offload="parts")
    if on_gpu and large and means.recipe.offload == "auto" and offload == "parts" and not lacking("", "blocks"):
        return step("the transformer's blocks outside the GPU while they wait", offload="blocks")
    if on_gpu and large and means.recipe.weights == "auto" and weights in ("auto", "bf16") and not lacking("int8", ""):
        return step("8-bit weights, which is another picture", weights="int8")
    if window and window > LEAST_WINDOW:
        fewer = max((window + 1) // 2, LEAST_WINDOW)
        return step(f"windows of {fewer} frames, which is another picture where they meet", window=fewer)
    if on_gpu and means.device == "auto":
        return step("the CPU, which is slow", device="cpu", weights="auto", offload="auto", window=None)
    return None


def out_of_memory(error) -> bool:
    """Of the GPU, or of the host; torch's allocator for the host says it in words only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def release():
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
