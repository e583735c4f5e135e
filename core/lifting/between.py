"""A layer between two known ones: each piece is carried along its motion, where a shift explains it."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

ALPHA = 3  # its channel; before it stand the colours times alpha


@dataclass(frozen=True)
class CarryingLimits:
    """Thresholds of this method.

    joined: share of the width within which what both show is one piece; higher follows faster small things, and takes
    things for one that part ways. better: share of the squared difference that a shift may leave of that without one;
    higher carries what also turns or grows. least: of a piece's area as a share of the frame; most: pieces.
    longest: of a shift as a share of the piece's box, each way.
    """

    joined: float = 1 / 40
    better: float = 0.6
    least: float = 5e-5
    most: int = 24
    longest: float = 0.9


LIMITS = CarryingLimits()


def between(before: torch.Tensor, after: torch.Tensor, part: float, limits: CarryingLimits = LIMITS) -> torch.Tensor:
    """The layer at `part` (0 to 1) of the way between two, (C, h, w): colour times alpha, alpha, and what goes along.

    Where no shift explains what moved, the two are mixed, so that it shows twice.
    """
    mixed = torch.lerp(before, after, part)
    for rows, columns in _pieces(before[ALPHA], after[ALPHA], limits):
        first, second = (v[:, rows, columns] for v in (before, after))
        shift = _shift(first[: ALPHA + 1], second[: ALPHA + 1], limits)
        if shift is not None:
            carried = torch.lerp(_shifted(first, shift, part), _shifted(second, shift, part - 1), part)
            mixed[:, rows, columns] = carried
    return mixed


def _pieces(before, after, limits):
    """Boxes of what both layers show, each a (rows, columns) of slices with room for the motion."""
    reach = max(1, round(limits.joined * before.shape[1]))
    covered = (torch.maximum(before, after) > 0).numpy()
    labels, _ = ndimage.label(ndimage.maximum_filter(covered, 2 * reach + 1))
    sizes = np.bincount(labels[covered].ravel(), minlength=labels.max() + 1)[1:]
    boxes = ndimage.find_objects(labels)
    largest = [k for k in np.argsort(-sizes, kind="stable")[: limits.most] if sizes[k] > limits.least * covered.size]
    return [boxes[k] for k in largest]


def _shift(first, second, limits):
    """(down, right) in pixels by which the first has to move to lie on the second; None where that explains little."""
    height, width = first.shape[1:]
    size = (2 * height, 2 * width)
    spectra = [torch.fft.rfft2(v, s=size) for v in (first, second)]
    alike = torch.fft.irfft2((spectra[0].conj() * spectra[1]).sum(0), s=size)
    tall, wide = (max(1, int(n * limits.longest)) for n in (height, width))
    near = torch.roll(alike, (tall, wide), (0, 1))[: 2 * tall + 1, : 2 * wide + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    energy = float(first.square().sum() + second.square().sum())
    without, best = energy - 2 * float(near[tall, wide]), energy - 2 * float(near[y, x])
    if (y, x) == (tall, wide) or best > limits.better * without:
        return None
    return y - tall + _peak(near[:, x], y), x - wide + _peak(near[y], x)


def _peak(line, at):
    """Where between its neighbours the highest value lies, -0.5 to 0.5: the parabola through the three."""
    if not 0 < at < len(line) - 1:
        return 0.0
    low, top, high = (float(v) for v in line[at - 1 : at + 2])
    bend = low - 2 * top + high
    return 0.5 * (low - high) / bend if bend < 0 else 0.0


def _shifted(video, shift, part):
    """(C, h, w) moved by a part of the shift; nothing comes in from outside."""
    height, width = video.shape[1:]
    y, x = torch.meshgrid(torch.arange(height) - part * shift[0], torch.arange(width) - part * shift[1], indexing="ij")
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(video[None], grid[None], padding_mode="zeros", align_corners=False)[0]
