"""Painted backgrounds at the plate's size: rendered at one fixed resolution, defocused, then enlarged.

A lens focused on the subject resolves no background detail smaller than its circle of confusion. So ROWS rows are
enough for any plate, and the background looks the same in all of them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import View
from vera.core.layer.backdrop.coast import CloudsPainting, NightPainting, SeaPainting, StormPainting, SunsetPainting
from vera.core.layer.backdrop.land import DesertPainting, ForestPainting, MeadowPainting, MountainsPainting
from vera.core.layer.backdrop.lens_blur import out_of_focus
from vera.core.layer.backdrop.painting import BackdropRequest, Painting, Picture
from vera.core.layer.backdrop.plate_motion import Move
from vera.core.layer.backdrop.town import BricksPainting, CityPainting, StudioPainting

ROWS = 432  # rows of a painting. Raising it sharpens nearly focused parts; time and memory grow with its square
# Widest margin, (horizontal, vertical) in frame heights, painted beyond the frame on the sides to which the camera
# moves. Raising it follows wider pans and takes time. A larger movement is followed in part.
MOST_ROOM = (0.6, 0.2)
BISECTIONS = 14  # bisections to find the largest share of a movement that fits; raising it is more exact
# Aspect ratio above which a painting has fewer than ROWS rows. Raising it makes wide ones finer, slower.
MAX_ASPECT = 2.4

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
    def of(cls, moves: Sequence[Move], aspect: float) -> Room:
        """The margins for movements of the background in frames of this aspect."""
        corners = [(x * aspect / 2, y / 2) for x in (-1, 1) for y in (-1, 1)]
        across, along = zip(*(move.before(*corner) for move in (Move(), *moves) for corner in corners), strict=True)
        sides = -min(across) - aspect / 2, max(across) - aspect / 2, -min(along) - 0.5, max(along) - 0.5
        return cls(*(max(0.0, side) for side in sides))

    @property
    def fits(self) -> bool:
        """Whether no margin is wider than MOST_ROOM."""
        most = (MOST_ROOM[0], MOST_ROOM[0], MOST_ROOM[1], MOST_ROOM[1])
        return all(side <= limit + 1e-6 for side, limit in zip((self.left, self.right, self.above, self.below), most))


class Backdrop:
    """The painted background of one shot. Thread-safe."""

    def __init__(self, request: BackdropRequest, aspect: float, rows: int | None = None, room: Room = Room()) -> None:
        rows = round((rows or ROWS) * min(1.0, MAX_ASPECT / aspect))
        self.aspect, self.room = aspect, room
        self.height = 1 + room.above + room.below
        self.width = aspect + room.left + room.right
        tall, wide = round(rows * self.height), 2 * max(1, round(rows * self.width / 2))
        self.painting = PAINTINGS[request.kind](request, View(tall, wide, self.width / self.height))
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

    def framed(self, planes: Tensor, move: Move, size: tuple[int, int]) -> Tensor:
        """Resample planes (C, h, w) of the whole painting, margins included, to a frame of size (height, width).

        move: movement of the background
        """
        if self.room == Room() and move == Move():
            return enlarged(planes, size)
        rows = round(planes.shape[1] / self.height)
        sampled = size if size[0] >= rows else (rows, round(rows * self.aspect))
        x = ((torch.arange(sampled[1]) + 0.5) / sampled[1] - 0.5) * self.aspect
        y = (torch.arange(sampled[0]) + 0.5) / sampled[0] - 0.5
        x, y = move.before(*torch.broadcast_tensors(x[None], y[:, None]))
        x, y = x + self.aspect / 2 + self.room.left, y + 0.5 + self.room.above
        grid = torch.stack([x / self.width * 2 - 1, y / self.height * 2 - 1], -1)[None]
        seen = F.grid_sample(planes[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]
        return seen if sampled == size else enlarged(seen, size)

    def _focused(self, time: float) -> Picture:
        made = self.painting.at(time)
        light = out_of_focus(made.light, made.blur, self.painting.defocus * self.painting.view.rows / self.height)
        return Picture(light.clamp_min(0), made.blur, made.follows_plate)


def within_room(moves: Sequence[Move], aspect: float) -> list[Move]:
    """Movements of a background in frames of this aspect, scaled down to stay within MOST_ROOM.

    First zoom and turn are scaled, then the shift on each axis.
    """
    kept = [Move()] * len(moves)
    for names in (("zoom", "turn"), ("right",), ("down",)):
        low, high = 0.0, 1.0
        if not Room.of(_with_parts(kept, moves, names, high), aspect).fits:
            for _ in range(BISECTIONS):
                middle = (low + high) / 2
                fits = Room.of(_with_parts(kept, moves, names, middle), aspect).fits
                low, high = (middle, high) if fits else (low, middle)
            high = low
        kept = _with_parts(kept, moves, names, high)
    return kept


def _with_parts(kept: Sequence[Move], moves: Sequence[Move], names: Sequence[str], share: float) -> list[Move]:
    """The movements `kept`, with a share of the named components of `moves`."""
    return [
        to._replace(**{name: share * getattr(move, name) for name in names})
        for to, move in zip(kept, moves, strict=True)
    ]


def enlarged(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (C, h, w) resampled to a size (height, width), antialiased if they shrink."""
    smaller = size[0] < planes.shape[1]
    made = F.interpolate(
        planes[None], size, mode="bilinear" if smaller else "bicubic", antialias=smaller, align_corners=False
    )
    return made[0]
