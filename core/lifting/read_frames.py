"""Read a lift's frames at working size: plate, mask and edited video."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from vera.core.lifting.framing import Framing, canvas_of
from vera.core.lifting.matching import same_size
from vera.core.lifting.registration import Canvas
from vera.core.plate.color import PlateColor
from vera.core.plate.fit import at_model_size, shrink
from vera.core.plate.source import HeldOutMask, Mask, Plate


class KeptFrames:
    """Frames at working size that were read to compare plate and edited video. The first window takes them from here
    instead of reading them again.

    Frames are kept as they come, until all of them have `most` bytes: a shot is compared from its first frame on, and
    the first window needs the first frames.
    """

    def __init__(self, most: int) -> None:
        self._room, self._frames = most, dict[Hashable, torch.Tensor]()

    def frame(self, name: Hashable, read: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The frame of that name; `read` reads it if it is not kept. The caller must not change it."""
        if name in self._frames:
            return self._frames[name]
        frame = read()
        size = frame.numel() * frame.element_size()
        if size <= self._room:
            self._frames[name] = frame
            self._room -= size
        return frame

    def close(self) -> None:
        """Drop all frames, and keep none from now on."""
        self._room = 0
        self._frames.clear()


class EditedVideo(Protocol):
    """The edited frames. Positions are indices into the job's `indices`."""

    def canvas(self, positions: Sequence[int]) -> Canvas:
        """The frames in their own framing, with the position of the plate on them."""
        ...

    def read(self, positions: Sequence[int]) -> torch.Tensor:
        """(T, 3, h, w), encoded in [0, 1]: the frames registered to the plate at working size."""
        ...

    def report_facts(self) -> dict[str, Any]:
        """Facts about the video for the manifest."""
        ...


@dataclass(frozen=True)
class EditedFile:
    """An edited video in a file.

    places: indices from 0 of its frames that are used
    size, plate_size: (width, height) of the working size and of the plate
    framing: in pixels of plate and video at full size
    kept: frames that were read before
    """

    video: Plate
    color: PlateColor
    places: list[int]
    size: tuple[int, int]
    plate_size: tuple[int, int]
    framing: Framing
    kept: KeptFrames = field(default_factory=lambda: KeptFrames(0), compare=False)

    def frame(self, position: int, size: tuple[int, int]) -> torch.Tensor:
        """One whole frame at a size (height, width), (1, 3, *size), encoded in [0, 1], as by `same_size`."""
        place = self.places[position]
        return self.kept.frame(("edited", place, size), lambda: self._read(place, size))

    def _read(self, place: int, size: tuple[int, int]) -> torch.Tensor:
        pixels = self.video.read(self.video.frames[place])
        if pixels.shape[0] >= size[0] and pixels.shape[1] >= size[1]:
            return at_model_size(self.color, pixels, size[::-1])[None]
        return same_size(torch.from_numpy(self.color.to_model(pixels)).movedim(-1, 0)[None], size)

    def canvas(self, positions: Sequence[int]) -> Canvas:
        """See `EditedVideo`."""
        size = self.video.width, self.video.height
        each = [
            canvas_of(partial(self.frame, i), size, self.framing, self.plate_size, self.size[::-1]) for i in positions
        ]
        return replace(each[0], video=torch.cat([c.video for c in each]))

    def read(self, positions: Sequence[int]) -> torch.Tensor:
        """See `EditedVideo`."""
        canvas = self.canvas(positions)
        return canvas.placed(canvas.start, self.size[::-1])

    def report_facts(self) -> dict[str, Any]:
        """See `EditedVideo`: the visible window in plate pixels, its share of the plate, and the number of frames."""
        window = [round(v, 2) for v in self.framing.window()]
        covered = round(self.framing.covered(self.plate_size), 4)
        return {"framing": {"shown": window, "covered": covered}, "edited_frames": len(self.places)}


class LiftedJob(Protocol):
    """The part of a job (core/backends/base.py) that a lift reads. indices: plate frames that have an edited frame."""

    @property
    def plate(self) -> Plate: ...
    @property
    def mask(self) -> Mask | HeldOutMask | None: ...
    @property
    def color(self) -> PlateColor: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def indices(self) -> list[int]: ...
    @property
    def kept(self) -> KeptFrames: ...

    def pixels(self, frame: int) -> np.ndarray: ...


def read_plate(job: LiftedJob, positions: Sequence[int]) -> torch.Tensor:
    """Plate frames at working size, (T, 3, h, w), encoded in [0, 1]. Positions are indices into job.indices."""
    frames = [job.plate.frames[job.indices[i]] for i in positions]

    def read(frame):
        return at_model_size(job.color, job.pixels(frame), job.size)

    return torch.stack([job.kept.frame(("plate", frame, job.size), partial(read, frame)) for frame in frames])


def read_mask(job: LiftedJob, positions: Sequence[int]) -> torch.Tensor | None:
    """The mask of the same frames at working size, (T, 1, h, w) in [0, 1]; None if the job has no mask."""
    if job.mask is None:
        return None
    masks = [torch.from_numpy(job.mask.read(job.plate.frames[job.indices[i]]))[..., None] for i in positions]
    return torch.stack([shrink(m, *job.size) for m in masks])
