"""How the edited video frames the plate: cropped, padded, letterboxed, scaled or stretched, found by the pictures.

Services bring a shot to shapes of their own. Where the plate lies in the edited video is one scale and one offset an
axis for the shot; the few pixels by which frames then still lie apart are registration's to find.
"""

from dataclasses import dataclass, replace

import torch
from scipy.fft import next_fast_len

from vera.core.lifting.matching import same_size
from vera.core.lifting.registration import Canvas, band, details, find_moves
from vera.core.lifting.smooth import luma


@dataclass(frozen=True)
class FramingLimits:
    """Thresholds of this method.

    smallest: scale that is looked for, of the one at which the plate just fits into the edited video; largest: of the
    one at which it just fills it.
    step: between two scales that are tried; raising it misses pictures with fine detail only.
    coarse, fine: long sides of the plate, in pixels, at which scales are tried and at which the best are made exact.
    looked_at, chosen: of the tried ones so many are looked at, and so many of those that differ made exact.
    frames: of the shot, that are compared; each costs as much again.
    same, same_pixels: of the edited video's size, or in the plate's pixels, how far a corner may lie from where it
    does in
    a whole video to be registration's.
    least_alike: likeness of details by which another framing is believed at all; by chance it reaches a tenth.
    surely_better: how many times as alike another framing must be before a whole-to-whole one is left.
    border: share of the edited video's short side within which a border is looked for.
    border_error, border_floor: a line is of the border if its median error is so many times that of the lines inside,
    and at least this much of the code range; raising them keeps more broken lines.
    flat: standard deviation of a line up to which it can be a bar's.
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
    """edited = scale * plate + offset, in pixels of each at its own size from the top left corner, (x, y).

    content: (left, top, right, bottom) of the edited video within which it shows the plate: no bars, no broken lines.
    """

    scale: tuple[float, float]
    offset: tuple[float, float]
    content: tuple[float, float, float, float]

    def window(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) of the content in the plate's pixels; beyond 0 to its size where it was padded."""
        (sx, sy), (ox, oy), (left, top, right, bottom) = (self.scale, self.offset, self.content)
        return (left - ox) / sx, (top - oy) / sy, (right - ox) / sx, (bottom - oy) / sy

    def covered(self, plate_size: tuple[int, int]) -> float:
        """Share of the plate (width, height) that the edited video shows."""
        left, top, right, bottom = self.window()
        width, height = plate_size
        across = max(0.0, min(right, width) - max(left, 0)) / width
        return across * max(0.0, min(bottom, height) - max(top, 0)) / height


def whole(plate_size: tuple[int, int], edited_size: tuple[int, int]) -> Framing:
    """The framing of a video that shows the whole plate, stretched to its own shape; sizes are (width, height)."""
    (width, height), (plate_width, plate_height) = edited_size, plate_size
    scale = width / plate_width, height / plate_height
    return Framing(scale, (0.0, 0.0), (0.0, 0.0, float(width), float(height)))


def framed(edited: torch.Tensor, framing: Framing, plate_size: tuple[int, int], size: tuple[int, int]) -> Canvas:
    """The edited video (T, 3, h, w) as a canvas on which a plate of `size` (height, width) lies.

    plate_size: (width, height) to which the framing's scale refers. The canvas is the whole edited video at the scale
    of `size`, so that nothing has been resampled to fit; where the framing is whole it is the video at that size.
    """
    height, width = size
    per = (plate_size[0] / width, plate_size[1] / height)  # plate pixels for one of `size`
    scale = tuple(s * p for s, p in zip(framing.scale, per))
    canvas_size = tuple(max(2, round(n / s)) for n, s in zip((edited.shape[3], edited.shape[2]), scale))
    grown = tuple(
        c / n for c, n in zip(canvas_size, (edited.shape[3], edited.shape[2]))
    )  # canvas pixels for an edited one
    slope = tuple(s * g for s, g in zip(scale, grown))
    shift = tuple(o * g for o, g in zip(framing.offset, grown))
    video = same_size(edited, canvas_size[::-1])
    # In registration's terms: a move in pixels at the frame's middle, and its change from there to the border.
    move = torch.zeros(2, 3)
    for axis, n in enumerate((width, height)):
        move[axis, 0] = (slope[axis] - 1) * n / 2 + shift[axis]
        move[axis, 1 + axis] = (slope[axis] - 1) * (n - 1) / 2
    content = tuple(v * grown[i % 2] for i, v in enumerate(framing.content))
    return Canvas(video, move[None], content)


def find_framing(
    plate: torch.Tensor, edited: torch.Tensor, pixel_aspect: float = 1.0, limits: FramingLimits = LIMITS
) -> Framing:
    """How the edited video (T, 3, h, w) frames the plate (T, 3, H, W), frames that belong together, encoded in [0, 1].

    Scales are tried on small pictures, each at every place at once (a product of Fourier transforms) and with the
    shape kept or stretched; the best are made exact on larger ones. The video is taken as whole unless another framing
    is clearly more alike. pixel_aspect: of a plate's pixel over that of an edited one, of the pictures given. In pixels
    of the pictures given; see `rescaled`.
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
    """The framing in pixels of a plate and an edited video that are so many times as large, (x, y)."""
    (x, y), (plate_x, plate_y), (left, top, right, bottom) = edited_times, plate_times, framing.content
    scale = framing.scale[0] * x / plate_x, framing.scale[1] * y / plate_y
    offset = framing.offset[0] * x, framing.offset[1] * y
    return Framing(scale, offset, (left * x, top * y, right * x, bottom * y))


def without_borders(
    plate: torch.Tensor, edited: torch.Tensor, framing: Framing, limits: FramingLimits = LIMITS
) -> Framing:
    """The framing whose content leaves out bars, and broken lines at the edited video's border, dark or doubled.

    A line that runs along the border on every frame and errs far more than the lines inside it, at most of its pixels,
    is no edit. plate and edited in the framing's own pixels.
    """
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
    """How many lines from the start err far more than the `reach` lines that follow the ones looked at."""
    inside = float(errors[reach : 3 * reach].median())
    bad = errors[:reach] > max(limits.border_floor, limits.border_error * inside)
    return int(bad.nonzero().max()) + 1 if bad.any() else 0


def _tried(plate, edited, plain, pixel_aspect, limits) -> list[Framing]:
    """The framings that are most alike of those that differ from one another and from the plain one, on small
    pictures."""
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
    """(likeness, framing): the place at which a scale fits best.

    fixed: details of the plate; gray: luma of the edited video, whose own (width, height) is edited_size; small: pixels
    of `fixed` for one of the plate.
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
    """The framing freed of the error of small pictures, and how alike both are in it, at the larger of two sizes."""
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
    """The framing whose canvas starts with that move (2, 3): the inverse of `framed`."""
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
    """How far two framings put the plate's corners apart, of the edited video's size."""
    far = 0.0
    for axis in (0, 1):
        for at in (0, plate_size[axis]):
            here, there = (f.scale[axis] * at + f.offset[axis] for f in (one, other))
            far = max(far, abs(here - there) / one.content[2 + axis])
    return far


def _at_least(height, width) -> tuple[int, int]:
    return max(16, round(height)), max(16, round(width))
