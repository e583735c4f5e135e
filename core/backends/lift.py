"""Lift the layer between a plate and an edited version of it: recipe in, delivered edit layer out.

    recipe -> plate and edited frames at working size -> windows in time, each lifted -> layers
           -> plate size -> delivery, with a report picture

The model is `lift:FILE`. vera.core.backends.vace makes the edited video first, and lifts it as this one does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from vera.core.backends.base import Job, Loader, Opened, blending_of, delivery_of, identify, report_of
from vera.core.errors import InputError, Stopped
from vera.core.layer.blend_space import layer_for_blending
from vera.core.layer.delivery_loop import FilmedFrame, FinishedFrame, deliver_frames
from vera.core.lifting import report_picture
from vera.core.lifting.freed_memory import blocks_used_again
from vera.core.lifting.haze import LEAST_TOLD
from vera.core.lifting.lift_window import STEPS, lift_clip, plate_sized
from vera.core.lifting.lifted_windows import CHANNELS, KeptWindows, LiftedVideo
from vera.core.lifting.matching import match_frames, refuse_other_picture, same_size
from vera.core.lifting.read_frames import EditedFile, EditedVideo, read_mask, read_plate
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import shrink
from vera.core.plate.region import region_of
from vera.core.plate.source import Plate, open_plate
from vera.core.progress import ProgressLike
from vera.core.recipe import split_model

WORK_PIXELS = 832 * 480  # a frame is lifted at the plate's size, at most this many pixels; more: finer, slower
WINDOW_PIXELS = 12_000_000  # pixels lifted together; more: fewer seams in time, some 0.5 KB of memory each
MAX_SHAPE_DIFFERENCE = 0.03  # of the logarithm of width / height; above it the edited video was cropped or padded
COMPARED_FRAMES = 9  # frames of the shot by which a wrong pair is refused
HAZE_WARNING = (
    "a haze of {:.0%} lies over the whole frame and is part of the layer; if none was asked for, the edited video's"
    " levels are wrong"
)


@dataclass(frozen=True)
class LiftJob(Job):
    """indices: of the plate's frames, those that have an edited one. edited: these, once they are there."""

    indices: list[int]
    edited: EditedVideo


