"""Norm, rotary embedding and packing of query and key for joint attention, in one kernel.

Each branch projects its own tokens, norms query and key over the full width with its own weights, and rotates them by
the 3-D rotary table that all layers share. Joint attention needs the results of the three layers in one buffer
(B, 3, L, H, K). In plain torch these are a norm, a rotation and a stack, each of which reads and writes all of Q and K.
The kernel reads each projection once and writes each slice once.

The backward is the plain formula in fp32, in torch's own operations. It keeps the projections and recomputes the norm;
autograd of the reference keeps fp32 copies of Q and K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from vera.kernels.language import jit, launch_options, runs_on, tl, triton


def norm_rotary_pack_reference(
    query: Sequence[torch.Tensor],
    key: Sequence[torch.Tensor],
    query_weight: Sequence[torch.Tensor],
    key_weight: Sequence[torch.Tensor],
    cos: torch.Tensor,
    sin: torch.Tensor,
    heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """RMS norm, rotation and stack in plain torch; arguments as for `norm_rotary_pack`."""
    return tuple(
        torch.stack([rotate(rms_norm(x, w, eps).unflatten(-1, (heads, -1)), (cos, sin)) for x, w in zip(xs, ws)], dim=1)
        for xs, ws in ((query, query_weight), (key, key_weight))
    )


def norm_rotary_pack(
    query: Sequence[torch.Tensor],
    key: Sequence[torch.Tensor],
    query_weight: Sequence[torch.Tensor],
    key_weight: Sequence[torch.Tensor],
    cos: torch.Tensor,
    sin: torch.Tensor,
    heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Joint query and key, each (B, 3, L, H, K), in the projections' type.

    query, key                three (B, L, D) each, one a branch
    query_weight, key_weight  three (D,) each, the branches' norm weights
    cos, sin                  (L, K/2) fp32, the rotary table; K = D / heads
    The kernel computes in fp32 and rounds once; the reference rounds after each step.
    """
    if not runs_on(query[0].device):
        return norm_rotary_pack_reference(query, key, query_weight, key_weight, cos, sin, heads, eps)
    return torch.ops.vera.norm_rotary_pack(query, key, query_weight, key_weight, cos, sin, heads, eps)


def can_pack(hidden: torch.Tensor) -> bool:
    """Whether a block should take the kernel: on CUDA with Triton."""
    return hidden.is_cuda and runs_on(hidden.device)


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight, eps)


