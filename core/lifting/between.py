"""Interpolate a layer between two known ones, or extrapolate it: each piece is moved along its estimated motion.

Pieces that no motion explains are cross-faded.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from vera.core.lifting.smooth import blur

ALPHA = 3  # index of the alpha channel; the premultiplied colour comes before it


@dataclass(frozen=True)
class CarryingLimits:
    """Thresholds and sizes of the motion estimate.

    joined: distance, as a share of the width, up to which visible parts form one piece. Raising it follows faster small
        things, and joins things that move apart.
    better: largest squared difference after the motion, as a share of that without motion. Raising it also moves pieces
        that fade.
    seen: Gaussian sigma in pixels of the window in which both differences are compared. Lowering it cross-fades
        smaller parts.
    whole: smallest share of its alpha that a piece keeps when it is moved (and 1 / largest growth). Lowering it also
        moves pieces that shrink.
    least: smallest area of a moved piece, as a share of the frame
    most: largest number of moved pieces; further ones are cross-faded
    longest: largest shift, as a share of the piece's box
    coarsest: pixels of the shorter side at which the estimate begins. Lowering it follows larger rotations.
    turns: rotations in radians with which the estimate begins. More of them find faster rotations, and take time.
    window: Gaussian sigma in pixels of the window that has one motion. Raising it is smoother and less accurate.
    steps: iterations at each size
    firm: squared gradient in code values per pixel above which a pixel decides its own motion; below it, its
        surroundings decide
    """

    joined: float = 1 / 40
    better: float = 0.6
    seen: float = 12.0
    whole: float = 0.8
    least: float = 5e-5
    most: int = 24
    longest: float = 0.9
    coarsest: int = 20
    turns: tuple[float, ...] = (0.0, -0.2, 0.2, -0.4, 0.4)
    window: float = 4.0
    steps: int = 5
    firm: float = 1e-3


LIMITS = CarryingLimits()


def between(before: torch.Tensor, after: torch.Tensor, part: float, limits: CarryingLimits = LIMITS) -> torch.Tensor:
    """The layer at a position between two layers (C, h, w): premultiplied colour, alpha, and further channels.

    part: 0 is `before`, 1 is `after`; below 0 and above 1 the motion is extrapolated. Pieces that no motion explains
    are cross-faded, and shown twice; in extrapolation, the nearer layer is held.
    """
    inside = min(1.0, max(0.0, part))
    mixed = torch.lerp(before, after, inside)
    for rows, columns in _pieces(before[ALPHA], after[ALPHA], part != inside, limits):
        first, second = (v[:, rows, columns] for v in (before, after))
        flow = _flow(first[: ALPHA + 1], second[: ALPHA + 1], inside, limits)
        carried = [_carried(v, flow, way, "bicubic") for v, way in ((first, part), (second, part - 1))]
        share = _better((first, second), carried, limits)
        mixed[:, rows, columns] = torch.lerp(mixed[:, rows, columns], torch.lerp(*carried, inside), share)
    mixed[ALPHA].clamp_(0, 1)  # bicubic sampling overshoots at edges
    return mixed


def _better(apart, carried, limits):
    """Weight (1, h, w) of the moved layers: 1 where they agree much better than the layers without motion.

    It is 0 for a piece that the motion would squeeze to nothing, as when a thing appears or disappears.
    """
    kept = [float(c[ALPHA].sum() / v[ALPHA].sum().clamp_min(1e-6)) for v, c in zip(apart, carried, strict=True)]
    if min(kept) < limits.whole or max(kept) > 1 / limits.whole:
        return torch.zeros_like(apart[0][:1])
    without, left = (
        blur((v[0] - v[1])[: ALPHA + 1].square().sum(0)[None, None], limits.seen)[0] for v in (apart, carried)
    )
    worst = limits.better * without
    return (2 * (worst - left) / worst.clamp_min(1e-9)).clamp(0, 1)


def _pieces(before, after, beyond, limits):
    """Boxes (rows, columns) of the pieces, with room for their motion. beyond: with room for extrapolation too."""
    reach = max(1, round(limits.joined * before.shape[1]))
    covered = (torch.maximum(before, after) > 0).numpy()
    labels, _ = ndimage.label(ndimage.maximum_filter(covered, 2 * reach + 1))
    sizes = np.bincount(labels[covered].ravel(), minlength=labels.max() + 1)[1:]
    boxes = ndimage.find_objects(labels)
    largest = [k for k in np.argsort(-sizes, kind="stable")[: limits.most] if sizes[k] > limits.least * covered.size]
    return [_wider(boxes[k], before.shape) if beyond else boxes[k] for k in largest]


def _wider(box, size):
    """The box enlarged by half of its sides in each direction, within a frame of a size."""
    rooms = [(s.stop - s.start) // 2 for s in box]
    return tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in zip(box, rooms, size, strict=True))


def _flow(first, second, part, limits):
    """Motion (2, h, w) from the first to the second, down and right in pixels, of each point at position `part`."""
    shift = _shift(first, second, limits)
    sizes = [(first, second)]
    while min(sizes[-1][0].shape[1:]) >= 2 * limits.coarsest:
        sizes.append(tuple(F.avg_pool2d(v[None], 2, ceil_mode=True, count_include_pad=False)[0] for v in sizes[-1]))
    small, scale = sizes[-1], 2.0 ** (1 - len(sizes))
    starts = [_turned(small, [s * scale for s in shift], turn) for turn in limits.turns]
    starts.append(torch.zeros_like(starts[0]))
    found = [_refined(*small, start, part, limits) for start in starts]
    flow = min(found, key=lambda f: _difference(*small, f, part))
    for pair in sizes[-2::-1]:
        flow = 2 * F.interpolate(flow[None], pair[0].shape[1:], mode="bilinear", align_corners=False)[0]
        flow = _refined(*pair, flow, part, limits)
    return flow


def _turned(pair, shift, turn):
    """Motion (2, h, w) of a shift and a rotation about the centroid of both layers."""
    height, width = pair[0].shape[1:]
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    weight = sum(v[ALPHA] for v in pair)
    weight = weight / weight.sum().clamp_min(1e-6)
    y, x = y - (weight * y).sum(), x - (weight * x).sum()
    return torch.stack([shift[0] + turn * x, shift[1] - turn * y])


def _refined(first, second, flow, part, limits):
    """The motion, refined by steps of Lucas and Kanade's method: least squares in each window."""
    for _ in range(limits.steps):
        a, b = _carried(first, flow, part), _carried(second, flow, part - 1)
        both = torch.lerp(b, a, part) if 0 < part < 1 else (a if part >= 1 else b)
        down, right = (_slope(both, axis) for axis in (1, 2))
        error = b - a
        products = [down * down, down * right, right * right, down * error, right * error]
        dd, dr, rr, de, re = blur(torch.stack([p.sum(0) for p in products])[:, None], limits.window)[:, 0]
        dd, rr = dd + limits.firm, rr + limits.firm
        area = dd * rr - dr * dr
        step = torch.stack([(dr * re - rr * de) / area, (dr * de - dd * re) / area]).clamp(-1, 1)
        flow = flow + step
        # A pixel without slopes takes the motion of its surroundings.
        known = ((dd + rr) / (dd + rr + 20 * limits.firm))[None]
        around = blur(torch.cat([flow * known, known])[:, None], 2 * limits.window)[:, 0]
        flow = torch.lerp(around[:2] / around[2:].clamp_min(1e-6), flow, known)
    return flow


