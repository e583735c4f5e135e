"""The layer's alpha and colour brought from the model's size to the plate's."""

import torch
import torch.nn.functional as F

from vera.kernels.planes import grow

try:
    from vera.kernels._native import outlined_alpha
    from vera.kernels._native import plate_color as native_color
except ImportError:  # not built, or of older sources: the torch reference does the same, slower
    outlined_alpha = native_color = None

# A decoder never gives exact ends: alpha below the first is 0, above the second 1, linear between.
SNAP = (0.02, 0.98)
# The fit blurs a little; what it gives is stretched about 1/2 by so much at either end.
FIT_STRETCH = 0.03


def plate_alpha(
    alpha: torch.Tensor, fit: torch.Tensor, edge: torch.Tensor, plate: torch.Tensor, steepness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha at plate size, and how far the plate explains it.

    alpha: (h, w) in [0, 1], at model size. It is grown bicubically, and then drawn in one of two ways:
    edge: (eh, ew, 4), low, rise, distance, hard, the first three multiplied by the last: where hard is above 0, alpha
        is low outside of an outline and rises inside, over a width of 1 / steepness in the distance's unit.
    fit: (h, w, 5), A_r, A_g, A_b, b, weight: alpha as the plate draws it, A.plate + b, stretched, by this weight.
    plate: (H, W, 3) in [0, 1], encoded.

    All float32 tensors on one device. Returns alpha (H, W), exact 0 and 1 at its ends, and the weight (H, W).
    """
    if outlined_alpha is None or plate.is_cuda:
        return reference_alpha(alpha, fit, edge, plate, steepness)
    alpha, fit, edge, plate = (x.contiguous().numpy() for x in (alpha, fit, edge, plate))
    return tuple(map(torch.from_numpy, outlined_alpha(alpha, fit, edge, plate, steepness)))


def plate_color(color: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Colour (h, w, 3) grown bicubically to (H, W, 3) in [0, 1]; 0 where alpha (H, W) is 0."""
    if native_color is None or color.is_cuda:
        return reference_color(color, alpha)
    return torch.from_numpy(native_color(color.contiguous().numpy(), alpha.contiguous().numpy()))


def reference_alpha(
    alpha: torch.Tensor, fit: torch.Tensor, edge: torch.Tensor, plate: torch.Tensor, steepness: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`plate_alpha` in plain torch, on any device."""
    size = plate.shape[:2]
    value = resize(alpha[..., None], size)[..., 0].clamp(0, 1)
    low, rise, distance, hard = (grow(x[None, None], size)[0, 0] for x in edge.unbind(-1))
    t = (0.5 + steepness * distance / hard.clamp_min(1e-6)).clamp(0, 1)
    value = (value + low + t * rise - hard * value).clamp(0, 1)
    fine = grow(fit.movedim(-1, 0)[None], size)[0].movedim(0, -1)
    guided = (fine[..., :3] * plate).sum(-1) + fine[..., 3]
    guided = ((guided - FIT_STRETCH) / (1 - 2 * FIT_STRETCH)).clamp(0, 1)
    value = value + fine[..., 4] * (guided - value)
    return ((value - SNAP[0]) / (SNAP[1] - SNAP[0])).clamp(0, 1), fine[..., 4]


def reference_color(color: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """`plate_color` in plain torch, on any device."""
    return resize(color, alpha.shape).clamp(0, 1) * (alpha != 0)[..., None]


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic resampling of (h, w, C) float32 to `size` (height, width).

    The kernel widens when shrinking, so nothing aliases. It can overshoot by
    some percent beside hard edges: clip where a range matters.
    """
    # antialias=True is plain Catmull-Rom when growing; torch's other bicubic
    # (a = -0.75) overshoots more.
    planes = image.movedim(-1, 0)[None]
    return F.interpolate(planes, size=tuple(size), mode="bicubic", antialias=True)[0].movedim(0, -1)
