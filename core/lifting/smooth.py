"""Filters of videos (T, C, H, W): Gaussian means, minima, maxima, weighted medians, luma."""

import torch
import torch.nn.functional as F

from vera.kernels.blur import blur
from vera.kernels.largest import largest


def blur_widely(video: torch.Tensor, space: float, time: float = 0.0) -> torch.Tensor:
    """`blur` for a large sigma: shrink so that sigma is about 4 pixels, blur, enlarge."""
    step = max(1, int(space / 4))
    small = blur(F.avg_pool2d(video, step, ceil_mode=True, count_include_pad=False), space / step, time)
    return F.interpolate(small, video.shape[2:], mode="bilinear", align_corners=False)


class WeightedMeans:
    """Gaussian means of videos, all with one weight: blur(weight * video) / blur(weight)."""

    def __init__(self, weight: torch.Tensor, space: float, time: float = 0.0) -> None:
        """weight (T, 1 or C, H, W). space, time: sigmas in pixels and frames."""
        self.weight, self.sigmas = weight, (space, time)
        self.total = blur(weight, space, time).clamp_min(1e-8)

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        """The means of a video (T, C, H, W)."""
        return blur(self.weight * video, *self.sigmas) / self.total


def weighted(video: torch.Tensor, weight: torch.Tensor, space: float, time: float = 0.0) -> torch.Tensor:
    """`WeightedMeans` of one video."""
    return WeightedMeans(weight, space, time)(video)


def grown(video: torch.Tensor, space: int, time: int = 0) -> torch.Tensor:
    """Maximum within `space` pixels and `time` frames each way."""
    for axis, reach in ((2, space), (3, space), (0, time)):
        if reach:
            video = largest(video, axis, reach)
    return video


def shrunk(video: torch.Tensor, space: int, time: int = 0) -> torch.Tensor:
    """Minimum within `space` pixels and `time` frames each way."""
    return -grown(-video, space, time)


def weighted_median(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The value of values (N,) below which half of the weight (N,) lies."""
    values, order = values.sort()
    sums = weight[order].cumsum(0)
    return values[int((sums < sums[-1] / 2).sum())]


def luma(video: torch.Tensor) -> torch.Tensor:
    """Rec.709 luma of encoded colour, (T, 1, H, W)."""
    return (video * video.new_tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(1, keepdim=True)
