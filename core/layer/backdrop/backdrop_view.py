"""The camera that backdrops are painted for, and what it sees of a surface of heights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

FOCAL = 1.25  # focal length in heights of the picture: 44 degrees from top to bottom
DEPTHS = 440  # distances at which a surface is looked at. More: finer silhouettes, slower


@dataclass(frozen=True)
class View:
    """A picture of (rows, columns) samples, shown `aspect` times as wide as it is high. Places are in heights of the
    picture from its middle, right and down."""

    rows: int
    columns: int
    aspect: float
    above: int = 0  # rows of the whole picture that are left out above these

    @cached_property
    def x(self) -> Tensor:
        """(h, w)"""
        line = ((torch.arange(self.columns) + 0.5) / self.columns - 0.5) * self.aspect
        return line.expand(self.rows, -1)

    @cached_property
    def y(self) -> Tensor:
        """(h, w)"""
        line = (torch.arange(self.above, self.above + self.rows) + 0.5) * self.sample - 0.5
        return line[:, None].expand(-1, self.columns)

    @property
    def sample(self) -> float:
        """Height of a sample."""
        return 1 / (self.above + self.rows)

    def below(self, y: float) -> View:
        """The part of the picture below a place."""
        above = min(self.rows - 2, max(0, math.floor((y + 0.5) * self.rows)))
        return View(self.rows - above, self.columns, self.aspect, above)

    def scaled(self, share: float) -> View:
        """The same picture in fewer or more samples."""
        return View(max(2, round(self.rows * share)), max(2, round(self.columns * share)), self.aspect)

    def in_samples(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Columns and rows of places."""
        return (x / self.aspect + 0.5) * self.columns, (y + 0.5) * self.rows


Surface = Callable[[Tensor, Tensor, Tensor], Tensor]  # X, Y (ahead), footprint -> height; lengths in world units


@dataclass(frozen=True)
class Seen:
    """What is seen of a surface: there (h, w) bool; where, (h, w) each, in world units, meaningless where not there."""

    there: Tensor
    right: Tensor
    ahead: Tensor


def see(view: View, surface: Surface, eye: float, horizon: float, reach: tuple[float, float]) -> Seen:
    """The points of a surface that a camera sees that looks ahead from height `eye` above 0.

    horizon: y of the horizon in the picture. reach: nearest and farthest distance. Each column is walked away from the
    camera; the line of sight to a point is free where no nearer point reaches above it.
    """
    share = torch.linspace(0, 1, DEPTHS)[:, None]
    ahead = reach[0] * (reach[1] / reach[0]) ** share  # (D, 1)
    across = view.x[0] / FOCAL
    step = ahead * ((reach[1] / reach[0]) ** (1 / (DEPTHS - 1)) - 1)
    depth = ahead.expand(-1, view.columns)
    footprint = torch.maximum(step / 2, ahead / FOCAL * view.sample).expand(-1, view.columns)
    heights = surface(across * ahead, depth, footprint)
    line = horizon - FOCAL * (heights - eye) / ahead  # y in the picture
    skyline = line.cummin(0).values
    # Rows of a column, from bottom to top, are met in order of distance.
    wanted = view.y[:, 0].flip(0)[None].expand(view.columns, -1).contiguous()
    order = (-skyline).T.contiguous()  # rising
    index = torch.searchsorted(order, -wanted).T.flip(0)  # first distance at which skyline <= y
    found = index < DEPTHS
    here = index.clamp(max=DEPTHS - 1)
    before = (here - 1).clamp_min(0)
    low, high = line.gather(0, before), line.gather(0, here)
    # Behind a crest the distance before is hidden: what is seen begins at this one.
    hidden = low > skyline.gather(0, before) + 1e-6
    smooth = torch.where(hidden, 1.0, (low - view.y) / (low - high).clamp_min(1e-9))
    share = (before + smooth.clamp(0, 1)) / (DEPTHS - 1)
    where = reach[0] * (reach[1] / reach[0]) ** share
    return Seen(found, view.x / FOCAL * where, where)


def slopes(surface: Surface, seen: Seen, footprint: Tensor) -> tuple[Tensor, Tensor]:
    """How a surface rises to the right and ahead at the points seen, (h, w) each."""
    step = footprint.clamp_min(1e-6)
    here = surface(seen.right, seen.ahead, footprint)
    right = (surface(seen.right + step, seen.ahead, footprint) - here) / step
    ahead = (surface(seen.right, seen.ahead + step, footprint) - here) / step
    return right, ahead
