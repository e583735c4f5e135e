"""The way of a shot that is lifted, from a recipe to the delivered layer.

    recipe -> plate and edited frames at working size -> windows in time, each lifted -> layers
           -> plate size -> delivery, with a report picture

The edited video comes from a file (model lift:FILE) or is made by VACE (model vace:DIR).
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vera import __version__
from vera.core.errors import InputError, Stopped
from vera.core.extras import require
from vera.core.layer.blend_space import Blending, composite, find_blending, layer_for_blending
from vera.core.layer.delivery import Delivery
from vera.core.layer.outputs.output import Formats
from vera.core.layer.stream import as_filmed, delivered_frames
from vera.core.lifting import report_picture as report
from vera.core.lifting.freed_memory import blocks_used_again
from vera.core.lifting.haze import LEAST_TOLD
from vera.core.lifting.lift_window import STEPS, lift_clip, plate_sized
from vera.core.lifting.lifted_windows import KeptWindows, LiftedVideo
from vera.core.lifting.matching import match_frames, refuse_other_picture, same_size
from vera.core.lifting.read_frames import read_edited, read_mask, read_plate
from vera.core.model.device import choose_device
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import shrink
from vera.core.plate.source import Mask, Plate, open_mask, open_plate
from vera.core.recipe import EditRecipe, identity, parse_cuts, split_model
from vera.kernels.pixel_hash import pixel_hash

if TYPE_CHECKING:
    from vera.core.lifting.vace import Vace

WORK_PIXELS = 832 * 480  # a frame is lifted at the plate's size, at most this many pixels
WINDOW_PIXELS = 12_000_000  # in one window: some 6 GB while it is worked on
HAZY = "a haze of {:.0%} lies over the whole frame and is part of the layer; if none was asked for, the edited video's levels are wrong"
LOOKED_AT = 9  # frames of the shot by which a wrong pair is told


@dataclass(frozen=True)
class Named:
    """What has a model's name where there is no model, and so no limits."""

    name: str
    limits: None = None


@dataclass(frozen=True)
class LiftJob:
    """As vera.core.backends.generate.Job, with the edited video or the model that will make it.

    size: (width, height) at which the shot is lifted. indices: of the plate's frames, those
    that have an edited one. step: see `match_frames`.
    """

    recipe: EditRecipe
    plate: Plate
    mask: Mask | None
    model: Named
    color: PlateColor
    blending: Blending
    size: tuple[int, int]
    steps: int | None
    guidance: float | None
    hash: str
    fingerprints: dict[int, str]
    delivery: Delivery
    warnings: tuple[str, ...]
    edited: Plate | None
    edited_color: PlateColor | None
    indices: list[int]
    step: int
    vace: "Vace | None" = field(default=None, repr=False)

    def pixels(self, frame: int):
        """The frame as filmed, which is that of the job's hash. Raises InputError if it has changed."""
        return as_filmed(self.plate, frame, self.fingerprints[frame])


