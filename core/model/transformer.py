"""Vera's transformer: three diffusion transformers that share one joint self-attention per block.

After "Vera" (arXiv 2606.23610): the edit, alpha and composite branches each have their own weights for every
projection, feed-forward and modulation, all initialised from one Wan2.1 text-to-video model. Hidden states are
(B, 3, L, D): batch, branch in the order of BRANCHES, tokens of one branch, width of one branch.

Read this file from the top: `Transformer.forward` is the whole pass, and the rest follows in the order of use.

Parameters carry diffusers' names for Wan, so a Wan checkpoint maps by rule:
`blocks.7.attn1.to_q.weight` -> `blocks.7.edit.attn1.to_q.weight`, and `proj_out.weight` -> `edit.proj_out.weight`;
see wan/checkpoint.py. If all branches have the weights of one Wan, and the three layers are equal, each branch computes
what that Wan computes, because attention over three copies of the keys equals attention over one.

A model family that needs more (mini does, see mini/mini_transformer.py) derives from `Transformer` and overrides
    make_embedders   how time and text enter a branch
    forward          built of the steps embed() and predict()
    read_shot        conditioning of a window on the whole shot
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.config import BRANCHES, TransformerConfig
from vera.core.model.functional import zero_init
from vera.core.model.interfaces import BlockRunner, LatentsByFrame, ShotConditioning
from vera.kernels.gelu import gelu_tanh
from vera.kernels.joint_attention import joint_attention
from vera.kernels.norm_rotary_pack import can_pack, norm_rotary_pack, rotate
from vera.kernels.variants import attention_variant

Grid = tuple[int, int, int]  # tokens of one branch: time, height, width
Rotary = tuple[Tensor, Tensor]  # cosines and sines, each (L, head_dim / 2), fp32


class Transformer(nn.Module):
    """Predicts the flow-matching velocity of the three layers' latents.

    attention: the name of the joint attention, one of vera.kernels.variants.VARIANTS.
    """

    config: TransformerConfig
    attention: str

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.attention = "dense"
        if config.share_embedders:
            self.shared = self.make_embedders(text=True)
        for name in BRANCHES:
            text = config.text_of(name)
            embedders = None if config.share_embedders else self.make_embedders(text)
            self.add_module(name, Branch(config, embedders))
        # Not part of Wan. Initialised with zeros, so that a new Vera computes the same as its Wan.
        self.source_embedding = zero_init(patch_embedding(config))
        self.mask_embedding = zero_init(patch_embedding(config)) if config.mask_input else None
        self.layer_embedding = nn.Parameter(torch.zeros(2, config.dim))  # alpha, composite
        self.blocks = nn.ModuleList(JointBlock(config) for _ in range(config.layers))

    def make_embedders(self, text: bool) -> Embedders:
        """The time and text embedders of one branch, or of all. text: whether the branch reads the instruction."""
        return Embedders(self.config, text)

    def read_shot(self, source: LatentsByFrame, mask: LatentsByFrame | None, window: int) -> ShotConditioning | None:
        """Conditioning of windows of `window` latent frames on the whole shot, read once before sampling.

        None here: the published architecture sees its window only.
        """
        return None

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        shot: Any = None,
        cache: BlockRunner | None = None,
    ) -> Tensor:
        """Velocity (noise - clean) of the three layers, (B, 3, C, T, H, W), in the latents' type.

        latents   (B, 3, C, T, H, W)  noisy latents, branch order edit, alpha, composite
        timestep  (B,)                noise level times 1000, in [0, 1000]
        text      (B, N, text_dim)    text states; positions past the prompt are zeros
        source    (B, C, T, H, W)     latents of the plate
        mask      (B, C, T, H, W)     latents of the mask, or None
        shot      conditioning of `read_shot` for these frames; None here
        cache     runs the blocks in another way, see sampling/first_block_cache.py; None runs them in order

        H and W must be multiples of the patch. Inputs may be fp32 whatever the weights' type.
        """
        grid = self.grid_of(latents)
        tokens = torch.stack(self.embed(latents, source, mask), dim=1)
        return self.predict(tokens, timestep, text, grid, cache).to(latents.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, except for those that `kept_in_float32` names."""
        return self.source_embedding.weight.dtype

    def grid_of(self, latents: Tensor) -> Grid:
        """Tokens of one branch, from latents (B, 3, C, T, H, W)."""
        time, height, width = (n // p for n, p in zip(latents.shape[3:], self.config.patch))
        return time, height, width

    def embed(self, latents: Tensor, source: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Tokens (B, L, D) of each branch: a sum of embeddings.

        All branches have the patches of their noisy layer. Alpha adds its layer embedding and the mask's patches; the
        composite adds its layer embedding and the plate's patches.
        """
        latents, source = latents.to(self.dtype), source.to(self.dtype)
        edit, alpha, composite = (
            flatten(getattr(self, name).patch_embedding(latents[:, i])) for i, name in enumerate(BRANCHES)
        )
        alpha = alpha + self.layer_embedding[0]
        composite = composite + self.layer_embedding[1] + flatten(self.source_embedding(source))
        if mask is not None:
            if self.mask_embedding is None:
                raise ValueError("this transformer takes no mask")
            alpha = alpha + flatten(self.mask_embedding(mask.to(self.dtype)))
        return [edit, alpha, composite]

    def predict(
        self,
        hidden: Tensor,
        timestep: Tensor,
        text: Tensor,
        grid: Grid,
        cache: BlockRunner | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        """The heads' output (B, 3, C, T, H, W) for the branches' tokens (B, 3, L, D), in the weights' type.

        times: (T,) positions in latent time, by default 0 .. T-1.
        """
        text = text.to(self.dtype)
        branches = [getattr(self, name) for name in BRANCHES]
        if self.config.share_embedders:
            conditions = [self.shared(timestep, text)] * len(BRANCHES)
        else:
            conditions = [branch.condition_embedder(timestep, text) for branch in branches]
        modulation = torch.stack([c.modulation for c in conditions], dim=1)  # (B, 3, 6, D)
        texts = [c.text for c in conditions]
        rotary = rotary_table(grid, self.config.head_dim, hidden.device, times)
        run = run_blocks if cache is None else cache.run
        hidden = run(self.blocks, hidden, texts, modulation, rotary, attention_variant(self.attention, grid))
        heads = [branch.head(hidden[:, i], c.time) for i, (branch, c) in enumerate(zip(branches, conditions))]
        return torch.stack([unpatchify(head, grid, self.config) for head in heads], dim=1)


class Branch(nn.Module):
    """A branch's modules outside of the blocks: patch embedding, embedders, head."""

    def __init__(self, config: TransformerConfig, embedders: Embedders | None):
        super().__init__()
        self.patch_embedding = patch_embedding(config)
        if embedders is not None:
            self.condition_embedder = embedders
        self.norm_out = Float32LayerNorm(config.dim, config.eps)
        self.proj_out = nn.Linear(config.dim, config.latent_channels * math.prod(config.patch))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def head(self, hidden: Tensor, time: Tensor) -> Tensor:
        """hidden (B, L, D), time embedding (B, D) -> (B, L, C * patch volume)."""
        shift, scale = (self.scale_shift_table.float() + time.float()[:, None]).chunk(2, dim=1)
        return self.proj_out((self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden))


class Embedders(nn.Module):
    """Embedders of time and text for a branch."""

    def __init__(self, config: TransformerConfig, text: bool):
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = TwoLinear(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = TwoLinear(config.text_dim, config.dim) if text else None

    def forward(self, timestep: Tensor, text: Tensor) -> Condition:
        """timestep (B,), text (B, N, text_dim)."""
        time = self.embed_time(timestep, text)
        modulation = self.time_proj(F.silu(time).to(self.time_proj.weight.dtype)).unflatten(1, (6, -1))
        states = None if self.text_embedder is None else self.text_embedder(text, gelu_tanh)
        return Condition(time, modulation, states)

    def embed_time(self, timestep: Tensor, text: Tensor) -> Tensor:
        """The time embedding (B, D), from which the modulation is made. `text` is unused here; mini uses it."""
        wave = sinusoids(timestep, self.freq_dim).to(self.time_embedder.linear_1.weight.dtype)
        return self.time_embedder(wave, F.silu)


@dataclass(frozen=True)
class Condition:
    """Conditioning of one branch: time (B, D), modulation (B, 6, D), text (B, N, D) or None."""

    time: Tensor
    modulation: Tensor
    text: Tensor | None


class JointBlock(nn.Module):
    """One block of the three branches: joint self-attention, then text cross-attention and feed-forward per branch."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        for name in BRANCHES:
            self.add_module(name, BranchBlock(config, config.text_of(name)))

    def forward(
        self,
        hidden: Tensor,
        texts: Sequence[Tensor | None],
        modulation: Tensor,
        rotary: Rotary,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor] = joint_attention,
    ) -> Tensor:
        """hidden (B, 3, L, D), texts three of (B, N, D) or None, modulation (B, 3, 6, D) -> hidden.

        attend: query, key, value (B, 3, L, H, K) -> (B, 3, L, H, K), over the tokens of all three branches.
        """
        branches = [getattr(self, name) for name in BRANCHES]
        mods = [branch.modulate(modulation[:, i]) for i, branch in enumerate(branches)]
        streams = hidden.unbind(1)
        inputs = [branch.attention_input(x, m) for branch, x, m in zip(branches, streams, mods)]
        project = packed_projections if can_pack(hidden) else stacked_projections
        query, key, value = project([branch.attn1 for branch in branches], inputs, rotary)
        attended = attend(query, key, value).flatten(3)
        return torch.stack(
            [
                branch.after_attention(x, attended[:, i], m, text)
                for i, (branch, x, m, text) in enumerate(zip(branches, streams, mods, texts))
            ],
            dim=1,
        )


def run_blocks(blocks: Iterable[Callable[..., Tensor]], hidden: Tensor, *given: Any) -> Tensor:
    """Pass hidden states through the blocks in order."""
    for block in blocks:
        hidden = block(hidden, *given)
    return hidden


class BranchBlock(nn.Module):
    """One branch's weights in one block; names as in Wan."""

    def __init__(self, config: TransformerConfig, text: bool):
        super().__init__()
        self.norm1 = Float32LayerNorm(config.dim, config.eps)
        self.attn1 = Attention(config)
        self.norm2 = Float32LayerNorm(config.dim, config.eps, affine=True) if text else None
        self.attn2 = Attention(config) if text else None
        self.norm3 = Float32LayerNorm(config.dim, config.eps)
        self.ffn = FeedForward(config.dim, config.ffn_dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def modulate(self, modulation: Tensor) -> Sequence[Tensor]:
        """(B, 6, D) of the time embedder -> shift, scale, gate of attention, then of the feed-forward; fp32."""
        return (self.scale_shift_table.float() + modulation.float()).chunk(6, dim=1)

    def attention_input(self, x: Tensor, mods: Sequence[Tensor]) -> Tensor:
        """Normed and modulated tokens (B, L, D)."""
        shift, scale = mods[:2]
        return (self.norm1(x.float()) * (1 + scale) + shift).type_as(x)

    def after_attention(self, x: Tensor, attended: Tensor, mods: Sequence[Tensor], text: Tensor | None) -> Tensor:
        """Add the attention's output to tokens (B, L, D), then apply cross-attention to text (B, N, D) and
        feed-forward."""
        gate, ffn_shift, ffn_scale, ffn_gate = mods[2:]
        x = (x.float() + self.attn1.to_out[0](attended).float() * gate).type_as(x)
        if self.attn2 is not None and self.norm2 is not None:
            x = x + self.attn2(self.norm2(x.float()).type_as(x), text)
        y = (self.norm3(x.float()) * (1 + ffn_scale) + ffn_shift).type_as(x)
        return (x.float() + self.ffn(y).float() * ffn_gate).type_as(x)


class Attention(nn.Module):
    """Wan's projections; query and key are RMS-normed over the full width, before the split into heads."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        dim = config.dim
        self.heads = config.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q, self.norm_k = (nn.RMSNorm(dim, eps=config.eps) for _ in range(2))

    def project(self, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) and (B, N, D) -> query (B, L, H, K), key and value (B, N, H, K)."""
        query = self.norm_q(self.to_q(x))
        key = self.norm_k(self.to_k(context))
        value = self.to_v(context)
        split = (self.heads, -1)
        return query.unflatten(-1, split), key.unflatten(-1, split), value.unflatten(-1, split)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Cross-attention of x (B, L, D) to context (B, N, D)."""
        query, key, value = (y.transpose(1, 2) for y in self.project(x, context))
        return self.to_out[0](cross_attention(query, key, value).transpose(1, 2).flatten(2))


def cross_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(K)) v of (B, H, L, K) and (B, H, N, K)."""
    if query.device.type == "cpu" and query.requires_grad:  # torch's fused attention trains four times slower there
        return torch.softmax(query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]), dim=-1) @ value
    return F.scaled_dot_product_attention(query, key, value)


def stacked_projections(
    attentions: Sequence[Attention], inputs: Sequence[Tensor], rotary: Rotary
) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of the branches' tokens, inputs three (B, L, D); each result (B, 3, L, H, K)."""
    parts = []
    for attention, x in zip(attentions, inputs):
        query, key, value = attention.project(x, x)
        parts.append((rotate(query, rotary), rotate(key, rotary), value))
    queries, keys, values = zip(*parts)
    return torch.stack(queries, dim=1), torch.stack(keys, dim=1), torch.stack(values, dim=1)


def packed_projections(
    attentions: Sequence[Attention], inputs: Sequence[Tensor], rotary: Rotary
) -> tuple[Tensor, Tensor, Tensor]:
    """`stacked_projections` by the fused kernel."""
    heads = attentions[0].heads
    query, key = norm_rotary_pack(
        [a.to_q(x) for a, x in zip(attentions, inputs)],
        [a.to_k(x) for a, x in zip(attentions, inputs)],
        [a.norm_q.weight for a in attentions],
        [a.norm_k.weight for a in attentions],
        *rotary,
        heads,
        attentions[0].norm_q.eps,
    )
    return query, key, joint_linear([a.to_v for a in attentions], inputs).unflatten(-1, (heads, -1))


def joint_linear(linears: Sequence[nn.Linear], inputs: Sequence[Tensor]) -> Tensor:
    """Each branch's projection of its tokens (B, L, D), stacked to (B, 3, L, D). Without gradients and with plain
    layers, they are written in place."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or not all(is_plain(linear) for linear in linears):
        return torch.stack([linear(x) for linear, x in zip(linears, inputs)], dim=1)
    batch, length, _ = inputs[0].shape
    out = inputs[0].new_empty(batch, len(linears), length, linears[0].out_features)
    for i, (linear, x) in enumerate(zip(linears, inputs)):
        for sample in range(batch):
            torch.addmm(linear.bias, x[sample], linear.weight.t(), out=out[sample, i])
    return out


def is_plain(linear: nn.Module) -> bool:
    """Whether the layer has only weight and bias: no hook, adapter, offload or quantised weight."""
    hooked = linear._forward_hooks or linear._forward_pre_hooks or "forward" in vars(linear)
    return type(linear) is nn.Linear and type(linear.weight) is nn.Parameter and not hooked


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear; `net.0.proj` and `net.2` as in diffusers."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.net = nn.ModuleList([GeluProjection(dim, inner), nn.Identity(), nn.Linear(inner, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return self.net[2](self.net[0](x))


class GeluProjection(nn.Module):
    """The first linear layer of the feed-forward, and its activation."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, inner)."""
        return gelu_tanh(self.proj(x))


class TwoLinear(nn.Module):
    """Linear, an activation, linear."""

    def __init__(self, inner: int, dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(inner, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """(..., inner) -> (..., D)."""
        return self.linear_2(activation(self.linear_1(x)))


class Float32LayerNorm(nn.Module):
    """Layer norm computed in fp32 whatever the weights' type."""

    def __init__(self, dim: int, eps: float, affine: bool = False):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D), fp32."""
        weight, bias = (None if p is None else p.float() for p in (self.weight, self.bias))
        return F.layer_norm(x.float(), (self.dim,), weight, bias, self.eps)


def kept_in_float32(name: str) -> bool:
    """Whether a parameter stays fp32 in a lower-precision model: modulation, its time embedder, the text's norm.

    This follows diffusers. Query and key norms have the model's type.
    """
    parts = name.split(".")
    return any(kept in parts for kept in ("scale_shift_table", "time_embedder", "norm2"))


def patch_embedding(config: TransformerConfig, channels: int | None = None) -> nn.Conv3d:
    """Latents (B, C, T, H, W) -> one vector of width D per patch. channels: C, by default that of one layer."""
    return nn.Conv3d(config.latent_channels if channels is None else channels, config.dim, config.patch, config.patch)


def flatten(x: Tensor) -> Tensor:
    """(B, D, t, h, w) -> (B, t*h*w, D)."""
    return x.flatten(2).transpose(1, 2)


def unpatchify(x: Tensor, grid: Grid, config: TransformerConfig) -> Tensor:
    """(B, L, patch volume * C) -> (B, C, T, H, W)."""
    t, h, w = grid
    pt, ph, pw = config.patch
    x = x.reshape(x.shape[0], t, h, w, pt, ph, pw, config.latent_channels)
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], -1, t * pt, h * ph, w * pw)


def sinusoids(timestep: Tensor, dim: int) -> Tensor:
    """(B,) -> (B, dim): cosines, then sines, of frequencies 10000^(-i / (dim/2)); fp32."""
    rates = torch.exp(-math.log(10000) / (dim // 2) * torch.arange(dim // 2, device=timestep.device))
    angles = timestep.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rotary_table(grid: Grid, head_dim: int, device: torch.device, times: Any = None) -> Rotary:
    """Angles of the 3-D rotary embedding as (cos, sin), each (t*h*w, head_dim/2), fp32.

    A third of the dimensions rotates with each axis (rounded as in Wan: 44 time, 42 height and 42 width of 128). The
    layers are aligned, so all share the table.
    times: (t,) positions in time, by default 0 .. t-1.
    """
    side = 2 * (head_dim // 6)
    sizes = (head_dim - 2 * side, side, side)
    positions = [torch.arange(n, dtype=torch.float64, device=device) for n in grid]
    if times is not None:
        positions[0] = torch.as_tensor(times, dtype=torch.float64, device=device)
    angles = []
    for axis, (size, position) in enumerate(zip(sizes, positions)):
        rates = 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float64, device=device) / size)
        shape = [1, 1, 1, size // 2]
        shape[axis] = grid[axis]
        angles.append((position[:, None] * rates).reshape(shape).expand(*grid, size // 2))
    table = torch.cat(angles, dim=-1).reshape(-1, head_dim // 2)
    return table.cos().float(), table.sin().float()
