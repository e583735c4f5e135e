"""From the model's resolution to the plate's: alpha with crisp edges, clean colour."""

import numpy as np
import torch
import torch.nn.functional as F

# Each pixel looks for an edge's two sides this far, in model pixels, on a grid
# of GUIDE pixels to a model pixel.
REACH = 4 / 3
GUIDE = 3
# A hard edge comes out about so wide, in plate pixels.
EDGE_WIDTH = 2.5
# An edge is hard where alpha rises by more than this within the reach: wholly
# from the second value on, not at all below the first (soft shadows, smoke).
HARD_EDGE = (0.35, 0.7)
# ... and does not go on rising farther out, as a ramp does: the rise within the
# reach beside that within twice the reach (a ramp 0.5, an edge 1).
ENDS_HERE = (0.7, 0.9)


def resize(image, size):
    """Bicubic resampling of (H, W) or (H, W, C) float32 to `size` (height, width).

    The kernel widens when shrinking, so nothing aliases. It can overshoot by
    some percent beside hard edges: clip where a range matters.
    """
    planes = _planes(image)
    # antialias=True is plain Catmull-Rom when growing; torch's other bicubic
    # (a = -0.75) overshoots more.
    resized = F.interpolate(planes, size=tuple(size), mode="bicubic", antialias=True)
    return _image(resized, image.ndim)


def refine_alpha(alpha, size):
    """Alpha (h, w) in [0, 1] at model resolution to float32 (H, W) at `size`.

    Bicubic, then hard edges are tightened to a few plate pixels: between the
    minimum m and maximum M of the neighbourhood, t = (a - m)/(M - m) is
    steepened about 0.5. A wide ramp has t = 0.5 all along, a soft shadow a
    small M - m: both stay as they are.
    """
    fine = _planes(resize(alpha, size)).clamp(0, 1)
    guide = _planes(resize(alpha, [GUIDE * n for n in alpha.shape])).clamp(0, 1)
    low, high = _surroundings(guide, round(GUIDE * REACH))
    farther_low, farther_high = _surroundings(guide, round(2 * GUIDE * REACH))
    ends_here = (high - low) / (farther_high - farther_low).clamp_min(1e-6)
    hard = _smoothstep(high - low, *HARD_EDGE) * _smoothstep(ends_here, *ENDS_HERE)
    low, rise, hard = (_grow(x, size) for x in (low, high - low, hard))
    # An edge of two model pixels is two scales wide before the tightening.
    steepness = max(1.0, 2 * max(n / o for n, o in zip(size, alpha.shape)) / EDGE_WIDTH)
    t = (0.5 + steepness * ((fine - low) / rise.clamp_min(1e-6) - 0.5)).clamp(0, 1)
    tight = fine + hard * (low + t * rise - fine)
    return _image(tight.clamp(0, 1), 2)


def _surroundings(guide, radius):
    """Minimum and maximum within the radius, smoothed so that they make no corners."""
    return -_blur(_dilate(-guide, radius), radius), _blur(_dilate(guide, radius), radius)


def snap(alpha, low=0.02, high=0.98):
    """Alpha with exact 0 below `low` and exact 1 above `high`, linear between.

    A decoder never gives exact ends; the stretch between them leaves no step.
    """
    return np.clip((alpha - np.float32(low)) / np.float32(high - low), 0, 1)


def extend_color(edit, alpha):
    """Straight colour (h, w, 3) carried outward past the layer's edge, float32.

    At an edge the decoder's colour holds a tint of the background. A pixel is
    trusted by its alpha beside the largest of its neighbours', to the fourth; where
    trust lacks, colour comes from a pyramid of trusted means (pull-push). The
    inside of a translucent layer is its neighbours' equal and stays.
    """
    planes, alpha = _planes(edit), _planes(alpha)
    trust = (alpha / _dilate(alpha, 2).clamp_min(1e-4)).clamp(0, 1) ** 4
    trust = torch.where(alpha > 0.02, trust, 0.0)
    return _image(_pull_push(planes * trust, trust), 3)


def _pull_push(weighted, weight):
    """Fill where weight < 1 from coarser means; weighted = colour x weight."""
    if max(weight.shape[-2:]) == 1:
        return weighted / weight.clamp_min(1e-6)
    # Sums of 2 x 2, so that a coarse pixel is as sure as its four together.
    padded = [F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)) for x in (weighted, weight)]
    sums = [4 * F.avg_pool2d(x, 2) for x in padded]
    scale = sums[1].clamp_min(1.0)
    coarse = _pull_push(sums[0] / scale, sums[1] / scale)
    grown = _grow(coarse, [2 * n for n in coarse.shape[-2:]])
    grown = grown[..., : weight.shape[-2], : weight.shape[-1]]
    return weighted + (1 - weight) * grown


def _dilate(planes, radius):
    """Maximum within (2 radius + 1)^2 pixels, a column and then a row."""
    window = 2 * radius + 1
    planes = F.max_pool2d(planes, (window, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(planes, (1, window), stride=1, padding=(0, radius))


def _blur(planes, radius):
    """Mean within (2 radius + 1)^2 pixels; beyond the border nothing counts."""
    window, options = 2 * radius + 1, {"stride": 1, "count_include_pad": False}
    planes = F.avg_pool2d(planes, (window, 1), padding=(radius, 0), **options)
    return F.avg_pool2d(planes, (1, window), padding=(0, radius), **options)


def _grow(planes, size):
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)


def _smoothstep(x, low, high):
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _planes(image):
    """(H, W) or (H, W, C) numpy to (1, C, H, W) torch, float32."""
    tensor = torch.from_numpy(np.ascontiguousarray(image, np.float32))
    return (tensor[..., None] if tensor.ndim == 2 else tensor).permute(2, 0, 1)[None]


def _image(planes, dimensions):
    """(1, C, H, W) torch back to numpy of two or three dimensions."""
    image = planes[0].permute(1, 2, 0).contiguous().numpy()
    return image[..., 0] if dimensions == 2 else image
