"""Weights that are not trained, in few bytes: 8 bits, and in the host's memory while their block does not work."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call


class FrozenLinear(nn.Module):
    """A linear layer of int8 weights, a scale a row: the weights are as `--weights int8` rounds them.

    Computes in the input's type; the gradient of its input goes through, the weights have none.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        """weight (out, in) of any floating type, bias (out,) or None."""
        super().__init__()
        wide = weight.detach().float()
        scale = (wide.abs().amax(1, keepdim=True) / 127).clamp_min(1e-12)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter((wide / scale).round().clamp(-127, 127).to(torch.int8), requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _Product.apply(x, self.weight, self.scale, None if self.bias is None else self.bias.to(x.dtype))


class _Product(torch.autograd.Function):
    """x W^T + b of an int8 W; the wide weights are made when they are needed, and never kept for the gradient."""

    @staticmethod
    def forward(ctx, x, weight, scale, bias):
        ctx.save_for_backward(weight, scale)
        return F.linear(x, _wide(weight, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx, gradient):
        weight, scale = ctx.saved_tensors
        return gradient @ _wide(weight, scale, gradient.dtype), None, None, None


def _wide(weight, scale, dtype):
    return (weight * scale).to(dtype)


def freeze_in_8_bits(blocks: nn.Module) -> None:
    """Every linear layer in `blocks` whose weight is not trained becomes a FrozenLinear, adapters' own excepted."""
    for parent in list(blocks.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(parent, name, FrozenLinear(child.weight, child.bias))


def visit(block: nn.Module, device: torch.device, hidden: torch.Tensor, *given: Any) -> torch.Tensor:
    """Run a block on `device`, its parameters that wait elsewhere copied there for this call and its gradient."""
    waiting = {name: p for name, p in block.named_parameters() if p.device != device}
    fetched = {name: p.detach().to(device, non_blocking=True) for name, p in waiting.items()}
    return functional_call(block, fetched, (hidden, *given)) if fetched else block(hidden, *given)
