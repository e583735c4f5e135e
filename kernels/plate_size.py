"""Enlarge the layer's alpha and colour from the model's size to the plate's."""

import torch
import torch.nn.functional as F

from vera.kernels.native_module import native
from vera.kernels.part import Window
from vera.kernels.planes import grow

# Without the native module, the torch reference does the same, slower.
outlined_alpha, native_color = (native.outlined_alpha, native.plate_color) if native else (None, None)


# Decoded alpha at which the result is exactly 0 and 1; linear between, because a decoder never gives exact ends.
SNAP_RANGE = (0.02, 0.98)
# Amount by which the fitted alpha is stretched about 1/2 at either end, to undo the slight blur of the fit.
FIT_STRETCH = 0.03


def plate_alpha(
    alpha: torch.Tensor,
    fit: torch.Tensor,
    edge: torch.Tensor,
    plate: torch.Tensor,
    steepness: float,
    window: Window | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha at plate size (H, W), with exact 0 and 1, and the weight (H, W) with which the plate explains it.

    alpha: (h, w) in [0, 1], at model size. It is enlarged bicubically, and replaced where `edge` or `fit` has weight.
    edge: (eh, ew, 4): low, rise, distance and hardness; the first three are multiplied by the hardness. Where hardness
        is above 0, alpha is `low` outside of an outline and low + rise inside, with an edge of width 1 / steepness in
        the unit of distance.
    fit: (h, w, 5): A_r, A_g, A_b, b and weight. Alpha is A.plate + b, stretched, with this weight.
    plate: (H, W, 3) in [0, 1], encoded.
    window: the part of a larger plate that (H, W) is; by default it is all of it
    All are float32 tensors on one device.
    """
    window = window or Window.whole(plate.shape)
    if outlined_alpha is None or plate.is_cuda:
        return reference_alpha(alpha, fit, edge, plate, steepness, window)
    alpha, fit, edge, plate = (x.contiguous().numpy() for x in (alpha, fit, edge, plate))
    made = outlined_alpha(alpha, fit, edge, plate, steepness, *window.size, list(window.part))
    return tuple(map(torch.from_numpy, made))


def plate_color(color: torch.Tensor, alpha: torch.Tensor, window: Window | None = None) -> torch.Tensor:
    """Colour (h, w, 3) enlarged bicubically to (H, W, 3) in [0, 1]; 0 where alpha (H, W) is 0. window: see
    `plate_alpha`."""
    window = window or Window.whole(alpha.shape)
    if native_color is None or color.is_cuda:
        return reference_color(color, alpha, window)
    color, alpha = color.contiguous(), alpha.contiguous()
    return torch.from_numpy(native_color(color.numpy(), alpha.numpy(), *window.size, list(window.part)))


def reference_alpha(
    alpha: torch.Tensor,
    fit: torch.Tensor,
    edge: torch.Tensor,
    plate: torch.Tensor,
    steepness: float,
    window: Window | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`plate_alpha` in plain torch, on any device."""
    size, part = window or Window.whole(plate.shape)
    here = part.slices
    value = resize(alpha[..., None], size)[..., 0].clamp(0, 1)[here]
    low, rise, distance, hard = (grow(x[None, None], size)[0, 0][here] for x in edge.unbind(-1))
    t = (0.5 + steepness * distance / hard.clamp_min(1e-6)).clamp(0, 1)
    value = (value + low + t * rise - hard * value).clamp(0, 1)
    fine = grow(fit.movedim(-1, 0)[None], size)[0].movedim(0, -1)[here]
    guided = (fine[..., :3] * plate).sum(-1) + fine[..., 3]
    guided = ((guided - FIT_STRETCH) / (1 - 2 * FIT_STRETCH)).clamp(0, 1)
    value = value + fine[..., 4] * (guided - value)
    return ((value - SNAP_RANGE[0]) / (SNAP_RANGE[1] - SNAP_RANGE[0])).clamp(0, 1), fine[..., 4]


def reference_color(color: torch.Tensor, alpha: torch.Tensor, window: Window | None = None) -> torch.Tensor:
    """`plate_color` in plain torch, on any device."""
    size, part = window or Window.whole(alpha.shape)
    return resize(color, size).clamp(0, 1)[part.slices] * (alpha != 0)[..., None]


def resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic resampling of (h, w, C) float32 to `size` (height, width).

    The filter widens when shrinking, so that nothing aliases. It overshoots by some per cent beside hard edges: clamp
    the result where its range matters.
    """
    # antialias=True is plain Catmull-Rom when enlarging; torch's other bicubic (a = -0.75) overshoots more.
    planes = image.movedim(-1, 0)[None]
    return F.interpolate(planes, size=tuple(size), mode="bicubic", antialias=True)[0].movedim(0, -1)
