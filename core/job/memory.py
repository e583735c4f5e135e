"""Run a job within the available memory: plan for the GPU, and retry with cheaper settings after out-of-memory."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from vera.core.backends import load_backend
from vera.core.backends.base import Job, Loader
from vera.core.errors import OutOfMemoryError
from vera.core.job.opening import Inputs, open_inputs
from vera.core.job.prepare import prepare
from vera.core.model.device import choose_device
from vera.core.model.families import family_of
from vera.core.model.load import load_model
from vera.core.model.names import folder_of
from vera.core.plate.region import region_of
from vera.core.recipe import EditRecipe, parse_region


@dataclass(frozen=True)
class ExecutionPlan:
    """The settings with which a job is computed.

    recipe, device: as requested, or cheaper
    weights, offload: see `LoadOptions`; "auto" leaves the recipe's setting, or the types of the files
    window: largest number of frames that the model sees together; None for its own
    planned: messages about choices made before the start that change the pixels
    fallbacks: messages about changes after memory ran out; the first `known` of them come from an earlier job
    """

    recipe: EditRecipe
    device: str
    weights: str = "auto"
    offload: str = "auto"
    window: int | None = None
    planned: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    known: int = 0

    def for_next_job(self, recipe: EditRecipe) -> "ExecutionPlan":
        """This plan for another job of the same model."""
        return replace(self, recipe=replace(recipe, one_batch=False), known=len(self.fallbacks))

    def warnings(self) -> list[str]:
        """One line for each fallback."""
        return [
            f"memory ran out in an earlier job; this one starts with {change}"
            if index < self.known
            else f"memory ran out; retrying with {change}"
            for index, change in enumerate(self.fallbacks)
        ]

    def loader(self, load: Loader) -> Loader:
        """`load` with this plan's weights, offload and window."""

        def load_as_planned(name: str, device: Any, **options: Any) -> Any:
            planned = {"weights": self.weights, "offload": self.offload}
            model = load(name, device, **options | {n: value for n, value in planned.items() if value != "auto"})
            window = min(self.window or model.limits.max_frames, model.limits.max_frames)
            return replace(model, limits=replace(model.limits, max_frames=window))

        return load_as_planned


def first_plan(recipe: EditRecipe, device: str, inputs: Inputs | None = None) -> ExecutionPlan:
    """The initial plan. For a model directory on CUDA, core/job/gpu_plan.py chooses it. Raises InputError."""
    execution = ExecutionPlan(recipe, device)
    if choose_device(device) != "cuda" or not is_planned(recipe):
        return execution
    # Imported here, as below: a lift and a render on the CPU need no plan, and it imports the transformer.
    from vera.core.job.gpu_plan import GIB, Geometry, Planner, host_memory

    plate = (inputs or open_inputs(recipe)).plate
    region = region_of(plate, parse_region(recipe.region) if recipe.region else None)
    geometry, memory = Geometry.of(recipe.model), torch.cuda.get_device_properties(0).total_memory
    planner = Planner(geometry, (region.width, region.height), len(plate.frames), plate.pixel_aspect, recipe.one_batch)
    requested = recipe.weights, recipe.offload
    # If nothing fits, the estimate may be wrong: start without a plan, and fall back if memory runs out.
    plan = planner.choose(memory, host_memory(), *requested) or planner.least(*requested)
    words = [f"weights of 8 bits ({plan.weights})"] if plan.weights != "bf16" and recipe.weights == "auto" else []
    words += [f"windows of {plan.window} frames"] if plan.window < planner.window else []
    planned = (f"to fit {memory / GIB:.0f} GiB: {' and '.join(words)}, which changes the picture",) if words else ()
    return replace(execution, weights=plan.weights, offload=plan.offload, window=plan.window, planned=planned)


def is_planned(recipe: EditRecipe) -> bool:
    """Whether the recipe's model is large enough for its memory to be planned."""
    model = recipe.model
    return load_backend(model).samples and folder_of(model).is_dir() and family_of(model).planned


