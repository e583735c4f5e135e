"""Find cuts: the first frames of new shots."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vera.core.errors import InputError

NEIGHBOUR_FRAMES = 8  # on either side of a possible cut, from which the usual change is estimated
# A cut changes most of the picture by at least this natural logarithm of a factor, and by this multiple of the usual
# change. Raising them finds fewer cuts.
MIN_CHANGE, TIMES_USUAL = 0.08, 2.5
_BLACK = 0.1  # added to values before the logarithm; raising it gives noise in dark areas less weight
# The difference of two pictures is this quantile of the cells' changes. Raising it lets movement in fewer cells count.
QUANTILE = 0.7
_CELLS = (14, 24)  # rows and columns of cells in a picture


def refuse_cuts_outside(cuts: str | Collection[int], frames: Sequence[int]) -> None:
    """Raises InputError if a cut is not the first frame of a new shot among these frames; "auto" is fine."""
    for cut in () if isinstance(cuts, str) else cuts:
        if not frames[0] < cut <= frames[-1]:
            raise InputError(
                f"cut {cut} is not among the frames {frames[0]} to {frames[-1]}, or is their first;"
                " name the first frame of each shot but the first"
            )


def with_cuts(
    items: Iterable[Any],
    picture_of: Callable[[Any], torch.Tensor],
    cuts: str | Collection[int] = "auto",
    number_of: Callable[[Any], int] | None = None,
) -> Iterator[tuple[Any, int]]:
    """Yield (item, the number of its shot, from 0), in order.

    picture_of: gives an item's picture, (3, H, W) in [0, 1]
    cuts: "auto", or the numbers of the shots' first frames
    number_of: gives an item's frame number; required if cuts are numbers
    The search reads NEIGHBOUR_FRAMES items ahead and holds that many on either side.

    A cut is found where both pictures before differ from both pictures after, which excludes flashes, and differ much
    more than neighbouring pictures there usually do, which excludes fast motion. Global changes of light are removed
    first. Dissolves, cuts within a whip pan, and shots of one frame are not found.
    """
    if cuts == "auto":
        marked = _with_starts(items, picture_of)
    else:
        assert number_of is not None, "cuts by number need number_of"
        marked = ((item, number_of(item) in cuts) for item in items)
    shot = 0
    for item, begins in marked:
        shot += begins
        yield item, shot


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The change of most cells of a picture, (N, 3) before and after, relative to its global change."""
    change = b - a
    change = np.abs(change - np.median(change, axis=0)).mean(axis=1)
    return float(np.quantile(change, QUANTILE))


# An item, its picture's cells, and their difference from the item before; each None if there is none.
_Entry = tuple[Any, np.ndarray | None, float | None]


def _with_starts(items: Iterable[Any], picture_of: Callable[[Any], torch.Tensor]) -> Iterator[tuple[Any, bool]]:
    """Yield (item, whether a new shot begins with it)."""
    none: _Entry = (None, None, None)
    window: deque[_Entry] = deque([none] * NEIGHBOUR_FRAMES, maxlen=2 * NEIGHBOUR_FRAMES + 1)
    for item in chain(items, repeat(None, NEIGHBOUR_FRAMES)):
        if item is None:
            window.append(none)
        else:
            cells, before = _cells(picture_of(item)), window[-1][1]
            window.append((item, cells, None if before is None else difference(before, cells)))
        if len(window) == window.maxlen and window[NEIGHBOUR_FRAMES][0] is not None:
            yield window[NEIGHBOUR_FRAMES][0], _is_start(window)


def _is_start(window: Sequence[_Entry]) -> bool:
    """Whether a new shot begins with the middle item of the window."""
    before, after = ([window[NEIGHBOUR_FRAMES + k][1] for k in offsets] for offsets in ((-2, -1), (0, 1)))
    pairs = [(a, b) for a in before for b in after if a is not None and b is not None]
    if len(pairs) < 4:  # too near the first or the last frame
        return False
    change = min(difference(a, b) for a, b in pairs)
    steps = [d for k, (_, _, d) in enumerate(window) if d is not None and k != NEIGHBOUR_FRAMES]
    # The larger of two neighbouring differences: animation on twos and pulldown repeat pictures.
    usual = float(np.median([max(pair) for pair in pairwise(steps)]))
    return change > max(MIN_CHANGE, TIMES_USUAL * usual)


def _cells(picture: torch.Tensor) -> np.ndarray:
    """Logarithms of the mean colours of a picture's cells, (N, 3). picture: (3, H, W) in [0, 1]."""
    return np.log(_BLACK + F.interpolate(picture[None], _CELLS, mode="area")[0].flatten(1).T.numpy())
