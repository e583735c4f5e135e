"""Read a lift's frames at working size: plate, mask and edited video."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch

from vera.core.lifting.framing import Framing, framed
from vera.core.lifting.registration import Canvas
from vera.core.plate.color import PlateColor
from vera.core.plate.fit import shrink
from vera.core.plate.source import HeldOutMask, Mask, Plate


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
    """

    video: Plate
    color: PlateColor
    places: list[int]
    size: tuple[int, int]
    plate_size: tuple[int, int]
    framing: Framing

    def whole(self, position: int) -> torch.Tensor:
        """One frame at its full size, (1, 3, H, W), encoded in [0, 1]."""
        pixels = self.color.to_model(self.video.read(self.video.frames[self.places[position]]))
        return torch.from_numpy(pixels).movedim(-1, 0)[None]

    def canvas(self, positions: Sequence[int]) -> Canvas:
        """See `EditedVideo`."""
        each = [framed(self.whole(i), self.framing, self.plate_size, self.size[::-1]) for i in positions]
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

    def pixels(self, frame: int) -> np.ndarray: ...


def read_plate(job: LiftedJob, positions: Sequence[int]) -> torch.Tensor:
    """Plate frames at working size, (T, 3, h, w), encoded in [0, 1]. Positions are indices into job.indices."""
    frames = []
    for i in positions:
        frame = job.plate.frames[job.indices[i]]
        pixels = job.color.to_model(job.pixels(frame))
        frames.append(shrink(torch.from_numpy(pixels), *job.size))
    return torch.stack(frames)


def read_mask(job: LiftedJob, positions: Sequence[int]) -> torch.Tensor | None:
    """The mask of the same frames at working size, (T, 1, h, w) in [0, 1]; None if the job has no mask."""
    if job.mask is None:
        return None
    masks = [torch.from_numpy(job.mask.read(job.plate.frames[job.indices[i]]))[..., None] for i in positions]
    return torch.stack([shrink(m, *job.size) for m in masks])
