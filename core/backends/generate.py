"""The way of a shot, from a recipe to the delivered edit layer.

    recipe -> plate frames -> model range -> latents -> joint denoising of three layers
           -> decoded layers -> matte and colour at plate size -> delivery

prepare() refuses what can be refused and writes nothing; edit() does the work. Frames stream through each
step, latents wait on the disk between them: memory does not grow with the shot.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from vera import __version__
from vera.core.sampling.shots import encoded_shots, generated_shots, room_for_latents
from vera.core.layer.blend_space import Blending, Change, composite, find_blending, layer_for_blending
from vera.core.layer.delivery import Delivery
from vera.core.layer.foreground import clean_color
from vera.core.layer.outputs.output import Formats
from vera.core.layer.matte import clean_alpha, refine_alpha, steady
from vera.core.layer.relative import relative_share
from vera.core.layer.stream import as_filmed, delivered_frames
from vera.core.backends.lift import lift, prepare_lift
from vera.core.model.device import choose_device
from vera.core.model.load import Model, load_model
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import CURVES
from vera.core.plate.color_exposure import shot_exposure
from vera.core.plate.color_space import resolve_space
from vera.core.plate.cuts import refuse_cuts_outside
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.region import Region, region_of
from vera.core.plate.source import Mask, Plate, open_mask, open_plate
from vera.core.recipe import EditRecipe, identity, parse_cuts, parse_region, split_model
from vera.core.sampling.denoise import run_windows_serially
from vera.core.sampling.latent_store import ClipLatents, LayerLatents, LatentStore
from vera.core.sampling.speed_options import SpeedOptions
from vera.kernels.matte import plate_color, resize
from vera.kernels.pixel_hash import pixel_hash
from vera.kernels.subject import free_subject


@dataclass(frozen=True)
class Job:
    """A recipe whose every part has been found, read and accepted."""

    recipe: EditRecipe
    plate: Plate
    mask: Mask | None
    model: Model
    color: PlateColor
    blending: Blending
    region: Region
    cuts: str | tuple[int, ...]
    size: tuple[int, int]
    steps: int
    guidance: float
    speed: SpeedOptions
    hash: str
    fingerprints: dict[int, str]
    delivery: Delivery
    latents: LatentStore
    kept: LatentStore
    warnings: tuple[str, ...]
    window_runner: Callable = run_windows_serially  # how the windows of a step are looked at, see sampling/denoise.py

    def pixels(self, frame: int):
        """The frame as filmed, which is that of the job's hash. Raises InputError if it has changed."""
        return as_filmed(self.plate, frame, self.fingerprints[frame])

    def allowed(self, frame: int):
        """The region of the frame's mask, (H, W) float32 in [0, 1]; None without a mask."""
        return None if self.mask is None else torch.from_numpy(self.region.crop(self.mask.read(frame)).copy())

    def source(self, pixels):
        """The region of a frame's pixels at plate size in the model's range, (H, W, 3) float32."""
        return self.color.to_model(self.region.crop(pixels))


