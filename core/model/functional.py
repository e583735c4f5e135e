"""Small functions that the models share."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def mean_of_words(text: Tensor) -> Tensor:
    """Mean of text states (B, N, D) over the positions that are not all zeros, (B, D); zeros if there are none."""
    is_word = (text != 0).any(-1, keepdim=True)
    return text.sum(1) / is_word.sum(1).clamp_min(1)


def zero_init(module: Layer) -> Layer:
    """The module with all of its parameters 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def cell_centres(count: int, device: torch.device | str) -> Tensor:
    """Centres of `count` equal cells across the frame, from -1 to 1."""
    return (torch.arange(count, device=device) + 0.5) / count * 2 - 1