def _slope(video, axis):
    """Central difference along an axis, per pixel; 0 at the border."""
    size = video.shape[axis]
    found = torch.zeros_like(video)
    if size > 2:
        found.narrow(axis, 1, size - 2).copy_(0.5 * (video.narrow(axis, 2, size - 2) - video.narrow(axis, 0, size - 2)))
    return found


def _difference(first, second, flow, part):
    """Sum of squared differences after the motion."""
    return float((_carried(first, flow, part) - _carried(second, flow, part - 1)).square().sum())


def _shift(first, second, limits):
    """The shift (down, right) in pixels that best aligns the first with the second."""
    height, width = first.shape[1:]
    size = (2 * height, 2 * width)
    spectra = [torch.fft.rfft2(v, s=size) for v in (first, second)]
    alike = torch.fft.irfft2((spectra[0].conj() * spectra[1]).sum(0), s=size)
    tall, wide = (max(1, int(n * limits.longest)) for n in (height, width))
    near = torch.roll(alike, (tall, wide), (0, 1))[: 2 * tall + 1, : 2 * wide + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    return y - tall + _peak(near[:, x], y), x - wide + _peak(near[y], x)


def _peak(line, at):
    """Offset of the maximum from index `at`, -0.5 to 0.5, by a parabola through three values."""
    if not 0 < at < len(line) - 1:
        return 0.0
    low, top, high = (float(v) for v in line[at - 1 : at + 2])
    bend = low - 2 * top + high
    return 0.5 * (low - high) / bend if bend < 0 else 0.0


def _carried(video, flow, way, mode="bilinear"):
    """A layer (C, h, w) moved by `way` times the flow (2, h, w); pixels from outside are 0."""
    height, width = video.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y - way * flow[0], x - way * flow[1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(video[None], grid[None], mode, "zeros", align_corners=False)[0]
