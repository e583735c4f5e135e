"""Extrapolate values from pixels where they are known to the others."""

import torch
import torch.nn.functional as F


def spread(video: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Values extended from pixels with a weight near 1 to pixels with weight 0, by a pyramid of means.

    video (T, C, H, W), weight (T, 1, H, W) in [0, 1]. The result is 0 if the whole frame has no weight.
    """
    sums, weights = [video * weight], [weight]
    while max(sums[-1].shape[-2:]) > 1:
        sums.append(F.avg_pool2d(sums[-1], 2, ceil_mode=True, count_include_pad=False))
        weights.append(F.avg_pool2d(weights[-1], 2, ceil_mode=True, count_include_pad=False))
    filled = sums[-1] / weights[-1].clamp_min(1e-8)
    for total, w in zip(sums[-2::-1], weights[-2::-1]):
        below = F.interpolate(filled, size=total.shape[-2:], mode="bilinear", align_corners=False)
        filled = torch.lerp(below, total / w.clamp_min(1e-8), (4 * w).clamp(max=1))
    return filled
