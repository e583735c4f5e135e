"""From the plate's frames to the latents of the three layers: read, find cuts, encode, denoise.

A shot is the part between two cuts. Frames are streamed and latents are written shot by shot, so
memory does not grow with the plate, and a stopped run resumes at the step it had reached.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch

from vera.core.errors import StoppedError
from vera.core.model.codec import SPACE_STRIDE, latent_frames, latent_groups
from vera.core.plate.cuts import with_cuts
from vera.core.plate.fit import shrink
from vera.core.sampling.denoise import ClipInputs, SamplingRun, SamplingSettings, evaluations, sample
from vera.core.sampling.kept_people import background_of
from vera.core.sampling.latent_store import States
from vera.core.sampling.solver import Solver
from vera.core.state_file import state_writer

if TYPE_CHECKING:
    import numpy as np

    from vera.core.model.interfaces import Model
    from vera.core.plate.source import Plate
    from vera.core.progress import ProgressLike
    from vera.core.recipe import EditRecipe
    from vera.core.sampling.latent_store import LatentStore
    from vera.core.sampling.speed_options import SpeedOptions
    from vera.core.state_file import StateFile


class ModelFrame(NamedTuple):
    """A frame at model size: plate and mask (3, h, w) in [0, 1]; mask None without a mask."""

    frame: int
    plate: torch.Tensor
    mask: torch.Tensor | None


class GeneratedJob(Protocol):
    """The part of `vera.core.backends.generate.GenerateJob` that this module reads."""

    @property
    def recipe(self) -> EditRecipe: ...
    @property
    def plate(self) -> Plate: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def steps(self) -> int: ...
    @property
    def guidance(self) -> float: ...
    @property
    def shift(self) -> float: ...
    @property
    def model(self) -> Model: ...
    @property
    def cuts(self) -> str | tuple[int, ...]: ...
    @property
    def speed(self) -> SpeedOptions: ...
    @property
    def latents(self) -> LatentStore: ...
    @property
    def kept(self) -> LatentStore: ...
    @property
    def keeps_people(self) -> bool: ...
    @property
    def window_runner(self) -> Callable: ...

    def pixels(self, frame: int) -> np.ndarray: ...
    def allowed(self, frame: int) -> torch.Tensor | None: ...
    def source(self, pixels: np.ndarray) -> np.ndarray: ...
    def at_model_size(self, pixels: np.ndarray) -> torch.Tensor: ...


def room_for_latents(model: Model, count: int, size: tuple[int, int], mask: bool) -> int:
    """Largest disk use in bytes for `count` frames: latents of plate and mask, and the sampler's last two states."""
    values = latent_frames(count) * model.codec.channels * math.prod(n // SPACE_STRIDE for n in size)
    return 4 * values * (1 + mask + 2 * 3 * Solver.STATE)


@torch.inference_mode()
def generated_shots(job: GeneratedJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[range, StateFile]:
    """Latents (T, 3, C, h, w) of the three layers in files, by the frames of each shot.

    Latents of an earlier run are used again, whether the run was complete or stopped.
    """
    frames, store = job.plate.frames, job.kept if job.recipe.keep else job.latents
    if job.recipe.keep:
        job.latents.move_to("layers", job.kept)
    shots = job.kept.shots("layers", frames) or job.latents.shots("layers", frames)
    for path in (*job.latents.damaged(), *job.kept.damaged()):
        progress.warn(f"{path}: damaged; its latents are computed again")
    if shots:
        return shots
    plates = encoded_shots(job, progress, stopping)
    if len(plates) > 1:
        progress.say(f"{len(plates)} shots; cuts at {', '.join(str(shot[0]) for shot in list(plates)[1:])}")
    _denoise(job, plates, progress, stopping)
    return store.shots("layers", frames)


def _denoise(
    job: GeneratedJob, plates: dict[range, StateFile], progress: ProgressLike, stopping: Callable[[], bool]
) -> None:
    """Sample the layers of every shot that is not in the store yet. plates: the plate's latents of each shot."""
    store = job.kept if job.recipe.keep else job.latents
    masks = job.latents.shots("mask", job.plate.frames)
    window = latent_frames(job.model.limits.max_frames)
    settings = SamplingSettings(job.recipe.seed, job.steps, job.guidance, job.shift, window, job.speed)
    states = {shot: States(job.latents.folder, f"state.{shot[0]}", job.latents.facts(shot)) for shot in plates}
    # Caches are not stored, so a stopped shot restarts its sampling if one is used.
    reached: dict[range, int] = {shot: states[shot].newest()[0] for shot in plates}
    if job.speed.cache and any(reached.values()):
        progress.say("with a cache, a stopped shot is sampled again from its first step")
        reached = dict.fromkeys(reached, 0)
    missing = [shot for shot in plates if not store.holds("layers", shot)]

    def windows_in(shot: range, steps: int) -> int:
        return evaluations(plates[shot].shape[0], window, range(steps))

    every = sum(windows_in(shot, job.steps) for shot in plates)
    left = sum(windows_in(shot, job.steps) - windows_in(shot, reached[shot]) for shot in missing)
    progress.stage("denoise", every, every - left)
    job.speed.prepare(job.model.transformer)
    text, empty_text = (job.model.text.encode([t]) for t in (job.recipe.prompt, job.recipe.negative_prompt or ""))
    for shot in missing:
        clip = ClipInputs(text, empty_text, plates[shot], masks.get(shot))
        run = SamplingRun(states[shot], progress.advance, stopping, job.window_runner)
        state = sample(job.model.transformer, clip, settings, run)
        with state_writer(store.path("layers", shot[0]), store.facts(shot)) as add:
            for start in range(0, state.shape[0], window):
                add(state.read(start, start + window)[:, 0])
        states[shot].clear()


def encoded_shots(job: GeneratedJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[range, StateFile]:
    """Latents (T, C, h, w) of the plate in files, by the frames of each shot; the mask's latents are beside them."""
    frames = job.plate.frames
    if shots := job.latents.shots("plate", frames):
        return shots
    progress.stage("read", len(frames))
    frames_read = _model_frames(job, progress, stopping)
    numbered = with_cuts(frames_read, attrgetter("plate"), job.cuts, number_of=attrgetter("frame"))
    for _, shot in groupby(numbered, key=itemgetter(1)):
        _encode_shot(job, (frame for frame, _ in shot))
    return job.latents.shots("plate", frames)


def _encode_shot(job: GeneratedJob, shot: Iterable[ModelFrame]) -> None:
    """Write the latents of one shot's plate and mask while its frames are read."""
    groups = latent_groups(shot)
    group = next(groups)
    first = group[0].frame
    facts: dict[str, str] = {}
    # The plate's file is closed last, so if it is complete, the mask's is too.
    kinds = ["plate"] if group[0].mask is None else ["plate", "mask"]
    with ExitStack() as files:
        writers = {k: files.enter_context(state_writer(job.latents.path(k, first), facts)) for k in kinds}
        encoders = {k: job.model.codec.encode_stream() for k in kinds}
        for group in chain([group], groups):  # noqa: B020 - the last group is used after the loop
            for kind in kinds:
                video = torch.stack([getattr(frame, kind) for frame in group], dim=1)[None]
                writers[kind](encoders[kind](video.to(job.model.device))[0].movedim(1, 0))
        facts.update(job.latents.facts(range(first, group[-1].frame + 1)))


def _model_frames(job: GeneratedJob, progress: ProgressLike, stopping: Callable[[], bool]) -> Iterator[ModelFrame]:
    """Read every frame of the plate and its mask, at model size."""
    for frame in job.plate.frames:
        if stopping():
            raise StoppedError(f"stopped while reading frame {frame}")
        pixels = job.pixels(frame)
        mask = job.allowed(frame)
        if mask is not None:
            mask = shrink(mask[..., None], *job.size).expand(3, -1, -1)
        elif job.keeps_people:
            mask = background_of(torch.from_numpy(job.source(pixels)), job.size).expand(3, -1, -1)
        yield ModelFrame(frame, job.at_model_size(pixels), mask)
        progress.advance()
