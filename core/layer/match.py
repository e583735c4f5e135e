"""Match the layer to its plate: limit its sharpness to the plate's, and add grain like the plate's.

Both are measured once a job, from plate frames in the model's range. They are applied to each layer at plate size
before the conversion to the blending space, so the layer's guarantees hold: 0 where alpha is 0, premultiplied, never
negative, and equal to the composite when it is laid over the plate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from vera.core.layer.blend_space import LEAST_ALPHA
from vera.kernels.blur import along

if TYPE_CHECKING:
    from vera.core.layer.regrain import GrainMaker
    from vera.core.plate.grain import Grain

SHARPNESS_FRAMES = 4  # plate frames, evenly spread, whose edges are measured. Raising it is more reliable and slower
LEAST_BLUR = 0.2  # smallest blur, as a deviation in pixels, that is applied
GAUSSIAN_REACH = 3.0  # radius of a Gaussian in deviations; a thousandth of it lies beyond
MAX_ROUNDING = 1e-6  # distance from 1 after a blur below which the value was 1 everywhere around
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)

NO_GRAIN = "match: no grain was measured in the plate, too little of it is flat; the layer gets none"
LONE_GRAIN = "match: grain was measured in a single frame, where fine texture looks like grain; check the layer"
NO_EDGES = "match: no sharp edge was found in the plate; the layer stays as sharp as it is"


@dataclass(frozen=True)
class LaidLayer:
    """A layer at the plate's size, in the model's range.

    edit: (H, W, 3), straight colour
    alpha: (H, W)
    source: (H, W, 3), the plate below it
    own: (H, W) in [0, 1], share of the colour that already has the plate's grain, or None
    frame: its number
    corner: row and column of its first pixel in the plate
    """

    edit: np.ndarray
    alpha: np.ndarray
    source: np.ndarray
    own: np.ndarray | None
    frame: int
    corner: tuple[int, int]


@dataclass(frozen=True)
class Matching:
    """The measured properties that a job's layers are matched to.

    asked: names of the requested properties
    blur: deviation in pixels of the plate's sharpest edges; None leaves sharpness unchanged
    maker: of grain; None adds none
    brought: grain that the layers already have, or None
    lone: whether the grain was measured in a single frame
    """

    asked: tuple[str, ...] = ()
    blur: float | None = None
    maker: GrainMaker | None = None
    brought: Grain | None = None
    lone: bool = False

    @property
    def warnings(self) -> list[str]:
        """A message for each requested property that could not be measured, or not reliably."""
        missing = (("grain", self.maker, NO_GRAIN), ("sharpness", self.blur, NO_EDGES))
        lines = [line for name, found, line in missing if name in self.asked and found is None]
        return lines + [LONE_GRAIN] * (self.lone and self.maker is not None)

    def report_facts(self) -> dict[str, Any]:
        """Facts for the manifest; {} if nothing was requested."""
        grain = {"grain": self.maker.grain.report_facts() | {"seed": self.maker.seed}} if self.maker else {}
        sharpness = {} if self.blur is None else {"sharpness": {"edge_blur": round(self.blur, 3)}}
        return {"match": grain | sharpness} if self.asked else {}

    @property
    def reach(self) -> int:
        """Pixels beyond a layer's edge that `softened` reads or changes."""
        return 0 if self.blur is None else round(GAUSSIAN_REACH * self.blur) + 4

    def softened(
        self, edit: torch.Tensor, alpha: torch.Tensor, explained: torch.Tensor | None, allowed: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Straight colour (H, W, 3) and alpha (H, W), blurred where edges are sharper than the plate's.

        explained: (H, W), where alpha's edge is an edge of the plate and has its sharpness already
        allowed: (H, W), the mask; alpha stays 0 outside
        """
        if self.blur is None:
            return edit, alpha
        from vera.core.plate.sharpness import edge_blur

        box = _box((alpha > 0) & (alpha < 1), self.reach)
        own = None if box is None else edge_blur(alpha[box].numpy())
        if box is None or own is None or self.blur**2 - own**2 < LEAST_BLUR**2:
            return edit, alpha
        missing = float(np.sqrt(self.blur**2 - own**2))
        layer = torch.cat([edit[box] * alpha[box][..., None], alpha[box][..., None]], -1)
        blurred = _blurred(layer.movedim(-1, 0), missing).movedim(0, -1)
        soft = torch.where(blurred[..., 3] > 1 - MAX_ROUNDING, 1.0, blurred[..., 3])
        if explained is not None:
            blurred = torch.lerp(blurred, layer, explained[box][..., None])
            soft = torch.lerp(soft, alpha[box], explained[box])
        color = torch.where((soft > 0)[..., None], blurred[..., :3] / blurred[..., 3:].clamp_min(1e-12), edit[box])
        if allowed is not None:
            soft = torch.minimum(soft, allowed[box])
        edit, alpha = edit.clone(), alpha.clone()
        edit[box], alpha[box] = color.clamp(0, 1), soft
        return edit, alpha

    def grained(self, layer: LaidLayer) -> np.ndarray:
        """The layer's straight colour with grain, so that the composite has as much grain as the plate at that level.

        Only the missing grain is added: the plate that shows through has its own, and the layer may have some. Colours
        stay in [0, 1]. Near the ends the grain is cut on both sides, so that its mean stays 0.
        """
        if self.maker is None:
            return layer.edit
        box = _box(torch.from_numpy(layer.alpha >= LEAST_ALPHA), 0)
        if box is None:
            return layer.edit
        edit, source = layer.edit[box], layer.source[box]
        alpha = layer.alpha[box][..., None]
        rest = 1 - alpha
        wanted = self.maker.grain.deviation(alpha * edit + rest * source) ** 2
        if rest.any():
            wanted -= (rest * self.maker.grain.deviation(source)) ** 2
        if self.brought is not None:
            wanted -= (alpha * self.brought.deviation(edit)) ** 2
        amount = np.sqrt(np.maximum(wanted, 0)) / np.maximum(alpha, np.float32(LEAST_ALPHA))
        if layer.own is not None:
            amount = amount * (1 - layer.own[box][..., None])
        rows, columns = (slice(s.start + start, s.stop + start) for s, start in zip(box, layer.corner))
        room = np.minimum(edit, 1 - edit)
        grain = np.clip(amount * self.maker.unit(layer.frame, (rows, columns)), -room, room)
        grained = layer.edit.copy()
        grained[box] = np.where(alpha >= LEAST_ALPHA, edit + grain, edit)
        return grained


def measure(asked: Sequence[str], frames: Sequence[int], picture: Callable[[int], np.ndarray], seed: int) -> Matching:
    """Measure the requested properties ("grain", "sharpness") of a shot.

    picture: gives a frame as (H, W, 3) float32 in the model's range; called in ascending order for each property
    """
    # Imported here because scipy takes longer to import than all else of a render but torch.
    from vera.core.layer.regrain import GrainMaker
    from vera.core.plate.grain import measure_grain
    from vera.core.plate.sharpness import sharpness_of

    grain = measure_grain(frames, picture) if "grain" in asked else None
    blur = None
    if "sharpness" in asked:
        places = np.linspace(0, len(frames) - 1, min(SHARPNESS_FRAMES, len(frames)))
        blur = sharpness_of(picture(frames[round(place)]) @ _LUMA for place in places)
    return Matching(tuple(asked), blur, None if grain is None else GrainMaker(grain, seed), lone=len(frames) == 1)


def _box(there: torch.Tensor, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of the bounding box of the true pixels of (H, W), plus a margin; None if there are none."""
    rows, columns = (there.any(d).nonzero()[:, 0] for d in (1, 0))
    if not len(rows):
        return None
    ends = zip((rows, columns), there.shape)
    return tuple(slice(max(0, int(x[0]) - margin), min(n, int(x[-1]) + 1 + margin)) for x, n in ends)  # type: ignore


def _blurred(planes: torch.Tensor, deviation: float) -> torch.Tensor:
    """Planes (C, H, W) blurred by a Gaussian, with replicated borders."""
    reach = max(1, round(GAUSSIAN_REACH * deviation))
    weights = torch.exp(-(torch.arange(reach + 1) ** 2) / (2 * deviation**2))
    weights = weights / (2 * weights.sum() - weights[0])
    padded = F.pad(planes[:, None], (reach, reach, reach, reach), mode="replicate")
    rows = along(padded, 2, weights)[:, :, reach:-reach]
    return along(rows, 3, weights)[:, 0, :, reach:-reach]
