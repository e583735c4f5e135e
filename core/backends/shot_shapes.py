"""The shapes that the model draws besides its layers, for each frame of a shot: objects, particles, backgrounds."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from vera.core.layer.backdrop.backdrop import Backdrop, Room, within_room
from vera.core.layer.backdrop.behind import BackdropFrame, white_of_plate
from vera.core.layer.backdrop.painting import BackdropRequest
from vera.core.layer.backdrop.plate_motion import ROWS as MOTION_ROWS
from vera.core.layer.backdrop.plate_motion import Motion, Move, background_motion
from vera.core.layer.drawn_object import Agreement, DrawnFrame, Take, agreement, aside, standing
from vera.core.layer.matte import clean_alpha
from vera.core.layer.object_place import groundless, inside
from vera.core.layer.particles import WEATHER, Particles, particles_of
from vera.core.layer.plate_light import PlateLight
from vera.core.layer.subject_colors import SubjectColors
from vera.core.layer.turbulence import Turbulence
from vera.core.model.codec import latent_frames
from vera.core.model.interfaces import Model, ShotBackground, ShotEffect, ShotObject
from vera.core.plate.color import PlateColor
from vera.core.plate.fit import shrink
from vera.core.plate.region import Region
from vera.core.recipe import EditRecipe
from vera.core.sampling.kept_people import PeopleInFront, people_in
from vera.core.sampling.latent_store import LayerLatents

# Alpha of a new background above which the plate below is used to track the camera; raising it uses fewer pixels.
BACKGROUND = 0.9
WHITE_FRAMES = 3  # frames of a shot from which the plate's brightness is estimated; raising it takes time
# Approximate number of frames of a shot from which the subject's colours are learned. Raising it takes time and memory,
# and tolerates more change of the light.
COLOR_FRAMES = 8
LIGHT_ROWS = 180  # rows of a plate from which its light is estimated; raising it only adds grain
PEOPLE_WIDTH = 256  # width in pixels at which people are detected; the detector resolves no more

NOT_FOLLOWED = (
    "the plate's camera moves in a way that the new background cannot follow, so the background does not move (frames"
    " {first} to {last}); pans, zooms and rolls can be followed"
)
NO_GROUND = (
    "the added object stands, but its foot is {where}, where there may be no ground: name another place, such as at the"
    " bottom, or give --mask, white where the object may be"
)


class ShapedJob(Protocol):
    """The part of a job that this module reads.

    masked: whether a mask, or the people found, limit the edit
    behind_people: whether people in the plate hide the added object
    is_behind: whether the prompt puts the object behind anything
    """

    @property
    def model(self) -> Model: ...
    @property
    def recipe(self) -> EditRecipe: ...
    @property
    def aspect(self) -> float: ...
    @property
    def color(self) -> PlateColor: ...
    @property
    def region(self) -> Region: ...
    @property
    def masked(self) -> bool: ...
    @property
    def behind_people(self) -> bool: ...
    @property
    def is_behind(self) -> bool: ...

    def pixels(self, frame: int) -> np.ndarray: ...
    def source(self, pixels: np.ndarray) -> np.ndarray: ...


class DecodedFrame(NamedTuple):
    """One decoded frame, at model size, in [0, 1].

    color: (3, h, w), straight. alpha: (h, w). composite: (3, h, w), of the composite branch
    reconstruction: (3, h, w), the plate after the codec; None if it was not decoded
    drawn: shape that is drawn at the plate's size instead; None if there is none
    """

    color: torch.Tensor
    alpha: torch.Tensor
    composite: torch.Tensor
    reconstruction: torch.Tensor | None
    drawn: DrawnFrame | Particles | Turbulence | BackdropFrame | None = None


class ShotLatents(NamedTuple):
    """Latents of one shot: of the plate, of the mask (or None) and of the three layers. frames: frame numbers."""

    frames: range
    plate: Any
    mask: Any
    layers: Any


def light_of(job: ShapedJob, pixels: np.ndarray, place: tuple[float, float] | None = None) -> PlateLight:
    """The light of the job's region in a frame (H, W, C). place: position, see `PlateLight.of`."""
    pixels = job.region.crop(pixels)
    step = max(1, min(pixels.shape[:2]) // LIGHT_ROWS)
    return PlateLight.of(job.color.light(pixels[step // 2 :: step, step // 2 :: step]), place)


def text_of_shapes(job: ShapedJob) -> torch.Tensor | None:
    """Text states of the prompt if the model can draw shapes for it, else None."""
    if job.model.objects is None:
        return None
    text = job.model.text.encode([job.recipe.prompt])
    return None if job.model.objects.kind_in(text) == "nothing" else text


def with_shapes(
    job: ShapedJob,
    text: torch.Tensor | None,
    latents: ShotLatents,
    decoded: Iterator[DecodedFrame],
    warn: Callable[[str], None],
) -> Iterator[DecodedFrame]:
    """Add the prompt's shapes to the decoded frames of a shot.

    Frames are unchanged without text states, or if the model drew something else.
    warn: receives one line for each request that cannot be met
    """
    shape = None
    if text is not None and job.model.objects is not None:
        window = latent_frames(job.model.limits.max_frames)
        finish = job.model.text.finish(job.recipe.prompt)
        shape = job.model.objects.of_shot(text, latents.plate, latents.mask, window, finish)
    if isinstance(shape, ShotBackground):
        yield from _with_backdrop(job, shape, latents, decoded, warn)
    elif isinstance(shape, ShotEffect):
        yield from _with_particles(job, shape, latents.layers, decoded)
    elif shape is not None:
        yield from _with_object(job, shape, latents, decoded, warn)
    else:
        yield from decoded


def _with_particles(
    job: ShapedJob, effect: ShotEffect, layers: Any, decoded: Iterator[DecodedFrame]
) -> Iterator[DecodedFrame]:
    """Add an effect to decoded frames: its particles or, for an effect without particles, its structure."""
    if effect.kind not in WEATHER:
        for time, frame in enumerate(decoded):
            yield frame._replace(drawn=Turbulence(effect.kind, job.recipe.seed, time))
        return
    mean = torch.stack([alpha for _, alpha in _some_alphas(job, layers)]).mean(0)
    for time, frame in enumerate(decoded):
        yield frame._replace(drawn=particles_of(effect, job.recipe.seed, time, mean, job.aspect))


def _with_backdrop(
    job: ShapedJob,
    background: ShotBackground,
    latents: ShotLatents,
    decoded: Iterator[DecodedFrame],
    warn: Callable[[str], None],
) -> Iterator[DecodedFrame]:
    """Add a painted background to decoded frames, with the plate's brightness and the movement of its background."""
    watched = _watched_plate(job, latents)
    frames = latents.frames
    if not watched.motion.is_known:
        warn(NOT_FOLLOWED.format(first=frames[0], last=frames[-1]))
    moves = within_room(watched.motion.moves or [Move()] * len(frames), job.aspect)
    request = BackdropRequest(background.kind, job.recipe.seed, background.traits)
    backdrop = Backdrop(request, job.aspect, room=Room.of(moves, job.aspect))
    for time, frame in enumerate(decoded):
        yield frame._replace(drawn=BackdropFrame(backdrop, time, watched.white, moves[time], watched.colors))


class WatchedPlate(NamedTuple):
    """Measurements of a shot's plate for a painted background.

    motion: of the plate's background. white: (3,). colors: of the subject if no mask shows it; else None.
    """

    motion: Motion
    white: torch.Tensor
    colors: SubjectColors | None


def _watched_plate(job: ShapedJob, latents: ShotLatents) -> WatchedPlate:
    """Measure the plate of a shot; each frame is read once, in order."""
    count, shown, guesses = len(latents.frames), None, dict[int, torch.Tensor]()
    apart = max(1, count // COLOR_FRAMES)
    for time, alpha in _some_alphas(job, latents.layers):
        shown = alpha if shown is None else torch.minimum(shown, alpha)
        if not job.masked and time < count and time >= apart * len(guesses):
            guesses[time] = 1 - clean_alpha(alpha)
    assert shown is not None
    size = (max(1, round(MOTION_ROWS * job.aspect)), MOTION_ROWS)
    lights: list[PlateLight] = []
    seen: list[torch.Tensor] = []

    def watched() -> Iterator[torch.Tensor]:
        for time, number in enumerate(latents.frames):
            pixels = job.pixels(number)
            picture = torch.from_numpy(job.source(pixels))
            if time % max(1, -(-count // WHITE_FRAMES)) == 0:
                lights.append(light_of(job, pixels))
            if time in guesses:
                seen.append(shrink(picture, shown.shape[1], shown.shape[0]))
            yield shrink(picture, *size).mean(0)

    pictures = watched()
    motion = background_motion(pictures, shrink((shown > BACKGROUND).float()[..., None], *size)[0])
    deque(pictures, maxlen=0)  # the frames that tell nothing more of the motion
    colors = SubjectColors.of(list(guesses.values()), seen) if guesses else None
    return WatchedPlate(motion, white_of_plate(lights), colors)


def _with_object(
    job: ShapedJob,
    shape: ShotObject,
    latents: ShotLatents,
    decoded: Iterator[DecodedFrame],
    warn: Callable[[str], None],
) -> Iterator[DecodedFrame]:
    """Add an object to decoded frames; they are unchanged if the shape is not what the model drew."""
    first = DrawnFrame(shape, 0, Take.of(job.recipe.seed, shape.stands))
    agrees, some = Agreement(), list[DrawnFrame]()
    for time, alpha in _some_alphas(job, latents.layers):
        drawn = replace(first, time=time)
        agrees += agreement(drawn, alpha, job.aspect)
        some.append(replace(drawn, standing=standing(drawn, alpha, job.aspect)))
    if not agrees.holds(job.is_behind):
        yield from decoded
        return
    shot = latents.frames
    moved = (0.0, 0.0) if job.masked else inside(some, job.aspect)
    people = _people(job, shot) if job.behind_people else None
    if people is not None:
        three = sorted({0, len(shot) // 2, len(shot) - 1})
        hidden = [replace(first, time=time, moved=moved, hidden=people.at(time)) for time in three]
        moved = (moved[0] + aside(hidden, job.aspect), moved[1])
    some = [replace(drawn, moved=moved) for drawn in some]
    if shape.stands and not job.masked:
        seen = people_in(torch.from_numpy(job.source(job.pixels(shot[0]))))
        if where := groundless(some, seen):
            warn(NO_GROUND.format(where=where))
    times, grounded = [drawn.time for drawn in some], [drawn.standing for drawn in some]
    for time, frame in enumerate(decoded):
        in_front = None if people is None else people.at(time)
        stands = float(np.interp(time, times, grounded))
        yield frame._replace(drawn=replace(first, time=time, standing=stands, hidden=in_front, moved=moved))


def _people(job: ShapedJob, shot: range) -> PeopleInFront:
    first = job.source(job.pixels(shot[0]))
    height = max(1, round(PEOPLE_WIDTH * first.shape[0] / first.shape[1]))

    def picture(frame: int) -> torch.Tensor:
        return torch.from_numpy(job.source(job.pixels(frame)))

    return PeopleInFront(shot, picture, (PEOPLE_WIDTH, height))


def _some_alphas(job: ShapedJob, layers: Any) -> Iterator[tuple[int, torch.Tensor]]:
    """(number, alpha (h, w)) of a shot's first frame, and of the last frame of each later latent frame."""
    with torch.inference_mode():
        chunks = job.model.codec.decode_stream(LayerLatents(layers, 1, job.model.device))
        time = -1
        for chunk in chunks:
            frames = chunk[0].float().clamp(0, 1).mean(0).cpu()
            time += len(frames)
            yield time, frames[-1]
