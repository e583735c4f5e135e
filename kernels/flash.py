"""Dense attention over all 3L joint tokens, tile by tile (flash attention), forward only.

One program takes a tile of queries of one head and loops once over all keys with a running maximum and sum (Milakov and
Gimelshein 2018; Dao 2023), so that no row of scores is stored. Scores and sums are fp32. The weights are rounded to the
inputs' type before they are multiplied with the values, as in every tensor-core attention.

The kernel is written for Hopper, where Triton splits a program into warps that load and warps that compute. Triton does
so only with 4 warps, descriptors made inside the kernel, and a single loop over keys; otherwise it silently uses a
slower form. So the ragged last tile of keys is masked inside the loop, by a mask that is compiled in only if the length
needs it. tests/kernels/test_compiled.py checks all this.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from vera.kernels.language import compute_capability, give_scratch, jit, launch_options, tl, triton

# Tile of queries, tile of keys, warps, pipeline stages, by architecture and head size.
# Hopper has 227 KiB of shared memory a block, Ampere 163, Ada and consumer Ampere 99.
HOPPER = {32: (128, 128, 4, 2), 64: (128, 128, 4, 2), 128: (128, 128, 4, 2)}
# With 4 warps at head size 64 a thread needs more than 255 registers, and Triton 3.6 and 3.7 spill.
AMPERE = {32: (128, 64, 4, 3), 64: (128, 64, 8, 3), 128: (128, 64, 8, 3)}
ADA = {32: (128, 64, 4, 3), 64: (128, 64, 8, 3), 128: (128, 64, 8, 2)}
HEAD_DIMS = tuple(HOPPER)


class Tiles(NamedTuple):
    """How a kernel is compiled: rows of a query tile and of a key tile, warps, stages of the pipeline, and whether
    warps specialise in loading or multiplying.
    """

    block_m: int
    block_n: int
    warps: int
    stages: int
    specialise: bool


def tiles(capability: tuple[int, int], dim: int) -> Tiles:
    """The tiles for a compute capability and a head size."""
    if capability[0] == 9:
        return Tiles(*HOPPER[dim], True)
    return Tiles(*(AMPERE if capability in ((8, 0), (10, 0)) else ADA)[dim], False)


def flash_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention softmax(Q K^T / sqrt(K)) V, (B, 3, L, H, K) in the inputs' type, and log-sum-exp (B, H, 3L) fp32.

    Shapes (B, 3, L, H, K), K of 32, 64 or 128, fp16 or bf16, on CUDA (or any float but bf16
    in Triton's interpreter). The log-sum-exp is of the scaled scores, natural logarithm.
    References: `joint_attention_reference` and `log_sum_exp_reference`.
    """
    return torch.ops.vera.flash_attention(query, key, value)


def log_sum_exp_reference(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """The log-sum-exp (B, H, 3L) in plain torch, in the inputs' own type."""
    q, k = (x.flatten(1, 2).transpose(1, 2) for x in (query, key))
    return torch.logsumexp(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1)


@torch.library.custom_op("vera::flash_attention", mutates_args=())
def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    query, key, value = (x.contiguous() for x in (query, key, value))
    out, lse = _empty(query, key, value)
    batch, layers, length, heads, dim = query.shape
    tokens = layers * length
    capability = compute_capability(query.device)
    block_m, block_n, warps, stages, specialise = tiles(capability, dim)
    give_scratch(query.device)
    # Query tiles are the fastest grid axis, so that one head's keys and values stay in the cache.
    with torch.cuda.device_of(query):
        _flash[(triton.cdiv(tokens, block_m), batch * heads)](
            query,
            key,
            value,
            out,
            lse,
            heads,
            tokens,
            math.log2(math.e) / math.sqrt(dim),
            DIM=dim,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            RAGGED=tokens % block_n != 0,
            SPECIALISE=specialise,
            STAGES=stages,
            **launch_options(num_warps=warps, num_stages=stages),
        )
    return out, lse


@_attend.register_fake
def _empty(query, key, value):
    batch, layers, length, heads, _ = query.shape
    lse = query.new_empty((batch, heads, layers * length), dtype=torch.float32)
    return torch.empty_like(query, memory_format=torch.contiguous_format), lse


@jit
def softmax_step(scores, scale, total, top):
    """Add a tile of scores to the running softmax of its rows. Returns (weights, fade, total, top).

    scale: converts a score to an exponent of two. top: largest score so far. total: sum of the weights relative to it.
    fade: factor on the sums so far.
    """
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    weights = tl.exp2(scores * scale - new_top[:, None])
    fade = tl.exp2(top - new_top)
    return weights, fade, total * fade + tl.sum(weights, 1), new_top


@jit
def _flash(
    query,
    key,
    value,
    out,
    lse,
    heads,
    tokens,
    scale,
    DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    RAGGED: tl.constexpr,
    SPECIALISE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """scale turns a score into the exponent of two: log2(e) / sqrt(DIM)."""
    first = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1)
    offset = ((head // heads).to(tl.int64) * tokens * heads + head % heads) * DIM
    stride = heads * DIM
    # Rows past the end are read as zero and not written.
    q_tiles = tl.make_tensor_descriptor(query + offset, [tokens, DIM], [stride, 1], [BLOCK_M, DIM])
    k_tiles = tl.make_tensor_descriptor(key + offset, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    v_tiles = tl.make_tensor_descriptor(value + offset, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    o_tiles = tl.make_tensor_descriptor(out + offset, [tokens, DIM], [stride, 1], [BLOCK_M, DIM])

    q = q_tiles.load([first, 0])
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, DIM], tl.float32)
    column = tl.arange(0, BLOCK_N)
    for start in tl.range(0, tokens, BLOCK_N, num_stages=STAGES, warp_specialize=SPECIALISE):
        k = k_tiles.load([start, 0])
        scores = tl.dot(q, k.T, input_precision="ieee")
        if RAGGED:
            scores = tl.where((start + column)[None, :] < tokens, scores, -float("inf"))
        weights, fade, total, top = softmax_step(scores, scale, total, top)
        sums = sums * fade[:, None]
        v = v_tiles.load([start, 0])
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision="ieee")

    o_tiles.store([first, 0], (sums / total[:, None]).to(out.dtype.element_ty))
    row = first + tl.arange(0, BLOCK_M)
    natural = (top + tl.log2(total)) * 0.6931471805599453  # ln 2
    tl.store(lse + head.to(tl.int64) * tokens + row, natural, mask=row < tokens)