@dataclass(frozen=True)
class ModelLoading:
    """How a job's model is loaded.

    load: see `load_model`
    learned: stores the plan that worked for a model, for its next job, unless that plan is the CPU
    planned: False starts without a plan for one GPU's memory
    """

    load: Loader = load_model
    learned: dict[tuple[str, ...], ExecutionPlan] = field(default_factory=dict)
    planned: bool = True

    def plan(self, recipe: EditRecipe, device: str, inputs: Inputs | None) -> ExecutionPlan:
        """The plan that a job starts with. Raises InputError."""
        if known := self.learned.get(self._key(recipe, device)):
            return known.for_next_job(recipe)
        return first_plan(recipe, device, inputs) if self.planned else ExecutionPlan(recipe, device)

    def learn(self, recipe: EditRecipe, device: str, plan: ExecutionPlan) -> None:
        """Store a plan for the model's next job, unless it is for another device."""
        if plan.device == device:
            self.learned[self._key(recipe, device)] = plan

    def _key(self, recipe: EditRecipe, device: str) -> tuple[str, ...]:
        return recipe.model, device, recipe.weights, recipe.offload


def within_memory(
    work: Callable[[Job], Any],
    recipe: EditRecipe,
    device: str,
    loading: ModelLoading | None = None,
    inputs: Inputs | None = None,
) -> Any:
    """Prepare the job and return work(job). If memory runs out, try again with cheaper settings.

    The job's warnings, and so its report, list the changes.
    inputs: the recipe's files if they are already open
    Raises OutOfMemoryError when no cheaper setting is left, and the other errors of prepare() and `work`.
    """
    loading = loading or ModelLoading()
    plan = loading.plan(recipe, device, inputs)
    while True:
        window = None
        job: Job | None = None
        try:
            job = prepare(plan.recipe, plan.device, plan.loader(loading.load), inputs)
            window = job.frames_at_once
            return work(replace(job, warnings=(*job.warnings, *plan.planned, *plan.warnings())))
        except Exception as error:
            if not out_of_memory(error):
                raise
            gpu_ran_out = isinstance(error, torch.OutOfMemoryError)
            cheaper = next_cheaper(plan, gpu_ran_out, window)
            if cheaper is None:
                where = "the GPU's memory" if gpu_ran_out else "memory"
                tried = f", also with {' and '.join(plan.fallbacks)}" if plan.fallbacks else ""
                fix = "free some, give fewer frames with --frames, or use --device cpu or a smaller model"
                raise OutOfMemoryError(f"out of {where}{tried}; {fix}") from error
        # Here, outside of the handler, the error no longer holds references to tensors.
        job = None
        release()
        plan = cheaper
        loading.learn(recipe, device, plan)


def next_cheaper(plan: ExecutionPlan, gpu_ran_out: bool, window: int | None) -> ExecutionPlan | None:
    """The plan with the next cheaper setting, or None. Settings that change rounding only come first.

    gpu_ran_out: whether the GPU's memory ran out; otherwise the host's
    window: frames that the model saw together; None if preparation failed, or for a lift
    """

    from vera.core.job.gpu_plan import LEAST_WINDOW, missing_library

    def step(words: str, **changes: Any) -> ExecutionPlan:
        return replace(plan, fallbacks=(*plan.fallbacks, words), **changes)

    on_gpu = choose_device(plan.device) == "cuda"
    if on_gpu and not gpu_ran_out:
        return None  # host memory: no setting reduces it
    if plan.recipe.one_batch:
        return step("both guidance passes one after the other", recipe=replace(plan.recipe, one_batch=False))
    offload = plan.recipe.offload if plan.offload == "auto" else plan.offload
    weights = plan.recipe.weights if plan.weights == "auto" else plan.weights
    samples, large = load_backend(plan.recipe.model).samples, is_planned(plan.recipe)
    if on_gpu and samples and plan.recipe.offload == "auto" and offload in ("auto", "none"):
        return step("text encoder and codec outside the GPU while they wait", offload="parts")
    if on_gpu and large and plan.recipe.offload == "auto" and offload == "parts" and not missing_library("", "blocks"):
        return step("the transformer's blocks outside the GPU while they wait", offload="blocks")
    if (
        on_gpu
        and large
        and plan.recipe.weights == "auto"
        and weights in ("auto", "bf16")
        and not missing_library("int8", "")
    ):
        return step("8-bit weights, which changes the picture", weights="int8")
    if window and window > LEAST_WINDOW:
        fewer = max((window + 1) // 2, LEAST_WINDOW)
        return step(f"windows of {fewer} frames, which changes the picture where they meet", window=fewer)
    if on_gpu and plan.device == "auto":
        return step("the CPU, which is slow", device="cpu", weights="auto", offload="auto", window=None)
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that GPU or host memory ran out. torch's host allocator reports it in the message only."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def release() -> None:
    """Release unreferenced memory, also on the GPU."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
