"""The model's layer, made for the space in which a host will lay it over.

The model composes C = a E + (1 - a) S in encoded space. The same alpha in
linear light would be another picture, so for linear blending both alpha and
colour are made anew, against the plate S that the layer will lie on.
"""

import numpy as np

from core.plate.color import decode_srgb

# Below this an alpha adds at most 1/16 of an 8-bit step: the plate is left alone.
LEAST_ALPHA = 2.0**-12


def layer_for_blending(edit, alpha, plate_encoded, blend_space):
    """The premultiplied layer (H, W, 4) float16 that makes the model's composite.

    edit: (H, W, 3) float32, straight colour E, encoded sRGB in [0, 1].
    alpha: (H, W) float32, a in [0, 1], as the model composes.
    plate_encoded: (H, W, 3) float32, the plate S, encoded sRGB clipped to
        [0, 1]; a NaN counts as 0, so that no layer ever holds one.
    blend_space: "encoded": colour a E, alpha a. "linear", with f the sRGB
        decoding: alpha a' = 1 - (1 - a)^2.4 and colour f(C) - (1 - a') f(S),
        which is never negative, because f(kx) >= k^2.4 f(x) for 0 <= k <= 1.

    Exactly 0 in all channels where alpha is below 2^-12; alpha exactly 1 where
    it was 1. In linear light a' is rounded *up* to a half and the colour is
    taken against the rounded a', so that half's coarse steps near 1 (2^-11)
    do not show: laid over S the layer gives C to within 0.07 of an 8-bit
    display step in linear light and 0.13 in encoded space (worst of nine
    million random, dark, near-clear and near-opaque pixels each). Over
    highlights above 1 the rounding of 1 - a' remains: light of at most 2^-11
    of the highlight is lost, all of what passes where a > 0.958 and a' is 1.

    Raises ValueError on an unknown space or a NaN in edit or alpha.
    """
    if blend_space not in ("linear", "encoded"):
        raise ValueError(f"blend_space is {blend_space!r}; use linear or encoded")
    if not (np.isfinite(alpha).all() and np.isfinite(edit).all()):
        raise ValueError("the edit or its alpha holds a NaN or an infinity")
    layer = np.zeros((*alpha.shape, 4), np.float16)
    touched = alpha >= LEAST_ALPHA
    e, a, s = edit[touched], alpha[touched][:, None], np.nan_to_num(plate_encoded[touched])
    layer[touched] = _encoded(e, a) if blend_space == "encoded" else _linear(e, a, s)
    return layer


def _encoded(e, a):
    return np.concatenate([a * e, a], axis=1).astype(np.float16)


def _linear(e, a, s):
    alpha = _half_not_below(1 - (1 - a) ** np.float32(2.4))
    composite = a * e + (1 - a) * s
    color = decode_srgb(composite) - (1 - alpha.astype(np.float32)) * decode_srgb(s)
    return np.concatenate([np.maximum(color, 0).astype(np.float16), alpha], axis=1)


def _half_not_below(values):
    """The least halves not below values in [0, 1]."""
    halves = values.astype(np.float16)
    low = halves.astype(np.float32) < values
    return np.where(low, np.nextafter(halves, np.float16(2)), halves)
