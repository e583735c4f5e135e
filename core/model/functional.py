"""Small functions that the models share."""

from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU in its tanh approximation, as Wan has it."""
    return F.gelu(x, approximate="tanh")


def mean_of_words(text: Tensor) -> Tensor:
    """Text states (B, N, D) -> (B, D), over the positions that are not zeros; zeros where none is."""
    there = (text != 0).any(-1, keepdim=True)
    return text.sum(1) / there.sum(1).clamp_min(1)


def zero_init(module: Layer) -> Layer:
    """The module with all of its parameters 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def cell_centres(count: int, device: torch.device | str) -> Tensor:
    """Middles of `count` cells across the frame, in halves of it: within -1 .. 1."""
    return (torch.arange(count, device=device) + 0.5) / count * 2 - 1
