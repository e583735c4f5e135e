"""The way of a shot, from a recipe to the delivered edit layer.

    recipe -> plate frames -> model range -> latents -> joint denoising of three layers
           -> decoded layers -> matte and colour at plate size -> delivery

prepare() refuses what can be refused and writes nothing; edit() does the work.
"""

import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from core import __version__
from core.errors import InputError, Stopped
from core.layer.blend import layer_for_blending
from core.layer.delivery import Delivery
from core.layer.matte import extend_color, refine_alpha, resize, snap
from core.model.load import Model, load_model
from core.plate.color import resolve_space, to_model
from core.plate.fit import model_size, shrink
from core.plate.source import Mask, Plate, open_mask, open_plate
from core.recipe import EditRecipe, identity
from core.sampling.denoise import denoise
from kernels.over import over
from kernels.pixel_hash import pixel_hash

CODE_BITS = {"uint10": 10, "uint12": 12}  # kept in 16 bits in memory, rounded to their own depth


@dataclass(frozen=True)
class Job:
    """A recipe whose every part has been found, read and accepted."""

    recipe: EditRecipe
    plate: Plate
    mask: Mask | None
    model: Model
    space: str
    size: tuple[int, int]
    steps: int
    guidance: float
    hash: str
    fingerprints: dict[int, str]
    delivery: Delivery
    warnings: tuple[str, ...]


def prepare(recipe: EditRecipe, device: str, load=load_model) -> Job:
    """Open everything that the recipe names. Raises InputError; nothing is written.

    load(name, device) gives the Model; the service's keeps it from job to job.
    """
    plate = open_plate(recipe.plate, recipe.frames)
    mask = open_mask(recipe.mask, plate) if recipe.mask else None
    space = resolve_space(recipe.color_space, plate)
    model = load(recipe.model, choose_device(device))
    longest = model.limits.max_frames
    if len(plate.frames) > longest:
        first = plate.frames[0]
        raise InputError(
            f"{recipe.plate}: {len(plate.frames)} frames are more than the {longest} that {model.name} takes at once;"
            f" give a part, such as --frames {first}-{first + longest - 1}"
        )
    steps = model.limits.steps if recipe.steps is None else recipe.steps
    guidance = float(model.limits.guidance if recipe.guidance is None else recipe.guidance)
    fingerprints = {f: plate.fingerprint(f) for f in plate.frames}
    job_hash = identity(
        version=__version__,
        plate=list(fingerprints.values()),
        mask=[pixel_hash(mask.read(f)) for f in plate.frames] if mask else None,
        frames=[plate.frames[0], plate.frames[-1]],
        model=model.fingerprint,
        prompt=recipe.prompt,
        seed=recipe.seed,
        steps=steps,
        guidance=guidance,
        space=space,
        blend_space=recipe.blend_space,
    )
    delivery = Delivery(Path(recipe.out), plate, recipe.to_json(), job_hash, recipe.blend_space, space)
    delivery.preflight()
    size = model_size(plate.width, plate.height, plate.pixel_aspect, model.limits.pixels, model.limits.multiple)
    warnings = tuple(model.text.check(recipe.prompt))
    return Job(recipe, plate, mask, model, space, size, steps, guidance, job_hash, fingerprints, delivery, warnings)


def choose_device(name: str) -> str:
    """auto takes CUDA where there is one. Raises InputError for a device that is not there."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return ("cuda" if there else "cpu") if name == "auto" else name


def edit(job: Job, progress, stopping) -> dict:
    """Make and deliver the layer of every frame; returns the report that goes into the manifest.

    stopping() is asked between steps and between frames; when true, Stopped is raised
    and the same command goes on from there. Finished frames are not made again.
    """
    plate, delivery = job.plate, job.delivery
    delivery.start()
    layers = _sampled_layers(job, progress, stopping)
    progress.stage("deliver", len(plate.frames))
    for _ in _delivered_frames(job, layers, stopping):
        progress.advance()
    progress.close()
    facts = [delivery.facts(f) for f in plate.frames]
    report = {
        "model": job.model.name,
        "steps": job.steps,
        "guidance": job.guidance,
        "model_size": list(job.size),
        "agreement_psnr": round(-10 * math.log10(max(_mean(facts, "agreement_error"), 1e-12)), 2),
        "coverage": round(_mean(facts, "coverage"), 4),
        "warnings": list(job.warnings),
    }
    delivery.finish(report)
    return report


def _delivered_frames(job: Job, layers, stopping):
    """Yield each frame once its files are there, in order; a few are worked on at a time."""
    plate, workers = job.plate, min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        pending = deque()
        decoded = _decoded_frames(job.model.codec, layers, len(plate.frames))
        for frame, parts in zip(plate.frames, decoded, strict=True):
            if stopping():
                raise Stopped(f"stopped before frame {frame}")
            if job.delivery.done(frame):
                pending.append((frame, None))
            else:
                pending.append((frame, pool.submit(_deliver_frame, job, frame, _frame_as_prepared(job, frame), *parts)))
            while len(pending) > workers:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())


def _finished(frame, work):
    if work is not None:
        work.result()
    return frame


def _sampled_layers(job: Job, progress, stopping) -> torch.Tensor:
    """Latents (1, 3, C, T, H, W) of the three layers; kept in the job's folder, so that a resume finds them."""
    kept = job.delivery.job_dir / "layers.safetensors"
    if kept.exists():
        return load_file(kept)["layers"].to(job.model.device)
    model = job.model
    with torch.inference_mode():
        source, mask = _latents_of_plate(job, progress, stopping)
        progress.stage("denoise", job.steps)

        def step_done(_):
            progress.advance()
            return stopping()

        layers = denoise(
            model.transformer,
            model.text.encode([job.recipe.prompt]),
            model.text.encode([""]),
            source,
            mask,
            seed=job.recipe.seed,
            steps=job.steps,
            guidance=job.guidance,
            shift=model.limits.shift,
            step_done=step_done,
        )
    part = kept.with_suffix(".part")
    save_file({"layers": layers.cpu().contiguous()}, part)
    os.replace(part, kept)
    return layers


