"""Number the connected parts of a lifted layer over the whole shot, largest first, and keep or drop each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage

from vera.core.errors import InputError


@dataclass(frozen=True)
class PartLimits:
    """Limits of the numbering.

    block: side in pixels, at working size, of the blocks that are connected. Raising it joins parts farther apart.
    least: share of the shot's pixels below which a part gets no number; it stays unless other parts are to be kept
    most: largest number of numbered parts
    """

    block: int = 4
    least: float = 1e-5
    most: int = 99


LIMITS = PartLimits()


@dataclass(frozen=True)
class Part:
    """number: from 1
    share: of the shot's pixels
    first, last: indices of plate frames
    box: (left, top, right, bottom) over all its frames, as shares of the frame
    """

    number: int
    share: float
    first: int
    last: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Parts:
    """parts: ordered by number
    labels (T, h, w): number of the part in each block of each frame, 0 for none
    block: side of a block in pixels, at working size
    chosen: numbers to keep (all positive) or to drop (all negative); empty keeps all
    """

    parts: list[Part]
    labels: np.ndarray
    block: int
    chosen: tuple[int, ...] = ()

    def there(self, frame: int) -> list[Part]:
        """The parts visible in a frame, largest first."""
        shown = set(np.unique(self.labels[frame]).tolist())
        return [part for part in self.parts if part.number in shown]

    def stays(self, number: int) -> bool:
        """Whether the part of this number is kept; 0 stands for everything without a number."""
        return not self.chosen or (number in map(abs, self.chosen)) == (self.chosen[0] > 0)

    def kept(self, layer: torch.Tensor, frame: int) -> torch.Tensor:
        """A frame's layer (C, h, w) as from `LiftedVideo`, with alpha 0 on dropped parts."""
        if not self.chosen:
            return layer
        stay = np.array([self.stays(number) for number in range(len(self.parts) + 1)])
        stays = torch.from_numpy(stay[self.labels[frame]])
        large = stays[None, None].float().repeat_interleave(self.block, 2).repeat_interleave(self.block, 3)
        large = large[0, :, : layer.shape[1], : layer.shape[2]]
        return torch.cat([layer[:3], layer[3:4] * large, layer[4:]])

    def report_facts(self) -> list[dict[str, object]]:
        """What the manifest says of them."""
        return [
            {"number": p.number, "share": round(p.share, 6), "box": [round(v, 4) for v in p.box]} for p in self.parts
        ]


def find_parts(alphas: Iterable[torch.Tensor], chosen: tuple[int, ...] = (), limits: PartLimits = LIMITS) -> Parts:
    """The parts of a lifted shot. Blocks that touch in the same or the next frame are connected.

    alphas: of the frames in order, (1, h, w) each
    chosen: as in `Parts`. Raises InputError for a number that no part has.
    """
    covered = np.concatenate([_blocks(alpha, limits.block) for alpha in alphas])
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
