"""The layer's colour for hosts that read no EXR: straight (unassociated), encoded with sRGB's curve.

Hosts that blend display values need `--blend-space encoded`: the same alpha gives another picture in another space.
"""

import numpy as np

from vera.core.layer.blend_space import Blending
from vera.core.plate.color_curve import encode_srgb


def straight(layer: np.ndarray, blending: Blending) -> np.ndarray:
    """Layer (H, W, 4) premultiplied -> straight display colour (H, W, 3) float32 in [0, 1], 0 where alpha is 0."""
    color, alpha = layer[..., :3].astype(np.float32), layer[..., 3:].astype(np.float32)
    color = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
    return np.clip(encode_srgb(blending.to_light(color)) if blending.name == "linear" else color, 0, 1)