class Lift:
    """The backend that takes the edited video from a file."""

    name = "lift"
    samples = False

    def prepare(self, opened: Opened, load: Loader) -> LiftJob:
        """See `base.Backend`. Also refuses a video that shows something else than the plate."""
        plate, path = opened.plate, split_model(opened.recipe.model)[1]
        color = display_color(opened.recipe.color_space, plate)
        blending = blending_of(opened.recipe, color)
        edited = _open_edited(path, plate)
        edited_color = display_color(None, edited)
        indices, step = match_frames(len(plate.frames), len(edited.frames), path)
        ids = identify(
            opened,
            color,
            blending,
            made_from={
                "model": "lift",
                "edited": [edited.fingerprint(f) for f in edited.frames],
                "edited_space": [edited_color.space.config, edited_color.space.name],
            },
        )
        delivery = delivery_of(opened, color, blending, ids, keeps=False)
        delivery.preflight()
        size = _work_size(plate)
        job = LiftJob(
            recipe=opened.recipe,
            plate=plate,
            mask=opened.mask,
            fingerprints=opened.fingerprints,
            color=color,
            blending=blending,
            region=region_of(plate, None),
            size=size,
            steps=None,
            guidance=None,
            model_name="lift",
            frames_at_once=None,
            hash=ids.job,
            delivery=delivery,
            warnings=_pairing_warnings(step),
            indices=indices,
            edited=EditedFile(edited, edited_color, thinned=-step if step < 0 else 1, size=size),
        )
        shown, shown_edited, mask = _compared_frames(job, (edited.width, edited.height))
        refuse_other_picture(shown, shown_edited, path, mask)
        return job

    def run(self, job: LiftJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """See `base.Backend`."""
        return deliver_lifted(job, progress, stopping)

    def explain(self, job: LiftJob, device_asked: str) -> list[str]:
        """The working size, and where it is lifted."""
        return [f"lift: {job.size[0]}x{job.size[1]}, {len(job.indices)} edited frames, on the CPU"]


BACKEND = Lift()


@blocks_used_again()
def deliver_lifted(job: LiftJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
    """Lift and deliver every frame once the edited video is there; returns the report."""
    longest = WINDOW_PIXELS // (job.size[0] * job.size[1])
    kept = KeptWindows(job.delivery.job_dir, job.indices, longest, job.hash)
    _lift_windows(job, kept, progress, stopping)
    video = LiftedVideo(kept)
    layers = (video[i] for i in range(len(job.plate.frames)))
    deliver_frames(job, layers, finish_frame, progress, stopping)
    report_picture.write(job.delivery, job, video, video.found, lambda i: job.edited.read([i])[0])
    progress.close()
    haze = video.found["haze"]
    if haze >= LEAST_TOLD:
        warning = HAZE_WARNING.format(haze)
        progress.warn(warning)
        job = replace(job, warnings=(*job.warnings, warning))
    removed = {name: value for name, value in video.found.items() if name != "haze"}
    report = report_of(job, removed=removed, haze=haze)
    job.delivery.finish(report, (report_picture.FILE,))
    return report


def display_color(name: str | None, plate: Plate) -> PlateColor:
    """Colour as a display shows it: edited videos are made for one, and the plate is compared with them."""
    return PlateColor(resolve_space(name, plate), plate.pixel_type, light_curve=DISPLAY)


def finish_frame(job: LiftJob, filmed: FilmedFrame, lifted: torch.Tensor) -> FinishedFrame:
    """One frame's layer at working size, channels as `LiftedVideo` has them -> the layer at plate size."""
    color, alpha, clean, detail = lifted.split(CHANNELS)
    source = job.source(filmed.pixels)
    color, alpha = plate_sized(color, alpha, torch.from_numpy(source), detail)
    color, alpha = color.movedim(0, -1).contiguous().numpy(), alpha[0].numpy()
    if filmed.allowed is not None:
        alpha = alpha * (filmed.allowed.numpy() > 0)
    dtype = job.delivery.formats.dtype
    layer = layer_for_blending(color, alpha, source, job.color, job.blending, dtype=dtype)
    composed = torch.from_numpy(alpha[..., None] * color + (1 - alpha[..., None]) * source)
    error = float((shrink(composed, *job.size) - clean).pow(2).mean())  # mean square, encoded [0, 1]
    return FinishedFrame(layer, alpha, {"agreement_error": error})


def _open_edited(path: str, plate: Plate) -> Plate:
    """The edited video; of a longer sequence with the plate's numbers, the plate's part. Raises InputError."""
    try:
        edited = open_plate(path)
        if not edited.is_movie and set(plate.frames) < set(edited.frames):
            edited = open_plate(path, f"{plate.frames[0]}-{plate.frames[-1]}")
    except InputError as error:
        raise InputError(f"edited video: {error}") from None
    if abs(math.log(_shape(edited) / _shape(plate))) > MAX_SHAPE_DIFFERENCE:
        raise InputError(
            f"{path}: {edited.width}x{edited.height} is not of the plate's shape ({plate.width}x{plate.height});"
            " give it uncropped, without bars"
        )
    return edited


def _shape(plate: Plate) -> float:
    return plate.width * plate.pixel_aspect / plate.height


def _work_size(plate: Plate) -> tuple[int, int]:
    """(width, height): the plate's, or the same shape of fewer pixels. A smaller edited video is enlarged: the edges
    of what was kept come from the plate."""
    scale = min(1.0, math.sqrt(WORK_PIXELS / (plate.width * plate.height)))
    return round(plate.width * scale), round(plate.height * scale)


def _compared_frames(
    job: LiftJob, edited_size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Some frames of plate, edited video and mask, at the smaller one's size: enlarged ones have no detail to compare."""
    last = len(job.indices) - 1
    chosen = sorted({round(i * last / (COMPARED_FRAMES - 1)) for i in range(COMPARED_FRAMES)})
    width, height = min(job.size, edited_size)
    mask = read_mask(job, chosen)
    return (
        same_size(read_plate(job, chosen), (height, width)),
        same_size(job.edited.read(chosen), (height, width)),
        None if mask is None else same_size(mask, (height, width)),
    )


def _pairing_warnings(step: int) -> tuple[str, ...]:
    if step > 1:
        return (
            f"the edited video has one frame in {step}; layers of the frames between are mixed from their neighbours",
        )
    if step < -1:
        return (f"the edited video has {-step} frames for one of the plate; the first of each is used",)
    return ()


def _lift_windows(job: LiftJob, kept: KeptWindows, progress: ProgressLike, stopping: Callable[[], bool]) -> None:
    """Lift the windows that are missing. Raises Stopped between two steps."""
    missing = kept.missing()
    progress.stage("lift", len(kept.windows) * STEPS, (len(kept.windows) - len(missing)) * STEPS)
    for k in missing:
        start, end = kept.windows[k]
        step_done = _step_counter(job, start, end, progress, stopping)
        positions = range(start, end)
        with torch.inference_mode():
            plate, edited, mask = read_plate(job, positions), job.edited.read(positions), read_mask(job, positions)
            lifted = lift_clip(plate, edited, mask, step_done)
        found = {
            "haze": lifted.haze,
            "shift_pixels": float(lifted.moves[..., 0].norm(dim=1).mean()),
            "color_drift": float((lifted.gain.abs() + lifted.offset.abs()).mean()),
        }
        kept.keep(k, torch.cat([lifted.color * lifted.alpha, lifted.alpha, lifted.clean, lifted.detail], 1), found)


def _step_counter(
    job: LiftJob, start: int, end: int, progress: ProgressLike, stopping: Callable[[], bool]
) -> Callable[[], None]:
    """Called after each step of a window's lift: counts it, and raises Stopped where that was asked for."""

    def step_done() -> None:
        progress.advance()
        if stopping():
            first, last = (job.plate.frames[job.indices[i]] for i in (start, end - 1))
            raise Stopped(f"stopped while frames {first} to {last} were lifted")

    return step_done
