"""Render one shot with a Vera: plate and prompt in, delivered edit layer out.

    recipe -> plate frames -> model range -> latents -> joint denoising of three layers
           -> decoded layers -> matte and colour at plate size -> delivery

prepare() checks everything and writes nothing; run() does the steps above. Frames are streamed through each step and
latents are stored on disk between steps, so that memory does not grow with the shot.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vera.core.backends.base import (
    Job,
    LayerSource,
    Loader,
    Opened,
    foundation_of,
    mean_of,
    refuse_unguided,
    report_of,
    with_matching,
)
from vera.core.errors import InputError
from vera.core.layer.backdrop.backdrop import Backdrop
from vera.core.layer.backdrop.behind import BackdropFrame, white_of_plate
from vera.core.layer.backdrop.painting import Asked
from vera.core.layer.blend_space import Change, layer_for_blending
from vera.core.layer.delivery_loop import FilmedFrame, FinishedFrame, deliver_frames
from vera.core.layer.drawn_object import (
    AGREES,
    Drawn,
    DrawnFrame,
    Take,
    agreement,
    coverage,
    over_rest,
    visible,
    without_object,
)
from vera.core.layer.foreground import clean_color
from vera.core.layer.match import LaidLayer
from vera.core.layer.matte import clean_alpha, refine_alpha, steady
from vera.core.layer.origin import GENERATED, Origin
from vera.core.layer.particles import WEATHER, Particles, over_veil, particles_of
from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.layer.relative import relative_share
from vera.core.model.codec import latent_frames
from vera.core.model.device import why_device
from vera.core.model.interfaces import Model, ShotBackground, ShotEffect, ShotObject
from vera.core.model.limits import Limits
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import CURVES
from vera.core.plate.color_exposure import shot_exposure
from vera.core.plate.color_space import resolve_space
from vera.core.plate.cuts import refuse_cuts_outside
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.region import region_of
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, parse_cuts, parse_region
from vera.core.sampling.denoise import run_windows_serially
from vera.core.sampling.kept_people import PEOPLE_KEPT, refuse_without_people
from vera.core.sampling.latent_store import ClipLatents, LatentStore, LayerLatents
from vera.core.sampling.shots import encoded_shots, generated_shots, room_for_latents
from vera.core.sampling.speed_options import SpeedOptions
from vera.kernels.plate_size import plate_color, resize
from vera.kernels.subject import free_subject

WHITE_FRAMES = 3  # frames of a shot from which the brightness of a backdrop is estimated
LIGHT_ROWS = 180  # rows of the shrunk plate from which its light is estimated; more are not better


@dataclass(frozen=True, kw_only=True)
class GenerateJob(Job):
    """latents, kept: stores of the generated latents, until delivery and permanently (`keep`)
    keeps_people: whether the people found in the plate serve as the mask
    shift: of the noise schedule
    window_runner: runs the model on a sampling step's windows, here or on several processes
    """

    steps: int
    guidance: float
    shift: float
    model: Model
    cuts: str | tuple[int, ...]
    speed: SpeedOptions
    latents: LatentStore
    kept: LatentStore
    keeps_people: bool
    window_runner: Callable = run_windows_serially

    def keeps_all(self) -> bool:
        """See `base.Job`."""
        return not self.recipe.keep or bool(self.kept.shots("layers", self.plate.frames))

    @property
    def aspect(self) -> float:
        """Displayed width over height of the region."""
        return self.region.width * self.plate.pixel_aspect / self.region.height


class DecodedFrame(NamedTuple):
    """One decoded frame at model size, in [0, 1].

    color: (3, h, w), straight
    alpha: (h, w)
    composite: (3, h, w), of the composite branch
    reconstruction: (3, h, w), the plate after the codec; None unless decoded
    drawn: object, particles or backdrop that are drawn at plate size, or None
    """

    color: torch.Tensor
    alpha: torch.Tensor
    composite: torch.Tensor
    reconstruction: torch.Tensor | None
    drawn: DrawnFrame | Particles | BackdropFrame | None = None


class ShotLatents(NamedTuple):
    """Latents of one shot by frame: the plate's, the mask's or None, and the three layers'. frames: frame numbers."""

    frames: range
    plate: Any
    mask: Any
    layers: Any


@dataclass(frozen=True)
class Sampling:
    """Settings of the sampler. shift: of the noise schedule."""

    steps: int
    guidance: float
    shift: float

    @classmethod
    def of(cls, recipe: EditRecipe, limits: Limits) -> "Sampling":
        """The recipe's settings, with the model's defaults for those that it leaves out."""
        return cls(
            steps=limits.steps if recipe.steps is None else recipe.steps,
            guidance=float(limits.guidance if recipe.guidance is None else recipe.guidance),
            shift=float(limits.shift if recipe.shift is None else recipe.shift),
        )


