"""Lift the layer between a plate and an edited version of it: recipe in, delivered edit layer out.

    recipe -> plate and edited frames at working size -> windows in time, each lifted -> layers
           -> plate size -> delivery, with a report picture

The model is `lift:FILE`. The backend `vace` (vace.py) makes the edited video first, and lifts it in the same way.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from vera.core.backends.base import (
    Job,
    LayerSource,
    Loader,
    Opened,
    foundation_of,
    mean_of,
    report_of,
    with_matching,
)
from vera.core.errors import InputError, StoppedError
from vera.core.layer.blend_space import ModelLayer, layer_for_blending
from vera.core.layer.delivery_loop import FilmedFrame, FinishedFrame, deliver_frames
from vera.core.layer.match import LaidLayer
from vera.core.layer.origin import Origin
from vera.core.layer.split import Kinds, split_layer
from vera.core.layer.spread import spread
from vera.core.lifting import report_picture
from vera.core.lifting.controls import LiftControls
from vera.core.lifting.framing import find_framing, rescaled, whole, without_borders
from vera.core.lifting.freed_memory import blocks_used_again, return_freed
from vera.core.lifting.haze import MIN_REPORTED_ALPHA
from vera.core.lifting.lift_window import MIN_HAZE_ALPHA, STEPS, Lifted, lift_clip, place, plate_sized
from vera.core.lifting.lifted_windows import CHANNELS, KeptWindows, LiftedVideo
from vera.core.lifting.matching import refuse_other_picture, same_size
from vera.core.lifting.pairing import LIMITS as PAIRING_LIMITS
from vera.core.lifting.pairing import first_guess, nearest_frames, pair_frames, paired, shrunk_for_pairing
from vera.core.lifting.parts import find_parts
from vera.core.lifting.read_frames import EditedFile, EditedVideo, KeptFrames, read_mask, read_plate
from vera.core.lifting.smooth import blur
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import shrink
from vera.core.plate.region import region_of
from vera.core.plate.source import Plate, open_plate
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, split_model
from vera.core.recipe.parse import parse_parts
from vera.kernels.plate_size import resize

WORK_PIXELS = 832 * 480  # largest number of pixels of a frame at working size; raising it is finer and slower
WINDOW_PIXELS = 12_000_000  # pixels lifted together, 0.5 KB of memory each; raising it gives fewer seams in time
COMPARED_FRAMES = 9  # frames that are compared to find the framing and to refuse other shots; more is slower
# Memory for frames that are read to compare both videos, and used again by the first window, which is not made yet.
# Raising it above that window's frames has no effect.
KEPT_BYTES = 2 * 3 * 4 * WINDOW_PIXELS
COMPARED_PIXELS = 832 * 480  # largest number of pixels of an edited frame in that comparison
OPAQUE_ALPHA = 0.98  # alpha from which a pixel has the edited video's grain
REPORTED_COVERAGE = 0.998  # share of the plate that the edited video shows, below which a warning states it
HAZE_WARNING = (
    "a haze of {alpha:.0%} lies over {share:.0%} of the picture and is part of the layer; if none was asked for, the"
    " edited video's levels are wrong"
)
# A difference between result and edited video counts from this share of the code range, blurred with this sigma in
# pixels.
LEAST_DIFFERENCE, DIFFERENCE_SIGMA = 0.04, 3.0
MOST_THROWN_AWAY = 0.02  # share of the picture with a difference from which a warning is given
THROWN_AWAY_WARNING = (
    "{share:.1%} of the picture was seen changed in the edited video and is not in the result (agreement {psnr:.1f} dB;"
    " see 'thrown away' in report.png); give --mask where the edit is, or check that the video is of this plate"
)


def controls_of(recipe: EditRecipe) -> LiftControls:
    """The recipe's controls of the lift."""
    return LiftControls(not recipe.no_learned, recipe.sensitivity, recipe.edge, recipe.steadiness)


@dataclass(frozen=True, kw_only=True)
class LiftJob(Job):
    """indices: plate frames that have an edited frame. edited: those frames. kept: frames that were read before."""

    indices: list[int]
    edited: EditedVideo
    kept: KeptFrames = field(default_factory=lambda: KeptFrames(0), compare=False)


