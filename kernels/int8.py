"""Dense joint attention with int8 scores Q K^T, and weights and values in the inputs' type; forward only.

Keys have a large component common to all tokens. Subtracting one mean over all 3L keys changes every score of a query
by the same amount, which the softmax ignores, and reduces the quantisation error (Zhang et al. 2024, SageAttention).
The mean must be over all three layers: one mean per layer would change their relative weights. Queries share a scale in
groups of 128 tokens, keys in groups of 64.

It is optional: `quantisation_error` measures its error on given inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from vera.kernels.attention_choice import has_kernel
from vera.kernels.flash import softmax_step
from vera.kernels.joint_attention import joint_attention
from vera.kernels.language import compute_capability, give_scratch, jit, launch_options, tl, triton

QUERY_GROUP, KEY_GROUP = 128, 64

# Limits of the error for which int8 attention is recommended; beyond either, use the dense kernel.
LEAST_COSINE, MOST_RELATIVE_L1 = 0.999, 0.03


def int8_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention with int8 scores; inputs and result (B, 3, L, H, K), fp16 or bf16, K of 32, 64 or 128.

    The kernel has no gradient. Where it cannot run (see kernels/attention_choice.py), the reference is used.
    """
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if not has_kernel(query.device, query.dtype, query.shape[-1], wants_gradient):
        return int8_attention_reference(query, key, value)
    return torch.ops.vera.int8_attention(query, key, value)


def int8_attention_reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """`int8_attention` in plain torch, with fp32 scores from the integers."""
    q, q_scale = quantise_reference(query, QUERY_GROUP)
    k, k_scale = quantise_reference(key - key_mean(key)[:, None, None], KEY_GROUP)
    q = q.float() * spread(q_scale, q.shape[1], QUERY_GROUP)
    k = k.float() * spread(k_scale, k.shape[1], KEY_GROUP)
    scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])
    values = value.flatten(1, 2).transpose(1, 2)
    attended = torch.softmax(scores, dim=-1).to(value.dtype) @ values
    return attended.transpose(1, 2).reshape(query.shape)


def key_mean(key: torch.Tensor) -> torch.Tensor:
    """The mean of each head over all tokens of all layers: (B, 3, L, H, K) -> (B, H, K), fp32."""
    return key.mean(dim=(1, 2), dtype=torch.float32)


