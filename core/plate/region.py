"""The region of a plate that the model sees, and the placement of its layer in the whole frame."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vera.core.errors import InputError

if TYPE_CHECKING:
    from vera.core.plate.source import Plate

# Width of the fade inside the region's border, as a share of its shorter side. Raising it hides the border better.
FADE_WIDTH = 1 / 12
MIN_SIDE = 16  # smallest side of a region in pixels


@dataclass(frozen=True)
class Region:
    """A rectangle of the frames: x, y from the top left corner of the frame, whose size is `frame` (height, width)."""

    x: int
    y: int
    width: int
    height: int
    frame: tuple[int, int]

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """The region of (H, W, ...), as a view."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]

    def place(self, layer: np.ndarray) -> np.ndarray:
        """The region's premultiplied layer (height, width, 4) or matte (height, width) at the frame's size, 0 outside.

        The layer fades out towards borders inside the picture, so that the composite dissolves into the plate in any
        blending space. It does not fade at the picture's own borders.
        """
        if (self.height, self.width) == self.frame:
            return layer
        taper = self._taper()
        if layer.ndim == 2:
            faded = (layer * taper).astype(layer.dtype)
        else:
            faded = (layer.astype(np.float32) * taper[..., None]).astype(layer.dtype)
            faded[faded[..., 3] == 0] = 0
        placed = np.zeros((*self.frame, *layer.shape[2:]), layer.dtype)
        self.crop(placed)[:] = faded
        return placed

    def _taper(self):
        depth = max(1, round(min(self.width, self.height) * FADE_WIDTH))
        height, width = self.frame
        rows = _ramps(self.height, depth, self.y > 0, self.y + self.height < height)
        columns = _ramps(self.width, depth, self.x > 0, self.x + self.width < width)
        return rows[:, None] * columns


def whole(plate: Plate) -> Region:
    return Region(0, 0, plate.width, plate.height, (plate.height, plate.width))


def region_of(plate: Plate, numbers: tuple[int, int, int, int] | None) -> Region:
    """The region x, y, width, height from the top left of the display window; None is the whole plate.

    Raises InputError if it is not inside the plate.
    """
    everything = whole(plate)
    if numbers is None:
        return everything
    x, y, width, height = numbers
    left, top = plate.offset
    region = replace(everything, x=x - left, y=y - top, width=width, height=height)
    inside = region.x >= 0 and region.y >= 0 and region.x + width <= plate.width and region.y + height <= plate.height
    if not inside:
        raise InputError(
            f"region {x},{y},{width},{height} is not inside the plate, which has x {left} to {left + plate.width - 1}"
            f" and y {top} to {top + plate.height - 1}; move it inside"
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(f"region {x},{y},{width},{height} is too small; give at least {MIN_SIDE} pixels a side")
    return region


def _ramps(length, depth, at_start, at_end):
    """Weights (length,): 1 inside, falling to near 0 at the ends that have a ramp."""
    places = np.arange(length, dtype=np.float32) + 0.5
    start = np.clip(places / depth, 0, 1) if at_start else np.ones_like(places)
    end = np.clip((length - places) / depth, 0, 1) if at_end else np.ones_like(places)
    t = np.minimum(start, end)
    return t * t * (3 - 2 * t)
