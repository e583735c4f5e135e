"""Filters of videos (T, C, H, W): Gaussian means, minima, maxima, weighted medians, luma."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from vera.kernels.blur import blur
from vera.kernels.largest import largest


def by_frame(function: Callable[..., Any], *videos: torch.Tensor) -> Any:
    """`function` of the frames (1, C, H, W) of videos (T, C, H, W), one after the other; its results as videos.

    function: returns one frame or a tuple of frames; `by_frame` returns one video or a tuple of videos
    What `function` computes on the way is as small as a frame: it takes little memory and stays in a cache.
    """
    found: tuple[torch.Tensor, ...] = ()
    single = True
    for t, frames in enumerate(zip(*(video.split(1) for video in videos), strict=True)):
        results = function(*frames)
        if single := isinstance(results, torch.Tensor):
            results = (results,)
        if not t:
            found = tuple(r.new_empty(len(videos[0]), *r.shape[1:]) for r in results)
        for video, result in zip(found, results, strict=True):
            video[t : t + 1] = result
    return found[0] if single else found


Box = tuple[slice, slice]  # rows and columns


def box_around(there: torch.Tensor, room: int, step: int = 1) -> Box | None:
    """Rows and columns of all that is not 0 in a video (T, 1, H, W), on any frame, with `room` pixels around; None if
    all is 0. The first row and column are multiples of `step`.

    Means at what is not 0 have the bits of the whole frame's, if their windows reach no further than the room.
    """
    ends = []
    for axis, size in ((3, there.shape[2]), (2, there.shape[3])):
        at = (there != 0).any(axis).any(0)[0].nonzero()
        if not len(at):
            return None
        first = max(0, int(at[0]) - room)
        ends.append(slice(first - first % step, min(size, int(at[-1]) + 1 + room)))
    return ends[0], ends[1]


def from_box(part: torch.Tensor, box: Box, size: Sequence[int]) -> torch.Tensor:
    """The video (T, C, *size) that is `part` in the box, and 0 elsewhere."""
    found = part.new_zeros(*part.shape[:2], *size)
    found[:, :, *box] = part
    return found


def blurred(
    function: Callable[..., torch.Tensor], videos: Sequence[torch.Tensor], space: float, time: float = 0.0
) -> torch.Tensor:
    """`blur(function(*videos), space, time)`, for a function of single frames, as in `by_frame`."""
    return blur(by_frame(lambda *frames: blur(function(*frames), space), *videos), 0.0, time)


def blur_widely(video: torch.Tensor, space: float, time: float = 0.0) -> torch.Tensor:
    """`blur` for a large sigma: shrink so that sigma is about 4 pixels, blur, enlarge."""
    return enlarged(blur_small(by_frame(lambda v: shrunk_for(v, space), video), space, time), video.shape[2:])


def shrunk_for(video: torch.Tensor, space: float) -> torch.Tensor:
    """The first step of `blur_widely`."""
    return F.avg_pool2d(video, step_of(space), ceil_mode=True, count_include_pad=False)


def blur_small(small: torch.Tensor, space: float, time: float = 0.0) -> torch.Tensor:
    """The second step of `blur_widely`, with the sigmas of the whole."""
    return blur(small, space / step_of(space), time)


def enlarged(small: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """The third step of `blur_widely`: the video (T, C, h, w) enlarged to `size` (height, width)."""
    return F.interpolate(small, tuple(size), mode="bilinear", align_corners=False)


def step_of(space: float) -> int:
    """Pixels a side that are averaged before a blur of this sigma."""
    return max(1, int(space / 4))


class WeightedMeans:
    """Gaussian means of videos, all with one weight: blur(weight * video) / blur(weight)."""

    def __init__(self, weight: torch.Tensor, space: float, time: float = 0.0) -> None:
        """weight (T, 1 or C, H, W). space, time: sigmas in pixels and frames."""
        self.weight, self.sigmas = weight, (space, time)
        self.total = blur(weight, space, time).clamp_(min=1e-8)

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        """The means of a video (T, C, H, W)."""
        return blurred(torch.mul, (self.weight, video), *self.sigmas).div_(self.total)


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