def quantise_reference(x: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantise x (B, 3, L, H, K) to int8 (B, 3L, H, K) with fp32 scales (B, H, groups): x is about int8 times scale."""
    tokens = x.float().flatten(1, 2)
    batch, count, heads, dim = tokens.shape
    padded = torch.nn.functional.pad(tokens, (0, 0, 0, 0, 0, -count % group))
    largest = padded.abs().reshape(batch, -1, group, heads, dim).amax(dim=(2, 4))
    scale = torch.clamp(largest, min=1e-12).transpose(1, 2) / 127
    return torch.floor(tokens / spread(scale, count, group) + 0.5).to(torch.int8), scale


def spread(scale: torch.Tensor, tokens: int, group: int) -> torch.Tensor:
    """Scales (B, H, groups) repeated for each token, (B, tokens, H, 1)."""
    return scale.repeat_interleave(group, dim=-1)[..., :tokens].transpose(1, 2)[..., None]


@dataclass(frozen=True)
class QuantisationError:
    cosine: float
    relative_l1: float

    @property
    def passes(self) -> bool:
        return self.cosine >= LEAST_COSINE and self.relative_l1 <= MOST_RELATIVE_L1

    def __str__(self) -> str:
        verdict = "within" if self.passes else "outside"
        return f"cosine {self.cosine:.5f}, relative L1 {self.relative_l1:.4f}: {verdict} the gate"


def quantisation_error(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> QuantisationError:
    """Error of int8 attention relative to dense attention on these inputs."""
    wanted = joint_attention(query, key, value).double()
    found = int8_attention(query, key, value).double()
    cosine = (wanted * found).sum() / (wanted.norm() * found.norm())
    return QuantisationError(cosine.item(), ((found - wanted).abs().sum() / wanted.abs().sum()).item())


def schedule(capability: tuple[int, int]) -> tuple[int, int, bool]:
    """(warps, stages, whether warps specialise); a tile of queries or keys is one group."""
    return (4, 3, True) if capability[0] == 9 else (8, 2, False)


@torch.library.custom_op("vera::int8_attention", mutates_args=())
def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    query, key, value = (x.contiguous() for x in (query, key, value))
    batch, layers, length, heads, dim = query.shape
    tokens = layers * length
    mean = key_mean(key)
    q, q_scale = quantise(query, torch.zeros_like(mean), QUERY_GROUP)
    k, k_scale = quantise(key, mean, KEY_GROUP)
    out = torch.empty_like(query)
    capability = compute_capability(query.device)
    warps, stages, specialise = schedule(capability)
    give_scratch(query.device)
    with torch.cuda.device_of(query):
        _flash_int8[(triton.cdiv(tokens, QUERY_GROUP), batch * heads)](
            q,
            k,
            value,
            q_scale,
            k_scale,
            out,
            heads,
            tokens,
            math.log2(math.e) / math.sqrt(dim),
            DIM=dim,
            BLOCK_M=QUERY_GROUP,
            BLOCK_N=KEY_GROUP,
            RAGGED=tokens % KEY_GROUP != 0,
            SPECIALISE=specialise,
            STAGES=stages,
            **launch_options(num_warps=warps, num_stages=stages),
        )
    return out


@_attend.register_fake
def _empty(query, key, value):
    return torch.empty_like(query, memory_format=torch.contiguous_format)


def quantise(x: torch.Tensor, mean: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`quantise_reference` of x minus the mean (B, H, K), in one kernel. x must be contiguous."""
    batch, layers, length, heads, dim = x.shape
    tokens = layers * length
    groups = triton.cdiv(tokens, group)
    whole = torch.empty((batch, tokens, heads, dim), dtype=torch.int8, device=x.device)
    scale = torch.empty((batch, heads, groups), dtype=torch.float32, device=x.device)
    with torch.cuda.device_of(x):
        _quantise[(groups, batch * heads)](
            x, mean, whole, scale, heads, tokens, DIM=dim, GROUP=group, **launch_options(num_warps=8)
        )
    return whole, scale


@jit
def _quantise(x, mean, whole, scale, heads, tokens, DIM: tl.constexpr, GROUP: tl.constexpr):
    group = tl.program_id(0)
    head = tl.program_id(1)
    row = group * GROUP + tl.arange(0, GROUP)
    column = tl.arange(0, DIM)
    base = ((head // heads).to(tl.int64) * tokens * heads + head % heads) * DIM
    place = base + row[:, None].to(tl.int64) * heads * DIM + column[None, :]
    inside = (row < tokens)[:, None]
    centred = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) - tl.load(mean + head * DIM + column)[None, :]
    largest = tl.max(tl.max(tl.where(inside, tl.abs(centred), 0.0), 1), 0)
    step = tl.maximum(largest, 1e-12) / 127
    tl.store(scale + head * tl.num_programs(0) + group, step)
    tl.store(whole + place, tl.floor(centred / step + 0.5).to(tl.int8), mask=inside)


@jit
def _flash_int8(
    query,
    key,
    value,
    query_scale,
    key_scale,
    out,
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
    """`_flash` of kernels/flash.py with integer queries and keys; a tile of queries or keys has one scale."""
    tile = tl.program_id(0)
    head = tl.program_id(1)
    first = tile * BLOCK_M
    offset = ((head // heads).to(tl.int64) * tokens * heads + head % heads) * DIM
    stride = heads * DIM
    q_tiles = tl.make_tensor_descriptor(query + offset, [tokens, DIM], [stride, 1], [BLOCK_M, DIM])
    k_tiles = tl.make_tensor_descriptor(key + offset, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    v_tiles = tl.make_tensor_descriptor(value + offset, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    o_tiles = tl.make_tensor_descriptor(out + offset, [tokens, DIM], [stride, 1], [BLOCK_M, DIM])

    q = q_tiles.load([first, 0])
    tile_scale = tl.load(query_scale + head * tl.num_programs(0) + tile) * scale
    key_scale += head * tl.cdiv(tokens, BLOCK_N)
    top = tl.full([BLOCK_M], -float("inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, DIM], tl.float32)
    column = tl.arange(0, BLOCK_N)
    for start in tl.range(0, tokens, BLOCK_N, num_stages=STAGES, warp_specialize=SPECIALISE):
        k = k_tiles.load([start, 0])
        step = tl.load(key_scale + start // BLOCK_N) * tile_scale
        scores = tl.dot(q, k.T).to(tl.float32)
        if RAGGED:
            scores = tl.where((start + column)[None, :] < tokens, scores, -float("inf"))
        weights, fade, total, top = softmax_step(scores, step, total, top)
        sums = sums * fade[:, None]
        v = v_tiles.load([start, 0])
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision="ieee")

    o_tiles.store([first, 0], (sums / total[:, None]).to(out.dtype.element_ty))
