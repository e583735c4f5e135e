"""Medians of many values."""

import torch

from vera.kernels.native_module import native

native_median = native.median_size if native else None  # without it, torch does the same, slower


def median_size(values: torch.Tensor, weight: torch.Tensor, least: float) -> float | None:
    """The lower median of |values| over the elements whose weight, of the same shape, exceeds `least`; None of none.

    float32 on a CPU is computed natively, by counting, with the same result as by the reference.
    """
    if native_median is None or not values.dtype == weight.dtype == torch.float32 or values.is_cuda:
        return reference(values, weight, least)
    count, median = native_median(values.contiguous().numpy(), weight.contiguous().numpy(), least)
    return median if count else None


def reference(values: torch.Tensor, weight: torch.Tensor, least: float) -> float | None:
    """`median_size` in plain torch, on any device and in any type."""
    sizes = values.abs()[weight > least]
    return float(sizes.median()) if len(sizes) else None
