"""The three-branch diffusion transformer: a Mixture-of-Transformers grown out of Wan2.1.

Three transformers, edit, alpha and composite, keep their own weights for every
projection, feed-forward and modulation, and meet in one self-attention a block.
Hidden states are (B, 3, L, D): batch, branch, tokens of one branch, width.

Parameters carry diffusers' names for Wan, so a Wan checkpoint maps by rule:
`blocks.7.attn1.to_q.weight` -> `blocks.7.edit.attn1.to_q.weight`, and
`proj_out.weight` -> `edit.proj_out.weight`; see wan.py. A Vera whose branches all
hold one Wan's weights, fed three equal streams, computes what that Wan computes:
attention over three copies of the keys is attention over one.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from vera.core.model.config import BRANCHES, TransformerConfig
from vera.core.model.mini.drawing import PLACE_FEATURES, Drawing, moments, place_features
from vera.core.model.functional import gelu_tanh, mean_of_words, zero_init
from vera.kernels.joint_attention import joint_attention
from vera.kernels.norm_rotary_pack import can_pack, norm_rotary_pack, rotate
from vera.kernels.variants import attention_variant


LEAST_NOISE = 0.05  # no velocity is divided by less


class Transformer(nn.Module):
    """Predicts the flow-matching velocity of the three layers' latents.

    forward(latents, timestep, text, source, mask=None):
        latents   (B, 3, C, T, H, W)  noisy latents, branch order edit, alpha, composite
        timestep  (B,)                noise level times 1000, in [0, 1000]
        text      (B, N, text_dim)    text states; positions past the prompt are zeros
        source    (B, C, T, H, W)     latents of the plate
        mask      (B, C, T, H, W)     latents of the mask, or None
        times     (T,)                latent-time positions, default 0 .. T-1
        progress  (T, 2)              how far through the shot each latent frame begins and ends, default
                                      that of a whole shot; only a drawing asks for it, and for
        path      (B, T, 2, 3)        where an object goes, if that is known, and
        views     (T, 2, 3)           how the plate's camera moved, see drawing.py
        cache     keeps blocks' work between steps, see core/sampling/first_block_cache.py
    returns the velocity (noise - clean), (B, 3, C, T, H, W), in the latents' type.
    H and W must be multiples of the patch. Inputs may be fp32 whatever the weights' type.
    The attribute `attention` names the joint attention, one of vera.kernels.variants.VARIANTS.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.attention = "dense"
        if config.share_embedders:
            self.shared = Embedders(config, text=True)
        for name in BRANCHES:
            self.add_module(name, Branch(config, config.text_of(name)))
        channels, patch = config.latent_channels, config.patch
        # New beside Wan: zero at first, so that a fresh Vera still computes Wan.
        self.source_embedding = zero_init(nn.Conv3d(channels, config.dim, patch, patch))
        self.mask_embedding = zero_init(nn.Conv3d(channels, config.dim, patch, patch)) if config.mask_input else None
        self.layer_embedding = nn.Parameter(torch.zeros(2, config.dim))  # alpha, composite
        self.drawing = Drawing(config.text_dim, channels) if config.drawing else None
        self.blocks = nn.ModuleList(JointBlock(config) for _ in range(config.layers))

    def forward(self, latents, timestep, text, source, mask=None, times=None, progress=None, cache=None, path=None, views=None):
        branches = [getattr(self, name) for name in BRANCHES]
        given, dtype = latents.dtype, self.source_embedding.weight.dtype
        latents, text, source = latents.to(dtype), text.to(dtype), source.to(dtype)
        _, _, _, frames, height, width = latents.shape
        grid = tuple(n // p for n, p in zip((frames, height, width), self.config.patch))
        rotary = rotary_table(grid, self.config.head_dim, latents.device, times)

        tokens = [flatten(b.patch_embedding(latents[:, i])) for i, b in enumerate(branches)]
        tokens[1] = tokens[1] + self.layer_embedding[0]
        tokens[2] = tokens[2] + self.layer_embedding[1] + flatten(self.source_embedding(source))
        if mask is not None:
            tokens[1] = tokens[1] + flatten(self.mask_embedding(mask.to(dtype)))
        if self.config.place_input:
            places = place_features(grid, latents.device).to(dtype)
            tokens = [t + b.place_embedding(places) for t, b in zip(tokens, branches)]
        guess = [0, 0, source.float()]  # what the heads of clean latents start from
        if self.drawing is not None:
            progress = moments(range(frames), frames) if progress is None else progress
            drawn = self.drawing(text, mask, progress, (frames, height, width), path, views=views).detach()
            guess[:2] = drawn.unbind(1)
            drawn = drawn.flatten(1, 2).to(dtype)
            tokens = [t + flatten(b.drawing_embedding(drawn)) for t, b in zip(tokens, branches)]
        hidden = torch.stack(tokens, dim=1)

        if self.config.share_embedders:
            conditions = [self.shared(timestep, text)] * 3
        else:
            conditions = [b.condition_embedder(timestep, text) for b in branches]
        modulation = torch.stack([c.modulation for c in conditions], dim=1)  # (B, 3, 6, D)
        texts = [c.text for c in conditions]
        run = run_blocks if cache is None else cache.run
        hidden = run(self.blocks, hidden, texts, modulation, rotary, attention_variant(self.attention, grid))

        out = [b.head(hidden[:, i], c.time) for i, (b, c) in enumerate(zip(branches, conditions))]
        out = torch.stack([unpatchify(o, grid, self.config) for o in out], dim=1)
        if self.config.latent_std is not None:
            if self.drawing is not None:  # what the layers compose, whatever the heads have made of them
                layers = (base + self.config.latent_std * new for base, new in zip(guess[:2], out.float().unbind(1)))
                guess[2] = self.drawing.blend(source, *layers).detach()
            out = velocity_of(out, latents, timestep, guess, self.config.latent_std)
        return out.to(given)


class Branch(nn.Module):
    """What one branch has outside the blocks: patch embedding, embedders, head."""

    def __init__(self, config: TransformerConfig, text: bool):
        super().__init__()
        self.patch_embedding = nn.Conv3d(config.latent_channels, config.dim, config.patch, config.patch)
        self.place_embedding = zero_init(nn.Linear(PLACE_FEATURES, config.dim)) if config.place_input else None
        self.drawing_embedding = None
        if config.drawing:
            self.drawing_embedding = zero_init(nn.Conv3d(2 * config.latent_channels, config.dim, config.patch, config.patch))
        if not config.share_embedders:
            self.condition_embedder = Embedders(config, text)
        self.norm_out = Float32LayerNorm(config.dim, config.eps)
        self.proj_out = nn.Linear(config.dim, config.latent_channels * math.prod(config.patch))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def head(self, hidden, time):
        """hidden (B, L, D), time embedding (B, D) -> (B, L, C * patch volume)."""
        shift, scale = (self.scale_shift_table.float() + time.float()[:, None]).chunk(2, dim=1)
        return self.proj_out((self.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden))


class JointBlock(nn.Module):
    """One block of the three branches: joint self-attention, then each its own text and feed-forward."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        for name in BRANCHES:
            self.add_module(name, BranchBlock(config, config.text_of(name)))

    def forward(self, hidden, texts, modulation, rotary, attend=joint_attention):
        """hidden (B, 3, L, D), texts three of (B, N, D) or None, modulation (B, 3, 6, D)."""
        branches = [getattr(self, name) for name in BRANCHES]
        mods = [b.modulate(modulation[:, i]) for i, b in enumerate(branches)]
        streams = hidden.unbind(1)
        inputs = [b.attention_input(x, m) for b, x, m in zip(branches, streams, mods)]
        project = packed_projections if can_pack(hidden) else stacked_projections
        query, key, value = project([b.attn1 for b in branches], inputs, rotary)
        attended = attend(query, key, value).flatten(3)
        return torch.stack(
            [
                b.after_attention(x, attended[:, i], m, t)
                for i, (b, x, m, t) in enumerate(zip(branches, streams, mods, texts))
            ],
            dim=1,
        )


def run_blocks(blocks, hidden, *given):
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

    def modulate(self, modulation):
        """(B, 6, D) of the time embedder -> shift, scale, gate of attention, then of the feed-forward; fp32."""
        return (self.scale_shift_table.float() + modulation.float()).chunk(6, dim=1)

    def attention_input(self, x, mods):
        shift, scale = mods[:2]
        return (self.norm1(x.float()) * (1 + scale) + shift).type_as(x)

    def after_attention(self, x, attended, mods, text):
        gate, ffn_shift, ffn_scale, ffn_gate = mods[2:]
        x = (x.float() + self.attn1.to_out[0](attended).float() * gate).type_as(x)
        if self.attn2 is not None:
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

    def project(self, x, context):
        """(B, L, D) and (B, N, D) -> query (B, L, H, K), key and value (B, N, H, K)."""
        q = self.norm_q(self.to_q(x))
        k = self.norm_k(self.to_k(context))
        return tuple(y.unflatten(-1, (self.heads, -1)) for y in (q, k, self.to_v(context)))

    def forward(self, x, context):
        """Cross-attention of x (B, L, D) to context (B, N, D)."""
        q, k, v = (y.transpose(1, 2) for y in self.project(x, context))
        return self.to_out[0](cross_attention(q, k, v).transpose(1, 2).flatten(2))


def cross_attention(q, k, v):
    """softmax(q k^T / sqrt(K)) v of (B, H, L, K) and (B, H, N, K)."""
    if q.device.type == "cpu" and q.requires_grad:  # torch's fused one is four times slower to train there
        return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def stacked_projections(attentions, inputs, rotary):
    """Query, key and value of the branches' tokens, inputs three (B, L, D); each result (B, 3, L, H, K)."""
    parts = []
    for attention, x in zip(attentions, inputs):
        query, key, value = attention.project(x, x)
        parts.append((rotate(query, rotary), rotate(key, rotary), value))
    return tuple(torch.stack(part, dim=1) for part in zip(*parts))


def packed_projections(attentions, inputs, rotary):
    """The same through the fused kernel; no gradient."""
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


def joint_linear(linears, inputs):
    """Each branch's projection of its (B, L, D), as one (B, 3, L, D); in place where the layers are plain."""
    if torch.compiler.is_compiling() or not all(is_plain(linear) for linear in linears):
        return torch.stack([linear(x) for linear, x in zip(linears, inputs)], dim=1)
    batch, length, _ = inputs[0].shape
    out = inputs[0].new_empty(batch, len(linears), length, linears[0].out_features)
    for i, (linear, x) in enumerate(zip(linears, inputs)):
        for sample in range(batch):
            torch.addmm(linear.bias, x[sample], linear.weight.t(), out=out[sample, i])
    return out


def is_plain(linear):
    """Whether calling the layer is its weight and bias alone: no hook, adapter, offload or quantised weight."""
    hooked = linear._forward_hooks or linear._forward_pre_hooks or "forward" in vars(linear)
    return type(linear) is nn.Linear and type(linear.weight) is nn.Parameter and not hooked


class FeedForward(nn.Module):
    """Linear, tanh-GELU, linear; `net.0.proj` and `net.2` as in diffusers."""

    def __init__(self, dim: int, inner: int):
        super().__init__()
        first = nn.Module()
        first.proj = nn.Linear(dim, inner)
        self.net = nn.ModuleList([first, nn.Identity(), nn.Linear(inner, dim)])

    def forward(self, x):
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


class Embedders(nn.Module):
    """Time and text on their way into a branch."""

    def __init__(self, config: TransformerConfig, text: bool):
        super().__init__()
        self.freq_dim = config.freq_dim
        self.time_embedder = TwoLinear(config.freq_dim, config.dim)
        self.time_proj = nn.Linear(config.dim, 6 * config.dim)
        self.text_embedder = TwoLinear(config.text_dim, config.dim) if text else None
        self.text_pooler = zero_init(nn.Linear(config.text_dim, config.dim)) if config.text_modulation and text else None

    def forward(self, timestep, text):
        dtype = self.time_proj.weight.dtype
        wave = sinusoids(timestep, self.freq_dim).to(self.time_embedder.linear_1.weight.dtype)
        time = self.time_embedder(wave, F.silu)
        if self.text_pooler is not None:
            time = time + self.text_pooler(mean_of_words(text))
        modulation = self.time_proj(F.silu(time).to(dtype)).unflatten(1, (6, -1))
        states = None if self.text_embedder is None else self.text_embedder(text, gelu_tanh)
        return Condition(time, modulation, states)


class Condition:
    """time (B, D), modulation (B, 6, D), text (B, N, D) or None."""

    def __init__(self, time, modulation, text):
        self.time, self.modulation, self.text = time, modulation, text


class TwoLinear(nn.Module):
    def __init__(self, inner: int, dim: int):
        super().__init__()
        self.linear_1 = nn.Linear(inner, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, x, activation):
        return self.linear_2(activation(self.linear_1(x)))


class Float32LayerNorm(nn.Module):
    """Layer norm computed in fp32 whatever the weights' type."""

    def __init__(self, dim: int, eps: float, affine: bool = False):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None
        self.bias = nn.Parameter(torch.zeros(dim)) if affine else None

    def forward(self, x):
        weight, bias = (None if p is None else p.float() for p in (self.weight, self.bias))
        return F.layer_norm(x.float(), (self.dim,), weight, bias, self.eps)


def kept_in_float32(name: str) -> bool:
    """Whether a parameter stays fp32 in a lower-precision model: modulation, its time embedder, text's norm.

    As diffusers keeps them; query and key norms are of the model's type.
    """
    parts = name.split(".")
    return any(kept in parts for kept in ("scale_shift_table", "time_embedder", "norm2"))


def velocity_of(out, latents, timestep, guess, std):
    """Velocity from heads that give clean latents: out, latents (B, 3, C, T, H, W); guess, a branch (B, C, T, H, W) or 0; fp32.

    Clean latents are guess + std x out; noisy ones (1 - s) clean + s noise, so the velocity,
    noise - clean, is (noisy - clean) / s.
    """
    s = (timestep / 1000).clamp_min(LEAST_NOISE)[:, None, None, None, None]
    branches = zip(latents.float().unbind(1), out.float().unbind(1), guess)
    return torch.stack([(noisy - (base + std * new)) / s for noisy, new, base in branches], dim=1)


def flatten(x):
    """(B, D, t, h, w) -> (B, t*h*w, D)."""
    return x.flatten(2).transpose(1, 2)


def unpatchify(x, grid, config):
    """(B, L, patch volume * C) -> (B, C, T, H, W)."""
    t, h, w = grid
    pt, ph, pw = config.patch
    x = x.reshape(x.shape[0], t, h, w, pt, ph, pw, config.latent_channels)
    return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(x.shape[0], -1, t * pt, h * ph, w * pw)


def sinusoids(timestep, dim):
    """(B,) -> (B, dim): cosines, then sines, of frequencies 10000^(-i / (dim/2)); fp32."""
    rates = torch.exp(-math.log(10000) / (dim // 2) * torch.arange(dim // 2, device=timestep.device))
    angles = timestep.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def rotary_table(grid, head_dim, device, times=None):
    """Angles of the 3-D rotary embedding as (cos, sin), each (t*h*w, head_dim/2), fp32.

    A third of the dimensions (rounded as Wan does: 44 time, 42 height, 42 width
    of 128) turns with each axis. The layers are aligned, so all share the table.
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
