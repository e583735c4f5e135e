"""What every backend is given and gives: the opened recipe, the job, and the interface."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vera.core.errors import InputError
from vera.core.layer.blend_space import Blending, find_blending
from vera.core.layer.delivery import Delivery
from vera.core.layer.delivery_loop import FilmedFrame, read_unchanged
from vera.core.layer.match import Matching, measure
from vera.core.layer.origin import Origin
from vera.core.layer.outputs.output import Formats
from vera.core.plate.color import PlateColor
from vera.core.plate.region import Region
from vera.core.plate.source import HeldOutMask, Mask, Plate
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, identity
from vera.kernels.pixel_hash import pixel_hash

# In every job's hash. Raise it when the same recipe gives other pixels: older deliveries are then of another job.
PIXELS = 8

Loader = Callable[..., Any]  # load(name, device, **recipe.loading()) -> vera.core.model.load.Model


@dataclass(frozen=True)
class Opened:
    """A recipe whose plate and mask have been found and read; device is "cpu" or "cuda"."""

    recipe: EditRecipe
    plate: Plate
    mask: Mask | HeldOutMask | None
    fingerprints: dict[int, str]
    device: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe whose every part has been found, read and accepted. Backends add what they need in a subclass.

    color: of the plate. region: the pixels that are edited. size: (width, height) at which layers are made.
    steps, guidance: of the sampler, None where nothing is sampled. frames_at_once: frames that the model sees
    together, None where there is no model. hash: of all that determines the pixels. warnings: one line each.
    matching: what layers are made like, measured by `with_matching`.
    """

    opened: Opened
    color: PlateColor
    blending: Blending
    region: Region
    size: tuple[int, int]
    model_name: str
    hash: str
    delivery: Delivery
    steps: int | None = None
    guidance: float | None = None
    frames_at_once: int | None = None
    warnings: tuple[str, ...] = ()
    matching: Matching = Matching()

    @property
    def recipe(self) -> EditRecipe:
        """What was asked for."""
        return self.opened.recipe

    @property
    def plate(self) -> Plate:
        """The frames that are edited."""
        return self.opened.plate

    @property
    def mask(self) -> Mask | HeldOutMask | None:
        """Where the edit may go; None for everywhere."""
        return self.opened.mask

    def keeps_all(self) -> bool:
        """Whether what the recipe wants kept for other deliveries is there."""
        return not self.recipe.keep

    def pixels(self, frame: int) -> np.ndarray:
        """The frame as filmed, (H, W, C). Raises InputError if its file has changed since the job began."""
        return read_unchanged(self.plate, frame, self.opened.fingerprints[frame])

    def allowed(self, frame: int) -> torch.Tensor | None:
        """The region of the frame's mask, (H, W) float32 in [0, 1]; None without a mask."""
        return None if self.mask is None else torch.from_numpy(self.region.crop(self.mask.read(frame)).copy())

    def source(self, pixels: np.ndarray) -> np.ndarray:
        """The region of a frame's pixels at plate size in the model's range, (H, W, 3) float32 in [0, 1]."""
        return self.color.to_model(self.region.crop(pixels))

    def filmed(self, frame: int) -> FilmedFrame:
        """Everything that is read of a frame. Call it in the order of the frames, from one thread: movies are
        read so."""
        return FilmedFrame(frame, self.pixels(frame), self.allowed(frame))