def prepare(recipe: EditRecipe, device: str, load=load_model) -> Job:
    """Open everything that the recipe names. Raises InputError; nothing is written.

    load(name, device, **recipe.loading()) gives the Model; the service's keeps it from job to job.
    """
    if split_model(recipe.model)[0]:
        return prepare_lift(recipe, device)
    plate = open_plate(recipe.plate, recipe.frames)
    mask = open_mask(recipe.mask, plate) if recipe.mask else None
    space = resolve_space(recipe.color_space, plate)
    blending = find_blending(recipe.blend_space, recipe.layer_space, space)
    region = region_of(plate, parse_region(recipe.region) if recipe.region else None)
    cuts = parse_cuts(recipe.cuts)
    refuse_cuts_outside(cuts, plate.frames)
    model = load(recipe.model, choose_device(device), **recipe.loading())
    stops = 0.0 if recipe.exposure == "auto" else recipe.exposure
    color = PlateColor(space, plate.pixel_type, stops, CURVES[model.limits.light_curve])
    steps = model.limits.steps if recipe.steps is None else recipe.steps
    guidance = float(model.limits.guidance if recipe.guidance is None else recipe.guidance)
    speed = SpeedOptions.of(recipe)
    notes = speed.check(model.transformer)
    fingerprints = {f: plate.fingerprint(f) for f in plate.frames}
    generation = identity(
        version=__version__,
        plate=list(fingerprints.values()),
        mask=[pixel_hash(mask.read(f)) for f in plate.frames] if mask else None,
        frames=[plate.frames[0], plate.frames[-1]],
        model=model.fingerprint,
        prompt=recipe.prompt,
        seed=recipe.seed,
        steps=steps,
        guidance=guidance,
        space=[space.config, space.name],
        exposure=recipe.exposure,
        curve=color.curve.name,
        region=[region.x, region.y, region.width, region.height],
        cuts=cuts,
        # compile and one_batch are not part of it: like the device, they change the rounding only.
        attention=speed.attention,
        cache=speed.cache,
        # As asked for: what "auto" chose for a machine is said, as the device is.
        weights=recipe.weights,
    )
    formats = Formats(recipe.layer_type, recipe.compression, recipe.also)
    job_hash = identity(
        generation=generation,
        blend_space=recipe.blend_space,
        layer_space=[blending.space.config, blending.space.name],
        layer_mode=recipe.layer_mode,
        formats=[formats.layer_type, formats.compression, formats.extra_outputs],
    )
    delivery = Delivery(Path(recipe.out), plate, recipe.to_json(), job_hash, blending, color, generation, formats)
    size = model_size(region.width, region.height, plate.pixel_aspect, model.limits.pixels, model.limits.multiple)
    latents, kept = LatentStore(delivery.job_dir / "latents", generation), LatentStore(delivery.kept_dir, generation)
    generated = kept.shots("layers", plate.frames) or latents.shots("layers", plate.frames)
    room = 0 if generated else room_for_latents(model, len(plate.frames), size, mask is not None)
    delivery.preflight(max(0, room - latents.bytes_there()))
    kept.refuse_others()
    return Job(
        recipe=recipe,
        plate=plate,
        mask=mask,
        model=model,
        color=color,
        blending=blending,
        region=region,
        cuts=cuts,
        size=size,
        steps=steps,
        guidance=guidance,
        speed=speed,
        hash=job_hash,
        fingerprints=fingerprints,
        delivery=delivery,
        latents=latents,
        kept=kept,
        warnings=(*model.text.check(recipe.prompt), *notes),
    )


def nothing_to_do(job) -> bool:
    """Whether the delivery is whole, and what is to be kept is there."""
    return job.delivery.complete() and (not job.recipe.keep or bool(job.kept.shots("layers", job.plate.frames)))


def edit(job: Job, progress, stopping) -> dict:
    """Make and deliver the layer of every frame; returns the report that goes into the manifest.

    stopping() is asked between windows and between frames; when true, Stopped is raised
    and the same command goes on from there. Finished steps and frames are not made again.
    """
    if split_model(job.recipe.model)[0]:
        return lift(job, progress, stopping)
    plate, delivery = job.plate, job.delivery
    delivery.start()
    job = _exposed(job)
    delivery.color = job.color
    shots = generated_shots(job, progress, stopping)
    seen_again = encoded_shots(job, progress, stopping) if _may_be_relative(job) else {}
    progress.stage("deliver", len(plate.frames))
    decoded = (
        steady(_decoded_frames(job.model, layers, seen_again.get(shot), len(shot))) for shot, layers in shots.items()
    )
    # The mask is read here, in order: a movie is not for the several threads that deliver.
    layers = ((*parts, job.allowed(f)) for f, parts in zip(plate.frames, chain.from_iterable(decoded), strict=True))
    for _ in delivered_frames(job, layers, _deliver_frame, stopping):
        progress.advance()
    progress.close()
    facts = [delivery.facts(f) for f in plate.frames]
    report = {
        "model": job.model.name,
        "steps": job.steps,
        "guidance": job.guidance,
        "model_size": list(job.size),
        "shots": [[shot[0], shot[-1]] for shot in shots],
        "agreement_psnr": round(-10 * math.log10(max(_mean(facts, "agreement_error"), 1e-12)), 2),
        "coverage": round(_mean(facts, "coverage"), 4),
        "color": {
            "curve": job.color.curve.name,
            "exposure": job.color.exposure,
            "clipped": {side: _mean([f["clipped"] for f in facts], side) for side in ("above", "below")},
            "relative": round(_mean(facts, "relative"), 4),
        },
        "warnings": list(job.warnings),
    }
    delivery.finish(report)
    return report


def _exposed(job: Job) -> Job:
    """The job with the shot's exposure, where the recipe leaves that to the shot."""
    if job.recipe.exposure != "auto":
        return job
    return replace(job, color=replace(job.color, exposure=shot_exposure(job.plate, job.color, job.pixels)))


