"""The interface of a backend, and the two steps before it runs: the opened recipe and the job."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
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
from vera.core.layer.outputs.output import Formats, Shot
from vera.core.plate.color import PlateColor
from vera.core.plate.fit import at_model_size
from vera.core.plate.region import Region
from vera.core.plate.source import HeldOutMask, Mask, Plate
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, identity
from vera.kernels.pixel_hash import pixel_hash

# Version of the pixels, part of every job's hash. Raise it when the same recipe gives other pixels, so that deliveries
# of older versions count as other jobs.
PIXELS = 21

Loader = Callable[..., Any]  # load(name, device, **recipe.loading()) -> vera.core.model.load.Model


@dataclass(frozen=True)
class Opened:
    """A recipe whose plate and mask have been opened and checked.

    fingerprints: hash of each plate frame's contents, by frame number. device: "cpu" or "cuda".
    """

    recipe: EditRecipe
    plate: Plate
    mask: Mask | HeldOutMask | None
    fingerprints: dict[int, str]
    device: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """A recipe that is checked completely and ready to run. Backends add their own fields in a subclass.

    color: conversion between the plate's pixels and the model's range
    blending: the host's blending space
    region: the part of the frame that is edited
    size: (width, height) in pixels at which layers are generated
    hash: hash of everything that determines the delivered pixels
    delivery: the folder of the results
    steps, guidance: settings of the sampler; None if the backend does not sample
    frames_at_once: number of frames that the model sees together; None without a model
    warnings: one line each
    matching: grain and sharpness of the plate that layers are matched to, measured by `with_matching`
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
        """The unchanged recipe."""
        return self.opened.recipe

    @property
    def plate(self) -> Plate:
        """The frames that are edited."""
        return self.opened.plate

    @property
    def mask(self) -> Mask | HeldOutMask | None:
        """The mask of the area that may be edited; None if all of it may."""
        return self.opened.mask

    def keeps_all(self) -> bool:
        """Whether the generated layers that the recipe keeps are on the disk; true if it keeps none."""
        return not self.recipe.keep

    def pixels(self, frame: int) -> np.ndarray:
        """The plate's frame, (H, W, C). Raises InputError if its file has changed since the job began."""
        return read_unchanged(self.plate, frame, self.opened.fingerprints[frame])

    def allowed(self, frame: int) -> torch.Tensor | None:
        """The frame's mask, cropped to the region, (H, W) float32 in [0, 1]; None without a mask."""
        return None if self.mask is None else torch.from_numpy(self.region.crop(self.mask.read(frame)).copy())

    def source(self, pixels: np.ndarray) -> np.ndarray:
        """A frame's pixels, cropped to the region and converted to the model's range, (H, W, 3) float32 in [0, 1]."""
        return self.color.to_model(self.region.crop(pixels))

    def at_model_size(self, pixels: np.ndarray, size: tuple[int, int] | None = None) -> torch.Tensor:
        """As `source`, averaged to the model's size or to another size (width, height): (3, h, w)."""
        return at_model_size(self.color, self.region.crop(pixels), size or self.size)

    def filmed(self, frame: int) -> FilmedFrame:
        """Read a frame's pixels and mask. Movies require calls in frame order and from one thread."""
        return FilmedFrame(frame, self.pixels(frame), self.allowed(frame))


