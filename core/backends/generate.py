"""Render one shot with a Vera: plate and prompt in, delivered edit layer out.

    recipe -> plate frames -> model range -> latents -> joint denoising of three layers
           -> decoded layers -> matte and colour at plate size -> delivery

prepare() checks everything and writes nothing; run() does the steps above. Frames are streamed through each step and
latents are stored on disk between steps, so that memory does not grow with the shot.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from vera.core.backends.base import (
    Foundation,
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
from vera.core.backends.shot_shapes import DecodedFrame, ShotLatents, light_of, text_of_shapes, with_shapes
from vera.core.errors import InputError
from vera.core.layer.backdrop.behind import BackdropFrame, kept_as_masked, shown_as_masked
from vera.core.layer.blend_space import Change, ModelLayer, layer_for_blending, tiled
from vera.core.layer.delivery_loop import FilmedFrame, FinishedFrame, deliver_frames
from vera.core.layer.drawn_object import DrawnFrame, ObjectInScene, over_rest, soft_below
from vera.core.layer.foreground import clean_color
from vera.core.layer.match import LaidLayer
from vera.core.layer.matte import PlannedAlpha, clean_alpha, refine_alpha, steady
from vera.core.layer.origin import GENERATED, Origin
from vera.core.layer.particles import Particles, over_veil
from vera.core.layer.plate_light import Scene
from vera.core.layer.relative import relative_share
from vera.core.layer.turbulence import Turbulence, with_structure
from vera.core.model.codec import latent_frames
from vera.core.model.device import why_device
from vera.core.model.interfaces import Model
from vera.core.model.limits import Limits
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import CURVES
from vera.core.plate.color_exposure import shot_exposure
from vera.core.plate.color_space import ColorSpace, resolve_space
from vera.core.plate.cuts import refuse_cuts_outside
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.region import Region, region_of
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, parse_cuts, parse_region
from vera.core.sampling.denoise import run_windows_serially
from vera.core.sampling.kept_people import (
    NOTHING_BEFORE,
    PEOPLE_BEFORE,
    PEOPLE_KEPT,
    background_of,
    people_near,
    refuse_without_people,
)
from vera.core.sampling.latent_store import ClipLatents, LatentStore, LayerLatents
from vera.core.sampling.shots import encoded_shots, generated_shots, room_for_latents
from vera.core.sampling.speed_options import SpeedOptions
from vera.kernels.part import Part, Window
from vera.kernels.plate_size import plate_color, resize
from vera.kernels.subject import SEARCH_MARGIN, free_subject

# Warning for prompts that name a colour or material outside of the training set.
NO_FINISH = (
    "this model does not draw objects as shapes: a colour or material that it was not taught becomes the nearest one"
)


@dataclass(frozen=True, kw_only=True)
class GenerateJob(Job):
    """latents, kept: stores of the generated latents, until delivery and permanently (`keep`)
    keeps_people: whether the people found in the plate serve as the mask
    behind_people: whether people in the plate hide the added object; only without a mask
    is_behind: whether the prompt puts the object behind something
    shift: of the noise schedule; a higher one spends more steps on coarse structure
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
    behind_people: bool
    is_behind: bool
    window_runner: Callable = run_windows_serially

    def keeps_all(self) -> bool:
        """See `base.Job`."""
        return not self.recipe.keep or bool(self.kept.shots("layers", self.plate.frames))

    @property
    def masked(self) -> bool:
        """Whether a mask, or the people found in the plate, tell the model where it may draw."""
        return self.mask is not None or self.keeps_people

    @property
    def aspect(self) -> float:
        """Displayed width over height of the region."""
        return self.region.width * self.plate.pixel_aspect / self.region.height


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