class Lift:
    """The backend whose edited video is a file."""

    name = "lift"
    samples = False

    def prepare(self, opened: Opened, load: Loader) -> LiftJob:
        """See `base.Backend`. Also refuses a video that shows something else than the plate."""
        plate, path = opened.plate, split_model(opened.recipe.model)[1]
        edited = _open_edited(path, plate)
        edited_color = display_color(None, edited)
        source = LayerSource(
            made_from={
                "model": "lift",
                "edited": [edited.fingerprint(f) for f in edited.frames],
                "edited_space": [edited_color.space.config, edited_color.space.name],
                "edited_offset": opened.recipe.edited_offset,
                "controls": asdict(controls_of(opened.recipe)),
            },
            origin=Origin("lift"),
            laid_over={"parts": parse_parts(opened.recipe.parts)},
        )
        base = foundation_of(opened, display_color(opened.recipe.color_space, plate), source)
        base.delivery.preflight()
        size = _work_size(plate)
        plate_size, edited_size = ((plate.width, plate.height), (edited.width, edited.height))
        offset = opened.recipe.edited_offset
        guess = first_guess(len(plate.frames), len(edited.frames), (plate.fps, edited.fps), path, offset)
        inside = [j for j, g in enumerate(guess) if 0 <= math.floor(g + 0.5) < len(plate.frames)]
        if not inside:
            raise InputError(f"{path}: with an edited offset of {offset} no frame of it is one of the plate's")
        kept = KeptFrames(KEPT_BYTES)
        job = LiftJob(
            **base.job_fields(),
            region=region_of(plate, None),
            size=size,
            model_name="lift",
            indices=[math.floor(guess[j] + 0.5) for j in inside],
            edited=EditedFile(edited, edited_color, inside, size, plate_size, whole(plate_size, edited_size), kept),
            kept=kept,
        )
        return _matched(job, [guess[j] for j in inside], path)

    def run(self, job: LiftJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """See `base.Backend`."""
        return deliver_lifted(job, progress, stopping)

    def explain(self, job: LiftJob, device_asked: str) -> list[str]:
        """The working size and the device."""
        return [f"lift: {job.size[0]}x{job.size[1]}, {len(job.indices)} edited frames, on the CPU"]


BACKEND = Lift()


@blocks_used_again()
def deliver_lifted(job: LiftJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
    """Lift the edited video and deliver every frame; returns the report."""
    longest = WINDOW_PIXELS // (job.size[0] * job.size[1])
    kept = KeptWindows(job.delivery.job_dir, job.indices, longest, job.hash)
    _lift_windows(job, kept, progress, stopping)
    every = replace(job, indices=list(range(len(job.plate.frames))))
    video = LiftedVideo(kept, lambda i: read_plate(every, [i])[0])
    job = _with_own_grain(with_matching(job, progress), video)
    count, chosen = len(job.plate.frames), parse_parts(job.recipe.parts)
    parts = find_parts((video.alpha(i) for i in range(count)), chosen)
    layers = (parts.kept(video[i], i) for i in range(count))
    deliver_frames(job, layers, finish_frame, progress, stopping)
    report_picture.write(job.delivery, job, video, parts, lambda i: job.edited.read([i])[0])
    progress.close()
    haze, share = video.found["haze"], video.found["haze_share"]
    thrown_away = mean_of([job.delivery.facts(f) for f in job.plate.frames], "thrown_away")
    late = []
    if haze * share >= MIN_REPORTED_ALPHA:
        late.append(HAZE_WARNING.format(alpha=haze, share=share))
    if thrown_away > MOST_THROWN_AWAY and not chosen:
        psnr = report_of(job)["agreement_psnr"]
        late.append(THROWN_AWAY_WARNING.format(share=thrown_away, psnr=psnr))
    for warning in late:
        progress.warn(warning)
    job = replace(job, warnings=(*job.warnings, *late))
    removed = {name: value for name, value in video.found.items() if not name.startswith("haze")}
    report = report_of(
        job,
        removed=removed,
        haze=haze,
        haze_share=share,
        thrown_away=round(thrown_away, 4),
        parts=parts.report_facts(),
        **job.edited.report_facts(),
    )
    job.delivery.finish(report, (report_picture.FILE,))
    return report


def display_color(name: str | None, plate: Plate) -> PlateColor:
    """The display-referred conversion of a plate or video: edited videos are display-referred, and the plate is
    compared with them."""
    return PlateColor(resolve_space(name, plate), plate.pixel_type, light_curve=DISPLAY)


def finish_frame(job: LiftJob, filmed: FilmedFrame, lifted: torch.Tensor) -> FinishedFrame:
    """The layer at plate size of one frame's layer at working size (C, h, w), with the channels of `LiftedVideo`."""
    color, alpha, clean, detail, kinds = lifted.split(CHANNELS)
    source = job.source(filmed.pixels)
    color, large = plate_sized(color, alpha, torch.from_numpy(source), detail)
    matte = large[0] if filmed.allowed is None else large[0] * filmed.allowed
    color, matte = job.matching.softened(color.movedim(0, -1).contiguous(), matte, None, filmed.allowed)
    # Under a gain or a veil, the plate's colour shows with its own grain.
    own = same_size(detail.mean(0)[None, None], matte.shape)[0, 0].clamp(0, 1).numpy()
    laid = LaidLayer(color.numpy(), matte.numpy(), source, own, filmed.frame, (0, 0))
    color, alpha = laid.edit, laid.alpha
    dtype = job.delivery.formats.dtype
    made = ModelLayer(job.matching.grained(laid), alpha, source)
    layer = layer_for_blending(made, job.color, job.blending, dtype)
    split = _split(job, filmed, layer, kinds, lifted[3:4]) if job.delivery.formats.split != "none" else None
    composed = torch.from_numpy(alpha[..., None] * color + (1 - alpha[..., None]) * source)
    left = shrink(composed, *job.size) - clean
    lost = blur(left[None], DIFFERENCE_SIGMA).abs().amax(1) > LEAST_DIFFERENCE
    error = float(left.pow(2).mean())  # mean square, encoded [0, 1]
    facts = {"agreement_error": error, "thrown_away": float(lost.float().mean())}
    return FinishedFrame(layer, alpha, facts, split)


def _split(
    job: LiftJob, filmed: FilmedFrame, layer: np.ndarray, kinds: torch.Tensor, alpha: torch.Tensor
) -> dict[str, np.ndarray]:
    """The finished layer (H, W, 4), split by kind. kinds (3, h, w), alpha (1, h, w): at working size."""
    kinds = spread(kinds[None], (alpha[None] > MIN_HAZE_ALPHA).float())
    solid, dark, gain = resize(kinds[0].movedim(0, -1), layer.shape[:2]).clamp(0, 1).numpy().transpose(2, 0, 1)
    plate = job.blending.from_light(job.color.light(filmed.pixels))
    return split_layer(layer, plate, Kinds(solid, dark, gain), job.delivery.formats.dtype)


def _with_own_grain(job: LiftJob, video: LiftedVideo) -> LiftJob:
    """The job with the edited video's own grain, which opaque layer pixels already have."""
    if job.matching.maker is None:
        return job

    def opaque(index: int) -> np.ndarray:
        color, alpha, *_ = video[index].split(CHANNELS)
        return torch.where(alpha > OPAQUE_ALPHA, color, torch.nan).movedim(0, -1).numpy()

    from vera.core.plate.grain import measure_grain  # imported here because scipy is slow to import

    return replace(job, matching=replace(job.matching, brought=measure_grain(range(len(job.plate.frames)), opaque)))


def _matched(job: LiftJob, guess: list[float], path: str) -> LiftJob:
    """The job with the edited video's framing and frame pairs found by the pictures. Raises InputError for another
    shot."""
    edited, plate = job.edited, job.plate
    assert isinstance(edited, EditedFile)
    chosen = _compared(len(job.indices))
    size = _at_most((edited.video.height, edited.video.width), COMPARED_PIXELS)
    shown, came = (read_plate(job, chosen), torch.cat([edited.frame(i, size) for i in chosen]))
    pixel_aspect = plate.pixel_aspect / edited.video.pixel_aspect
    found = find_framing(shown, came, pixel_aspect * plate.width / job.size[0] * job.size[1] / plate.height)
    found = without_borders(shown, came, found)
    to_plate = plate.width / job.size[0], plate.height / job.size[1]
    to_edited = edited.video.width / came.shape[3], edited.video.height / came.shape[2]
    edited = replace(edited, framing=rescaled(found, to_plate, to_edited))
    places = job.indices if job.recipe.edited_offset is not None else _paired_by_pictures(job, edited, guess)
    pairs = paired(places, list(plate.frames))
    edited = replace(edited, places=[edited.places[j] for j in pairs.edited])
    said = tuple(f"{path}: {line}" for line in (*_framing_warnings(edited), *pairs.said))
    job = replace(job, indices=pairs.plate, edited=edited, warnings=said)
    _refuse_another_shot(job, path)
    return job


def _paired_by_pictures(job: LiftJob, edited: EditedFile, guess: list[float]) -> list[int]:
    """The plate frame of each edited frame. Every frame of both is read once; small copies are held in memory."""
    count = len(job.plate.frames)
    if min(count, len(guess)) < PAIRING_LIMITS.fewest:
        return nearest_frames(guess, count)
    every = replace(job, indices=list(range(count)))
    all_plate = torch.cat([shrunk_for_pairing(read_plate(every, [i])) for i in every.indices])
    all_edited = torch.cat([shrunk_for_pairing(edited.read([j])) for j in range(len(guess))])
    return pair_frames(all_plate, all_edited, guess)


def _refuse_another_shot(job: LiftJob, path: str) -> None:
    """Raise InputError unless the edited video shows the plate; they are compared at the smaller size."""
    edited = job.edited
    assert isinstance(edited, EditedFile)
    chosen = _compared(len(job.indices))
    width, height = min(job.size, (edited.video.width, edited.video.height))
    canvas, mask = edited.canvas(chosen), read_mask(job, chosen)
    size = job.size[::-1]
    hidden = 1 - canvas.inside(canvas.start, size)
    mask = hidden if mask is None else torch.maximum(mask, hidden)
    shown, came, mask = (
        same_size(v, (height, width)) for v in (read_plate(job, chosen), canvas.placed(canvas.start, size), mask)
    )
    refuse_other_picture(shown, came, path, mask if mask.any() else None)


def _framing_warnings(edited: EditedFile) -> list[str]:
    """A warning if the video does not show the whole plate."""
    (width, height), framing = edited.plate_size, edited.framing
    left, top, right, bottom = framing.window()
    said = []
    covered = framing.covered(edited.plate_size)
    if covered < REPORTED_COVERAGE:
        said.append(
            f"shows {covered:.1%} of the plate (x {max(0, left):.0f} to {min(width, right):.0f} of {width},"
            f" y {max(0, top):.0f} to {min(height, bottom):.0f} of {height}); what it leaves out stays as filmed"
        )
    return said


def _compared(count: int) -> list[int]:
    """Positions spread over the shot at which plate and edited video are compared."""
    return sorted({round(i * (count - 1) / (COMPARED_FRAMES - 1)) for i in range(COMPARED_FRAMES)})


def _at_most(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    """The size (height, width), or the same shape with about `pixels` pixels if it has more."""
    scale = math.sqrt(pixels / (size[0] * size[1]))
    return (round(size[0] * scale), round(size[1] * scale)) if scale < 1 else size


def _open_edited(path: str, plate: Plate) -> Plate:
    """The edited video. Of a longer sequence with the plate's frame numbers, the plate's range. Raises InputError."""
    try:
        edited = open_plate(path)
        if not edited.is_movie and set(plate.frames) < set(edited.frames):
            edited = open_plate(path, f"{plate.frames[0]}-{plate.frames[-1]}")
    except InputError as error:
        raise InputError(f"edited video: {error}") from None
    return edited


def _work_size(plate: Plate) -> tuple[int, int]:
    """(width, height) of the working size: the plate's, or the same shape with fewer pixels.

    A smaller edited video is enlarged, because the edges of kept parts come from the plate.
    """
    scale = min(1.0, math.sqrt(WORK_PIXELS / (plate.width * plate.height)))
    return round(plate.width * scale), round(plate.height * scale)


def _lift_windows(job: LiftJob, kept: KeptWindows, progress: ProgressLike, stopping: Callable[[], bool]) -> None:
    """Lift the windows that are missing. Raises StoppedError between two steps."""
    missing = kept.missing()
    progress.stage("lift", len(kept.windows) * STEPS, (len(kept.windows) - len(missing)) * STEPS)
    for k in missing:
        start, end = kept.windows[k]
        lifted, shift = _lift_window(job, range(start, end), _step_counter(job, start, end, progress, stopping))
        found = {
            "haze": lifted.haze,
            "haze_share": lifted.haze_share,
            "shift_pixels": shift,
            "color_drift": lifted.drift.size(),
        }
        kept.keep(k, _frames(lifted), found)
        del lifted
        return_freed()  # in pieces of this window, the next one's videos would not find room
    job.kept.close()


def _lift_window(job: LiftJob, positions: range, step_done: Callable[[], None]) -> tuple[Lifted, float]:
    """The lifted window, and its mean shift in pixels."""
    with torch.inference_mode():
        plate, canvas, mask = (read_plate(job, positions), job.edited.canvas(positions), read_mask(job, positions))
        job.kept.close()
        placed = place(plate, canvas)
        shift = float((placed.moves - canvas.start)[..., 0].norm(dim=1).mean())
        del canvas  # not held beside the registered video
        return lift_clip(plate, placed, mask, step_done, controls_of(job.recipe)), shift


def _frames(lifted: Lifted) -> Iterator[torch.Tensor]:
    """The layers of a window, (13, h, w) each with CHANNELS, as `KeptWindows.keep` takes them."""
    for color, alpha, *others in zip(lifted.color, lifted.alpha, lifted.clean, lifted.detail, lifted.kinds):
        yield torch.cat([color * alpha, alpha, *others])


def _step_counter(
    job: LiftJob, start: int, end: int, progress: ProgressLike, stopping: Callable[[], bool]
) -> Callable[[], None]:
    """A function to call after each step of a window's lift. It counts the step, and raises StoppedError on request."""

    def step_done() -> None:
        progress.advance()
        if stopping():
            first, last = (job.plate.frames[job.indices[i]] for i in (start, end - 1))
            raise StoppedError(f"stopped while frames {first} to {last} were lifted")

    return step_done