class Backend(Protocol):
    """A way to make edit layers. The table of backends is in `vera.core.backends`.

    name: name in the table of recipe fields. The column `backends` of that table lists the fields that it accepts.
    samples: whether it runs this project's transformer. Only then do several processes, shared windows and the options
    that reduce the cost of sampling apply.
    """

    name: str
    samples: bool

    def prepare(self, opened: Opened, load: Loader) -> Job:
        """Check the recipe completely and return the job. Writes nothing. Raises InputError."""
        ...

    def run(self, job: Any, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """Make and deliver the layer of every frame; returns the manifest's report. Raises StoppedError, OSError."""
        ...

    def explain(self, job: Any, device_asked: str) -> list[str]:
        """The choices that were made for the job and their reasons, one line each (`--verbose`)."""
        ...


@dataclass(frozen=True)
class Identity:
    """The two hashes of a job.

    generation: hash of everything that determines the generated layers. job: hash of that and of everything else that
    determines the delivered files. Jobs with one generation and different job hashes can share generated layers.
    """

    generation: str
    job: str


@dataclass(frozen=True)
class LayerSource:
    """Where a job's layers come from.

    made_from: every value that determines the generated layers, besides plate, mask and PIXELS. Contents are listed,
        not paths: a plate that has moved is the same job.
    origin: provenance that the delivered files state
    laid_over: further values that determine the delivered pixels
    keeps: whether generated layers can be kept for further deliveries
    """

    made_from: dict[str, Any]
    origin: Origin
    laid_over: dict[str, Any] = field(default_factory=dict)
    keeps: bool = False


@dataclass(frozen=True)
class Foundation:
    """The parts of a job that every backend makes in the same way, see `Job`."""

    opened: Opened
    color: PlateColor
    blending: Blending
    ids: Identity
    delivery: Delivery

    def job_fields(self) -> dict[str, Any]:
        """Keyword arguments of `Job`."""
        return {
            "opened": self.opened,
            "color": self.color,
            "blending": self.blending,
            "hash": self.ids.job,
            "delivery": self.delivery,
        }


def foundation_of(opened: Opened, color: PlateColor, source: LayerSource) -> Foundation:
    """The blending, identity and delivery folder of a job. Writes nothing. Raises InputError."""
    blending = find_blending(opened.recipe.blend_space, opened.recipe.layer_space, color.space)
    ids = identify(opened, color, blending, source)
    formats = formats_of(opened.recipe)
    shot = Shot(Path(opened.recipe.out), opened.plate, ids.job, blending, formats, source.origin)
    delivery = Delivery(shot, color, opened.recipe.to_json(), ids.generation if source.keeps else None)
    return Foundation(opened, color, blending, ids, delivery)


def identify(opened: Opened, color: PlateColor, blending: Blending, source: LayerSource) -> Identity:
    """Compute the two hashes of a job."""
    formats = formats_of(opened.recipe)
    generation = identity(
        pixels=PIXELS,
        plate=list(opened.fingerprints.values()),
        mask=[pixel_hash(opened.mask.read(f)) for f in opened.plate.frames] if opened.mask else None,
        frames=[opened.plate.frames[0], opened.plate.frames[-1]],
        space=[color.space.config, color.space.name],
        **source.made_from,
    )
    job = identity(
        generation=generation,
        blend_space=opened.recipe.blend_space,
        layer_space=[blending.space.config, blending.space.name],
        formats=[formats.layer_type, formats.compression, formats.extra_outputs],
        # These fields are included only if they are used, so that deliveries from before they existed keep their hash.
        **({"match": [*opened.recipe.match, opened.recipe.seed]} if opened.recipe.match else {}),
        **({"split": formats.split} if formats.split != "none" else {}),
        **source.laid_over,
    )
    return Identity(generation, job)


def refuse_unguided(guidance: float) -> None:
    """Raise InputError if the guidance is 1: then no second pass runs, and a negative prompt has no effect."""
    if guidance == 1:
        raise InputError("negative prompt: has no effect at a guidance of 1; give --guidance 2, or leave it out")


def formats_of(recipe: EditRecipe) -> Formats:
    """The recipe's file formats of the delivery."""
    return Formats(recipe.layer_type, recipe.compression, recipe.also, recipe.split)


def with_matching(job: Any, progress: ProgressLike) -> Any:
    """The job with the plate's grain and sharpness, measured if the recipe asks for them (`match`).

    A property that cannot be measured becomes a warning, and the layer is left without it.
    """
    if not job.recipe.match:
        return job
    found = measure(job.recipe.match, job.plate.frames, lambda f: job.color.to_model(job.pixels(f)), job.recipe.seed)
    for warning in found.warnings:
        progress.warn(warning)
    return replace(job, matching=found, warnings=(*job.warnings, *found.warnings))


def mean_of(facts: Iterable[dict[str, Any]], name: str) -> float:
    """Mean of one figure over all frames. facts: figures by name, of each frame."""
    values = [fact[name] for fact in facts]
    return sum(values) / len(values)


def report_of(job: Job, color: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The part of the manifest's report that all backends share, computed from the figures of the delivered frames.

    color: added to the entry "color". more: added as further entries.
    """
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
        **job.matching.report_facts(),
        **more,
    }
