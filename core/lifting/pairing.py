"""Pair each edited frame with a plate frame, by the stated frame rates and then by the pictures.

Video services change the rate, drop or double frames, or start a frame late. The first guess comes from the stated
rates or the frame counts. The pictures then correct it by an alignment that never runs backward.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F

from vera.core.errors import InputError
from vera.core.lifting.matching import MAX_RATE_RATIO, match_frames
from vera.core.lifting.registration import band
from vera.core.lifting.smooth import blur, luma
from vera.kernels.area_means import shrunk_planes


@dataclass(frozen=True)
class PairingLimits:
    """Thresholds of the pairing. Similarity is a normalised correlation.

    width: of the compared pictures in pixels. Raising it detects smaller movements; the cost grows with the square.
    band: frames by which a pair may differ from the first guess
    off, unevenness: similarity that each frame of difference costs, and each change of the difference between
        consecutive edited frames. Raising them keeps the guess where little moves.
    least_alike, surely_better: mean similarity that the corrected pairs need, and its least excess over the guess
    fewest: frames of plate and edited video from which pictures are compared; the mean of fewer is no background
    missing: frames by which the counts may differ without a stated reason
    """

    width: int = 128
    band: int = 3
    off: float = 0.001
    unevenness: float = 0.01
    least_alike: float = 0.3
    surely_better: float = 0.03
    fewest: int = 8
    missing: int = 3


LIMITS = PairingLimits()
# Plate frames per edited frame for common pairs of rates: 24 to 16, 30 to 24, 30 to 16 frames a second, whole steps.
RATE_STEPS = (Fraction(3, 2), Fraction(5, 4), Fraction(15, 8), Fraction(2), Fraction(3), Fraction(5, 2), Fraction(4))


@dataclass(frozen=True)
class Pairing:
    """Frames plate[k] and edited[k] belong together; both lists are ascending indices from 0.

    Edited frames that are not listed are not used. Plate frames that are not listed have no edited frame.
    said: messages about frames without a partner
    """

    plate: list[int]
    edited: list[int]
    said: tuple[str, ...] = ()


def first_guess(
    plate_count: int,
    edited_count: int,
    rates: tuple[Fraction | None, Fraction | None],
    where: str,
    offset: int | None = None,
) -> list[float]:
    """The position of each edited frame in the plate, in frames from 0; fractions lie between two frames.

    rates: of plate and edited video in frames a second, None where not stated
    offset: plate frames before the first edited frame, if known; then the count need not fit
    Raises InputError where neither rates nor counts fit.
    """
    theirs, ours = rates[1], rates[0]
    step = Fraction(ours) / Fraction(theirs) if ours and theirs else None
    if offset is not None:
        step = step or Fraction(1)
        return [float(offset + j * step) for j in range(edited_count)]
    if step is None or edited_count == plate_count:
        step = _step_by_count(plate_count, edited_count)
    if step is None or not Fraction(1, MAX_RATE_RATIO) <= step <= MAX_RATE_RATIO:
        match_frames(plate_count, edited_count, where)  # raises, unless the counts fit after all
        step = Fraction(plate_count, edited_count)
    ends = float((edited_count - 1) * step)
    short = plate_count - 1 - ends
    if short > LIMITS.missing + float(step):
        raise InputError(
            f"{where}: {edited_count} frames end after the plate's frame {int(ends) + 1} of {plate_count}; give the"
            f" plate's part that was edited, as --frames, or where the video begins, as --edited-offset"
        )
    return [float(j * step) for j in range(edited_count)]


def _step_by_count(plate_count, edited_count) -> Fraction | None:
    """Plate frames per edited frame, if the counts are almost equal or in a common ratio; else None."""
    if abs(plate_count - edited_count) <= min(LIMITS.missing, plate_count // 8):
        return Fraction(1)
    fits = [
        (abs((plate_count - 1) / step + 1 - edited_count), step) for step in (*RATE_STEPS, *(1 / s for s in RATE_STEPS))
    ]
    fits += [(Fraction(0), 1 / s) for s in RATE_STEPS if plate_count * s == edited_count]
    error, step = min(fits)
    return step if error < 1 else None


def nearest_frames(guess: list[float], count: int) -> list[int]:
    """The frame of a plate of `count` frames that is nearest to each guess."""
    return [min(count - 1, max(0, math.floor(g + 0.5))) for g in guess]


def pair_frames(
    plate: torch.Tensor, edited: torch.Tensor, guess: list[float], limits: PairingLimits = LIMITS
) -> list[int]:
    """The plate frame of each edited frame, never descending: the guess, unless the pictures clearly correct it.

    plate (N, 3, h, w) and edited (M, 3, h, w): all frames, small, of one size and framing. Frames can be distinguished
    only where the plate moves.
    """
    assert plate.shape[1:] == edited.shape[1:] and len(guess) == len(edited)
    start = nearest_frames(guess, len(plate))
    if min(len(plate), len(edited)) < limits.fewest:
        return start
    ours, theirs = _marked(plate, edited)
    alike = _likeness(ours, theirs)  # (M, N)
    path = _best_path(alike, guess, limits)

    def mean(pairs):
        return sum(float(alike[j, i]) for j, i in enumerate(pairs)) / len(pairs)

    between = any(g % 1 for g in guess)  # a fractional guess leaves the choice of two frames to the pictures
    better = mean(start) + (0.0 if between else limits.surely_better)
    return path if mean(path) > max(limits.least_alike, better) else start


def paired(places: list[int], plate_frames: list[int]) -> Pairing:
    """The pairing by the plate frame of each edited frame (places), with messages about frames without a partner."""
    first = [j for j, i in enumerate(places) if j == 0 or i != places[j - 1]]
    plate = [places[j] for j in first]
    said = []
    doubled = len(places) - len(first)
    without = sorted(set(range(len(plate_frames))) - set(plate))
    if doubled:
        said.append(
            f"{doubled} of {len(places)} edited frames show a frame of the plate a second time and are not used"
        )
    if without:
        numbers = ", ".join(str(plate_frames[i]) for i in without[:6]) + (", ..." if len(without) > 6 else "")
        said.append(
            f"{len(without)} of {len(plate_frames)} frames of the plate have no edited one ({numbers});"
            " their layers are carried from their neighbours' along the motion, and mixed where none explains them"
        )
    return Pairing(plate, first, tuple(said))


def shrunk_for_pairing(video: torch.Tensor, limits: PairingLimits = LIMITS) -> torch.Tensor:
    """The video (T, 3, H, W) at the size at which frames are compared."""
    width = min(limits.width, video.shape[3])
    size = max(16, round(video.shape[2] * width / video.shape[3])), width
    return shrunk_planes(video, size) if size[0] <= video.shape[2] else F.interpolate(video, size, mode="area")


def _marked(plate, edited):
    """The moving details of both: details minus their mean over the shot, weighted by the plate's movement."""
    ours, theirs = band(luma(plate)), band(luma(edited))
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    moving = blur(ours.square().mean(0, keepdim=True), 2.0).sqrt()
    return ours * moving, theirs * moving