@dataclass(frozen=True)
class ShotSettings:
    """Settings that follow from the recipe, the plate and the model's limits, before a pixel is read.

    size: (width, height) at which the model works
    """

    region: Region
    cuts: str | tuple[int, ...]
    color: PlateColor
    sampling: Sampling
    size: tuple[int, int]
    speed: SpeedOptions

    @classmethod
    def of(cls, opened: Opened, region: Region, space: ColorSpace, limits: Limits) -> "ShotSettings":
        """The settings for a region of a plate in a colour space, and a model with these limits."""
        recipe, plate = opened.recipe, opened.plate
        stops = 0.0 if isinstance(recipe.exposure, str) else recipe.exposure
        return cls(
            region,
            parse_cuts(recipe.cuts),
            PlateColor(space, plate.pixel_type, stops, CURVES[limits.light_curve]),
            Sampling.of(recipe, limits),
            model_size(region.width, region.height, plate.pixel_aspect, limits.pixels, limits.multiple),
            SpeedOptions.of(recipe),
        )


def _layer_source(recipe: EditRecipe, model: Model, settings: ShotSettings, front: "PlateInFront") -> LayerSource:
    """Everything that determines the layers' pixels."""
    region, color = settings.region, settings.color
    return LayerSource(
        made_from={
            "model": model.fingerprint,
            "prompt": recipe.prompt,
            "seed": recipe.seed,
            **asdict(settings.sampling),
            "negative_prompt": recipe.negative_prompt or "",
            "size": settings.size,
            "step_width": model.limits.step_width,
            "exposure": recipe.exposure,
            "curve": color.curve.name,
            "region": [region.x, region.y, region.width, region.height],
            "cuts": settings.cuts,
            # compile and one_batch are left out: like the device, they change rounding only.
            "attention": settings.speed.attention,
            "cache": settings.speed.cache,
            # As in the recipe: the choice of "auto" depends on the machine, and is reported like the device.
            "weights": recipe.weights,
            "keeps_people": front.keeps_people,
            "behind_people": front.behind_people,
        },
        origin=Origin(Path(model.name).name, model.fingerprint, GENERATED),
        laid_over={"layer_mode": recipe.layer_mode},
        keeps=True,
    )


@dataclass(frozen=True)
class PlateInFront:
    """Parts of the plate that stay in front of the layer. keeps_people, behind_people, is_behind: see `GenerateJob`.

    notes: messages for the user about it
    """

    keeps_people: bool
    behind_people: bool
    is_behind: bool
    notes: tuple[str, ...]

    @classmethod
    def of(cls, opened: Opened, model: Model, picture: Callable[[int], torch.Tensor]) -> "PlateInFront":
        """The prompt's request. picture: returns a frame (H, W, 3) in the model's range.

        Raises InputError if people are to be kept and none is found.
        """
        recipe, frames, notes = opened.recipe, opened.plate.frames, []
        keeps_people = recipe.mask is None and model.text.asks_for_people(recipe.prompt)
        if keeps_people:
            refuse_without_people(frames, picture)
            notes.append(PEOPLE_KEPT)
        behind_people, subject = False, model.text.in_front(recipe.prompt)
        if subject is not None and opened.mask is None:
            behind_people = subject.is_person and recipe.mask is None and people_near(frames, picture)
            notes.append(PEOPLE_BEFORE if behind_people else NOTHING_BEFORE.format(subject=subject.name))
        return cls(keeps_people, behind_people, subject is not None, tuple(notes))