def _may_be_relative(job: Job) -> bool:
    """A display's plate has neither the highlights nor the depth that decoded colour lacks: there auto is replace."""
    return job.recipe.layer_mode == "relative" or (job.recipe.layer_mode == "auto" and job.color.space.is_scene)


def _decoded_frames(model, layers, plate, count):
    """Yield (colour (3, h, w), alpha (h, w), composite (3, h, w), the plate's reconstruction (3, h, w) or None
    without the plate's latents), clamped to [0, 1], exactly `count` times."""
    sources = [LayerLatents(layers, i, model.device) for i in range(3)]
    if plate is not None:
        sources.append(ClipLatents(plate, model.device))
    with torch.inference_mode():
        for chunk in zip(*map(model.codec.decode_stream, sources)):
            color, alpha, composed, *rest = (c[0].float().clamp(0, 1).cpu() for c in chunk)
            for i in range(color.shape[1]):
                if count == 0:
                    return
                count -= 1
                yield color[:, i], alpha[:, i].mean(0), composed[:, i], rest[0][:, i] if rest else None


def _deliver_frame(job: Job, frame, pixels, color, alpha, composed_by_model, reconstruction, allowed):
    """One frame's pixels and layers at model size -> layer and composite at plate size, written."""
    source = job.source(pixels)
    share = _share_of_plate(job, color, alpha, reconstruction)
    drawn_again = None if share is None else (reconstruction, share)
    at_model_size = shrink(torch.from_numpy(source), *job.size)
    layer, matte = _plate_sized_layer(job, pixels, source, color, alpha, at_model_size, drawn_again, allowed)
    layer, matte = job.region.place(layer), job.region.place(matte)
    composed = alpha * color + (1 - alpha) * at_model_size
    facts = {
        "agreement_error": float((composed - composed_by_model).pow(2).mean()),  # mean square, encoded [0, 1]
        "coverage": float((layer[..., 3] > 0).mean()),
        "relative": 0.0 if share is None else float((share * alpha).sum() / alpha.sum().clamp_min(1e-6)),
        "clipped": job.color.clipped(job.region.crop(pixels)),
    }
    job.delivery.write(frame, layer, composite(pixels, layer, job.color, job.blending), facts, matte, pixels)


def _share_of_plate(job: Job, color, alpha, reconstruction):
    """How far the colour is taken relative to the plate, (h, w) in [0, 1]; None where it is nowhere."""
    if reconstruction is None:
        return None
    if job.recipe.layer_mode == "relative":
        return torch.ones_like(alpha)
    share = relative_share(color, reconstruction, alpha)
    return share if share.max() > 0 else None


def _plate_sized_layer(job: Job, pixels, source, color, alpha, guide, drawn_again, allowed):
    """The layer (H, W, 4), premultiplied, and the matte (H, W) as the model meant it, both within the mask
    `allowed` (H, W): to the model a mask is a hint, to the user it is a promise.

    pixels: the frame as filmed; source: its region (H, W, 3) in the model's range, and guide (3, h, w) that at model
    size. color (3, h, w) and alpha (h, w): as decoded, straight. drawn_again: where some of the colour is relative
    to the plate, the plate's reconstruction (3, h, w), and how much of it is (h, w).
    """
    plate = torch.from_numpy(source)
    alpha = clean_alpha(alpha)
    matte, kept = refine_alpha(alpha, guide, plate)
    if allowed is not None:
        matte = matte * allowed
    edit = plate_color(clean_color(color, alpha).movedim(0, -1), matte)
    edit, raised = free_subject(edit, matte, kept, plate)
    change = None
    if drawn_again is not None:
        reconstruction = plate_color(drawn_again[0].movedim(0, -1), raised).numpy()
        change = Change(job.region.crop(pixels), reconstruction, _share_at_plate_size(drawn_again[1], raised.shape))
    shown = edit.numpy(), raised.numpy(), source
    layer = layer_for_blending(*shown, job.color, job.blending, change, job.delivery.formats.dtype)
    return layer, matte.numpy()


def _share_at_plate_size(share, size):
    if share.min() == 1:
        return np.broadcast_to(np.float32(1), size)
    return resize(share[..., None], size).clamp(0, 1).numpy()[..., 0]


def _mean(facts, name):
    return sum(f[name] for f in facts) / len(facts)
