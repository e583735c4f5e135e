"""The camera of painted backgrounds, and ray casting of a height field."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

FOCAL = 1.25  # focal length in picture heights: a vertical angle of 44 degrees. Raising it narrows the angle
DEPTHS = 440  # distances at which a height field is sampled. Raising it gives finer silhouettes, and takes time


@dataclass(frozen=True)
class View:
    """The sampling grid of a picture. Positions are in picture heights from the centre, x to the right, y down.

    rows, columns: samples. aspect: displayed width over height
    """

    rows: int
    columns: int
    aspect: float
    above: int = 0  # rows of the whole picture that are cropped at the top

    @cached_property
    def x(self) -> Tensor:
        """Horizontal position of each sample, (h, w)."""
        line = ((torch.arange(self.columns) + 0.5) / self.columns - 0.5) * self.aspect
        return line.expand(self.rows, -1)

    @cached_property
    def y(self) -> Tensor:
        """Vertical position of each sample, (h, w)."""
        line = (torch.arange(self.above, self.above + self.rows) + 0.5) * self.sample - 0.5
        return line[:, None].expand(-1, self.columns)

    @property
    def sample(self) -> float:
        """Height of a sample in picture heights."""
        return 1 / (self.above + self.rows)

    def below(self, y: float) -> View:
        """The part of the picture below a vertical position."""
        above = min(self.rows - 2, max(0, math.floor((y + 0.5) * self.rows)))
        return View(self.rows - above, self.columns, self.aspect, above)

    def scaled(self, share: float) -> View:
        """The same picture with `share` times as many rows and columns."""
        return View(max(2, round(self.rows * share)), max(2, round(self.columns * share)), self.aspect)

    def in_samples(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Positions as (column, row), fractional."""
        return (x / self.aspect + 0.5) * self.columns, (y + 0.5) * self.rows


Surface = Callable[[Tensor, Tensor, Tensor], Tensor]  # X, Y (ahead), footprint -> height; lengths in world units


@dataclass(frozen=True)
class VisibleSurface:
    """The visible points of a height field.

    there: (h, w) bool, whether the sample shows the surface. right, ahead: (h, w), in world units; undefined elsewhere.
    """

    there: Tensor
    right: Tensor
    ahead: Tensor


def see(view: View, surface: Surface, eye: float, horizon: float, reach: tuple[float, float]) -> VisibleSurface:
    """The points of a height field that are visible from a camera at height `eye`, looking ahead.

    horizon: vertical position of the horizon. reach: nearest and farthest distance.
    Each column is sampled from near to far. A point is visible if no nearer point is above it in the picture.
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
    # From bottom to top, the rows of a column show points of growing distance.
    wanted = view.y[:, 0].flip(0)[None].expand(view.columns, -1).contiguous()
    order = (-skyline).T.contiguous()  # rising
    index = torch.searchsorted(order, -wanted).T.flip(0)  # first distance at which skyline <= y
    found = index < DEPTHS
    here = index.clamp(max=DEPTHS - 1)
    before = (here - 1).clamp_min(0)
    low, high = line.gather(0, before), line.gather(0, here)
    # Behind a crest the previous sample is hidden, so there is nothing to interpolate with.
    hidden = low > skyline.gather(0, before) + 1e-6
    smooth = torch.where(hidden, 1.0, (low - view.y) / (low - high).clamp_min(1e-9))
    share = (before + smooth.clamp(0, 1)) / (DEPTHS - 1)
    where = reach[0] * (reach[1] / reach[0]) ** share
    return VisibleSurface(found, view.x / FOCAL * where, where)


def slopes(surface: Surface, seen: VisibleSurface, footprint: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of the surface to the right and ahead at the visible points, (h, w) each."""
    step = footprint.clamp_min(1e-6)
    here = surface(seen.right, seen.ahead, footprint)
    right = (surface(seen.right + step, seen.ahead, footprint) - here) / step
    ahead = (surface(seen.right, seen.ahead + step, footprint) - here) / step
    return right, ahead
