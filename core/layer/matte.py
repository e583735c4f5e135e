"""Bring the decoded alpha to the plate's size: remove specks and flicker, and draw its edges at full resolution.

Each edge is drawn in one of two ways, chosen pixel by pixel. An edge that *is in the plate* (a kept subject before a
new background) follows the plate: locally, alpha is a linear function of the plate's three colours, fitted at model
size and evaluated at plate size (the fast colour guided filter of He, Sun and Tang). A *new* edge (an added object) has
no counterpart in the plate, so that the fit explains little of it. It is drawn as a step along its outline
(outline.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from vera.core.layer.outline import STEP_WIDTH, outline
from vera.kernels import plate_size
from vera.kernels.part import Part, Window
from vera.kernels.planes import blur, smoothstep
from vera.kernels.specks import remove_specks

# ---- Clean and steady, at model size

# A speck is an island of at most this share of the frame and at most this alpha; a hole is the same of 1 - alpha.
# Raising them removes more. Snow and sparks are small but not faint; a wide faint shadow is not small.
SPECK_AREA, SPECK_PEAK = 0.0005, 0.08
# Change of alpha between frames at which movement and decoder noise are equally likely. Raising it smooths more over
# time.
NOISE_CHANGE = 0.03

# ---- The plate's edges: the fit of alpha by the plate's colours

FIT_REACH = 3  # radius of the fit in model pixels
FIT_NOISE = 1e-4  # variance of the plate's colours that counts as noise; raising it explains less by the plate
# Share of alpha's variance that the plate explains: below the first value an edge is new, above the second it is the
# plate's.
EXPLAINED_RANGE = (0.8, 0.95)

# ---- New edges

# Width of a drawn step in plate pixels; raising it softens new edges.
EDGE_WIDTH = 1.5

# Side of a work tile in model pixels; tiles without an edge are skipped.
TILE = 24
# Work tiles that are computed together. Raising it needs more memory than the processor's caches have.
TILE_BATCH = 16

# Distance beyond which a pixel does not influence a resampled picture: two pixels of a cubic filter, and one for
# rounding. In model pixels, or in plate pixels if these are larger. Raising it only takes time.
RESAMPLING_REACH = 3
# Upper bound on the factor by which a cubic filter raises the largest value of a picture without negative values: 1.13
# along each axis, with room. Raising it only takes time.
RESAMPLING_GAIN = 1.5


def steady(frames: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Frames (colour, alpha (h, w), further items) of a shot, with the decoder's flicker removed from alpha.

    Alpha becomes a weighted mean with the frames before and after; a larger difference has a smaller weight. Noise is
    averaged, while a moving edge differs by more than noise and is not smeared. Both neighbours have the same weight,
    so that alpha does not lag. The iterator is one frame behind its input and yields all frames.
    """
    before, here = None, None
    for after in frames:
        if here is not None:
            yield _steadied(before, here, after)
        before, here = here, after
    if here is not None:
        yield _steadied(before, here, None)


def _steadied(before, here, after):
    color, alpha, *rest = here
    if before is None or after is None:  # a mean of one side would lag
        return here
    # Both sides have one weight. With two weights, a slow edge would be pulled to one side.
    apart = torch.maximum((before[1] - alpha).abs(), (after[1] - alpha).abs())
    weight = torch.exp(-((apart / NOISE_CHANGE) ** 2))
    return color, (alpha + weight * (before[1] + after[1])) / (1 + 2 * weight), *rest


def clean_alpha(alpha: torch.Tensor) -> torch.Tensor:
    """Alpha (h, w) at model size without faint specks, and without faint small holes in solid parts."""
    low, high = plate_size.SNAP_RANGE
    area = int(SPECK_AREA * alpha.numel())
    kept = remove_specks(alpha.cpu().numpy(), low, SPECK_PEAK, area)
    hollow = 1 - kept
    kept[(hollow > 0) & (remove_specks(hollow, 1 - high, SPECK_PEAK, area) == 0)] = 1
    return torch.from_numpy(kept).to(alpha.device)