def _likeness(ours, theirs):
    """Normalised products of all pairs, (M, N)."""
    a, b = (F.normalize(v.flatten(1), dim=1) for v in (theirs, ours))
    return a @ b.T


def _best_path(alike, guess, limits) -> list[int]:
    """The ascending path with the highest similarity minus the cost of leaving the guess, by dynamic programming."""
    count, frames = alike.shape
    offsets = list(range(-limits.band, limits.band + 1))
    score = torch.full((count, len(offsets)), -torch.inf)
    back = torch.zeros((count, len(offsets)), dtype=torch.long)

    def place(j, k):
        return math.floor(guess[j]) + offsets[k]

    for j in range(count):
        for k, off in enumerate(offsets):
            i = place(j, k)
            if not 0 <= i < frames:
                continue
            own = float(alike[j, i]) - limits.off * abs(off)
            if j == 0:
                score[j, k] = own
                continue
            before = [
                float(score[j - 1, m]) - limits.unevenness * abs(off - other) if place(j - 1, m) <= i else -torch.inf
                for m, other in enumerate(offsets)
            ]
            best = max(range(len(offsets)), key=before.__getitem__)
            score[j, k], back[j, k] = own + before[best], best
    k = int(score[-1].argmax())
    path = []
    for j in range(count - 1, -1, -1):
        path.append(place(j, k))
        k = int(back[j, k])
    return path[::-1]
