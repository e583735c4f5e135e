"""Find one exposure for a whole shot, because the model is trained on normally exposed pictures only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from vera.core.plate.color import PlateColor

if TYPE_CHECKING:
    from vera.core.plate.source import Plate

MID_GREY = 0.18  # linear light
# Stops around mid-grey within which a shot is not changed, so that night stays night and small changes stay small.
FREE_STOPS = 1.0
_FRAMES, _PIXELS = 48, 2**16  # largest number of frames and of pixels of each that are measured; more take longer
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)
_BINS = np.linspace(-13, 27, 40 * 16 + 1)  # log2 of light, 16 bins a stop; darker values are black and ignored


def shot_exposure(plate: Plate, color: PlateColor, read: Callable[[int], np.ndarray] | None = None) -> float:
    """Stops that bring the shot's median luminance to within one stop of mid-grey, in quarters.

    The median is over all pixels above black of up to 48 frames, evenly spread, so that highlights, letterbox bars and
    single odd frames do not change it. One frame at a time is in memory. Display-referred plates get 0.

    read: returns a frame's pixels, by default `plate.read`
    """
    if not color.space.is_scene:
        return 0.0
    counts = np.zeros(len(_BINS) - 1, np.int64)
    for frame in _spread(plate.frames):
        pixels = (read or plate.read)(frame)
        step = max(1, int(np.sqrt(pixels.shape[0] * pixels.shape[1] / _PIXELS)))
        light = color.light(pixels[::step, ::step]) @ _LUMINANCE / np.float32(color.gain)
        counts += np.histogram(np.log2(light[light > 2.0 ** _BINS[0]]), _BINS)[0]
    if not counts.any():
        return 0.0
    median = _BINS[np.searchsorted(np.cumsum(counts), counts.sum() / 2)] + 1 / 32
    stops = np.log2(MID_GREY) - median
    return float(np.sign(stops) * np.round(4 * max(0.0, abs(stops) - FREE_STOPS)) / 4) + 0.0  # no -0.0


def _spread(frames: Sequence[int]) -> list[int]:
    """At most _FRAMES of the frames, evenly spread."""
    indices = np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames)))
    return [frames[round(index)] for index in indices]
