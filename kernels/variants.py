"""Joint attention by name: dense, and the optional variants that trade exactness for speed."""

from collections.abc import Callable
from functools import partial

import torch

from vera.kernels.int8 import int8_attention
from vera.kernels.joint_attention import joint_attention
from vera.kernels.windowed import windowed_attention

VARIANTS = ("dense", "int8", "window")


def attention_variant(name: str, grid: tuple[int, int, int]) -> Callable[..., torch.Tensor]:
    """The attention of a name, a function of query, key and value (B, 3, L, H, K). Raises ValueError if unknown.

    grid: (T, H, W) in tokens
    """
    if name == "dense":
        return joint_attention
    if name == "int8":
        return int8_attention
    if name == "window":
        return partial(windowed_attention, grid=grid)
    raise ValueError(f"unknown joint attention {name!r}; use one of {', '.join(VARIANTS)}")
