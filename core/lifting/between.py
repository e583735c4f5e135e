"""A layer between two known ones, or just beyond: each piece is carried along its motion, where that explains it."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from vera.core.lifting.smooth import blur

ALPHA = 3  # its channel; before it stand the colours times alpha


@dataclass(frozen=True)
class CarryingLimits:
    """Thresholds of this method.

    joined: share of the width within which what both show is one piece; higher follows faster small things, and takes
        things for one that part ways
    better: share of the squared difference that a motion may leave of that without one; higher carries what also fades
    seen: Gaussian sigma in pixels in which these are compared; lower mixes smaller parts
    whole: share of a piece's alpha that is left of it when it is carried; lower carries what also shrinks
    least, most: area of a piece as a share of the frame, and pieces; smaller and further ones are mixed
    longest: of a shift as a share of the piece's box, each way
    coarsest: pixels of the shorter side at which the motion is first estimated; lower follows longer turns
    turns: radians in which a piece may have turned at the start of the estimate; more of them find faster turns
    window: Gaussian sigma in pixels in which the motion is one; higher is smoother and less accurate
    steps: of the estimate at each size
    firm: squared slope, in code values, from which a place decides its own motion; below, its surroundings do
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
    """The layer at `part` of the way between two, (C, h, w): colour times alpha, alpha, and what goes along.

    part: 0 is `before`, 1 is `after`; below 0 and above 1 the motion goes on. Where no motion explains what changed,
    the two are mixed, so that it shows twice; beyond them the nearer one is held.
    """
    inside = min(1.0, max(0.0, part))
    mixed = torch.lerp(before, after, inside)
    for rows, columns in _pieces(before[ALPHA], after[ALPHA], part != inside, limits):
        first, second = (v[:, rows, columns] for v in (before, after))
        flow = _flow(first[: ALPHA + 1], second[: ALPHA + 1], inside, limits)
        carried = [_carried(v, flow, way, "bicubic") for v, way in ((first, part), (second, part - 1))]
        share = _better((first, second), carried, limits)
        mixed[:, rows, columns] = torch.lerp(mixed[:, rows, columns], torch.lerp(*carried, inside), share)
    mixed[ALPHA].clamp_(0, 1)  # a cubic overshoots at edges
    return mixed


def _better(apart, carried, limits):
    """Share (1, h, w) with which the carried layers show: 1 where they agree much better than the layers at rest.

    It is 0 where the motion agrees by squeezing a thing to nothing, as when that appears or goes.
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
    """Boxes of what both layers show, each a (rows, columns) of slices with room for the motion, also beyond them."""
    reach = max(1, round(limits.joined * before.shape[1]))
    covered = (torch.maximum(before, after) > 0).numpy()
    labels, _ = ndimage.label(ndimage.maximum_filter(covered, 2 * reach + 1))
    sizes = np.bincount(labels[covered].ravel(), minlength=labels.max() + 1)[1:]
    boxes = ndimage.find_objects(labels)
    largest = [k for k in np.argsort(-sizes, kind="stable")[: limits.most] if sizes[k] > limits.least * covered.size]
    return [_wider(boxes[k], before.shape) if beyond else boxes[k] for k in largest]


def _wider(box, size):
    """The box with half of its sides more each way, within a frame of that size."""
    rooms = [(s.stop - s.start) // 2 for s in box]
    return tuple(slice(max(0, s.start - r), min(n, s.stop + r)) for s, r, n in zip(box, rooms, size, strict=True))


def _flow(first, second, part, limits):
    """Motion (2, h, w), down and right in pixels, from the first to the second, of what lies at each place at `part`
    of the way."""
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
    """Motion (2, h, w) of a shift and a turn about the middle of what both show."""
    height, width = pair[0].shape[1:]
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    weight = sum(v[ALPHA] for v in pair)
    weight = weight / weight.sum().clamp_min(1e-6)
    y, x = y - (weight * y).sum(), x - (weight * x).sum()
    return torch.stack([shift[0] + turn * x, shift[1] - turn * y])


def _refined(first, second, flow, part, limits):
    """The motion after steps of Lucas and Kanade's method, the least squares of each window."""
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
        # A place without slopes of its own follows its surroundings.
        known = ((dd + rr) / (dd + rr + 20 * limits.firm))[None]
        around = blur(torch.cat([flow * known, known])[:, None], 2 * limits.window)[:, 0]
        flow = torch.lerp(around[:2] / around[2:].clamp_min(1e-6), flow, known)
    return flow


def _slope(video, axis):
    """Difference of both neighbours along an axis, per pixel; 0 at the border."""
    size = video.shape[axis]
    found = torch.zeros_like(video)
    if size > 2:
        found.narrow(axis, 1, size - 2).copy_(0.5 * (video.narrow(axis, 2, size - 2) - video.narrow(axis, 0, size - 2)))
    return found


def _difference(first, second, flow, part):
    """Sum of squares that the motion leaves."""
    return float((_carried(first, flow, part) - _carried(second, flow, part - 1)).square().sum())


def _shift(first, second, limits):
    """(down, right) in pixels by which the first has to move to lie on the second, as closely as one shift can."""
    height, width = first.shape[1:]
    size = (2 * height, 2 * width)
    spectra = [torch.fft.rfft2(v, s=size) for v in (first, second)]
    alike = torch.fft.irfft2((spectra[0].conj() * spectra[1]).sum(0), s=size)
    tall, wide = (max(1, int(n * limits.longest)) for n in (height, width))
    near = torch.roll(alike, (tall, wide), (0, 1))[: 2 * tall + 1, : 2 * wide + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    return y - tall + _peak(near[:, x], y), x - wide + _peak(near[y], x)


def _peak(line, at):
    """Where between its neighbours the highest value lies, -0.5 to 0.5: the parabola through the three."""
    if not 0 < at < len(line) - 1:
        return 0.0
    low, top, high = (float(v) for v in line[at - 1 : at + 2])
    bend = low - 2 * top + high
    return 0.5 * (low - high) / bend if bend < 0 else 0.0


def _carried(video, flow, way, mode="bilinear"):
    """(C, h, w) moved a way along the flow (2, h, w) of each place; nothing comes in from outside."""
    height, width = video.shape[1:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    y, x = y - way * flow[0], x - way * flow[1]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(video[None], grid[None], mode, "zeros", align_corners=False)[0]