def prepare_lift(recipe: EditRecipe, device: str) -> LiftJob:
    """Open everything that the recipe names. Raises InputError; nothing is written."""
    _refuse_what_is_not_lifted(recipe)
    plate = open_plate(recipe.plate, recipe.frames)
    mask = open_mask(recipe.mask, plate) if recipe.mask else None
    color = _display_color(recipe.color_space, plate)
    blending = find_blending(recipe.blend_space, recipe.layer_space, color.space)
    formats = Formats(recipe.layer_type, recipe.compression, recipe.also)
    fingerprints = {f: plate.fingerprint(f) for f in plate.frames}
    door, path = split_model(recipe.model)
    common = dict(
        version=__version__,
        plate=list(fingerprints.values()),
        mask=[pixel_hash(mask.read(f)) for f in plate.frames] if mask else None,
        frames=[plate.frames[0], plate.frames[-1]],
        space=[color.space.config, color.space.name],
        blend_space=recipe.blend_space,
        layer_space=[blending.space.config, blending.space.name],
        formats=[formats.layer_type, formats.compression, formats.extra_outputs],
    )
    if door == "vace":
        require(f"model '{recipe.model}'", "diffusers", "transformers")
        from vera.core.lifting.vace import open_vace  # diffusers takes seconds to import: only those who want it wait

        vace = open_vace(path, recipe, plate, mask, choose_device(device))
        parts = dict(edited=None, edited_color=None, indices=list(range(len(plate.frames))), step=1, vace=vace)
        parts |= dict(model=Named(recipe.model), size=vace.size, steps=vace.steps, guidance=vace.guidance, warnings=())
        job_hash = identity(model=vace.fingerprint, prompt=recipe.prompt, seed=recipe.seed, steps=vace.steps,
                            guidance=vace.guidance, **common)  # fmt: skip
    else:
        edited = _open_edited(path, plate)
        edited_color = _display_color(None, edited)
        indices, step = match_frames(len(plate.frames), len(edited.frames), path)
        parts = dict(edited=edited, edited_color=edited_color, indices=indices, step=step)
        parts |= dict(model=Named("lift"), size=_work_size(plate), steps=None, guidance=None, warnings=_warnings(step))
        job_hash = identity(model="lift", edited=[edited.fingerprint(f) for f in edited.frames],
                            edited_space=[edited_color.space.config, edited_color.space.name], **common)  # fmt: skip
    delivery = Delivery(Path(recipe.out), plate, recipe.to_json(), job_hash, blending, color, formats=formats)
    delivery.preflight()
    parts |= dict(color=color, blending=blending, hash=job_hash, fingerprints=fingerprints, delivery=delivery)
    job = LiftJob(recipe, plate, mask, **parts)
    if job.edited is not None:
        plate_frames, edited_frames, masks = _looked_at(job)
        refuse_other_picture(plate_frames, edited_frames, path, masks)
    return job