def rotate(x: torch.Tensor, rotary: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotate the interleaved pairs of x (B, L, H, K) by the angles of the table, cos and sin (L, K/2)."""
    cos, sin = (part[:, None] for part in rotary)
    even, odd = in_float32(x).unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).type_as(x)


def in_float32(x: torch.Tensor) -> torch.Tensor:
    """x in fp32; fp64 stays."""
    return x if x.dtype == torch.float64 else x.float()


@torch.library.custom_op("vera::norm_rotary_pack", mutates_args=())
def _packed(
    query: list[torch.Tensor],
    key: list[torch.Tensor],
    query_weight: list[torch.Tensor],
    key_weight: list[torch.Tensor],
    cos: torch.Tensor,
    sin: torch.Tensor,
    heads: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    if not runs_on(query[0].device):  # reached by tests of the backward and of the operator
        return norm_rotary_pack_reference(query, key, query_weight, key_weight, cos, sin, heads, eps)
    query, key, query_weight, key_weight, (cos, sin) = (
        [x.contiguous() for x in part] for part in (query, key, query_weight, key_weight, (cos, sin))
    )
    joint_query, joint_key = _empty(query, key, query_weight, key_weight, cos, sin, heads, eps)
    batch, layers, length, _, dim = joint_query.shape
    block = triton.next_power_of_2(heads * dim)
    options = launch_options(num_warps=launch_warps(block))
    for layer in range(layers):
        with torch.cuda.device_of(joint_query):
            _norm_rotary_pack[(length, batch)](
                query[layer],
                key[layer],
                query_weight[layer],
                key_weight[layer],
                cos,
                sin,
                joint_query,
                joint_key,
                layer,
                length,
                eps,
                WIDTH=heads * dim,
                DIM=dim,
                BLOCK=block,
                **options,
            )
    return joint_query, joint_key


@_packed.register_fake
def _empty(query, key, query_weight, key_weight, cos, sin, heads, eps):
    batch, length, width = query[0].shape
    shape = (batch, len(query), length, heads, width // heads)
    return query[0].new_empty(shape), key[0].new_empty(shape)


def norm_rotary_gradients(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    rotary: tuple[torch.Tensor, torch.Tensor],
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of one branch's projection (B, L, D) and norm weight (D,), in their types.

    gradient: (B, L, H, K), of the branch's slice of the joint buffer.
    The forward is y = rotate(w n) with n = x r and r = (mean(x^2) + eps)^-1/2. Let g be the gradient rotated back. Then
    dw = sum(g n), and dx = r (g w - n mean(g w n)).
    """
    cos, sin = rotary
    turned = rotate(in_float32(gradient), (cos, -sin)).flatten(-2)
    wide = in_float32(x)
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    normed = wide * scale
    of_weight = (turned * normed).flatten(0, -2).sum(0)
    of_normed = turned * in_float32(weight)
    of_x = scale * (of_normed - normed * (of_normed * normed).mean(-1, keepdim=True))
    return of_x.type_as(x), of_weight.type_as(weight)


def _keep_inputs(ctx: Any, inputs: tuple, output: Any) -> None:
    query, key, query_weight, key_weight, cos, sin, _, ctx.eps = inputs
    ctx.save_for_backward(*query, *key, *query_weight, *key_weight, cos, sin)


def _backward(ctx: Any, of_query: torch.Tensor, of_key: torch.Tensor) -> tuple:
    *saved, cos, sin = ctx.saved_tensors
    layers = len(saved) // 4
    projections, weights = saved[: 2 * layers], saved[2 * layers :]
    slices = [gradient[:, layer] for gradient in (of_query, of_key) for layer in range(layers)]
    pairs = [norm_rotary_gradients(g, x, w, (cos, sin), ctx.eps) for g, x, w in zip(slices, projections, weights)]
    of_x, of_weight = ([pair[i] for pair in pairs] for i in range(2))
    return of_x[:layers], of_x[layers:], of_weight[:layers], of_weight[layers:], None, None, None, None


_packed.register_autograd(_backward, setup_context=_keep_inputs)


def launch_warps(block: int) -> int:
    """Warps for a row of this many elements: 16 elements a thread."""
    return max(1, min(8, block // 512))


@jit
def _norm_rotary_pack(
    query,
    key,
    query_weight,
    key_weight,
    cos,
    sin,
    joint_query,
    joint_key,
    layer,
    length,
    eps,
    WIDTH: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token of one branch: its query and its key, which share the table's row."""
    token = tl.program_id(0)
    batch = tl.program_id(1)
    source = (batch.to(tl.int64) * length + token) * WIDTH
    target = ((batch.to(tl.int64) * 3 + layer) * length + token) * WIDTH
    pair = tl.arange(0, BLOCK // 2)
    angle = token * (DIM // 2) + pair % (DIM // 2)
    inside = pair < WIDTH // 2
    c = tl.load(cos + angle, mask=inside, other=0.0)
    s = tl.load(sin + angle, mask=inside, other=0.0)
    # Both rows are loaded before either is summed, so that the loads overlap.
    q = _load_row(query + source, WIDTH, BLOCK)
    k = _load_row(key + source, WIDTH, BLOCK)
    _store_row(q, query_weight, joint_query + target, c, s, eps, WIDTH, BLOCK)
    _store_row(k, key_weight, joint_key + target, c, s, eps, WIDTH, BLOCK)


@jit
def _load_row(row, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    return tl.load(row + column, mask=column < WIDTH, other=0.0).to(tl.float32)


@jit
def _store_row(x, weight, out, c, s, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Norm a row, rotate its pairs, round once, and store it."""
    column = tl.arange(0, BLOCK)
    w = _load_row(weight, WIDTH, BLOCK)
    x = x * tl.rsqrt(tl.sum(x * x, 0) / WIDTH + eps) * w
    even, odd = tl.split(tl.reshape(x, (BLOCK // 2, 2)))
    turned = tl.join(even * c - odd * s, even * s + odd * c)
    tl.store(out + column, tl.reshape(turned, (BLOCK,)).to(out.dtype.element_ty), mask=column < WIDTH)
