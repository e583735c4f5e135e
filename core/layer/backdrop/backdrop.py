"""Painted backgrounds at the plate's size: rendered at one fixed resolution, defocused, then enlarged.

A lens focused on the subject resolves no background detail smaller than its circle of confusion. So ROWS rows are
enough for any plate, and the background looks the same in all of them.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import View
from vera.core.layer.backdrop.coast import CloudsPainting, NightPainting, SeaPainting, StormPainting, SunsetPainting
from vera.core.layer.backdrop.land import DesertPainting, ForestPainting, MeadowPainting, MountainsPainting
from vera.core.layer.backdrop.lens_blur import out_of_focus
from vera.core.layer.backdrop.painting import Asked, Painting, Picture
from vera.core.layer.backdrop.town import BricksPainting, CityPainting, StudioPainting

ROWS = 432  # rows of a painting. Raising it sharpens nearly focused parts; time and memory grow with its square
# Widest margin, (horizontal, vertical) in frame heights, painted beyond the frame on the sides to which the camera
# moves. Raising it follows wider pans and takes time. A larger movement is followed in part.
MOST_ROOM = (0.6, 0.2)
WIDEST = 2.4  # aspect ratio above which a painting has fewer than ROWS rows. Raising it makes wide ones finer, slower

PAINTINGS: dict[str, type[Painting]] = {
    "sea": SeaPainting,
    "storm": StormPainting,
    "clouds": CloudsPainting,
    "sunset": SunsetPainting,
    "night": NightPainting,
    "mountains": MountainsPainting,
    "desert": DesertPainting,
    "meadow": MeadowPainting,
    "forest": ForestPainting,
    "city": CityPainting,
    "bricks": BricksPainting,
    "studio": StudioPainting,
}


@dataclass(frozen=True)
class Room:
    """Margins painted beyond the frame for a moving camera, in frame heights."""

    left: float = 0.0
    right: float = 0.0
    above: float = 0.0
    below: float = 0.0

    @classmethod
    def of(cls, moves: Tensor) -> Room:
        """The margins for movements (T, 2) of the background, right and down in frame heights."""
        least, most = (x.tolist() for x in (moves.amin(0).clamp(max=0), moves.amax(0).clamp_min(0)))
        return cls(most[0], -least[0], most[1], -least[1])


class Backdrop:
    """The painted background of one shot. Thread-safe."""

    def __init__(self, asked: Asked, aspect: float, rows: int | None = None, room: Room = Room()) -> None:
        rows = round((rows or ROWS) * min(1.0, WIDEST / aspect))
        self.aspect, self.room = aspect, room
        self.height = 1 + room.above + room.below
        self.width = aspect + room.left + room.right
        tall, wide = round(rows * self.height), 2 * max(1, round(rows * self.width / 2))
        self.painting = PAINTINGS[asked.kind](asked, View(tall, wide, self.width / self.height))
        self._lock = threading.Lock()
        self._still: Picture | None = None

    @torch.inference_mode()
    def picture(self, time: float) -> Picture:
        """The painting at a time in frames, defocused, at its own resolution."""
        with self._lock:  # compute the constant parts once
            self.painting.parts  # noqa: B018
            if self._still is not None:
                return self._still
            if not self.painting.moves:
                self._still = self._focused(0.0)
                return self._still
        return self._focused(time)

    def framed(self, planes: Tensor, move: tuple[float, float], size: tuple[int, int]) -> Tensor:
        """Resample planes (C, h, w) of the whole painting, margins included, to a frame of size (height, width).

        move: shift of the background to the right and down, in frame heights
        """
        if self.room == Room():
            return enlarged(planes, size)
        rows = round(planes.shape[1] / self.height)
        sampled = size if size[0] >= rows else (rows, round(rows * self.aspect))
        x = self.room.left - move[0] + (torch.arange(sampled[1]) + 0.5) / sampled[1] * self.aspect
        y = self.room.above - move[1] + (torch.arange(sampled[0]) + 0.5) / sampled[0]
        x, y = torch.broadcast_tensors(x[None] / self.width * 2 - 1, y[:, None] / self.height * 2 - 1)
        grid = torch.stack([x, y], -1)[None]
        seen = F.grid_sample(planes[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        return seen if sampled == size else enlarged(seen, size)

    def _focused(self, time: float) -> Picture:
        made = self.painting.at(time)
        light = out_of_focus(made.light, made.blur, self.painting.defocus * self.painting.view.rows / self.height)
        return Picture(light.clamp_min(0), made.blur, made.follows_plate)


def within_room(moves: Tensor) -> Tensor:
    """Movements (T, 2) of a background, scaled down on each axis to stay within MOST_ROOM."""
    reach = (moves.amax(0).clamp_min(0), -moves.amin(0).clamp(max=0))
    most = torch.maximum(*reach).clamp_min(1e-6)
    return moves * (torch.tensor(MOST_ROOM) / most).clamp(max=1.0)


def enlarged(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (C, h, w) resampled to a size (height, width), antialiased if they shrink."""
    smaller = size[0] < planes.shape[1]
    made = F.interpolate(
        planes[None], size, mode="bilinear" if smaller else "bicubic", antialias=smaller, align_corners=False
    )
    return made[0]
