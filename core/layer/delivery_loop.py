"""The delivery loop of all backends: frames are read in order, and finished and written a few at a time."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from vera.core.errors import InputError, StoppedError
from vera.core.layer.blend_space import Blending, composite
from vera.core.layer.delivery import Delivery
from vera.core.layer.outputs.output import FramePixels
from vera.core.plate.color import PlateColor
from vera.core.plate.source import Plate
from vera.core.progress import ProgressLike
from vera.kernels.part import Part
from vera.kernels.shrink import alpha_box

MAX_THREADS = 4  # frames finished at once; each holds some ten pictures of the plate's size in memory


@dataclass(frozen=True)
class FilmedFrame:
    """A frame of the plate.

    pixels: (H, W, C) of the plate's type
    allowed: (h, w) in [0, 1], the mask at model size, or None
    """

    frame: int
    pixels: np.ndarray
    allowed: torch.Tensor | None


@dataclass(frozen=True)
class FinishedFrame:
    """A layer at the plate's size.

    layer: (H, W, 4) premultiplied. matte: (H, W), the model's alpha. facts: for the manifest.
    split: layers by name (core/layer/split.py), None unless requested
    """

    layer: np.ndarray
    matte: np.ndarray
    facts: dict[str, Any]
    split: dict[str, np.ndarray] | None = None


class DeliveredJob(Protocol):
    """What the loop needs of a job."""

    @property
    def plate(self) -> Plate: ...
    @property
    def color(self) -> PlateColor: ...
    @property
    def blending(self) -> Blending: ...
    @property
    def delivery(self) -> Delivery: ...

    def filmed(self, frame: int) -> FilmedFrame: ...


JobKind = TypeVar("JobKind", bound=DeliveredJob)  # of one backend
Layer = TypeVar("Layer")  # what that backend makes of one frame
Finish = Callable[[JobKind, FilmedFrame, Layer], FinishedFrame]


def deliver_frames(
    job: JobKind,
    layers: Iterable[Layer],
    finish: Finish[JobKind, Layer],
    progress: ProgressLike,
    stopping: Callable[[], bool],
) -> None:
    """Deliver every frame of a job that is not delivered yet.

    layers: the backend's result for each frame, in order
    finish: makes the finished frame of one frame's inputs; called from several threads
    Plate, mask and layers are read in order, by the caller's thread. Raises StoppedError between frames.
    """
    progress.stage("deliver", len(job.plate.frames))
    for _ in _frames_as_delivered(job, layers, finish, stopping):
        progress.advance()


def read_unchanged(plate: Plate, frame: int, fingerprint: str) -> np.ndarray:
    """The frame's pixels. Raises InputError if its file has changed since the job began."""
    pixels, where = plate.read(frame), f"frame {frame}: {plate.file(frame)}"
    try:
        same = plate.fingerprint(frame) == fingerprint
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); supply the file") from None
    if not same:
        raise InputError(f"{where}: has changed since the job began; start again with another --out")
    return pixels


def _frames_as_delivered(
    job: JobKind, layers: Iterable[Layer], finish: Finish[JobKind, Layer], stopping: Callable[[], bool]
) -> Iterator[int]:
    """Yield each frame once its files are there, in order."""
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    pending: deque[tuple[int, Future | None]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for frame, layer in zip(job.plate.frames, layers, strict=True):
            if stopping():
                for _, work in pending:  # cancels those that no thread has started
                    if work is not None:
                        work.cancel()
                raise StoppedError(f"stopped before frame {frame}")
            if job.delivery.done(frame):
                pending.append((frame, None))
            else:
                pending.append((frame, pool.submit(_finish_and_write, job, job.filmed(frame), layer, finish)))
            while len(pending) > threads:
                yield _waited_for(*pending.popleft())
        while pending:
            yield _waited_for(*pending.popleft())


def _finish_and_write(job: JobKind, filmed: FilmedFrame, layer: Layer, finish: Finish[JobKind, Layer]) -> None:
    finished = finish(job, filmed, layer)
    count, part = alpha_box(finished.layer)
    part = part or Part(0, 0, 0, 0)
    laid_over = composite(filmed.pixels, finished.layer, job.color, job.blending, part)
    facts = finished.facts | {"coverage": count / finished.layer[..., 3].size}
    pixels = FramePixels(finished.layer, laid_over, finished.matte, finished.split)
    job.delivery.write(filmed.frame, pixels, facts, filmed.pixels)


def _waited_for(frame: int, work: Future | None) -> int:
    if work is not None:
        work.result()
    return frame
