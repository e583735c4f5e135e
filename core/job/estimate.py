"""Estimate a job's memory, disk space and time, each with the basis of its figure.

The figures of mini and of lifts were measured on two cores of an x86-64 server without a GPU: CPU time, which other
work on the machine hardly changes, and the largest resident size of the process. No time was measured on a GPU or for
full-size models; such an estimate is None.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from vera.core.backends.lift import WINDOW_PIXELS
from vera.core.job.gpu_plan import Geometry, Planner, host_memory
from vera.core.job.memory import is_planned
from vera.core.model.codec import latent_frames
from vera.core.model.device import choose_device
from vera.core.recipe import backend_of

if TYPE_CHECKING:
    from vera.core.backends.base import Job

MEGAPIXEL = 1e6
NOT_MEASURED = "not known: never measured"
MEASURED = "measured on two x86-64 cores; other processors differ by a small factor"


@dataclass(frozen=True)
class Measured:
    """The measured cost of one backend on a CPU.

    start: CPU seconds per job
    frame: CPU seconds per frame
    megapixel: CPU seconds per million plate pixels of a frame
    step: CPU seconds per sampling step of a latent frame at mini's size
    memory: bytes of the process
    memory_megapixel: bytes per million plate pixels of a frame
    memory_lifted: bytes per pixel of the frames that are lifted together
    """

    start: float
    frame: float
    megapixel: float
    step: float
    memory: float
    memory_megapixel: float
    memory_lifted: float = 0


# mini: 640x360 of 5 and 25 frames, 1920x1080 of 5 and 17, 3840x2160 of 3, and 15 steps in place of 5.
# A lift: 1280x720 of 25 and 49 frames.
MINI = Measured(start=13, frame=0.85, megapixel=0.45, step=0.12, memory=0.65e9, memory_megapixel=0.15e9)
LIFT = Measured(start=10, frame=1.3, megapixel=0.5, step=0, memory=0.3e9, memory_megapixel=0.25e9, memory_lifted=520)


@dataclass(frozen=True)
class Figure:
    """value: bytes or seconds, or None if unknown. basis: the source of the value."""

    value: float | None
    basis: str


@dataclass(frozen=True)
class Estimate:
    """memory: peak bytes, of the GPU for a full-size model on a GPU, else of the process
    disk: bytes of the images that are not written yet
    time: CPU seconds; on N free cores the elapsed time is a little more than this over N
    """

    memory: Figure
    disk: Figure
    time: Figure


def estimate(job: "Job", device: str) -> Estimate:
    """The estimate of a job on the requested device."""
    disk = Figure(
        job.delivery.bytes_to_write(), "pixels of the files that are not there yet, as far as such files pack"
    )
    if is_planned(job.recipe):
        return Estimate(_planned_memory(job, device), disk, Figure(None, NOT_MEASURED))
    measured = {"generate": MINI, "lift": LIFT}.get(backend_of(job.recipe.model))
    if measured is None:
        return Estimate(Figure(None, NOT_MEASURED), disk, Figure(None, NOT_MEASURED))
    megapixels = job.plate.width * job.plate.height / MEGAPIXEL
    lifted = min(WINDOW_PIXELS, len(job.plate.frames) * job.size[0] * job.size[1])
    bytes_held = measured.memory + measured.memory_megapixel * megapixels + measured.memory_lifted * lifted
    memory = Figure(bytes_held, MEASURED)
    if choose_device(device) != "cpu" and measured.step:
        return Estimate(memory, disk, Figure(None, f"{NOT_MEASURED} on a GPU"))
    frames = len(job.plate.frames)
    seconds = measured.start + frames * (measured.frame + measured.megapixel * megapixels)
    passes = 1 if job.guidance in (None, 1) else 2
    seconds += measured.step * latent_frames(frames) * (job.steps or 0) * passes
    return Estimate(memory, disk, Figure(seconds, MEASURED))


def model_bytes(job: "Job") -> int | None:
    """Bytes of a loaded model's weights, codec and text encoder included; None for a job without a model."""
    model = getattr(job, "model", None)
    parts = [] if model is None else [model.transformer, model.codec, model.text]
    modules = [part for part in parts if isinstance(part, nn.Module)]
    unique = {id(p): p.numel() * p.element_size() for module in modules for p in module.parameters()}
    return sum(unique.values()) if modules else None


def estimate_lines(told: dict[str, Any], out: str) -> list[tuple[str, str]]:
    """Lines (name, text) of the report. told: an Estimate as a dictionary."""
    memory, disk, time = told["memory"], told["disk"], told["time"]
    return [
        (
            "memory",
            f"about {memory['value'] / 2**30:.1f} GiB ({memory['basis']})" if memory["value"] else memory["basis"],
        ),
        ("disk", f"{disk['value'] / 2**30:.2f} GiB, about, will be written to {out}"),
        ("time", f"about {_seconds(time['value'])} of CPU time ({time['basis']})" if time["value"] else time["basis"]),
    ]


def _planned_memory(job: "Job", device: str) -> Figure:
    recipe, plate = job.recipe, job.plate
    size = job.region.width, job.region.height
    planner = Planner(
        Geometry.of(recipe.model), size, len(plate.frames), aspect=plate.pixel_aspect, one_batch=recipe.one_batch
    )
    way = planner.ways(recipe.weights, recipe.offload)[0]
    on_gpu = choose_device(device) == "cuda"
    chosen = planner.choose(_gpu_memory(), host_memory(), recipe.weights, recipe.offload) if on_gpu else None
    plan = chosen or planner.plan(way[0], way[1], planner.window)
    return Figure(plan.peak, f"weights counted, work rehearsed on shapes, with --weights {plan.weights}; not measured")


def _gpu_memory() -> int:
    """Bytes of the first GPU."""
    return torch.cuda.get_device_properties(0).total_memory


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value < 120 else f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"
