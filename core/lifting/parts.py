"""The connected parts of a lifted layer, over the whole shot: numbered, the largest first, each kept or dropped."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from vera.core.errors import InputError
from vera.core.lifting.lifted_windows import LiftedVideo


@dataclass(frozen=True)
class PartLimits:
    """Thresholds of this method.

    block: pixels of the working size that are one; larger joins parts that lie farther apart. least: share of the
    shot's pixels below which a part has no number,: it stays unless others are named to be kept.
    most: parts with a number.
    """

    block: int = 4
    least: float = 1e-5
    most: int = 99


LIMITS = PartLimits()


@dataclass(frozen=True)
class Part:
    """number: from 1. share: of the shot's pixels. first, last: indices of the plate's frames. box: (left, top, right,
    bottom) in shares of the frame, over all its frames."""

    number: int
    share: float
    first: int
    last: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Parts:
    """parts: by number. labels (T, h, w) of whole numbers: whose part each block of a frame is, 0 nobody's. block:
    pixels of the working size in one. chosen: numbers to keep, all above 0; or to drop, all below; none: all stay."""

    parts: list[Part]
    labels: np.ndarray
    block: int
    chosen: tuple[int, ...] = ()

    def there(self, frame: int) -> list[Part]:
        """The parts that a frame shows, the largest first."""
        shown = set(np.unique(self.labels[frame]).tolist())
        return [part for part in self.parts if part.number in shown]

    def stays(self, number: int) -> bool:
        """Whether the part of this number is kept; 0 is what has none."""
        return not self.chosen or (number in map(abs, self.chosen)) == (self.chosen[0] > 0)

    def kept(self, layer: torch.Tensor, frame: int) -> torch.Tensor:
        """A frame's layer as `LiftedVideo` gives it, alpha 0 where its part is dropped."""
        if not self.chosen:
            return layer
        stay = np.array([self.stays(number) for number in range(len(self.parts) + 1)])
        stays = torch.from_numpy(stay[self.labels[frame]])
        large = stays[None, None].float().repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        large = large[0, :, : layer.shape[1], : layer.shape[2]]
        return torch.cat([layer[:3], layer[3:4] * large, layer[4:]])

    def told(self) -> list[dict[str, object]]:
        """What the manifest says of them."""
        return [
            {"number": p.number, "share": round(p.share, 6), "box": [round(v, 4) for v in p.box]} for p in self.parts
        ]


def find_parts(video: LiftedVideo, count: int, chosen: tuple[int, ...] = (), limits: PartLimits = LIMITS) -> Parts:
    """The parts of a lifted shot of `count` frames. Blocks that touch in a frame or in the next are one part.

    chosen: as `Parts` has it. Raises InputError for a number that no part has.
    """
    covered = np.concatenate([_blocks(video[i][3:4], limits.block) for i in range(count)])
    labels, found = ndimage.label(covered, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=found + 1)[1:]
    largest = [int(k) for k in np.argsort(-sizes, kind="stable") if sizes[k] >= limits.least * covered.size]
    numbers = np.zeros(found + 1, np.int32)
    for number, k in enumerate(largest[: limits.most], 1):
        numbers[k + 1] = number
    numbered = numbers[labels]
    boxes = ndimage.find_objects(numbered)
    parts = [_part(k + 1, box, sizes[largest[k]] / covered.size, covered.shape) for k, box in enumerate(boxes)]
    refuse_unknown(chosen, len(parts))
    return Parts(parts, numbered, limits.block, chosen)


def refuse_unknown(chosen: Sequence[int], count: int) -> None:
    """Raise InputError for a number that none of `count` parts has."""
    unknown = [abs(n) for n in chosen if not 1 <= abs(n) <= count]
    if unknown:
        there = f"parts 1 to {count}" if count > 1 else f"{count or 'no'} part"
        raise InputError(
            f"parts: there is no part {unknown[0]}; the layer has {there}, as a lift without --parts numbers them in"
            " report.png"
        )


def _blocks(alpha: torch.Tensor, block: int) -> np.ndarray:
    """Whether any pixel of a block is covered, (1, h, w)."""
    return (F.max_pool2d(alpha[None], block, ceil_mode=True)[0] > 0).numpy()


def _part(number, box, share, shape):
    frames, rows, columns = box
    left, right = (v / shape[2] for v in (columns.start, columns.stop))
    top, bottom = (v / shape[1] for v in (rows.start, rows.stop))
    return Part(number, float(share), frames.start, frames.stop - 1, (left, top, right, bottom))
