"""How a plate's background moves through a shot: what is put in its place moves with it.

Lucas and Kanade's method for shifts, from coarse to fine, weighted to the background and against what moves by itself.
Frames are compared with one key frame as long as that is near, so that nothing drifts while the camera rests.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 108  # of the pictures that are compared. Raising it follows more exactly, slower
LEVELS = (8, 4, 2, 1)  # samples a side that are averaged, from coarse to fine. A larger first one follows faster pans
ROUNDS = 5  # of each level
NEAR_KEY = (
    0.12  # heights of the picture, from a key frame to the next. Raising it drifts less, and loses overlap sooner
)
LEAST_AREA = 0.1  # of the picture that the background covers. Raising it refuses more
# Correlation with the key frame, below which a shot's motion is not known. Raising it refuses more.
LEAST_LIKENESS = 0.75
RESTING = 0.004  # heights: what moves less than this in a whole shot is a camera at rest


def background_motion(pictures: Iterable[Tensor], background: Tensor) -> Tensor | None:
    """Where the background of each frame is relative to the first, (T, 2) right and down in heights of the picture.

    pictures: grey, (h, w) each, of about ROWS rows. background (h, w) in [0, 1]: where it is seen all through. None
    where the camera rests, or where its motion cannot be told: no texture, little background, other moves than shifts.
    """
    key: Tensor | None = None
    start = torch.zeros(2)  # of the key frame
    last = torch.zeros(2)  # relative to the key frame
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
    """By how many samples the background of `other` lies to the right and down of that of `fixed`, (2,); and how alike
    both are then, -1 to 1."""
    shift, likeness = start.clone(), 0.0
    for level in LEVELS:
        if min(fixed.shape) < 6 * level:
            continue
        a, b, w = (F.avg_pool2d(p[None, None], level)[0, 0] for p in (fixed, other, weight))
        for _ in range(ROUNDS):
            moved, inside = _moved(b, shift / level)
            trust = w * inside
            error = moved - a
            error = error - (trust * error).sum() / trust.sum().clamp_min(1e-6)  # a change of light is no move
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
    """A plane (h, w) as seen `shift` samples to the right and down, and where that lies inside of it."""
    height, width = plane.shape
    x = (torch.arange(width) + 0.5 + shift[0]) / width * 2 - 1
    y = (torch.arange(height) + 0.5 + shift[1]) / height * 2 - 1
    grid = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], -1)[None]
    seen = F.grid_sample(plane[None, None], grid, padding_mode="border", align_corners=False)[0, 0]
    return seen, ((x.abs() < 1)[None] & (y.abs() < 1)[:, None]).float()


def _likeness(one: Tensor, other: Tensor, weight: Tensor) -> float:
    """Weighted correlation of two planes; 1 where neither has any contrast, for then nothing speaks against rest."""
    total = weight.sum().clamp_min(1e-6)
    a, b = (p - (weight * p).sum() / total for p in (one, other))
    power = ((weight * a * a).sum() * (weight * b * b).sum()).sqrt()
    return float((weight * a * b).sum() / power) if power > 1e-6 * total else 1.0
