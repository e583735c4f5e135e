"""Find how the edited video frames the plate (crop, padding, letterbox, scale, stretch) by comparing the pictures.

Video services return shots in sizes and shapes of their own. The framing is one scale and one offset per axis for the
whole shot. Registration (core/lifting/registration.py) then finds the remaining few pixels of each frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from scipy.fft import next_fast_len

from vera.core.lifting.matching import same_size
from vera.core.lifting.registration import Canvas, band, details, find_moves
from vera.core.lifting.smooth import luma


@dataclass(frozen=True)
class FramingLimits:
    """Thresholds of the search for a framing. A "plain" framing shows the whole plate in the whole video.

    smallest: smallest scale tried, as a share of the scale at which the plate just fits into the edited video
    largest: largest scale tried, as a multiple of the scale at which the plate just fills the edited video
    step: relative distance between two scales. Raising it misses plates that have fine detail only.
    coarse: long side of the plate in pixels at which scales are tried
    fine: long sides in pixels at which the best candidates are refined, in this order
    looked_at: number of the most similar candidates that are considered
    chosen: number of considered candidates, different from one another, that are refined
    frames: frames of the shot that are compared; the cost is proportional
    same, same_pixels: distance of the corners from the plain framing, as a share of the edited video's size and in
        plate pixels, below which the framing counts as plain. Registration corrects such a distance.
    least_alike: lowest similarity at which another framing than the plain one is accepted; chance reaches 0.1
    surely_better: factor by which another framing must be more similar than the plain one
    border: share of the edited video's short side in which a border is searched
    border_error, border_floor: a line belongs to the border if its median error is `border_error` times that of the
        lines inside and at least `border_floor` of the code range. Raising them keeps more broken lines.
    flat: standard deviation up to which a line can belong to a bar
    """

    smallest: float = 0.6
    largest: float = 1.6
    step: float = 0.02
    coarse: int = 128
    fine: tuple[int, int] = (256, 512)
    looked_at: int = 6
    chosen: int = 2
    frames: int = 3
    same: float = 0.003
    same_pixels: float = 0.9
    least_alike: float = 0.25
    surely_better: float = 1.03
    border: float = 0.02
    border_error: float = 2.5
    border_floor: float = 0.03
    flat: float = 0.015


LIMITS = FramingLimits()


@dataclass(frozen=True)
class Framing:
    """edited = scale * plate + offset, each (x, y) in pixels of that picture from its top left corner.

    content: (left, top, right, bottom) in edited pixels of the area that shows the plate, without bars or broken lines
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    content: tuple[float, float, float, float]

    def window(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the content in plate pixels; beyond the plate where the video was padded."""
        (sx, sy), (ox, oy), (left, top, right, bottom) = (self.scale, self.offset, self.content)
        return (left - ox) / sx, (top - oy) / sy, (right - ox) / sx, (bottom - oy) / sy

    def covered(self, plate_size: tuple[int, int]) -> float:
        """Share of the plate (width, height) that the edited video shows."""
        left, top, right, bottom = self.window()
        width, height = plate_size
        across = max(0.0, min(right, width) - max(left, 0)) / width
        return across * max(0.0, min(bottom, height) - max(top, 0)) / height


def whole(plate_size: tuple[int, int], edited_size: tuple[int, int]) -> Framing:
    """The plain framing: the whole plate, stretched to the video's shape. Sizes are (width, height)."""
    (width, height), (plate_width, plate_height) = edited_size, plate_size
    scale = width / plate_width, height / plate_height
    return Framing(scale, (0.0, 0.0), (0.0, 0.0, float(width), float(height)))


def framed(edited: torch.Tensor, framing: Framing, plate_size: tuple[int, int], size: tuple[int, int]) -> Canvas:
    """`canvas_of` an edited video in memory, (T, 3, h, w)."""
    return canvas_of(partial(same_size, edited), (edited.shape[3], edited.shape[2]), framing, plate_size, size)


def canvas_of(
    resized: Callable[[tuple[int, int]], torch.Tensor],
    edited_size: tuple[int, int],
    framing: Framing,
    plate_size: tuple[int, int],
    size: tuple[int, int],
) -> Canvas:
    """The edited video of `edited_size` (width, height) as a canvas on which a plate of `size` (height, width) lies.

    resized: gives the whole edited video at a (height, width)
    plate_size: (width, height) to which the framing's scale refers. The canvas is the whole edited video at the scale
    of `size`, so that nothing has been resampled to fit; where the framing is whole it is the video at that size.
    """
    height, width = size
    per = (plate_size[0] / width, plate_size[1] / height)  # plate pixels for one of `size`
    scale = tuple(s * p for s, p in zip(framing.scale, per))
    canvas_size = tuple(max(2, round(n / s)) for n, s in zip(edited_size, scale))
    grown = tuple(c / n for c, n in zip(canvas_size, edited_size))  # canvas pixels for an edited one
    slope = tuple(s * g for s, g in zip(scale, grown))
    shift = tuple(o * g for o, g in zip(framing.offset, grown))
    video = resized((canvas_size[1], canvas_size[0]))
    # In registration's terms: a move in pixels at the frame's middle, and its change from there to the border.
    move = torch.zeros(2, 3)
    for axis, n in enumerate((width, height)):
        move[axis, 0] = (slope[axis] - 1) * n / 2 + shift[axis]
        move[axis, 1 + axis] = (slope[axis] - 1) * (n - 1) / 2
    left, top, right, bottom = framing.content
    content = left * grown[0], top * grown[1], right * grown[0], bottom * grown[1]
    return Canvas(video, move[None], content)


def find_framing(
    plate: torch.Tensor, edited: torch.Tensor, pixel_aspect: float = 1.0, limits: FramingLimits = LIMITS
) -> Framing:
    """How the edited video (T, 3, h, w) frames the plate (T, 3, H, W). Frames are paired, encoded, in [0, 1].

    Scales are tried on small pictures, with the shape kept or stretched. A product of Fourier transforms compares all
    offsets at once. The best candidates are refined on larger pictures. The plain framing is returned unless another
    one is clearly more similar.
    pixel_aspect: of a plate pixel over that of an edited pixel.
    The result is in pixels of the given pictures; `rescaled` converts it to other sizes.
    """
    plate_size, edited_size = ((plate.shape[3], plate.shape[2]), (edited.shape[3], edited.shape[2]))
    plain = whole(plate_size, edited_size)
    plate, edited = (v[:: -(-len(v) // limits.frames)] for v in (plate, edited))
    (found, score), *others = (
        _made_exact(plate, edited, framing, limits)
        for framing in (plain, *_tried(plate, edited, plain, pixel_aspect, limits))
    )
    for framing, alike in others:
        if alike > max(limits.least_alike, limits.surely_better * score):
            found, score = framing, alike
    same = max(limits.same, limits.same_pixels / max(plate_size))
    return plain if _apart(found, plain, plate_size) < same else found


def rescaled(framing: Framing, plate_times: tuple[float, float], edited_times: tuple[float, float]) -> Framing:
    """The framing in pixels of larger pictures: plate_times and edited_times are factors (x, y)."""
    (x, y), (plate_x, plate_y), (left, top, right, bottom) = edited_times, plate_times, framing.content
    scale = framing.scale[0] * x / plate_x, framing.scale[1] * y / plate_y
    offset = framing.offset[0] * x, framing.offset[1] * y
    return Framing(scale, offset, (left * x, top * y, right * x, bottom * y))


def without_borders(
    plate: torch.Tensor, edited: torch.Tensor, framing: Framing, limits: FramingLimits = LIMITS
) -> Framing:
    """The framing with bars and broken lines (dark or doubled) at the edited video's border excluded from its content.

    A line along the border counts as broken if most of its pixels err far more than the lines inside, on every frame.
    plate, edited: in the pixels that the framing refers to.
    """
    plate, edited = (v[:: -(-len(v) // limits.frames)] for v in (plate, edited))
    canvas = framed(edited, framing, (plate.shape[3], plate.shape[2]), plate.shape[2:])
    moves = find_moves(plate, canvas)
    error = (canvas.placed(moves, plate.shape[2:]) - plate).abs().mean(1)
    window = [round(v) for v in framing.window()]
    height, width = plate.shape[2:]
    left, top, right, bottom = (max(0, window[0]), max(0, window[1]), min(width, window[2]), min(height, window[3]))
    error = error[:, top:bottom, left:right]
    reach = max(3, round(limits.border * min(error.shape[1:])))
    rows, columns = (error.median(2).values.median(0).values, error.median(1).values.median(0).values)
    sides = [_broken(v, reach, limits) for v in (columns, rows, columns.flip(0), rows.flip(0))]
    if not any(sides):
        return framing
    sx, sy = framing.scale
    a, b, c, d = (n + 1 if n else 0 for n in sides)  # a pixel more: interpolation reaches so far
    inside = framing.content
    return replace(framing, content=(inside[0] + a * sx, inside[1] + b * sy, inside[2] - c * sx, inside[3] - d * sy))


def _broken(errors: torch.Tensor, reach: int, limits: FramingLimits) -> int:
    """How many of the first `reach` lines are broken: their `errors` (N,) exceed those of the lines inside."""
    inside = float(errors[reach : 3 * reach].median())
    bad = errors[:reach] > max(limits.border_floor, limits.border_error * inside)
    return int(bad.nonzero().max()) + 1 if bad.any() else 0


def _tried(plate, edited, plain, pixel_aspect, limits) -> list[Framing]:
    """The most similar framings on small pictures that differ from one another and from the plain one."""
    (height, width), (h, w) = plate.shape[2:], edited.shape[2:]
    small = limits.coarse / max(height, width)
    fixed = band(same_size(luma(plate), _at_least(height * small, width * small)))
    gray = luma(edited)
    times = min(1.0, 2 * limits.coarse / max(h, w))  # twice as fine as the largest scale needs
    gray = same_size(gray, _at_least(h * times, w * times))
    found = []
    for shape in {round(pixel_aspect, 4), round(w / width / (h / height), 4)}:  # scale of x over that of y
        fit, fill = sorted((h / height, w / (width * shape)))
        scale = limits.smallest * fit
        while scale <= limits.largest * fill:
            found.append(_best_place(fixed, gray, (w, h), (shape * scale, scale), small))
            scale *= 1 + limits.step
    found.sort(key=lambda one: -one[0])
    chosen = [plain]
    for _, framing in found[: limits.looked_at]:
        if all(_apart(framing, other, (width, height)) > 2 / limits.coarse for other in chosen):
            chosen.append(framing)
        if len(chosen) > limits.chosen:
            break
    return chosen[1:]


def _best_place(fixed, gray, edited_size, scale, small):
    """(similarity, framing) of the best offset at one scale.

    fixed: details of the plate
    gray: luma of the edited video, whose full (width, height) is edited_size
    small: pixels of `fixed` per plate pixel
    """
    w, h = edited_size
    other = band(same_size(gray, _at_least(h / scale[1] * small, w / scale[0] * small)))
    theirs = other.shape[2:]
    size = [next_fast_len(a + b, real=True) for a, b in zip(fixed.shape[2:], theirs)]
    product = torch.fft.rfft2(other, s=size) * torch.fft.rfft2(fixed, s=size).conj()
    score = torch.fft.irfft2(product.sum((0, 1)), s=size)
    at = int(score.argmax())
    dy, dx = (v - n if v >= o else v for v, n, o in zip(divmod(at, size[1]), size, theirs))
    exact = tuple(n / o * small for n, o in zip((w, h), (theirs[1], theirs[0])))
    likeness = float(score.max() / (fixed.square().sum() * other.square().sum()).sqrt().clamp_min(1e-6))
    return likeness, Framing(exact, (dx * w / theirs[1], dy * h / theirs[0]), (0.0, 0.0, float(w), float(h)))


def _made_exact(plate, edited, framing, limits) -> tuple[Framing, float]:
    """The framing refined on larger pictures, and the similarity of plate and edited video under it."""
    height, width = plate.shape[2:]
    for side in limits.fine:
        times = min(1.0, side / max(height, width))
        size = _at_least(height * times, width * times)
        seen = same_size(plate, size)
        canvas = framed(edited, framing, (width, height), size)
        moves = find_moves(seen, canvas)
        framing = _of_moves(moves.median(0).values, canvas, framing, (width, height), size)
    placed = framed(edited, framing, (width, height), size)
    theirs, ours = details(placed.placed(placed.start, size)), details(seen)
    inside = placed.inside(placed.start, size)
    score = (ours * theirs * inside).sum() / ((ours * ours).sum() * (theirs * theirs * inside).sum()).sqrt().clamp_min(
        1e-6
    )
    return framing, float(score)


def _of_moves(move, canvas, framing, plate_size, size) -> Framing:
    """The framing whose canvas has this starting move (2, 3): the inverse of `framed`."""
    _, _, h, w = canvas.video.shape
    scale, offset = [], []
    for axis, (n, c, whole_side) in enumerate(zip((size[1], size[0]), (w, h), plate_size)):
        slope = 1 + 2 * float(move[axis, 1 + axis]) / (n - 1)
        shift = float(move[axis, 0]) - (slope - 1) * n / 2
        edited_side = framing.content[2 + axis]
        scale.append(slope * edited_side / c * n / whole_side)
        offset.append(shift * edited_side / c)
    return replace(framing, scale=tuple(scale), offset=tuple(offset))


def _apart(one, other, plate_size) -> float:
    """Largest distance between the plate's corners under two framings, as a share of the edited video's size."""
    far = 0.0
    for axis in (0, 1):
        for at in (0, plate_size[axis]):
            here, there = (f.scale[axis] * at + f.offset[axis] for f in (one, other))
            far = max(far, abs(here - there) / one.content[2 + axis])
    return far


def _at_least(height, width) -> tuple[int, int]:
    return max(16, round(height)), max(16, round(width))
