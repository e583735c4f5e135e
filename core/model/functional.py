"""Small functions that the models share."""

import torch.nn.functional as F
from torch import arange, nn


def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


def mean_of_words(text):
    """Text states (B, N, D) -> (B, D), over the positions that are not zeros; zeros where none is."""
    there = (text != 0).any(-1, keepdim=True)
    return text.sum(1) / there.sum(1).clamp_min(1)


def zero_init(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def halves(count: int, device):
    """Middles of `count` cells across the frame, in halves of it: within -1 .. 1."""
    return (arange(count, device=device) + 0.5) / count * 2 - 1
