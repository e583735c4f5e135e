"""Frozen weights in little GPU memory: as int8, or in host memory while their block does not run."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call


class FrozenLinear(nn.Module):
    """A linear layer with int8 weights and one scale per row, rounded as `--weights int8` does.

    It computes in the input's dtype. The input gets a gradient, the weights do not.
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
    """x W^T + b for an int8 W. The dequantised weights are computed when needed and not saved for backward."""

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
    """Replace every linear layer in `blocks` whose weight is not trained by a FrozenLinear."""
    for parent in list(blocks.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and not child.weight.requires_grad:
                setattr(parent, name, FrozenLinear(child.weight, child.bias))


def run_on_device(block: nn.Module, device: torch.device, hidden: torch.Tensor, *inputs: Any) -> torch.Tensor:
    """Run a block on `device`. Parameters on other devices are copied there for this call and its gradient."""
    elsewhere = {name: p for name, p in block.named_parameters() if p.device != device}
    copied = {name: p.detach().to(device, non_blocking=True) for name, p in elsewhere.items()}
    return functional_call(block, copied, (hidden, *inputs)) if copied else block(hidden, *inputs)
