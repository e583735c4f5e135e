"""Small tools on planes (B, C, H, W), in torch on any device."""

import torch.nn.functional as F


def pull_push(planes, trust):
    """Planes where trust (B, 1, H, W) is 1; where it lacks, means of trusted neighbours, near before far."""
    return _fill(planes * trust, trust)


def _fill(weighted, weight):
    if max(weight.shape[-2:]) == 1:
        return weighted / weight.clamp_min(1e-6)
    # Sums of 2 x 2, so that a coarse pixel is as sure as its four together.
    padded = [F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)) for x in (weighted, weight)]
    sums = [4 * F.avg_pool2d(x, 2) for x in padded]
    scale = sums[1].clamp_min(1.0)
    coarse = _fill(sums[0] / scale, sums[1] / scale)
    grown = grow(coarse, [2 * n for n in coarse.shape[-2:]])
    return weighted + (1 - weight) * grown[..., : weight.shape[-2], : weight.shape[-1]]


def dilate(planes, radius):
    """Maximum within (2 radius + 1)^2 pixels, a column and then a row."""
    window = 2 * radius + 1
    planes = F.max_pool2d(planes, (window, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(planes, (1, window), stride=1, padding=(0, radius))


def blur(planes, radius):
    """Mean within (2 radius + 1)^2 pixels; beyond the border nothing counts."""
    window, options = 2 * radius + 1, {"stride": 1, "count_include_pad": False}
    planes = F.avg_pool2d(planes, (window, 1), padding=(radius, 0), **options)
    return F.avg_pool2d(planes, (1, window), padding=(0, radius), **options)


def grow(planes, size):
    """Bilinear, pixel centres aligned as areas."""
    return F.interpolate(planes, size=tuple(size), mode="bilinear", align_corners=False)


def smoothstep(x, low, high):
    """0 below low, 1 above high, smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)
