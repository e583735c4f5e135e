"""A job's frames at the size at which it is lifted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vera.core.lifting.matching import same_size
from vera.core.plate.color import PlateColor
from vera.core.plate.fit import shrink
from vera.core.plate.source import Plate


class EditedVideo(Protocol):
    """The edited frames, at working size."""

    def read(self, positions: Sequence[int]) -> torch.Tensor:
        """(T, 3, h, w), encoded [0, 1]; positions are indices into the job's `indices`."""
        ...


@dataclass(frozen=True)
class EditedFile:
    """An edited video in a file; one frame in `thinned` is used. size: (width, height) of the working size."""

    video: Plate
    color: PlateColor
    thinned: int
    size: tuple[int, int]

    def read(self, positions: Sequence[int]) -> torch.Tensor:
        """See `EditedVideo`."""
        frames = []
        for i in positions:
            pixels = self.color.to_model(self.video.read(self.video.frames[i * self.thinned]))
            frames.append(same_size(torch.from_numpy(pixels).movedim(-1, 0)[None], self.size[::-1])[0])
        return torch.stack(frames)


def read_plate(job: Any, positions: Sequence[int]) -> torch.Tensor:
    """Plate frames at working size, (T, 3, h, w), encoded [0, 1]; positions are indices into job.indices."""
    frames = []
    for i in positions:
        frame = job.plate.frames[job.indices[i]]
        pixels = job.color.to_model(job.pixels(frame))
        frames.append(shrink(torch.from_numpy(pixels), *job.size))
    return torch.stack(frames)


def read_mask(job: Any, positions: Sequence[int]) -> torch.Tensor | None:
    """The mask of those frames at working size, (T, 1, h, w) in [0, 1]; None without one."""
    if job.mask is None:
        return None
    masks = [torch.from_numpy(job.mask.read(job.plate.frames[job.indices[i]]))[..., None] for i in positions]
    return torch.stack([shrink(m, *job.size) for m in masks])
