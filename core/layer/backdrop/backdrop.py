"""Backdrops at the size of a plate: painted at one size, out of focus as behind a sharp subject, then enlarged.

A lens that is focused on somebody holds no detail of the background below the size of its discs of confusion, so a
painting of ROWS rows is enough for any plate, and looks the same in each.
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

ROWS = 432  # of a painting. Raising it sharpens what is little out of focus, and costs its square
# Heights of the frame, across and down, that are painted beyond it on a side where the camera moves. Raising it
# follows wider pans, and costs time; a camera that goes farther is followed in part.
MOST_ROOM = (0.6, 0.2)
WIDEST = 2.4  # aspect of a picture up to which it has all ROWS. Raising it makes wide strips finer, and slower

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
    """What is painted beyond the frame for a camera that moves, to each side, in heights of the frame."""

    left: float = 0.0
    right: float = 0.0
    above: float = 0.0
    below: float = 0.0

    @classmethod
    def of(cls, moves: Tensor) -> Room:
        """For a background that moves so (T, 2), right and down."""
        least, most = (x.tolist() for x in (moves.amin(0).clamp(max=0), moves.amax(0).clamp_min(0)))
        return cls(most[0], -least[0], most[1], -least[1])


class Backdrop:
    """A background of one shot. Calls from several threads do not disturb one another."""

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
        """The light of a moment, through the lens, at the painting's size."""
        with self._lock:  # the fixed parts are made once
            self.painting.parts  # noqa: B018
            if self._still is not None:
                return self._still
            if not self.painting.moves:
                self._still = self._focused(0.0)
                return self._still
        return self._focused(time)

    def framed(self, planes: Tensor, move: tuple[float, float], size: tuple[int, int]) -> Tensor:
        """Planes (C, h, w) of the whole painting as a frame of that size (height, width) shows them, with the backdrop
        moved right and down by `move`, in heights of the frame."""
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
    """Moves (T, 2) of a background, less on an axis on which they go beyond `MOST_ROOM`."""
    reach = (moves.amax(0).clamp_min(0), -moves.amin(0).clamp(max=0))
    most = torch.maximum(*reach).clamp_min(1e-6)
    return moves * (torch.tensor(MOST_ROOM) / most).clamp(max=1.0)


def enlarged(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (C, h, w) at a plate's size (height, width); smaller ones are averages."""
    smaller = size[0] < planes.shape[1]
    made = F.interpolate(
        planes[None], size, mode="bilinear" if smaller else "bicubic", antialias=smaller, align_corners=False
    )
    return made[0]