@blocks_used_again()
def lift(job: LiftJob, progress, stopping) -> dict:
    """Lift and deliver every frame; returns the report that goes into the manifest. As vera.core.backends.generate.edit."""
    delivery, plate = job.delivery, job.plate
    delivery.start()
    kept = KeptWindows(delivery.job_dir, job.indices, WINDOW_PIXELS // (job.size[0] * job.size[1]))
    _lift_windows(job, kept, progress, stopping)
    progress.stage("deliver", len(plate.frames))
    video = LiftedVideo(kept)
    layers = (tuple(video[i].split((3, 1, 3))) for i in range(len(plate.frames)))
    for _ in delivered_frames(job, layers, _deliver_frame, stopping):
        progress.advance()
    report.write(delivery, job, video, video.found, lambda i: read_edited(job, [i])[0])
    progress.close()
    facts = [delivery.facts(f) for f in plate.frames]
    mean = lambda name: sum(f[name] for f in facts) / len(facts)  # noqa: E731
    haze = video.found["haze"]
    warnings = [*job.warnings, *([HAZY.format(haze)] if haze >= LEAST_TOLD else [])]
    for warning in warnings[len(job.warnings) :]:
        progress.warn(warning)
    told = {
        "model": job.model.name,
        "steps": job.steps,
        "guidance": job.guidance,
        "model_size": list(job.size),
        "agreement_psnr": round(-10 * math.log10(max(mean("agreement_error"), 1e-12)), 2),
        "coverage": round(mean("coverage"), 4),
        "color": {"curve": job.color.curve.name, "exposure": job.color.exposure},
        "removed": {name: value for name, value in video.found.items() if name != "haze"},
        "haze": haze,
        "warnings": warnings,
    }
    delivery.finish(told)
    return told


def _refuse_what_is_not_lifted(recipe):
    """Raise InputError for fields of a render that say nothing to a lift, where they are set."""
    asked = {
        "region": (recipe.region is not None, "looks at whole frames"),
        "cuts": (parse_cuts(recipe.cuts) != "auto", "takes the plate as one shot"),
        "keep": (recipe.keep, "has no latents to keep"),
        "layer mode": (recipe.layer_mode == "relative", "has colour of the edited video only"),
        "exposure": (recipe.exposure != "auto", "compares pictures as a display shows them"),
        "attention": (recipe.attention != "dense", "has no such attention"),
        "cache": (recipe.cache is not None, "has no such cache"),
        "compile": (recipe.compile, "compiles nothing"),
        "one batch": (recipe.one_batch, "has no such passes"),
        "weights": (recipe.weights != "auto", "has no such weights"),
        "offload": (recipe.offload != "auto", "has nothing to keep elsewhere"),
        "lora": (bool(recipe.lora), "has no weights to change"),
    }
    for name, (is_set, reason) in asked.items():
        if is_set:
            raise InputError(f"{name}: a lift {reason}; leave it out")


def _display_color(name: str | None, plate: Plate) -> PlateColor:
    """Edited videos are made for a display: the plate, and what is of light among them, is seen as one shows it."""
    return PlateColor(resolve_space(name, plate), plate.pixel_type, light_curve=DISPLAY)


def _open_edited(path: str, plate: Plate) -> Plate:
    """Of a longer sequence with the plate's numbers, the plate's part; else all of it."""
    try:
        edited = open_plate(path)
        if not edited.is_movie and set(plate.frames) < set(edited.frames):
            edited = open_plate(path, f"{plate.frames[0]}-{plate.frames[-1]}")
    except InputError as error:
        raise InputError(f"edited video: {error}") from None
    shape = lambda p: p.width * p.pixel_aspect / p.height  # noqa: E731
    if abs(math.log(shape(edited) / shape(plate))) > 0.03:
        raise InputError(
            f"{path}: {edited.width}x{edited.height} is not of the plate's shape ({plate.width}x{plate.height});"
            " give it uncropped, without bars"
        )
    return edited


def _work_size(plate) -> tuple[int, int]:
    """(width, height): the plate's, or the same shape of fewer pixels. A smaller edited video grows: thin limbs of
    what was kept are the plate's to tell."""
    scale = min(1.0, math.sqrt(WORK_PIXELS / (plate.width * plate.height)))
    return round(plate.width * scale), round(plate.height * scale)


def _looked_at(job):
    """Some frames of plate, edited video and mask, at the smaller one's size: what has grown has no details to compare."""
    last = len(job.indices) - 1
    chosen = sorted({round(i * last / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
    size = min(job.size, (job.edited.width, job.edited.height))[::-1]
    return [v if v is None else same_size(v, size) for v in (read(job, chosen) for read in (read_plate, read_edited, read_mask))]


def _warnings(step):
    if step > 1:
        return (f"the edited video has one frame in {step}; layers of the frames between are mixed from their neighbours",)
    if step < -1:
        return (f"the edited video has {-step} frames for one of the plate; the first of each is used",)
    return ()


def _lift_windows(job, kept, progress, stopping):
    """Lift the windows that are missing yet. Raises Stopped between two steps."""
    missing = kept.missing()
    if missing and job.vace is not None:
        job.vace.make(job, progress, stopping)
    progress.stage("lift", len(kept.windows) * STEPS, (len(kept.windows) - len(missing)) * STEPS)
    for k in missing:
        start, end = kept.windows[k]

        def step_done():
            progress.advance()
            if stopping():
                first, last = (job.plate.frames[job.indices[i]] for i in (start, end - 1))  # noqa: B023
                raise Stopped(f"stopped while frames {first} to {last} were lifted")

        positions = range(start, end)
        with torch.inference_mode():
            lifted = lift_clip(read_plate(job, positions), read_edited(job, positions), read_mask(job, positions), step_done)
        found = {
            "haze": lifted.haze,
            "shift_pixels": float(lifted.moves[..., 0].norm(dim=1).mean()),
            "color_drift": float((lifted.gain.abs() + lifted.offset.abs()).mean()),
        }
        kept.keep(k, torch.cat([lifted.color * lifted.alpha, lifted.alpha, lifted.clean], 1), found)


def _deliver_frame(job, frame, pixels, color, alpha, clean):
    """One frame's layer at working size -> layer and composite at plate size, written."""
    source = job.color.to_model(pixels)
    color, alpha = plate_sized(color, alpha, torch.from_numpy(source))
    color, alpha = color.movedim(0, -1).contiguous().numpy(), alpha[0].numpy()
    if job.mask is not None:
        alpha = alpha * (job.mask.read(frame) > 0)
    dtype = job.delivery.formats.dtype
    layer = layer_for_blending(color, alpha, source, job.color, job.blending, dtype=dtype)
    composed = torch.from_numpy(alpha[..., None] * color + (1 - alpha[..., None]) * source)
    facts = {
        "agreement_error": float((shrink(composed, *job.size) - clean).pow(2).mean()),  # mean square, encoded [0, 1]
        "coverage": float((layer[..., 3] > 0).mean()),
    }
    job.delivery.write(frame, layer, composite(pixels, layer, job.color, job.blending), facts, alpha, pixels)
