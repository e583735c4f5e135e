"""The largest of neighbouring values of a video, along one axis."""

import math

import torch
import torch.nn.functional as F

from vera.kernels.native_module import native

largest_lines = native.largest_lines if native else None  # without it, torch does the same, slower


def largest(video: torch.Tensor, axis: int, reach: int) -> torch.Tensor:
    """The maximum within `reach` elements each way along an axis of a video (T, C, H, W), in the video's type.

    float32 on a CPU is computed natively, with the same values as by the reference.
    """
    if largest_lines is None or video.dtype != torch.float32 or video.is_cuda:
        return reference(video, axis, reach)
    shape = video.shape
    lines = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    values = video.contiguous().view(lines).numpy()
    return torch.from_numpy(largest_lines(values, reach, torch.get_num_threads())).view(shape)


def reference(video: torch.Tensor, axis: int, reach: int) -> torch.Tensor:
    """`largest` in plain torch, on any device and in any type."""
    lines = video.movedim(axis, -1)
    found = F.max_pool1d(lines.reshape(-1, 1, lines.shape[-1]), 2 * reach + 1, stride=1, padding=reach)
    return found.view(lines.shape).movedim(-1, axis).contiguous()
