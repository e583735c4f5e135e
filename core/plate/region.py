"""The part of a plate that the model sees, and the way of its layer back into the whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from vera.core.errors import InputError

if TYPE_CHECKING:
    from vera.core.plate.source import Plate

# The layer fades out within this part of the region's shorter side, inside its border.
TAPER = 1 / 12
SMALLEST = 16  # pixels a side


@dataclass(frozen=True)
class Region:
    """A rectangle of the frames as they are read: x, y from their top left corner, within frame (height, width)."""

    x: int
    y: int
    width: int
    height: int
    frame: tuple[int, int]

    def crop(self, pixels: np.ndarray) -> np.ndarray:
        """Its part of (H, W, ...), not copied."""
        return pixels[self.y : self.y + self.height, self.x : self.x + self.width]

    def place(self, layer: np.ndarray) -> np.ndarray:
        """The premultiplied layer (height, width, 4), or its matte (height, width), in one of the frame's size, 0
        outside the region.

        Towards borders inside the picture the layer fades out, so that the composite dissolves into the plate,
        in whatever space it is laid over; at the picture's own borders it does not.
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
        depth = max(1, round(min(self.width, self.height) * TAPER))
        height, width = self.frame
        rows = _ramps(self.height, depth, self.y > 0, self.y + self.height < height)
        columns = _ramps(self.width, depth, self.x > 0, self.x + self.width < width)
        return rows[:, None] * columns


def whole(plate: Plate) -> Region:
    return Region(0, 0, plate.width, plate.height, (plate.height, plate.width))


def region_of(plate: Plate, numbers: tuple[int, int, int, int] | None) -> Region:
    """The region x, y, width, height, counted from the top left of the display window; None is all that the plate has.

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
    if min(width, height) < SMALLEST:
        raise InputError(f"region {x},{y},{width},{height} is too small; give at least {SMALLEST} pixels a side")
    return region


def _ramps(length, depth, at_start, at_end):
    """(length,) from near 0 at the sides that have a ramp to 1 within."""
    places = np.arange(length, dtype=np.float32) + 0.5
    start = np.clip(places / depth, 0, 1) if at_start else np.ones_like(places)
    end = np.clip((length - places) / depth, 0, 1) if at_end else np.ones_like(places)
    t = np.minimum(start, end)
    return t * t * (3 - 2 * t)