def _latents_of_plate(job: Job, progress, stopping):
    """The plate and the mask as the model sees them: latents (1, C, T, H, W), and the same or None."""
    progress.stage("read", len(job.plate.frames))
    frames, masks = [], []
    for frame in job.plate.frames:
        if stopping():
            raise Stopped(f"stopped while reading frame {frame}")
        source = to_model(_frame_as_prepared(job, frame), job.space, job.plate.pixel_type)
        frames.append(shrink(torch.from_numpy(source), *job.size))
        if job.mask is not None:
            masks.append(shrink(torch.from_numpy(job.mask.read(frame))[..., None], *job.size).expand(3, -1, -1))
        progress.advance()
    encode = lambda images: job.model.codec.encode(torch.stack(images, dim=1)[None].to(job.model.device))  # noqa: E731
    return encode(frames), encode(masks) if masks else None


def _decoded_frames(codec, layers, count):
    """Yield (colour (3, h, w), alpha (h, w), composite (3, h, w)), clamped to [0, 1], exactly `count` times."""
    with torch.inference_mode():
        streams = [codec.decode_stream(layers[:, i]) for i in range(3)]
        for chunk in zip(*streams):
            color, alpha, composite = (c[0].float().clamp(0, 1).cpu() for c in chunk)
            for i in range(color.shape[1]):
                if count == 0:
                    return
                count -= 1
                yield color[:, i], alpha[:, i].mean(0), composite[:, i]


def _deliver_frame(job: Job, frame, pixels, color, alpha, composite):
    """One frame's pixels and layers at model size -> layer and composite at plate size, written."""
    plate = job.plate
    source = to_model(pixels, job.space, plate.pixel_type)
    layer = _plate_sized_layer(color, alpha, source, job.recipe.blend_space)
    over_plate = over(pixels, layer, job.space, job.recipe.blend_space, CODE_BITS.get(plate.pixel_type))
    at_model_size = shrink(torch.from_numpy(source), *job.size)
    composed = alpha * color + (1 - alpha) * at_model_size
    facts = {
        "agreement_error": float((composed - composite).pow(2).mean()),  # mean square, encoded [0, 1]
        "coverage": float((layer[..., 3] > 0).mean()),
    }
    job.delivery.write(frame, layer, over_plate, facts)


def _frame_as_prepared(job: Job, frame):
    """The frame's pixels, which are those of the job's hash. Raises InputError if they have changed."""
    pixels = job.plate.read(frame)
    try:
        same = job.plate.fingerprint(frame) == job.fingerprints[frame]
    except OSError as error:
        raise InputError(f"frame {frame}: {job.plate.file(frame)}: cannot be read ({error.strerror}); supply the file") from None
    if not same:
        raise InputError(f"frame {frame}: {job.plate.file(frame)}: has changed since the job began; start again with another --out")
    return pixels


def _plate_sized_layer(color, alpha, source, blend_space):
    """Model-size straight colour (3, h, w) and alpha (h, w) -> the layer (H, W, 4), premultiplied half."""
    size = source.shape[:2]
    color, alpha = color.movedim(0, -1).numpy(), alpha.numpy()
    color = resize(extend_color(color, alpha), size).clip(0, 1)
    return layer_for_blending(color, snap(refine_alpha(alpha, size)), source, blend_space)


def _mean(facts, name):
    return sum(f[name] for f in facts) / len(facts)
