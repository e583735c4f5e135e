"""Backdrops at the size of a plate: painted at one size, out of focus as behind a sharp subject, then enlarged.

A lens that is focused on somebody holds no detail of the background below the size of its discs of confusion, so a
painting of ROWS rows is enough for any plate, and looks the same in each.
"""

from __future__ import annotations

import threading

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


class Backdrop:
    """A background of one shot. Calls from several threads do not disturb one another."""

    def __init__(self, asked: Asked, aspect: float, rows: int | None = None) -> None:
        rows = round((rows or ROWS) * min(1.0, WIDEST / aspect))
        columns = 2 * max(1, round(rows * aspect / 2))
        self.painting = PAINTINGS[asked.kind](asked, View(rows, columns, aspect))
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

    def _focused(self, time: float) -> Picture:
        made = self.painting.at(time)
        light = out_of_focus(made.light, made.blur, self.painting.defocus * self.painting.view.rows)
        return Picture(light.clamp_min(0), made.blur, made.follows_plate)


def enlarged(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Planes (C, h, w) at a plate's size (height, width); smaller ones are averages."""
    smaller = size[0] < planes.shape[1]
    made = F.interpolate(
        planes[None], size, mode="bilinear" if smaller else "bicubic", antialias=smaller, align_corners=False
    )
    return made[0]
