"""Track the movement of a plate's background through a shot, so that a new background can follow it.

The method is Lucas and Kanade's, for similarities (shift, zoom and turn), from coarse to fine. Weights select the
background and reduce parts that move on their own. Frames are compared with a key frame as long as it is near, so that
errors do not add up while the camera rests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 108  # rows of the compared pictures. Raising it tracks more exactly, and takes time
LEVELS = (8, 4, 2, 1)  # averaged samples per side, from coarse to fine. A larger first level follows faster pans
ITERATIONS = 5  # iterations per level. Raising it tracks more exactly, and takes time
# Picture heights from a key frame to the next one. Raising it drifts less, and loses overlap sooner.
NEAR_KEY = 0.12
LEAST_AREA = 0.1  # smallest share of the picture that the background must cover. Raising it refuses more shots
# Correlation with the key frame below which a shot's motion counts as unknown. Raising it refuses more shots.
LEAST_LIKENESS = 0.75
STILL_MOVEMENT = 0.004  # picture heights: a smaller movement over a whole shot counts as a camera at rest
# Share by which a zoom or a turn must reduce the error that a shift alone leaves. Raising it follows fewer zooms and
# turns; lowering it mistakes people who come nearer for a zoom.
ZOOM_GAIN = 0.1


class Move(NamedTuple):
    """A movement of the background: its point q, relative to the picture's centre, moves to e^zoom R(turn) q + shift.

    right, down: shift in picture heights
    zoom: logarithm of the magnification
    turn: in radians, clockwise
    """

    right: float = 0.0
    down: float = 0.0
    zoom: float = 0.0
    turn: float = 0.0

    def after(self, first: Move) -> Move:
        """The movement `first`, followed by this one."""
        right, down = self.of(first.right, first.down)
        return Move(right, down, self.zoom + first.zoom, self.turn + first.turn)

    def of(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Positions after the movement; x, y: numbers or tensors."""
        scale, cos, sin = math.exp(self.zoom), math.cos(self.turn), math.sin(self.turn)
        return scale * (cos * x - sin * y) + self.right, scale * (sin * x + cos * y) + self.down

    def before(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Positions before the movement; x, y: numbers or tensors."""
        scale, cos, sin = math.exp(-self.zoom), math.cos(self.turn), math.sin(self.turn)
        x, y = x - self.right, y - self.down
        return scale * (cos * x + sin * y), scale * (cos * y - sin * x)

    def reach(self, aspect: float) -> float:
        """Approximate largest displacement of a point of a picture of this aspect, in picture heights."""
        return math.hypot(self.right, self.down) + math.hypot(self.zoom, self.turn) * math.hypot(aspect, 1) / 2


class Motion(NamedTuple):
    """The measured motion of a background.

    moves: movement of each frame's background since the first frame; None if the camera counts as at rest
    is_known: whether the motion is known; False, with moves None, if no similarity explains the frames
    """

    moves: list[Move] | None
    is_known: bool = True


def background_motion(pictures: Iterable[Tensor], background: Tensor) -> Motion:
    """Measure how the background of each frame of a shot has moved since the first frame.

    pictures: grey, (h, w) each, of about ROWS rows
    background: (h, w) in [0, 1], 1 where the background is visible in the whole shot
    Without texture, or with too little background, the camera counts as at rest.
    """
    key: Tensor | None = None
    start, last = Move(), Move()  # of the key frame, and of the last frame relative to it
    found: list[Move] = []
    if float(background.mean()) < LEAST_AREA:
        return Motion(None)
    aspect = background.shape[1] / background.shape[0]
    for picture in pictures:
        key = picture if key is None else key
        last, likeness = _moved_by(key, picture, background, last)
        if likeness < LEAST_LIKENESS:
            return Motion(None, is_known=False)
        found.append(last.after(start))
        if last.reach(aspect) > NEAR_KEY:
            key, start, last = picture, found[-1], Move()
    return Motion(None if max(move.reach(aspect) for move in found) < STILL_MOVEMENT else found)


def _moved_by(fixed: Tensor, other: Tensor, weight: Tensor, start: Move) -> tuple[Move, float]:
    """The movement from the background of `fixed` to that of `other`, and their correlation.

    weight: (h, w), of the background. start: first guess. Zoom and turn are 0, or those of `start`, unless they explain
    clearly more than a shift.
    """
    shift = _aligned(fixed, other, weight, start, zooms=False)
    both = _aligned(fixed, other, weight, shift[0], zooms=True)
    gain = 1 - (1 - both[1]) / max(1e-6, 1 - shift[1])
    return both if gain > ZOOM_GAIN else shift


def _aligned(fixed: Tensor, other: Tensor, weight: Tensor, start: Move, zooms: bool) -> tuple[Move, float]:
    """As `_moved_by`. zooms: whether zoom and turn are estimated."""
    move, likeness = start, 0.0
    for level in LEVELS:
        if min(fixed.shape) < 6 * level:
            continue
        a, b, w = (F.avg_pool2d(p[None, None], level)[0, 0] for p in (fixed, other, weight))
        height, width = a.shape
        y, x = torch.meshgrid(
            (torch.arange(height) + 0.5) / height - 0.5, (torch.arange(width) + 0.5 - width / 2) / height, indexing="ij"
        )
        for _ in range(ITERATIONS):
            moved, inside = _seen(b, x, y, move)
            trust = w * inside
            error = moved - a
            error = error - (trust * error).sum() / trust.sum().clamp_min(1e-6)  # a change of light is not a movement
            scale = error.abs()[trust > 0.3].median() * 3 if (trust > 0.3).any() else error.new_tensor(1.0)
            robust = trust / (1 + (error / scale.clamp_min(1e-4)) ** 2) ** 2
            down, right = (slope * height for slope in torch.gradient(moved))
            slopes = [right, down, x * right + y * down, x * down - y * right] if zooms else [right, down]
            move = move.after(Move(*_step(torch.stack(slopes), robust, error).clamp(-2 / height, 2 / height).tolist()))
        likeness = _likeness(a, moved, trust)
    return move, likeness


def _step(slopes: Tensor, weight: Tensor, error: Tensor) -> Tensor:
    """The change of parameters (n,) that lessens an error (h, w) with those slopes (n, h, w), by least squares."""
    matrix = torch.einsum("ayx,byx,yx->ab", slopes, slopes, weight)
    wanted = torch.einsum("ayx,yx->a", slopes, weight * error)
    ridge = 1e-4 * matrix.diagonal().mean() + (1e-4 * slopes.shape[1]) ** 2  # a wall without texture moves nothing
    return -torch.linalg.solve(matrix + ridge * torch.eye(len(slopes)), wanted)


def _seen(plane: Tensor, x: Tensor, y: Tensor, move: Move) -> tuple[Tensor, Tensor]:
    """A plane (h, w) where the points x, y (h, w) have moved to, and where that lies inside of it."""
    aspect = plane.shape[1] / plane.shape[0]
    right, down = move.of(x, y)
    across, along = right * 2 / aspect, down * 2
    grid = torch.stack([across, along], -1)[None]
    seen = F.grid_sample(plane[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return seen, ((across.abs() < 1) & (along.abs() < 1)).float()


def _likeness(one: Tensor, other: Tensor, weight: Tensor) -> float:
    """Weighted correlation of two planes; 1 if one has no contrast, because nothing then contradicts the shift."""
    total = weight.sum().clamp_min(1e-6)
    a, b = (p - (weight * p).sum() / total for p in (one, other))
    power = ((weight * a * a).sum() * (weight * b * b).sum()).sqrt()
    return float((weight * a * b).sum() / power) if power > 1e-6 * total else 1.0
