"""Track the movement of a plate's background through a shot, so that a new background can follow it.

The method is Lucas and Kanade's, for shifts alone, from coarse to fine. Weights select the background and reduce parts
that move on their own. Frames are compared with a key frame as long as it is near, so that errors do not add up while
the camera rests.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 108  # rows of the compared pictures. Raising it tracks more exactly, and takes time
LEVELS = (8, 4, 2, 1)  # averaged samples per side, from coarse to fine. A larger first level follows faster pans
ROUNDS = 5  # iterations per level. Raising it tracks more exactly, and takes time
# Picture heights from a key frame to the next one. Raising it drifts less, and loses overlap sooner.
NEAR_KEY = 0.12
LEAST_AREA = 0.1  # smallest share of the picture that the background must cover. Raising it refuses more shots
# Correlation with the key frame below which a shot's motion counts as unknown. Raising it refuses more shots.
LEAST_LIKENESS = 0.75
RESTING = 0.004  # picture heights: a smaller movement over a whole shot counts as a camera at rest


def background_motion(pictures: Iterable[Tensor], background: Tensor) -> Tensor | None:
    """Position of the background in each frame relative to the first, (T, 2), right and down in picture heights.

    pictures: grey, (h, w) each, of about ROWS rows
    background: (h, w) in [0, 1], 1 where the background is visible in the whole shot
    Returns None if the camera rests, or if the motion is unknown: no texture, too little background, or another motion
    than a shift.
    """
    key: Tensor | None = None
    start = torch.zeros(2)  # position of the key frame
    last = torch.zeros(2)  # position of the last frame relative to the key frame
    found = []
    for picture in pictures:
        if key is None:
            key = picture
        if float(background.mean()) < LEAST_AREA:
            return None
        last, likeness = _shift(key, picture, background, last)
        if likeness < LEAST_LIKENESS:
            return None
        found.append(start + last)
        if float(last.norm()) > NEAR_KEY * picture.shape[0]:
            key, start, last = picture, start + last, torch.zeros(2)
    moves = torch.stack(found) / background.shape[0]
    return None if float(moves.abs().max()) < RESTING else moves


def _shift(fixed: Tensor, other: Tensor, weight: Tensor, start: Tensor) -> tuple[Tensor, float]:
    """Shift (2,) in samples, right and down, from the background of `fixed` to that of `other`, and their correlation.

    weight: (h, w), of the background. start: first guess.
    """
    shift, likeness = start.clone(), 0.0
    for level in LEVELS:
        if min(fixed.shape) < 6 * level:
            continue
        a, b, w = (F.avg_pool2d(p[None, None], level)[0, 0] for p in (fixed, other, weight))
        for _ in range(ROUNDS):
            moved, inside = _moved(b, shift / level)
            trust = w * inside
            error = moved - a
            error = error - (trust * error).sum() / trust.sum().clamp_min(1e-6)  # a change of light is not a movement
            scale = error.abs()[trust > 0.3].median() * 3 if (trust > 0.3).any() else error.new_tensor(1.0)
            robust = trust / (1 + (error / scale.clamp_min(1e-4)) ** 2) ** 2
            down, right = torch.gradient(moved)
            slopes = torch.stack([right, down])
            matrix = torch.einsum("ayx,byx,yx->ab", slopes, slopes, robust)
            wanted = torch.einsum("ayx,yx->a", slopes, robust * error)
            ridge = 1e-4 * matrix.diagonal().mean() + 1e-8
            step = torch.linalg.solve(matrix + ridge * torch.eye(2), wanted)
            shift = shift - level * step.clamp(-2, 2)
        likeness = _likeness(a, moved, trust)
    return shift, likeness


def _moved(plane: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """A plane (h, w) sampled `shift` samples to the right and down, and a mask of the positions inside it."""
    height, width = plane.shape
    x = (torch.arange(width) + 0.5 + shift[0]) / width * 2 - 1
    y = (torch.arange(height) + 0.5 + shift[1]) / height * 2 - 1
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1)[None]
    seen = F.grid_sample(plane[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return seen, ((x.abs() < 1)[None] & (y.abs() < 1)[:, None]).float()


def _likeness(one: Tensor, other: Tensor, weight: Tensor) -> float:
    """Weighted correlation of two planes; 1 if one has no contrast, because nothing then contradicts the shift."""
    total = weight.sum().clamp_min(1e-6)
    a, b = (p - (weight * p).sum() / total for p in (one, other))
    power = ((weight * a * a).sum() * (weight * b * b).sum()).sqrt()
    return float((weight * a * b).sum() / power) if power > 1e-6 * total else 1.0
