"""The decoded alpha on its way to the plate's size: made clean and steady, its edges drawn anew.

An edge is drawn in one of two ways, chosen pixel by pixel. Where it *is in the plate* (a kept subject
before a new background) the plate tells where: alpha is, near by, a linear function of the plate's three
colours, fitted at model size and evaluated at plate size (the colour guided filter of He, Sun and Tang, in
its fast form). Where it is *new* (an added object) the plate knows nothing of it, the fit explains little,
and a step is drawn as one along its outline (outline.py).
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from vera.core.layer.outline import STEP_WIDTH, outline
from vera.kernels import plate_size
from vera.kernels.planes import blur, smoothstep
from vera.kernels.specks import remove_specks

# ---- Clean and steady, at model size

# A speck: an island no more than this share of the frame, fainter than this, alone. A hole: the same
# of 1 - alpha. Snow and sparks are small, but not faint; a wide faint shadow is not small.
SPECK_AREA, SPECK_PEAK = 0.0005, 0.08
# Between frames, a change of alpha by this much is as likely movement as the decoder's noise.
NOISE = 0.03

# ---- The plate's edges: the fit of alpha by the plate's colours

FIT_REACH = 3  # model pixels
FIT_NOISE = 1e-4  # variance of the plate's colours that explains nothing
# The share of alpha's variance which the plate explains: below the first the edge is new, above the
# second the plate's own.
EXPLAINED = (0.8, 0.95)

# ---- New edges

# A step comes out about so wide, in plate pixels.
EDGE_WIDTH = 1.5

# Work goes in tiles of so many model pixels; most hold no edge.
TILE = 24


def steady(frames: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """(colour, alpha (h, w), whatever else) of a shot, frame by frame, with alpha freed from the decoder's flicker.

    Alpha becomes a mean with the frames before and after, each weighed down by its difference: noise is
    averaged, a moving edge differs by more than noise and stays where it is. Before and after count alike,
    so nothing lags. One frame is held back; as many come out as went in.
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
    # One weight for both: were one side in and one out, a slow edge would be drawn to that side.
    apart = torch.maximum((before[1] - alpha).abs(), (after[1] - alpha).abs())
    weight = torch.exp(-((apart / NOISE) ** 2))
    return color, (alpha + weight * (before[1] + after[1])) / (1 + 2 * weight), *rest


def clean_alpha(alpha: torch.Tensor) -> torch.Tensor:
    """Alpha (h, w) at model size without faint stray specks and faint small holes in what is solid."""
    low, high = plate_size.SNAP
    area = int(SPECK_AREA * alpha.numel())
    kept = remove_specks(alpha.cpu().numpy(), low, SPECK_PEAK, area)
    hollow = 1 - kept
    kept[(hollow > 0) & (remove_specks(hollow, 1 - high, SPECK_PEAK, area) == 0)] = 1
    return torch.from_numpy(kept).to(alpha.device)


def refine_alpha(
    alpha: torch.Tensor, guide: torch.Tensor, plate: torch.Tensor, step_width: float = STEP_WIDTH
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha (h, w) at model size to plate size (H, W), exact 0 and 1 at its ends; and how far the plate explains it.

    guide: (3, h, w), the plate at model size; plate: (H, W, 3); encoded, in [0, 1]. float32 on one device.
    step_width: over how many model pixels a step of alpha is decoded; what is wider is soft by intent.
    """
    scale = max(n / o for n, o in zip(plate.shape, alpha.shape))
    edge = outline(alpha, step_width)
    edge *= min(1.0, max(0.0, scale - 1))  # at the model's own size there is nothing to draw anew
    return plate_size.plate_alpha(alpha, plate_fit(alpha, guide), edge, plate, max(1.0, scale / EDGE_WIDTH))


def plate_fit(alpha: torch.Tensor, guide: torch.Tensor) -> torch.Tensor:
    """(h, w, 5): A and b of alpha = A.plate + b within FIT_REACH, and 1 where the plate explains alpha, 0 where not.

    Where alpha is everywhere the same, as far as the decoder's noise goes, there is nothing to explain: all is 0.
    """
    return _where_alpha_changes(_fit, torch.cat([alpha[None], guide]), 5, TILE, FIT_REACH + 1, plate_size.SNAP[0])


def _fit(planes):
    """(n, 4, y, x), alpha and plate -> (n, 5, y, x)."""
    a, guide = planes[:, :1], planes[:, 1:]
    pairs = (guide[:, :, None] * guide[:, None]).flatten(1, 2)
    moments = blur(torch.cat([guide, a, pairs, guide * a, a * a], 1), FIT_REACH)
    mean, mean_a = moments[:, :3], moments[:, 3:4]
    covariance = moments[:, 4:13].unflatten(1, (3, 3)) - mean[:, :, None] * mean[:, None]
    shared = moments[:, 13:16] - mean * mean_a
    variance = moments[:, 16:] - mean_a**2
    regular = covariance + FIT_NOISE * torch.eye(3, device=a.device, dtype=a.dtype)[..., None, None]
    slope = _solve(regular, shared)
    fitted = (slope[:, None] * covariance * slope[:, :, None]).sum((1, 2))[:, None]
    left = variance - 2 * (slope * shared).sum(1, True) + fitted
    explained = (variance - left) / (variance + 1e-5)
    fit = blur(torch.cat([slope, mean_a - (slope * mean).sum(1, True), explained], 1), 1)
    return torch.cat([fit[:, :4], smoothstep(fit[:, 4:], *EXPLAINED)], 1)


def _solve(matrix, vector):
    """x of matrix (n, 3, 3, y, x) x = vector (n, 3, y, x), the matrix symmetric and positive, by cofactors."""
    rows = matrix.unbind(1)
    cofactors = torch.stack([torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3], dim=1) for i in range(3)], 1)
    return (cofactors * vector[:, :, None]).sum(1) / (cofactors[:, 0] * rows[0]).sum(1, True)


def _where_alpha_changes(work, planes, channels, tile, margin, least):
    """work((n, c, y, x)) -> (n, channels, y, x), in tiles in which the first plane changes by `least`.

    planes (c, h, w); margin: how far work looks. Returns (h, w, channels), 0 in the other tiles: edges are few.
    """
    height, width = planes.shape[1:]
    down, right = -height % tile, -width % tile
    padded = F.pad(planes[None], (margin, margin + right, margin, margin + down), mode="replicate")[0]
    window = tile + 2 * margin
    tiles = padded.unfold(1, window, tile).unfold(2, window, tile).movedim(0, 2)
    busy = tiles[:, :, 0].amax((2, 3)) - tiles[:, :, 0].amin((2, 3)) > least
    found = planes.new_zeros(*busy.shape, tile, tile, channels)
    if busy.any():
        inner = slice(margin, -margin)
        found[busy] = work(tiles[busy])[..., inner, inner].movedim(1, -1)
    return found.transpose(1, 2).flatten(2, 3).flatten(0, 1)[:height, :width].contiguous()
