"""Which frame of the plate each edited frame belongs to: by the rates that both state, then by the pictures.

Services give back another rate, drop or double a frame, or begin a frame late. A first guess comes from the stated
rates or the counts; the pictures then correct it, as an alignment that never runs backward.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F

from vera.core.errors import InputError
from vera.core.lifting.matching import LONGEST_STEP, match_frames
from vera.core.lifting.registration import band
from vera.core.lifting.smooth import blur, luma


@dataclass(frozen=True)
class PairingLimits:
    """Thresholds of this method.

    width: of the pictures compared, in pixels; more tells smaller movements and costs its square.
    band: frames by which a pair may lie off the first guess. off, unevenness: what a frame off the guess, and a
    change of
    it from one edited frame to the next, cost in likeness; raising them follows the guess where little moves.
    least_alike, surely_better: mean likeness of what moves that the pictures must have, and by which they must beat the
    guess, to be followed.
    fewest: frames of both from which pictures are asked: of fewer, their mean is no background.
    missing: frames by which counts may differ where nothing says why.
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
# Plate frames an edited one, as rates in use make them: 24 to 16 a second, 30 to 24, 30 to 16, and whole steps.
STEPS = (Fraction(3, 2), Fraction(5, 4), Fraction(15, 8), Fraction(2), Fraction(3), Fraction(5, 2), Fraction(4))


@dataclass(frozen=True)
class Pairing:
    """plate[k] and edited[k], indices from 0, belong together, both ascending; every other frame of the plate lies
    between
    or beside them, every other edited frame is not used. said: a line each on what is not one to one."""

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
    """The place in the plate, in frames from 0, of each edited frame.

    rates: of plate and edited video in frames a second, where they are stated. offset: plate frames before the first
    edited one, if that is known: then any count will do, at the stated rates or at the plate's. Raises InputError
    where neither rates nor counts fit, with the fix.
    """
    theirs, ours = rates[1], rates[0]
    step = Fraction(ours) / Fraction(theirs) if ours and theirs else None
    if offset is not None:
        step = step or Fraction(1)
        return [float(offset + j * step) for j in range(edited_count)]
    if step is None or edited_count == plate_count:
        step = _step_by_count(plate_count, edited_count)
    if step is None or not Fraction(1, LONGEST_STEP) <= step <= LONGEST_STEP:
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
    """Plate frames an edited one, of counts that tell: equal but for a few, or a common ratio of rates."""
    if abs(plate_count - edited_count) <= min(LIMITS.missing, plate_count // 8):
        return Fraction(1)
    fits = [(abs((plate_count - 1) / step + 1 - edited_count), step) for step in (*STEPS, *(1 / s for s in STEPS))]
    fits += [(Fraction(0), 1 / s) for s in STEPS if plate_count * s == edited_count]
    error, step = min(fits)
    return step if error < 1 else None


def pair_frames(
    plate: torch.Tensor, edited: torch.Tensor, guess: list[float], limits: PairingLimits = LIMITS
) -> list[int]:
    """The plate's frame of each edited one, never descending: the guess, or what the pictures surely tell better.

    plate (N, 3, h, w) and edited (M, 3, h, w): all frames, small, of one size and framing. Only where the plate
    moves do
    pictures tell frames apart.
    """
    start = [min(len(plate) - 1, max(0, math.floor(g + 0.5))) for g in guess]
    if min(len(plate), len(edited)) < limits.fewest:
        return start
    ours, theirs = _marked(plate, edited)
    alike = _likeness(ours, theirs)  # (M, N)
    path = _best_path(alike, guess, limits)
    mean = lambda p: sum(float(alike[j, i]) for j, i in enumerate(p)) / len(p)  # noqa: E731
    between = any(g % 1 for g in guess)  # frames of which the guess only says between which two they lie
    better = mean(start) + (0.0 if between else limits.surely_better)
    return path if mean(path) > max(limits.least_alike, better) else start


def paired(places: list[int], plate_frames: list[int]) -> Pairing:
    """One pair a plate frame from the place of each edited one, and what is said of the others."""
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
            " their layers are mixed from their neighbours, which doubles what moves fast"
        )
    return Pairing(plate, first, tuple(said))


def shrunk_for_pairing(video: torch.Tensor, limits: PairingLimits = LIMITS) -> torch.Tensor:
    """(T, 3, H, W) at the size at which frames are paired."""
    width = min(limits.width, video.shape[3])
    return F.interpolate(video, (max(16, round(video.shape[2] * width / video.shape[3])), width), mode="area")


def _marked(plate, edited):
    """What moves in both: details less their mean over the shot, weighted by how much the plate moves there."""
    ours, theirs = band(luma(plate)), band(luma(edited))
    ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
    moving = blur(ours.square().mean(0, keepdim=True), 2.0).sqrt()
    return ours * moving, theirs * moving


def _likeness(ours, theirs):
    """Normalised products of all pairs, (M, N)."""
    a, b = (F.normalize(v.flatten(1), dim=1) for v in (theirs, ours))
    return a @ b.T


def _best_path(alike, guess, limits) -> list[int]:
    """The ascending path of most likeness, less what leaving the guess costs: dynamic programming over the offset."""
    count, frames = alike.shape
    offsets = list(range(-limits.band, limits.band + 1))
    score = torch.full((count, len(offsets)), -torch.inf)
    back = torch.zeros((count, len(offsets)), dtype=torch.long)
    place = lambda j, k: math.floor(guess[j]) + offsets[k]  # noqa: E731
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