@dataclass(frozen=True)
class PlannedAlpha:
    """An alpha at model size with all that its drawing at plate size needs besides the plate; see `plate_alpha` in
    kernels/plate_size.py.

    size: (height, width) of the plate
    """

    alpha: torch.Tensor
    fit: torch.Tensor
    edge: torch.Tensor
    steepness: float
    size: tuple[int, int]

    @classmethod
    def of(
        cls, alpha: torch.Tensor, guide: torch.Tensor, size: tuple[int, int], step_width: float = STEP_WIDTH
    ) -> PlannedAlpha:
        """For an alpha (h, w) over a plate. guide: (3, h, w), the plate at model size. step_width: see
        `refine_alpha`."""
        scale = max(n / o for n, o in zip(size, alpha.shape))
        edge = outline(alpha, step_width)
        edge *= min(1.0, max(0.0, scale - 1))  # at model size the decoded alpha is already exact
        return cls(alpha, plate_fit(alpha, guide), edge, max(1.0, scale / EDGE_WIDTH), size)

    @property
    def is_explained(self) -> bool:
        """Whether the plate explains any of it."""
        return bool(self.fit[..., 4].any())

    @property
    def part(self) -> Part | None:
        """A part of the plate outside of which the drawn alpha is 0; None if it is 0 everywhere."""
        faint = plate_size.SNAP_RANGE[0] / RESAMPLING_GAIN
        grids = ((self.alpha > faint) | (self.fit[..., 4] > 0), self.edge[..., 3] > 0)
        found = None
        for there in grids:
            if (box := _box_at(there, self.size)) is not None:
                found = box.joined(found)
        return found

    def drawn(self, plate: torch.Tensor, window: Window | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Alpha at plate size, with exact 0 and 1, and how far the plate explains it, (H, W) each.

        plate: (H, W, 3), all of it or the part that `window` is.
        """
        return plate_size.plate_alpha(self.alpha, self.fit, self.edge, plate, self.steepness, window)


def refine_alpha(
    alpha: torch.Tensor, guide: torch.Tensor, plate: torch.Tensor, step_width: float = STEP_WIDTH
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha (h, w) brought to plate size, (H, W), with exact 0 and 1; and (H, W), how far the plate explains it.

    guide: (3, h, w), the plate at model size. plate: (H, W, 3). Both encoded, in [0, 1]; float32 on one device.
    step_width: width in model pixels of a step as the model decodes it; a wider rise is intentionally soft
    """
    return PlannedAlpha.of(alpha, guide, (plate.shape[0], plate.shape[1]), step_width).drawn(plate)


def _box_at(there: torch.Tensor, size: tuple[int, int]) -> Part | None:
    """The part of a picture of `size` that the true pixels of (h, w) contribute to when it is resampled."""
    ends = list[int]()
    for axis in (1, 0):
        found, old, new = there.any(axis).nonzero()[:, 0], there.shape[1 - axis], size[1 - axis]
        if not len(found):
            return None
        margin = RESAMPLING_REACH * max(1.0, old / new)
        low, high = float(found[0]) - margin, float(found[-1]) + 1 + margin
        ends += [max(0, math.floor(low * new / old)), min(new, math.ceil(high * new / old))]
    return Part(*ends)


def plate_fit(alpha: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
    """(h, w, 5): A and b of alpha = A.plate + b within FIT_REACH, and the confidence in [0, 1] that the plate explains
    alpha.

    All values are 0 where alpha is constant up to the decoder's noise.
    """
    return _where_alpha_changes(_fit, torch.cat([alpha[None], guide]), 5, TILE, FIT_REACH + 1, plate_size.SNAP_RANGE[0])


def _fit(planes):
    """`plate_fit` of tiles: alpha and plate (n, 4, y, x) -> (n, 5, y, x)."""
    a, guide = planes[:, :1], planes[:, 1:]
    pairs = torch.cat([guide[:, i : i + 1] * guide[:, i:] for i in range(3)], 1)  # rr, rg, rb, gg, gb, bb
    moments = blur(torch.cat([guide, a, pairs, guide * a, a * a], 1), FIT_REACH)
    mean, mean_a = moments[:, :3], moments[:, 3:4]
    covariance = moments[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].unflatten(1, (3, 3)) - mean[:, :, None] * mean[:, None]
    shared = moments[:, 10:13] - mean * mean_a
    variance = moments[:, 13:] - mean_a**2
    regular = covariance + FIT_NOISE * torch.eye(3, device=a.device, dtype=a.dtype)[..., None, None]
    slope = _solve(regular, shared)
    fitted = (slope[:, None] * covariance * slope[:, :, None]).sum((1, 2))[:, None]
    left = variance - 2 * (slope * shared).sum(1, True) + fitted
    explained = (variance - left) / (variance + 1e-5)
    fit = blur(torch.cat([slope, mean_a - (slope * mean).sum(1, True), explained], 1), 1)
    return torch.cat([fit[:, :4], smoothstep(fit[:, 4:], *EXPLAINED_RANGE)], 1)


def _solve(matrix, vector):
    """Solve matrix (n, 3, 3, y, x) times x = vector (n, 3, y, x) by cofactors; the matrix is symmetric and positive."""
    rows = matrix.unbind(1)
    cofactors = torch.stack([torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3], dim=1) for i in range(3)], 1)
    return (cofactors * vector[:, :, None]).sum(1) / (cofactors[:, 0] * rows[0]).sum(1, True)


def _where_alpha_changes(work, planes, channels, tile, margin, least):
    """Apply `work` to the tiles of planes (c, h, w) in which the first plane changes by at least `least`.

    work: (n, c, y, x) -> (n, channels, y, x). margin: pixels around a tile that work reads.
    Returns (h, w, channels), 0 in the other tiles.
    """
    height, width = planes.shape[1:]
    down, right = -height % tile, -width % tile
    padded = F.pad(planes[None], (margin, margin + right, margin, margin + down), mode="replicate")[0]
    window = tile + 2 * margin
    tiles = padded.unfold(1, window, tile).unfold(2, window, tile).movedim(0, 2)
    busy = tiles[:, :, 0].amax((2, 3)) - tiles[:, :, 0].amin((2, 3)) > least
    found = planes.new_zeros(*busy.shape, tile, tile, channels)
    inner = slice(margin, -margin)
    for some in busy.nonzero().split(TILE_BATCH):
        at = some.unbind(1)
        found[at] = work(tiles[at])[..., inner, inner].movedim(1, -1)
    return found.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:height, :width].contiguous()
