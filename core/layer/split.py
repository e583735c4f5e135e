"""One layer as several: gain, shadow, veil and object, each of which can be graded, and which together are the layer.

    composite = over(object, over(veil, over(shadow, gain * plate)))

With P the plate, A and R the whole layer's alpha and premultiplied colour, all in the blending space, the whole is
C = R + (1 - A) P. Top down, each layer takes its share of the alpha, and of the colour what its neighbourhood says; the
last one of a pixel takes what is left, as the files hold the others. So the sum is exact, however the shares err.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import DTypeLike

from vera.core.layer.outputs.split import SPLIT_LAYERS
from vera.core.layer.spread import spread


@dataclass(frozen=True)
class SplitLimits:
    """Thresholds of this method.

    darkest: of the plate in the blending space, of which a gain makes nothing; lower gives gains of noise.
    most: gain; more is a light of its own, an opaque part. sole: share from which a pixel is of one layer alone; lower
    gives harder seams between layers. thinnest: alpha from which a pixel's colour is carried to its neighbours.
    """

    darkest: float = 1e-3
    most: float = 16.0
    sole: float = 0.995
    thinnest: float = 0.02


LIMITS = SplitLimits()


@dataclass(frozen=True)
class Kinds:
    """Of what kind a layer is, each (H, W) in [0, 1].

    solid: the opaque part's share of the alpha that is laid over. dark: 1 where what is thin only dims. gain: share of
    the whole alpha that is a gain's.
    """

    solid: np.ndarray
    dark: np.ndarray
    gain: np.ndarray


def split_layer(
    layer: np.ndarray, plate: np.ndarray, kinds: Kinds, dtype: DTypeLike = np.float16, limits: SplitLimits = LIMITS
) -> dict[str, np.ndarray]:
    """The layers by name, as SPLIT_LAYERS has them, of `dtype`: gain (H, W, 3), the others (H, W, 4) premultiplied.

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
    """The gain (H, W, 3), 1 where nothing is, and the alpha (H, W, 1) of what is laid over it."""
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
    """A premultiplied layer apart into the solid and the thin below it, each (H, W, 4) of `dtype`."""
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
    """Values (H, W, C) of the known pixels, (H, W, 1), carried to the others."""
    as_video = lambda v: torch.from_numpy(np.ascontiguousarray(v, np.float32)).movedim(-1, 0)[None]  # noqa: E731
    return spread(as_video(values), as_video(known))[0].movedim(0, -1).numpy()
