"""Shared parts of the measures: checked planes, separable filters, means."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch

Pixels: TypeAlias = np.ndarray | torch.Tensor


def picture(values: Pixels) -> torch.Tensor:
    """Check a picture (H, W, 3) and return it as fp64. Raises ValueError for another shape, NaN or infinity."""
    return _checked(values, "a picture", 3)


def plane(values: Pixels) -> torch.Tensor:
    """Check an alpha (H, W) in [0, 1] and return it as fp64. Raises ValueError for another shape, NaN, or values
    outside [0, 1]."""
    checked = _checked(values, "an alpha", 2)
    if checked.min() < 0 or checked.max() > 1:
        raise ValueError(f"an alpha holds values from {checked.min():g} to {checked.max():g}; it must be in [0, 1]")
    return checked


def same_size(a: torch.Tensor, b: torch.Tensor) -> None:
    """Raise ValueError if height or width differ."""
    if a.shape[:2] != b.shape[:2]:
        sizes = " and ".join(f"{x.shape[1]}x{x.shape[0]}" for x in (a, b))
        raise ValueError(f"frames of {sizes} cannot be compared; sizes must be equal")


def filtered(planes: torch.Tensor, down: Sequence[float], across: Sequence[float]) -> torch.Tensor:
    """Correlate (..., H, W) with the outer product of two lists of taps, without padding.

    Returns (..., H - len(down) + 1, W - len(across) + 1).
    """
    return _along(_along(planes, down, -2), across, -1)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are not None; None if there is no such value."""
    measured = [v for v in values if v is not None]
    return sum(measured) / len(measured) if measured else None


class Means:
    """Running means of figures by name. None values are left out; a figure with only None values has mean None."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, int]] = {}

    def add(self, **values: float | None) -> None:
        for name, value in values.items():
            total, count = self.sums.get(name, (0.0, 0))
            self.sums[name] = (total, count) if value is None else (total + value, count + 1)

    def figures(self) -> dict[str, float | None]:
        return {name: total / count if count else None for name, (total, count) in self.sums.items()}


def _checked(values: Pixels, name: str, dims: int) -> torch.Tensor:
    checked = torch.as_tensor(values).detach().to(torch.float64)
    if checked.ndim != dims or (dims == 3 and checked.shape[2] != 3) or 0 in checked.shape:
        wanted = "(H, W, 3)" if dims == 3 else "(H, W)"
        raise ValueError(f"{name} is {wanted}, not {tuple(checked.shape)}")
    if not torch.isfinite(checked).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return checked


def _along(planes: torch.Tensor, taps: Sequence[float], dim: int) -> torch.Tensor:
    length = planes.shape[dim] - len(taps) + 1
    out = planes.narrow(dim, 0, length) * taps[0]
    for offset in range(1, len(taps)):
        out.add_(planes.narrow(dim, offset, length), alpha=taps[offset])
    return out