class Generate:
    """The backend of this project's own model: `mini`, or a Vera directory."""

    name = "generate"
    samples = True

    def prepare(self, opened: Opened, load: Loader) -> GenerateJob:
        """See `base.Backend`. In the service, `load` returns a model that is already loaded."""
        recipe, plate = opened.recipe, opened.plate
        # Wrong values are refused before the model is loaded, which takes seconds.
        space = resolve_space(recipe.color_space, plate)
        region = region_of(plate, parse_region(recipe.region) if recipe.region else None)
        refuse_cuts_outside(parse_cuts(recipe.cuts), plate.frames)
        model = load(recipe.model, opened.device, **recipe.loading())
        settings = ShotSettings.of(opened, region, space, model.limits)
        notes = [*_prompt_notes(model, recipe, settings.sampling), *settings.speed.check(model.transformer)]

        def picture(frame: int) -> torch.Tensor:
            return torch.from_numpy(settings.color.to_model(settings.region.crop(plate.read(frame))))

        front = PlateInFront.of(opened, model, picture)
        notes += front.notes
        if model.objects is None and model.text.finish(recipe.prompt) is not None:
            notes.append(NO_FINISH)
        base = foundation_of(opened, settings.color, _layer_source(recipe, model, settings, front))
        masked = opened.mask is not None or front.keeps_people
        latents, kept = _latent_stores(base, model, settings.size, masked=masked)
        return GenerateJob(
            **base.job_fields(),
            region=settings.region,
            size=settings.size,
            **asdict(settings.sampling),
            model_name=model.name,
            frames_at_once=min(len(plate.frames), model.limits.max_frames),
            warnings=tuple(notes),
            model=model,
            cuts=settings.cuts,
            speed=settings.speed,
            latents=latents,
            kept=kept,
            keeps_people=front.keeps_people,
            behind_people=front.behind_people,
            is_behind=front.is_behind,
        )

    def run(self, job: GenerateJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """See `base.Backend`. Finished sampling steps and frames are reused."""
        job = _with_exposure(job)
        job.delivery.color = job.color
        shots = generated_shots(job, progress, stopping)
        text = text_of_shapes(job)
        relative = _may_be_relative(job)
        plates = encoded_shots(job, progress, stopping) if relative or text is not None else {}
        masks = job.latents.shots("mask", job.plate.frames)
        notes: list[str] = []
        decoded = (
            with_shapes(
                job,
                text,
                ShotLatents(shot, plates.get(shot), masks.get(shot), shots[shot]),
                decoded_frames(job.model, shots[shot], plates.get(shot) if relative else None, len(shot)),
                notes.append,
            )
            for shot in shots
        )
        job = with_matching(job, progress)
        layers = (DecodedFrame(*frame) for frame in chain.from_iterable(map(steady, decoded)))
        deliver_frames(job, layers, finish_frame, progress, stopping)
        progress.close()
        for note in (notes := list(dict.fromkeys(notes))):
            progress.warn(note)
        report = _report(replace(job, warnings=(*job.warnings, *notes)), list(shots))
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


def _prompt_notes(model: Model, recipe: EditRecipe, sampling: Sampling) -> list[str]:
    """Messages about the model and both prompts. Raises InputError for prompts that the model cannot do."""
    notes = [*model.notes, *model.text.check(recipe.prompt, recipe.anyway)]
    if recipe.negative_prompt is not None:
        refuse_unguided(sampling.guidance)
        notes += _checked_negative(model, recipe)
    return notes


def _latent_stores(
    base: Foundation, model: Model, size: tuple[int, int], masked: bool
) -> tuple[LatentStore, LatentStore]:
    """The stores of latents until delivery and of kept latents, and the checks of the delivery's folder.

    masked: whether latents of a mask are stored too. Raises InputError.
    """
    latents = LatentStore(base.delivery.job_dir / "latents", base.ids.generation)
    kept = LatentStore(base.delivery.kept_dir, base.ids.generation)
    numbers = base.opened.plate.frames
    frames = range(numbers[0], numbers[-1] + 1)
    generated = kept.shots("layers", frames) or latents.shots("layers", frames)
    room = 0 if generated else room_for_latents(model, len(frames), size, masked)
    base.delivery.preflight(max(0, room - latents.bytes_there()))
    kept.refuse_others()
    return latents, kept


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


def finish_frame(job: GenerateJob, filmed: FilmedFrame, decoded: DecodedFrame) -> FinishedFrame:
    """The layer at plate size of one decoded frame."""
    share = _share_of_plate(job, decoded)
    guide = job.at_model_size(filmed.pixels)
    layer, matte = plate_sized_layer(job, filmed, decoded, guide, share)
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


class Edit(NamedTuple):
    """What is drawn in a part of the plate, before it is matched to it.

    color: (H, W, 3), straight. matte, explained: (H, W), alpha, and how far the plate explains it. own: (H, W), alpha
    of what has no grain of the plate; None if nothing is drawn by its shape
    """

    color: torch.Tensor
    matte: torch.Tensor
    explained: torch.Tensor
    own: torch.Tensor | None


class Place(NamedTuple):
    """Where an edit is drawn: a window of the region, and the plate (H, W, 3) there, in the model's range."""

    window: Window
    plate: torch.Tensor


class Drawing(NamedTuple):
    """An edit that can be drawn in any part of the region.

    part: outside of which its alpha is 0; None if it is empty. is_explained: whether the plate explains some alpha
    """

    part: Part | None
    is_explained: bool
    draw: Callable[[Place], Edit]


def plate_sized_layer(
    job: GenerateJob,
    filmed: FilmedFrame,
    decoded: DecodedFrame,
    guide: torch.Tensor,
    share: torch.Tensor | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The region's premultiplied layer (H, W, 4), and the model's matte (H, W).

    guide: (3, h, w), the region in the model's range, at model size
    share: (h, w), of colour that is taken relative to the plate, or None
    Both results are 0 outside of the frame's mask. The model treats a mask as a hint; this enforces it. Work is done
    where the layer can be; the result does not depend on that.
    """
    size, dtype = (job.region.height, job.region.width), job.delivery.formats.dtype
    layer, matte = np.zeros((*size, 4), dtype), np.zeros(size, np.float32)
    drawing = _drawing(job, filmed, decoded, guide)
    if drawing.part is None:
        return layer, matte
    margin = max(job.matching.reach, SEARCH_MARGIN if drawing.is_explained else 0)
    window = Window(size, tiled(drawing.part.grown(margin, size), size))
    here = window.part.slices
    layer[here], matte[here] = _layer_in(job, filmed, decoded, drawing, window, share)
    return layer, matte


def _layer_in(
    job: GenerateJob,
    filmed: FilmedFrame,
    decoded: DecodedFrame,
    drawing: Drawing,
    window: Window,
    share: torch.Tensor | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`plate_sized_layer` in a window that holds the whole layer."""
    here, part = window.part.slices, window.part
    pixels = job.region.crop(filmed.pixels)[here]
    source = job.color.to_model(pixels)
    allowed = None if filmed.allowed is None else filmed.allowed[here]
    edit, matte, explained, own = drawing.draw(Place(window, torch.from_numpy(source)))
    if allowed is not None:
        matte = matte * allowed
    edit, matte = job.matching.softened(edit, matte, explained, allowed)
    edit, raised = free_subject(edit, matte, explained, torch.from_numpy(source))
    relative = None if share is None else _share_at_plate_size(share, window.size)[here]
    if relative is not None and own is not None:
        relative = relative * (1 - own.numpy())
    change = None
    if relative is not None and decoded.reconstruction is not None:
        reconstruction = plate_color(decoded.reconstruction.movedim(0, -1), raised, window).numpy()
        change = Change(pixels, reconstruction, relative)
    corner = (job.region.y + part.top, job.region.x + part.left)
    laid = LaidLayer(edit.numpy(), raised.numpy(), source, relative, filmed.frame, corner)
    composed = ModelLayer(job.matching.grained(laid), laid.alpha, source, change)
    return layer_for_blending(composed, job.color, job.blending, job.delivery.formats.dtype), matte.numpy()


def _drawing(job: GenerateJob, filmed: FilmedFrame, decoded: DecodedFrame, guide: torch.Tensor) -> Drawing:
    """The edit of one frame. guide: (3, h, w), the region at model size."""
    alpha, size = clean_alpha(decoded.alpha), (job.region.height, job.region.width)
    if isinstance(decoded.drawn, DrawnFrame):
        return _object_drawing(job, filmed, decoded, alpha, guide)
    if decoded.drawn is None:
        planned = PlannedAlpha.of(alpha, guide, size, job.model.limits.step_width)

        def draw(place: Place) -> Edit:
            matte, explained = planned.drawn(place.plate, place.window)
            color = plate_color(clean_color(decoded.color, alpha).movedim(0, -1), matte, place.window)
            return Edit(color, matte, explained, None)

        return Drawing(planned.part, planned.is_explained, draw)
    return Drawing(Part.whole(size), True, lambda place: _drawn_everywhere(job, filmed, decoded, place.plate, guide))


def _drawn_everywhere(
    job: GenerateJob, filmed: FilmedFrame, decoded: DecodedFrame, plate: torch.Tensor, guide: torch.Tensor
) -> Edit:
    """A background or an effect, which can be anywhere in the region (H, W, 3)."""
    alpha = clean_alpha(decoded.alpha)
    if isinstance(decoded.drawn, BackdropFrame):
        alpha = _as_masked(job, filmed, plate, alpha)
        if decoded.drawn.colors is not None:
            alpha = 1 - decoded.drawn.colors.drawn(1 - alpha, guide)
        matte, explained = refine_alpha(alpha, guide, plate, job.model.limits.step_width)
        edit = decoded.drawn.codes((plate.shape[0], plate.shape[1]), not job.color.space.is_scene)
        return Edit(edit, matte, explained, torch.ones_like(matte))
    if isinstance(decoded.drawn, Turbulence):
        edit, matte = with_structure(decoded.drawn, alpha, decoded.color, _scene(job, filmed))
        return Edit(edit, matte, torch.zeros_like(matte), torch.ones_like(matte))
    assert isinstance(decoded.drawn, Particles)
    edit, matte, own = over_veil(decoded.drawn, alpha, decoded.color, _scene(job, filmed))
    return Edit(edit, matte, torch.zeros_like(matte), own)


def _as_masked(job: GenerateJob, filmed: FilmedFrame, plate: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """A background's alpha (h, w) at model size as this frame's mask has it, or the people found in it; near edges, and
    without both, as the model has it. What a given mask leaves out is kept at plate size, exactly."""
    if filmed.allowed is not None:
        return shown_as_masked(alpha, shrink(filmed.allowed[..., None], *job.size)[0])
    if not job.keeps_people:
        return alpha
    mask = background_of(plate, job.size)
    return kept_as_masked(shown_as_masked(alpha, mask), mask)


def _object_drawing(
    job: GenerateJob, filmed: FilmedFrame, decoded: DecodedFrame, alpha: torch.Tensor, guide: torch.Tensor
) -> Drawing:
    """An object drawn as a shape, over the soft rest of the model's layer. alpha: (h, w), the model's, cleaned."""
    assert isinstance(decoded.drawn, DrawnFrame)
    frame, width = decoded.drawn, job.model.limits.step_width
    rest = soft_below(frame, alpha, job.aspect) if frame.shape.soft and frame.moved == (0, 0) else None
    scene = _scene(job, filmed, frame.place()[:2])
    drawn, below, front = ObjectInScene(frame, scene), None, None
    if rest is not None and rest.any():
        below = PlannedAlpha.of(rest, guide, scene.size, width)
    if frame.hidden is not None:
        height, columns = frame.hidden.shape
        front = PlannedAlpha.of(
            1 - frame.hidden, job.at_model_size(filmed.pixels, (columns, height)), scene.size, width
        )

    def draw(place: Place) -> Edit:
        window, plate = place
        nothing, everywhere = torch.zeros(plate.shape[:2]), torch.ones(plate.shape[:2])
        shown, hides = (everywhere, nothing) if front is None else front.drawn(plate, window)
        matte, explained, edit = nothing, nothing, torch.zeros(plate.shape)
        if below is not None and rest is not None:
            matte, explained = below.drawn(plate, window)
            edit = plate_color(clean_color(decoded.color, rest).movedim(0, -1), matte, window)
        edit, matte, own = over_rest(drawn, shown, edit, matte * shown, (window.part.top, window.part.left))
        return Edit(edit, matte, torch.maximum(explained, hides * own), own)

    soft_part = below.part if below is not None else None
    part = drawn.part if soft_part is None else soft_part.joined(drawn.part)
    return Drawing(part, front is not None or (below is not None and below.is_explained), draw)


def _scene(job: GenerateJob, filmed: FilmedFrame, place: tuple[float, float] | None = None) -> Scene:
    """The region of a frame, to draw into. place: where, see `PlateLight.of`."""
    size = (job.region.height, job.region.width)
    return Scene(size, job.aspect, light_of(job, filmed.pixels, place), not job.color.space.is_scene)


def _share_at_plate_size(share: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    if share.min() == 1:
        return np.broadcast_to(np.float32(1), size)
    return resize(share[..., None], size).clamp(0, 1).numpy()[..., 0]


def _weights_in_words(transformer: torch.nn.Module) -> str:
    parameters = list(transformer.parameters())
    types = sorted({str(getattr(p, "qdata", p).dtype).removeprefix("torch.") for p in parameters})
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} million weights of {' and '.join(types)}"
