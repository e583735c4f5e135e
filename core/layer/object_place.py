"""Position of a drawn object in its shot: inside the picture, and on the ground if it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vera.core.layer.drawn_object import BOX_HALF_SIDE, DrawnFrame, own_grid

OUTLINE_GRID = 48  # samples across a shape whose extent is measured. Raising it is more exact, and slower
# Frames, period of the motion of wings, tails and flames. Above the true period, raising it only takes time.
BEAT_PERIOD = 24
# Free space, in half picture sides, between a shifted object and the edge. Raising it shifts it farther.
EDGE_MARGIN = 0.03
# Share of the picture's height, from the top, in which no ground is expected. Raising it warns more often.
HIGHEST_GROUND = 0.6
MIN_STANDING = 0.5  # least `standing` of a frame in which an object needs ground. Raising it warns less often


def inside(drawn: Sequence[DrawnFrame], aspect: float) -> tuple[float, float]:
    """Shift (right, down) that brings a cut-off object into the picture, in half widths and half heights.

    drawn: some frames of its shot
    Returns (0, 0) if the object is inside in one of the frames, such as an object that moves through the picture; else
    the smallest shift that brings it inside in one of them. An axis on which it does not fit has no shift.
    """
    extent = _extent(drawn)
    if extent is None:
        return 0.0, 0.0
    moves = []
    for frame in drawn:
        x, y, half = frame.place()
        left, right, top, bottom = (half * end for end in extent)
        moves.append((_into(x + left / aspect, x + right / aspect), _into(y + top, y + bottom)))
    return min(moves, key=lambda move: abs(move[0]) * aspect + abs(move[1]))


def _into(low: float, high: float) -> float:
    """The smallest shift of an interval into -1 .. 1, with a margin; 0 if it is inside, or too long."""
    if high - low > 2 or (low >= -1 and high <= 1):
        return 0.0
    return (
        max(0.0, min(EDGE_MARGIN - 1 - low, 1 - high)) if low < -1 else min(0.0, max(1 - EDGE_MARGIN - high, -1 - low))
    )


def _extent(drawn: Sequence[DrawnFrame]) -> tuple[float, float, float, float] | None:
    """Left, right, top and bottom of a shape in half heights from its centre: over these frames, and over one period
    (BEAT_PERIOD) of its motion. None if it is empty.
    """
    u, v = own_grid(OUTLINE_GRID)
    first = drawn[0]
    beats = [replace(first, time=first.time + step) for step in range(0, BEAT_PERIOD, 2)] if first.shape.moves else []
    cell = BOX_HALF_SIDE / OUTLINE_GRID  # thin parts lie between samples
    there = torch.stack([frame.points(u, v).distance < cell for frame in (*drawn, *beats)]).any(0)
    if not there.any():
        return None
    return float(u[there].min()), float(u[there].max()), float(v[there].min()), float(v[there].max())


def groundless(drawn: Sequence[DrawnFrame], people: Tensor) -> str | None:
    """Where a standing object's foot is, as text for a warning, if there may be no ground there; else None.

    drawn: some frames of its shot
    people: (h, w), the detector's confidence in the first of them
    """
    standing = [frame.place() for frame in drawn if frame.standing > MIN_STANDING]
    if not standing:
        return None
    highest = min((1 + y + half) / 2 for _, y, half in standing)
    if highest < HIGHEST_GROUND:
        return f"at {highest:.0%} of the picture's height"
    x, y, half = standing[0]
    row, column = ((1 + y + half) / 2 * people.shape[0], (1 + x) / 2 * people.shape[1])
    if 0 <= row < people.shape[0] and 0 <= column < people.shape[1] and people[int(row), int(column)] > 0.5:
        return "over a person"
    return None