class Backend(Protocol):
    """A way to make edit layers. `vera.core.backends` has the table.

    name: as in the table of recipe fields, whose column `backends` says which fields it takes.
    samples: whether it runs this project's transformer, so that several processes, shared windows and cheaper ways
    to compute apply.
    """

    name: str
    samples: bool

    def prepare(self, opened: Opened, load: Loader) -> Job:
        """Check all that the recipe asks of this backend. Writes nothing. Raises InputError."""
        ...

    def run(self, job: Any, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """Make and deliver the layer of every frame; returns the manifest's report. Raises StoppedError, OSError."""
        ...

    def explain(self, job: Any, device_asked: str) -> list[str]:
        """One line each on what was chosen for the job, and why (`--verbose`)."""
        ...


@dataclass(frozen=True)
class Identity:
    """The two hashes of a job: of what is generated, and of the delivery made of it."""

    generation: str
    job: str


def identify(
    opened: Opened, color: PlateColor, blending: Blending, made_from: dict, laid_over: dict | None = None
) -> Identity:
    """made_from: all that determines the layers beside plate, mask and PIXELS; laid_over: what else determines the
    delivered pixels. Contents count, paths do not: the same plate under another path is the same job."""
    formats = formats_of(opened.recipe)
    generation = identity(
        pixels=PIXELS,
        plate=list(opened.fingerprints.values()),
        mask=[pixel_hash(opened.mask.read(f)) for f in opened.plate.frames] if opened.mask else None,
        frames=[opened.plate.frames[0], opened.plate.frames[-1]],
        space=[color.space.config, color.space.name],
        **made_from,
    )
    job = identity(
        generation=generation,
        blend_space=opened.recipe.blend_space,
        layer_space=[blending.space.config, blending.space.name],
        formats=[formats.layer_type, formats.compression, formats.extra_outputs],
        # Left out where nothing is asked for: deliveries from before the field stay what they are.
        **({"match": [*opened.recipe.match, opened.recipe.seed]} if opened.recipe.match else {}),
        **({"split": formats.split} if formats.split != "none" else {}),
        **(laid_over or {}),
    )
    return Identity(generation, job)


def refuse_unguided(guidance: float) -> None:
    """Raise InputError for a negative prompt without an effect: at a guidance of 1 there is no second pass."""
    if guidance == 1:
        raise InputError("negative prompt: has no effect at a guidance of 1; give --guidance 2, or leave it out")


def formats_of(recipe: EditRecipe) -> Formats:
    """How the delivery's files hold the layer."""
    return Formats(recipe.layer_type, recipe.compression, recipe.also, recipe.split)


def blending_of(recipe: EditRecipe, color: PlateColor) -> Blending:
    """How a host will lay the layer over the plate. Raises InputError."""
    return find_blending(recipe.blend_space, recipe.layer_space, color.space)


def delivery_of(
    opened: Opened, color: PlateColor, blending: Blending, ids: Identity, keeps: bool, origin: Origin
) -> Delivery:
    """The folder of the job's results. keeps: whether what is generated can be kept for another delivery."""
    generation = ids.generation if keeps else None
    return Delivery(
        Path(opened.recipe.out),
        opened.plate,
        opened.recipe.to_json(),
        ids.job,
        blending,
        color,
        generation,
        formats_of(opened.recipe),
        origin,
    )


def with_matching(job: Any, progress: ProgressLike) -> Any:
    """The job with what its recipe says that the layer is to be like, measured from the plate. What cannot be measured
    is a warning."""
    if not job.recipe.match:
        return job
    found = measure(job.recipe.match, job.plate.frames, lambda f: job.color.to_model(job.pixels(f)), job.recipe.seed)
    for warning in found.warnings:
        progress.warn(warning)
    return replace(job, matching=found, warnings=(*job.warnings, *found.warnings))


def mean_of(facts: Iterable[dict[str, Any]], name: str) -> float:
    """Mean of a figure over the frames' facts."""
    values = [fact[name] for fact in facts]
    return sum(values) / len(values)


def report_of(job: Job, color: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """What every backend's report says, from the delivered frames' facts; `color` and `more` are added."""
    facts = [job.delivery.facts(f) for f in job.plate.frames]
    return {
        "model": job.model_name,
        "steps": job.steps,
        "guidance": job.guidance,
        "model_size": list(job.size),
        "agreement_psnr": round(-10 * math.log10(max(mean_of(facts, "agreement_error"), 1e-12)), 2),
        "coverage": round(mean_of(facts, "coverage"), 4),
        "color": {"curve": job.color.curve.name, "exposure": job.color.exposure, **(color or {})},
        "warnings": list(job.warnings),
        **job.matching.told(),
        **more,
    }
