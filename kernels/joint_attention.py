"""Joint attention over the three layers: every token attends to every token of every layer.

Layout: (B, 3, L, H, K) for query, key and value: batch, layer (edit, alpha,
composite), tokens of one layer, heads, head dimension. The attention itself
runs over the 3L tokens of one sample, dense and bidirectional.
"""

import math

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from vera.kernels.attention_choice import FLASH, chosen_kind, constant_when_compiled, forced
from vera.kernels.flash import flash_attention

CUDNN_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


def joint_attention_reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """softmax(Q K^T / sqrt(K)) V in plain torch; the definition that every other implementation is compared with.

    Inputs and result are (B, 3, L, H, K); it computes in the inputs' own type.
    """
    b, layers, length, heads, dim = query.shape
    q, k, v = (x.reshape(b, layers * length, heads, dim).transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim), dim=-1)
    return (weights @ v).transpose(1, 2).reshape(b, layers, length, heads, dim)


def joint_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: str | None = None
) -> torch.Tensor:
    """Joint attention by the implementation that kernels/attention_choice.py chooses; shapes as for the reference.

    kind forces one of KINDS there; ValueError if it cannot run here.
    """
    assert query.shape == key.shape == value.shape and query.shape[1] == 3
    if torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value)):
        return _attend(query, key, value, kind, needs_gradient=True)
    if torch.compiler.is_compiling():
        return torch.ops.vera.joint_attention(query, key, value, kind)
    # Not by the custom operator, whose first call imports all of torch._dynamo (2 CPU seconds).
    return _attend(query, key, value, kind, needs_gradient=False).contiguous()


@torch.library.custom_op("vera::joint_attention", mutates_args=())
def _without_gradient(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: str | None) -> torch.Tensor:
    """The attention without gradients, as one custom operator.

    The implementation is then chosen at each call, without a graph break in a compiled block.
    """
    return _attend(query, key, value, kind, needs_gradient=False).contiguous()


@_without_gradient.register_fake
def _empty(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: str | None) -> torch.Tensor:
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, kind: str | None, needs_gradient: bool
) -> torch.Tensor:
    """Choose the implementation and run it. Shapes (B, 3, L, H, K) in and out."""
    implementation = chosen_kind(query.device, query.dtype, query.shape[-1], needs_gradient, kind)
    if implementation == "triton":
        return flash_attention(query, key, value)[0]
    if implementation == "reference":
        return joint_attention_reference(query, key, value)
    if implementation in FLASH:
        use_flash(implementation)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return sdpa(query, key, value)
    use_flash(None)
    if implementation == "sdpa":
        return sdpa(query, key, value)
    # If cuDNN has no plan for a shape, torch takes the next implementation, unless cuDNN was forced.
    with sdpa_kernel(CUDNN_FIRST[:1] if forced(kind) else CUDNN_FIRST, set_priority=True):
        return sdpa(query, key, value)


@constant_when_compiled
def use_flash(kind: str | None) -> None:
    """Make torch use one of FLASH (kernels/attention_choice.py), or its own FlashAttention, in this process."""
    current = getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)()
    if kind is not None and current != kind.upper():
        torch.nn.attention.activate_flash_attention_impl(kind.upper())
    elif kind is None and current is not None:
        torch.nn.attention.restore_flash_attention_impl()


def sdpa(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """torch's fused attention. Shapes (B, 3, L, H, K) in and out."""
    b, layers, length, heads, dim = query.shape
    q, k, v = (x.reshape(b, layers * length, heads, dim).transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(b, layers, length, heads, dim)
