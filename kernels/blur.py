"""Gaussian means of videos over space and time."""

import functools
import math

import torch

from vera.kernels.native_module import native as _native

KERNEL_REACH = 2.5  # radius of the kernel in sigmas; raising it is slower and changes the third digit


def blur(video: torch.Tensor, space: float, time: float = 0.0) -> torch.Tensor:
    """Gaussian means of a video (T, C, H, W). space, time: sigmas in pixels and frames. Pixels outside do not count.

    float32 on a CPU is computed natively, to within 1e-6 of the reference; everything else by the reference.
    """
    axes = [(3, space), (2, space), (0, time)]
    planes = video.shape[0] * video.shape[1]
    if space > 0 and min(video.shape[2:]) > 1 and planes >= torch.get_num_threads() and _is_native(video):
        kernel = half_kernel(space).numpy()
        values = video.contiguous().view(planes, *video.shape[2:]).numpy()
        video = torch.from_numpy(_native.blur_planes(values, kernel, kernel, torch.get_num_threads())).view(video.shape)
        axes = [(0, time)]
    for axis, sigma in axes:
        if sigma > 0 and video.shape[axis] > 1:
            video = along(video, axis, half_kernel(sigma))
    return video


def _is_native(video: torch.Tensor) -> bool:
    return _native is not None and video.dtype == torch.float32 and not video.is_cuda


@functools.lru_cache(64)
def half_kernel(sigma: float) -> torch.Tensor:
    """Weights of a Gaussian from its centre outward, (reach + 1,); both halves together sum to 1."""
    reach = max(1, math.ceil(KERNEL_REACH * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(reach + 1) / sigma) ** 2)
    return kernel / (2 * kernel.sum() - kernel[0])


def along(video: torch.Tensor, axis: int, weights: torch.Tensor) -> torch.Tensor:
    """Means along one axis with symmetric weights, given from the centre outward."""
    if not _is_native(video):
        return reference_along(video, axis, weights)
    shape = video.shape
    lines = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
    values = video.contiguous().view(lines).numpy()
    return torch.from_numpy(_native.blur_lines(values, weights.numpy(), torch.get_num_threads())).view(shape)


def reference_along(video: torch.Tensor, axis: int, weights: torch.Tensor) -> torch.Tensor:
    """`along` as a sum of shifted copies, in plain torch on any device and in any type."""
    size, reach = video.shape[axis], len(weights) - 1
    total, count = torch.zeros_like(video), torch.zeros(size, dtype=video.dtype)
    for shift in sorted(range(-reach, reach + 1), key=abs):
        length, weight = size - abs(shift), float(weights[abs(shift)])
        if length > 0:
            to, source = max(0, -shift), max(0, shift)
            total.narrow(axis, to, length).add_(video.narrow(axis, source, length), alpha=weight)
            count[to : to + length] += weight
    return total.div_(count.to(video.device).reshape([-1 if d == axis else 1 for d in range(video.ndim)]))
