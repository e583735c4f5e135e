"""Split one layer into four that can be graded separately (gain, shadow, veil, object) and add up to it exactly.

    composite = over(object, over(veil, over(shadow, gain * plate)))

P is the plate, A and R are the whole layer's alpha and premultiplied colour, all in the blending space. The composite
is C = R + (1 - A) P. From the top down, each layer takes its share of the alpha, and a colour from its neighbourhood.
The last layer of a pixel takes the remainder after the others were rounded to their file type. So the sum is exact even
if the shares are wrong.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike

from vera.core.layer.outputs.split import SPLIT_LAYERS
from vera.core.layer.spread import spread


@dataclass(frozen=True)
class SplitLimits:
    """Thresholds of the split.

    darkest: plate value in the blending space below which there is no gain. Lowering it gives noisy gains.
    most: largest gain; a brighter part is opaque
    sole: share from which a pixel belongs to one layer alone. Lowering it gives harder seams between layers.
    thinnest: alpha from which a pixel's colour is extended to its neighbours
    """

    darkest: float = 1e-3
    most: float = 16.0
    sole: float = 0.995
    thinnest: float = 0.02


LIMITS = SplitLimits()


@dataclass(frozen=True)
class Kinds:
    """The kinds of a layer's pixels, each (H, W) in [0, 1].

    solid: the opaque part's share of the alpha of opaque part and veil
    dark: 1 where the veil only darkens
    gain: the gain's share of the whole alpha
    """

    solid: np.ndarray
    dark: np.ndarray
    gain: np.ndarray


def split_layer(
    layer: np.ndarray, plate: np.ndarray, kinds: Kinds, dtype: DTypeLike = np.float16, limits: SplitLimits = LIMITS
) -> dict[str, np.ndarray]:
    """The layers of SPLIT_LAYERS by name, in `dtype`: gain (H, W, 3), the others (H, W, 4) premultiplied.

    layer (H, W, 4) premultiplied; plate (H, W, 3) float32; both in the blending space.
    """
    alpha = layer[..., 3:].astype(np.float32)
    seen = layer[..., :3].astype(np.float32) + (1 - alpha) * plate
    gain, over = _gain(seen, alpha, plate, kinds.gain[..., None], limits)
    gain = gain.astype(dtype)
    left = np.where(over > 0, np.maximum(seen - (1 - over) * plate * gain.astype(np.float32), 0), 0)
    dark = kinds.dark[..., None] > 0.5
    solid, thin = _over(left, over, kinds.solid[..., None], dark, dtype, limits)
    nothing = np.zeros((), dtype)
    layers = {
        "gain": gain,
        "shadow": np.where(dark, thin, nothing),
        "veil": np.where(dark, nothing, thin),
        "object": solid,
    }
    return {name: layers[name] for name in SPLIT_LAYERS}


def _gain(seen, alpha, plate, share, limits):
    """The gain (H, W, 3), 1 where there is none, and the alpha (H, W, 1) of the layers over it."""
    ratio = seen / np.maximum(plate, limits.darkest)
    can = (plate > limits.darkest).all(-1, keepdims=True) & (ratio < limits.most).all(-1, keepdims=True)
    share = np.where(can, share, 0)
    share = np.where(share > limits.sole, 1, np.where(share < 1 - limits.sole, 0, share)).astype(np.float32)
    below = share * alpha
    over = np.where(share == 1, 0, alpha - below)
    if not below.any():
        return np.ones_like(plate), over
    alone = (share == 1) & (alpha > 0)
    mixed = (share > 0) & (share < 1)
    gain = np.where(alone, ratio, 1)
    if mixed.any():
        matte = below / np.maximum(1 - over, 1e-6)
        around = 1 + matte * (_carried(ratio, alone & (alpha > limits.sole)) - 1)
        most = seen / np.maximum((1 - over) * plate, limits.darkest * 1e-3)
        gain = np.where(mixed, np.clip(np.minimum(around, most), 0, limits.most), gain)
    return gain.astype(np.float32), over


def _over(color, alpha, share, dark, dtype, limits):
    """A premultiplied layer split into its opaque part and the veil below, each (H, W, 4) of `dtype`."""
    share = np.where(share > limits.sole, 1, np.where(share < 1 - limits.sole, 0, share)).astype(np.float32)
    solid = (share * alpha).astype(dtype).astype(np.float32)
    rest = 1 - solid
    thin = np.where(share == 1, 0, np.clip((alpha - solid) / np.maximum(rest, 1e-6), 0, 1))
    alone, mixed = (share == 0) & (alpha > 0), (share > 0) & (share < 1)
    below = np.where(alone, color, 0)
    if mixed.any():
        straight = color / np.maximum(alpha, 1e-4)
        around = np.where(dark, 0, thin * _carried(straight, alone & ~dark & (alpha > limits.thinnest)))
        below = np.where(mixed, np.minimum(around, color / np.maximum(rest, 1e-6)), below)
    below = below.astype(dtype)
    above = np.where(share > 0, np.maximum(color - rest * below.astype(np.float32), 0), 0)
    return (
        np.concatenate([above.astype(dtype), solid.astype(dtype)], -1),
        np.concatenate([below, thin.astype(dtype)], -1),
    )


def _carried(values, known):
    """Values (H, W, C) of the known pixels (H, W, 1), extended to the others."""

    def as_video(plane):
        return torch.from_numpy(np.ascontiguousarray(plane, np.float32)).movedim(-1, 0)[None]

    return spread(as_video(values), as_video(known))[0].movedim(0, -1).numpy()
