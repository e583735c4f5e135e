"""Give the matte of a removed thing a margin, as the patch of a clean plate has.

Where something was removed, the edited video continues its surroundings, and the matte that the difference gives has
the outline of what was removed. A codec leaves a trace of it around that outline.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy import ndimage

from vera.core.lifting.smooth import blur, box_around, by_frame, from_box, grown, shrunk, weighted
from vera.kernels.blur import half_kernel


@dataclass(frozen=True)
class PatchLimits:
    """Thresholds of this step.

    solid: alpha above which a pixel is opaque. Raising it shrinks the opaque parts.
    rim: pixels each side of the outline whose colours are compared, apart from the `edge` pixels next to it
    continues: step of the edited video at the outline as a share of the plate's, below which the edited video continues
        its surroundings there. Raising it gives a margin to what was replaced.
    mostly: smallest share of the outline with such steps in a removed thing. Raising it finds fewer removed things.
    least: smallest step of the plate, as a share of the code range, that is compared. Raising it ignores weak outlines.
    margin: pixels added to the matte of a removed thing; soft: Gaussian sigma in pixels of its new edge
    """

    solid: float = 0.5
    rim: int = 3
    edge: int = 2
    continues: float = 0.15
    mostly: float = 0.4
    least: float = 0.04
    margin: int = 3
    soft: float = 1.0


LIMITS = PatchLimits()


def with_margin(
    seen: torch.Tensor,
    clean: torch.Tensor,
    color: torch.Tensor,
    alpha: torch.Tensor,
    solid: torch.Tensor,
    limits: PatchLimits = LIMITS,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight colour (T, 3, H, W) and alpha (T, 1, H, W) of the layer, with a margin around removed things.

    seen, clean (T, 3, H, W): plate and edited video, comparable. solid (T, 1, H, W): alpha of the opaque part
    """
    removed = _removed(seen, clean, (solid > limits.solid).float(), limits)
    if not removed.any():
        return color, alpha
    return by_frame(partial(_widened, limits=limits), clean, color, alpha, removed)


def _widened(clean, color, alpha, removed, limits):
    """`with_margin` of a frame; removed (1, 1, H, W): 1 on removed things."""
    margin = blur(grown(removed, limits.margin), limits.soft)
    margin = margin * (margin > 0.02)
    color = torch.lerp(color, clean, (1 - alpha) * margin / torch.maximum(alpha, margin).clamp_min(1e-4))
    return color, torch.maximum(alpha, margin)


def _removed(seen, clean, solid, limits):
    """The connected solid parts at whose outline the plate has a step and the edited video mostly none."""
    box, frame = box_around(solid, limits.rim + limits.edge + len(half_kernel(limits.rim))), solid.shape[2:]
    if box is None:
        return solid
    seen, clean, solid = (v[:, :, *box] for v in (seen, clean, solid))
    told, continues = by_frame(partial(_steps, limits=limits), seen, clean, solid)
    parts, count = ndimage.label(solid[:, 0].numpy() > 0, np.ones((3, 3, 3)))
    size, share = (ndimage.sum_labels(v[:, 0].numpy(), parts, range(count + 1)) for v in (told, continues))
    taken = share > limits.mostly * size
    taken[0] = False
    return from_box(torch.from_numpy(taken[parts]).float()[:, None], box, frame)


def _steps(seen, clean, solid, limits):
    """Where a frame's plate has a step at the outline of solid parts, and where the edited video then has none."""
    reach = limits.rim + limits.edge
    inside, outside = solid * (1 - shrunk(solid, reach)), grown(solid, reach) - grown(solid, limits.edge)
    seen_step, clean_step = (  # steps between local means, so that texture does not count
        (weighted(v, inside, limits.rim) - weighted(v, outside, limits.rim)).square().mean(1, keepdim=True).sqrt()
        for v in (seen, clean)
    )
    told = inside * (blur(outside, limits.rim) > 0.05) * (seen_step > limits.least)
    return told, told * (clean_step < limits.continues * seen_step)