class Generate:
    """The backend of this project's own model: `mini`, or a Vera directory."""

    name = "generate"
    samples = True

    def prepare(self, opened: Opened, load: Loader) -> GenerateJob:
        """See `base.Backend`. In the service, `load` returns a model that is already loaded."""
        recipe, plate = opened.recipe, opened.plate
        space = resolve_space(recipe.color_space, plate)
        region = region_of(plate, parse_region(recipe.region) if recipe.region else None)
        cuts = parse_cuts(recipe.cuts)
        refuse_cuts_outside(cuts, plate.frames)
        model = load(recipe.model, opened.device, **recipe.loading())
        limits = model.limits
        stops = 0.0 if isinstance(recipe.exposure, str) else recipe.exposure
        color = PlateColor(space, plate.pixel_type, stops, CURVES[limits.light_curve])
        sampling = Sampling.of(recipe, limits)
        size = model_size(region.width, region.height, plate.pixel_aspect, limits.pixels, limits.multiple)
        speed = SpeedOptions.of(recipe)
        notes = [*model.notes, *model.text.check(recipe.prompt, recipe.anyway), *speed.check(model.transformer)]
        if recipe.negative_prompt is not None:
            refuse_unguided(sampling.guidance)
            notes += _checked_negative(model, recipe)
        keeps_people = recipe.mask is None and model.text.asks_for_people(recipe.prompt)
        if keeps_people:
            refuse_without_people(plate.frames, lambda f: torch.from_numpy(color.to_model(region.crop(plate.read(f)))))
            notes.append(PEOPLE_KEPT)
        source = LayerSource(
            made_from={
                "model": model.fingerprint,
                "prompt": recipe.prompt,
                "seed": recipe.seed,
                "steps": sampling.steps,
                "guidance": sampling.guidance,
                "negative_prompt": recipe.negative_prompt or "",
                "shift": sampling.shift,
                "size": size,
                "step_width": limits.step_width,
                "exposure": recipe.exposure,
                "curve": color.curve.name,
                "region": [region.x, region.y, region.width, region.height],
                "cuts": cuts,
                # compile and one_batch are left out: like the device, they change rounding only.
                "attention": speed.attention,
                "cache": speed.cache,
                # As in the recipe: the choice of "auto" depends on the machine, and is reported like the device.
                "weights": recipe.weights,
                "keeps_people": keeps_people,
            },
            origin=Origin(Path(model.name).name, model.fingerprint, GENERATED),
            laid_over={"layer_mode": recipe.layer_mode},
            keeps=True,
        )
        base = foundation_of(opened, color, source)
        latents = LatentStore(base.delivery.job_dir / "latents", base.ids.generation)
        kept = LatentStore(base.delivery.kept_dir, base.ids.generation)
        frames = range(plate.frames[0], plate.frames[-1] + 1)
        generated = kept.shots("layers", frames) or latents.shots("layers", frames)
        masked = opened.mask is not None or keeps_people
        room = 0 if generated else room_for_latents(model, len(frames), size, masked)
        base.delivery.preflight(max(0, room - latents.bytes_there()))
        kept.refuse_others()
        return GenerateJob(
            **base.job_fields(),
            region=region,
            size=size,
            steps=sampling.steps,
            guidance=sampling.guidance,
            shift=sampling.shift,
            model_name=model.name,
            frames_at_once=min(len(plate.frames), limits.max_frames),
            warnings=tuple(notes),
            model=model,
            cuts=cuts,
            speed=speed,
            latents=latents,
            kept=kept,
            keeps_people=keeps_people,
        )

    def run(self, job: GenerateJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """See `base.Backend`. Finished sampling steps and frames are reused."""
        job = _with_exposure(job)
        job.delivery.color = job.color
        shots = generated_shots(job, progress, stopping)
        text = _text_of_shapes(job)
        relative = _may_be_relative(job)
        plates = encoded_shots(job, progress, stopping) if relative or text is not None else {}
        masks = job.latents.shots("mask", job.plate.frames)
        decoded = (
            _with_shapes(
                job,
                text,
                ShotLatents(shot, plates.get(shot), masks.get(shot), shots[shot]),
                decoded_frames(job.model, shots[shot], plates.get(shot) if relative else None, len(shot)),
            )
            for shot in shots
        )
        job = with_matching(job, progress)
        layers = (DecodedFrame(*frame) for frame in chain.from_iterable(map(steady, decoded)))
        deliver_frames(job, layers, finish_frame, progress, stopping)
        progress.close()
        report = _report(job, list(shots))
        job.delivery.finish(report)
        return report

    def explain(self, job: GenerateJob, device_asked: str) -> list[str]:
        """Device, model, size and sampling, attention, cache, compilation and guidance passes."""
        model, config = job.model, job.model.transformer.config
        frames = min(len(job.plate.frames), model.limits.max_frames)
        width, height = job.size
        grid = (latent_frames(frames), height // model.codec.space_stride, width // model.codec.space_stride)
        tokens = 1
        for count, patch in zip(grid, config.patch, strict=True):
            tokens *= count // patch
        return [
            f"device: {model.device} ({why_device(device_asked, model.device)}), {torch.get_num_threads()} CPU threads",
            f"model: {model.name}, {_weights_in_words(model.transformer)}; text encoder and codec"
            f" {'visit the device' if hasattr(model.text, 'visitor') else 'stay on the device'}"
            f"{', so do its blocks' if hasattr(model.transformer, 'computes_on') else ''}",
            f"sampling: {width}x{height}, {frames} frames at once, {job.steps} steps, guidance {job.guidance:g}",
            *job.speed.explain(model.transformer, tokens, job.guidance),
        ]


BACKEND = Generate()


def _checked_negative(model: Model, recipe: EditRecipe) -> list[str]:
    """Warnings about the negative prompt. Raises InputError as the prompt's check does."""
    assert recipe.negative_prompt is not None
    try:
        return [f"negative {note}" for note in model.text.check(recipe.negative_prompt, recipe.anyway)]
    except InputError as error:
        raise InputError(f"negative {error}") from None


def _report(job: GenerateJob, shots: list[range]) -> dict[str, Any]:
    facts = [job.delivery.facts(f) for f in job.plate.frames]
    clipped = [f["clipped"] for f in facts]
    color = {
        "clipped": {side: mean_of(clipped, side) for side in ("above", "below")},
        "relative": round(mean_of(facts, "relative"), 4),
    }
    return report_of(job, color, shots=[[shot[0], shot[-1]] for shot in shots])


def _with_exposure(job: GenerateJob) -> GenerateJob:
    """The job with the shot's measured exposure, if the recipe says "auto"."""
    if job.recipe.exposure != "auto":
        return job
    return replace(job, color=replace(job.color, exposure=shot_exposure(job.plate, job.color, job.pixels)))


def _may_be_relative(job: GenerateJob) -> bool:
    """Whether colour may be taken relative to the plate.

    Mode "auto" does not do so for display-referred plates: decoded colour has all of their range and depth.
    """
    return job.recipe.layer_mode == "relative" or (job.recipe.layer_mode == "auto" and job.color.space.is_scene)


def decoded_frames(model: Model, layers: Any, plate: Any, count: int) -> Iterator[DecodedFrame]:
    """The first `count` frames of a shot. layers, plate: latents from a `LatentStore`; plate may be None."""
    sources: list[Any] = [LayerLatents(layers, i, model.device) for i in range(3)]
    if plate is not None:
        sources.append(ClipLatents(plate, model.device))
    with torch.inference_mode():
        for chunk in zip(*map(model.codec.decode_stream, sources), strict=False):
            color, alpha, composite, *rest = (c[0].float().clamp(0, 1).cpu() for c in chunk)
            for i in range(color.shape[1]):
                if count == 0:
                    return
                count -= 1
                yield DecodedFrame(color[:, i], alpha[:, i].mean(0), composite[:, i], rest[0][:, i] if rest else None)


def _text_of_shapes(job: GenerateJob) -> torch.Tensor | None:
    """The prompt's text states if the model can draw the added thing as a shape, else None."""
    if job.model.objects is None:
        return None
    text = job.model.text.encode([job.recipe.prompt])
    return None if job.model.objects.kind_in(text) == "nothing" else text


def _with_shapes(
    job: GenerateJob, text: torch.Tensor | None, latents: ShotLatents, decoded: Iterator[DecodedFrame]
) -> Iterator[DecodedFrame]:
    """Decoded frames of a shot with the object or effect of the text states as shapes.

    The frames stay unchanged without text states, and if the model drew something else.
    """
    shape = None
    if text is not None and job.model.objects is not None:
        window = latent_frames(job.model.limits.max_frames)
        shape = job.model.objects.of_shot(text, latents.plate, latents.mask, window)
    if isinstance(shape, ShotBackground):
        yield from _with_backdrop(job, shape, latents.frames, decoded)
    elif isinstance(shape, ShotEffect):
        yield from _with_particles(job, shape, latents.layers, decoded)
    elif shape is not None and _is_drawn(job, shape, latents.layers):
        for time, frame in enumerate(decoded):
            yield frame._replace(drawn=DrawnFrame(shape, time, Take.of(job.recipe.seed, shape.stands)))
    else:
        yield from decoded


def _with_particles(
    job: GenerateJob, effect: ShotEffect, layers: Any, decoded: Iterator[DecodedFrame]
) -> Iterator[DecodedFrame]:
    """Decoded frames with the particles of an effect."""
    if effect.kind not in WEATHER:
        yield from decoded
        return
    mean = torch.stack([alpha for _, alpha in _some_alphas(job, layers)]).mean(0)
    for time, frame in enumerate(decoded):
        yield frame._replace(drawn=particles_of(effect, job.recipe.seed, time, mean, job.aspect))


def _with_backdrop(
    job: GenerateJob, background: ShotBackground, frames: range, decoded: Iterator[DecodedFrame]
) -> Iterator[DecodedFrame]:
    """Decoded frames with a backdrop painted for the shot of these frames."""
    backdrop = Backdrop(Asked(background.kind, job.recipe.seed, background.traits), job.aspect)
    step = max(1, -(-len(frames) // WHITE_FRAMES))
    white = white_of_plate(_light_of(job, job.filmed(frame)) for frame in frames[::step])
    for time, frame in enumerate(decoded):
        yield frame._replace(drawn=BackdropFrame(backdrop, time, white))


def _is_drawn(job: GenerateJob, shape: ShotObject, layers: Any) -> bool:
    """Whether a shape agrees with the model's alpha over the whole shot."""
    shared, together, take = 0.0, 0.0, Take.of(job.recipe.seed, shape.stands)
    for time, alpha in _some_alphas(job, layers):
        both, either = agreement(DrawnFrame(shape, time, take), alpha, job.aspect)
        shared, together = shared + both, together + either
    return shared > AGREES * together


def _some_alphas(job: GenerateJob, layers: Any) -> Iterator[tuple[int, torch.Tensor]]:
    """Frame numbers and alpha (h, w) of the shot's first frame and of the last frame of each later latent frame."""
    with torch.inference_mode():
        chunks = job.model.codec.decode_stream(LayerLatents(layers, 1, job.model.device))
        time = -1
        for chunk in chunks:
            frames = chunk[0].float().clamp(0, 1).mean(0).cpu()
            time += len(frames)
            yield time, frames[-1]


def finish_frame(job: GenerateJob, filmed: FilmedFrame, decoded: DecodedFrame) -> FinishedFrame:
    """The layer at plate size of one decoded frame."""
    source = job.source(filmed.pixels)
    share = _share_of_plate(job, decoded)
    guide = shrink(torch.from_numpy(source), *job.size)
    layer, matte = plate_sized_layer(job, filmed, source, decoded, guide, share)
    composed = decoded.alpha * decoded.color + (1 - decoded.alpha) * guide
    facts = {
        "agreement_error": float((composed - decoded.composite).pow(2).mean()),  # mean square, encoded [0, 1]
        "relative": 0.0
        if share is None
        else float((share * decoded.alpha).sum() / decoded.alpha.sum().clamp_min(1e-6)),
        "clipped": job.color.clipped(job.region.crop(filmed.pixels)),
    }
    return FinishedFrame(job.region.place(layer), job.region.place(matte), facts)


def _share_of_plate(job: GenerateJob, decoded: DecodedFrame) -> torch.Tensor | None:
    """Share of colour that is taken relative to the plate, (h, w) in [0, 1]; None if it is 0 everywhere."""
    if decoded.reconstruction is None:
        return None
    if job.recipe.layer_mode == "relative":
        return torch.ones_like(decoded.alpha)
    share = relative_share(decoded.color, decoded.reconstruction, decoded.alpha)
    return share if share.max() > 0 else None


def plate_sized_layer(
    job: GenerateJob,
    filmed: FilmedFrame,
    source: np.ndarray,
    decoded: DecodedFrame,
    guide: torch.Tensor,
    share: torch.Tensor | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The region's premultiplied layer (H, W, 4), and the model's matte (H, W).

    source: the region (H, W, 3) in the model's range
    guide: (3, h, w), the same at model size
    share: (h, w), of colour that is taken relative to the plate, or None
    Both results are 0 outside of the frame's mask. The model treats a mask as a hint; this enforces it.
    """
    plate = torch.from_numpy(source)
    alpha = clean_alpha(decoded.alpha)
    if isinstance(decoded.drawn, DrawnFrame):
        edit, matte, explained, own = _object_layer(job, filmed, decoded, alpha, guide, plate)
    elif isinstance(decoded.drawn, BackdropFrame):
        matte, explained = refine_alpha(alpha, guide, plate, job.model.limits.step_width)
        edit = decoded.drawn.codes((plate.shape[0], plate.shape[1]), not job.color.space.is_scene)
        own = torch.ones_like(matte)
    elif decoded.drawn is not None:
        edit, matte, own = over_veil(decoded.drawn, alpha, decoded.color, _scene(job, filmed))
        explained = torch.zeros_like(matte)
    else:
        matte, explained = refine_alpha(alpha, guide, plate, job.model.limits.step_width)
        edit, own = plate_color(clean_color(decoded.color, alpha).movedim(0, -1), matte), None
    if filmed.allowed is not None:
        matte = matte * filmed.allowed
    edit, matte = job.matching.softened(edit, matte, explained, filmed.allowed)
    edit, raised = free_subject(edit, matte, explained, plate)
    relative = None if share is None else _share_at_plate_size(share, raised.shape)
    if relative is not None and own is not None:
        relative = relative * (1 - own.numpy())
    change = None
    if relative is not None and decoded.reconstruction is not None:
        reconstruction = plate_color(decoded.reconstruction.movedim(0, -1), raised).numpy()
        change = Change(job.region.crop(filmed.pixels), reconstruction, relative)
    laid = LaidLayer(edit.numpy(), raised.numpy(), source, relative, filmed.frame, (job.region.y, job.region.x))
    dtype = job.delivery.formats.dtype
    layer = layer_for_blending(job.matching.grained(laid), laid.alpha, source, job.color, job.blending, change, dtype)
    return layer, matte.numpy()


def _object_layer(
    job: GenerateJob,
    filmed: FilmedFrame,
    decoded: DecodedFrame,
    alpha: torch.Tensor,
    guide: torch.Tensor,
    plate: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Colour (H, W, 3), alpha, the share that the plate explains, and the object's alpha, each (H, W), of an object
    drawn as a shape. alpha: (h, w), the model's, cleaned."""
    assert isinstance(decoded.drawn, DrawnFrame)
    frame, width = decoded.drawn, job.model.limits.step_width
    cover = coverage(frame, (alpha.shape[0], alpha.shape[1]), job.aspect)
    rest = without_object(cover, alpha, frame.shape.soft)
    matte, explained = refine_alpha(rest, guide, plate, width)
    edit = plate_color(clean_color(decoded.color, rest).movedim(0, -1), matte)
    shown, hides = _refined_unless_all(visible(cover, alpha), guide, plate, width)
    edit, matte, own = over_rest(Drawn(frame, _scene(job, filmed), alpha), shown, edit, matte)
    return edit, matte, torch.maximum(explained, hides * own), own


def _scene(job: GenerateJob, filmed: FilmedFrame) -> Scene:
    """The scene of a frame's region, into which objects are drawn."""
    size = (job.region.height, job.region.width)
    return Scene(size, job.aspect, _light_of(job, filmed), not job.color.space.is_scene)


def _light_of(job: GenerateJob, filmed: FilmedFrame) -> PlateLight:
    """The light of a frame's region."""
    pixels = job.region.crop(filmed.pixels)
    step = max(1, min(pixels.shape[:2]) // LIGHT_ROWS)
    return PlateLight.of(job.color.light(pixels[step // 2 :: step, step // 2 :: step]))


def _refined_unless_all(
    shown: torch.Tensor, guide: torch.Tensor, plate: torch.Tensor, step_width: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`refine_alpha` of an object's visibility; all ones if nothing hides the object."""
    if shown.min() == 1:
        return torch.ones(plate.shape[:2]), torch.zeros(plate.shape[:2])
    return refine_alpha(shown, guide, plate, step_width)


def _share_at_plate_size(share: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    if share.min() == 1:
        return np.broadcast_to(np.float32(1), size)
    return resize(share[..., None], size).clamp(0, 1).numpy()[..., 0]


def _weights_in_words(transformer: torch.nn.Module) -> str:
    parameters = list(transformer.parameters())
    types = sorted({str(getattr(p, "qdata", p).dtype).removeprefix("torch.") for p in parameters})
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} million weights of {' and '.join(types)}"
