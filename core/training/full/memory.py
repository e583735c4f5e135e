"""What full-size training takes of a GPU's memory, before anything is loaded or encoded.

Weights, moments, average and gradients are counted; what a clip's forward and backward pass holds is rehearsed on
torch's `meta` device, as in core/model/footprint.py. Nothing of it has been measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from vera.core.model.codec import latent_frames
from vera.core.model.config import TransformerConfig
from vera.core.model.footprint import CONTEXT, FRAGMENTS, GIB, TEXT_TOKENS, LiveBytes, encoding_bytes
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.sampling.parallel import Regions
from vera.core.training.full.model import Recomputed, adapted

if TYPE_CHECKING:
    from vera.core.training.full.trainer import Settings

FLOAT, HALF = 4, 2  # bytes

Relevant = tuple[Any, ...]  # the settings on which the rehearsal depends, see _relevant

# Copies of one decoded layer, fp32 pixels, that are on the GPU while a row is encoded: its five layers, and what the
# two ways of composing them are compared by.
LAYERS_HELD = 9

# Changes to a configuration, each of which takes less memory; the first costs least of time or of the result.
CHEAPER = (
    {"recompute": True},
    {"ema_on": "host"},
    {"base": "bf16"},
    {"base": "int8"},
    {"swap": True},
)


@dataclass(frozen=True)
class Need:
    """Bytes of one GPU's memory, by what holds them, at the two most demanding moments; and of the host's for all
    ranks.

    states: trained weights, moments, average, gradients. frozen: weights that are not trained. gathered: blocks while
    they are whole, and their gradients. work: what a clip's passes hold. encode: all of the first encoding.
    """

    states: int
    frozen: int
    gathered: int
    work: int
    encode: int
    host: int

    @property
    def peak(self) -> int:
        train = self.states + self.frozen + self.gathered + self.work
        return int(max(train, self.encode) * FRAGMENTS) + CONTEXT


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention that, as on a GPU, never holds the scores, and keeps for its gradient what the fused ones keep.

    In place of torch's own function: a mode would be off where blocks are computed again within a backward pass.
    """
    kept = F.scaled_dot_product_attention
    functional: Any = F  # its function is replaced
    functional.scaled_dot_product_attention = lambda query, key, value: _Fused.apply(query, key, value)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = kept


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, key, value):
        out = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


class _Pretended(torch.autograd.Function):
    """Exchange (core/sampling/parallel.py) with nobody: the same memory."""

    @staticmethod
    def forward(ctx, shapes, *parts):
        ctx.shapes = [part.shape for part in parts]
        sizes = [shape.numel() for shape in map(torch.Size, shapes)]
        sent = torch.cat([part.reshape(-1) for part in parts])
        got = sent.new_empty(sum(sizes))
        return tuple(part.view(shape) for part, shape in zip(got.split(sizes), shapes))

    @staticmethod
    def backward(ctx, *gradients):
        return None, *_Pretended.apply(ctx.shapes, *gradients)


class _RehearsedRegions(Regions):
    """One rank of `ranks` that share a clip, alone."""

    def __init__(self, ranks: int, inner):
        self.rank, self.ranks, self.inner = 0, ranks, inner

    def exchange(self, shapes, *parts):
        return _Pretended.apply(shapes, *parts)


def training_need(
    config: TransformerConfig,
    settings: Settings,
    ranks: int,
    size: tuple[int, int],
    encoders: tuple[nn.Module, nn.Module],
) -> Need:
    """Of one GPU among `ranks`, for clips of size (width, height) pixels; encoders: (codec's, text encoder's) modules,
    on `meta`."""
    trained, islands, frozen, block_trained, block_frozen, rest = _parameters(config, _relevant(settings))
    kinds = FLOAT * (3 + (settings.ema > 0 and settings.ema_on == "gpu") + 1)  # weights, two moments, average, gradient
    apart = settings.base == "int8" or settings.swap
    each = 1 if apart else ranks
    frozen_bytes = 0 if settings.swap else config.layers * block_frozen // each
    states = kinds * (trained // ranks + islands)
    working = 2 * (block_trained * HALF + (block_frozen if settings.swap or not apart else 0))  # and the next one
    gathered = working + block_trained * (HALF + FLOAT) + rest * (HALF + HALF)
    work = working_bytes(config, _relevant(settings), settings.context, settings.frames, size)
    vae, text = encoders
    held = LAYERS_HELD * 3 * settings.frames * size[0] * size[1] * FLOAT
    encode = _bytes(text, HALF) + _bytes(vae, FLOAT) + encoding_bytes(vae, size, 1) + held
    average = FLOAT * (trained // ranks + islands) if settings.ema > 0 and settings.ema_on == "host" else 0
    host = ranks * (average + (config.layers * block_frozen if settings.swap else 0))
    return Need(states, frozen_bytes + frozen, gathered, work, encode, host)


@lru_cache(64)
def _parameters(config, relevant):
    """Numbers of parameters: (trained and cut over ranks, trained and whole), bytes of the frozen ones outside of the
    blocks, of a block: (number of trained, bytes of frozen); number of those outside of the blocks."""
    transformer, base = rehearsed(config, relevant, 1), relevant[1]
    trained = islands = frozen = block_trained = block_frozen = rest = 0
    for name, p in transformer.named_parameters():
        times = config.layers if name.startswith("blocks.") else 1
        if p.requires_grad and kept_in_float32(name):
            islands += times * p.numel()
        elif p.requires_grad:
            trained += times * p.numel()
            block_trained += p.numel() if times > 1 else 0
        else:
            each = FLOAT if base == "fp32" else p.element_size()
            block_frozen += p.numel() * each if times > 1 else 0
            frozen += p.numel() * each if times == 1 else 0
        rest += p.numel() if times == 1 else 0
    return trained, islands, frozen, block_trained, block_frozen, rest


def _relevant(settings):
    """The settings on which the rehearsal depends, as something that can be a key."""
    lora = (
        None
        if settings.lora is None
        else tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.lora.items())
    )
    return (lora, settings.base, settings.recompute, settings.bf16)


def rehearsed(config: TransformerConfig, relevant: Relevant, layers: int) -> Transformer:
    """A transformer of so many blocks on `meta`, its weights of the types in which they work, trained or frozen."""
    lora, base, recompute, bf16 = relevant
    given = Rehearsal(lora and {k: list(v) if isinstance(v, tuple) else v for k, v in lora}, base, 0)
    with torch.device("meta"):
        transformer = adapted(Transformer(replace(config, layers=layers)), given)
    for name, p in transformer.named_parameters():
        wide = not bf16 or kept_in_float32(name) or name.endswith(".scale")
        if p.is_floating_point():
            p.data = p.data.float() if wide else p.data.bfloat16()
    return transformer


@dataclass(frozen=True)
class Rehearsal:
    """The settings that `adapted` asks for."""

    lora: dict | None
    base: str
    seed: int


@lru_cache(64)
def working_bytes(
    config: TransformerConfig, relevant: Relevant, context: int, frames: int, size: tuple[int, int]
) -> int:
    """What the passes of one clip hold at most beside all weights and their gradients, on a rank of `context`.

    Every block but the last two adds the same: what is kept of it until its gradient is computed.
    """
    few, more = (_passes(rehearsed(config, relevant, n), relevant, context, frames, size) for n in (2, 3))
    peak = few + (config.layers - 2) * (more - few)
    if relevant[2] == "but attention":  # of a block, joint and each branch's own
        tokens = latent_frames(frames) * (size[0] // 16) * (size[1] // 16) // context
        peak += config.layers * 2 * 3 * tokens * (config.dim * HALF + config.heads * FLOAT)
    return peak


def _passes(transformer, relevant, context, frames, size) -> int:
    config = transformer.config
    for p in transformer.parameters():
        if p.requires_grad:  # whole gradients are counted with the gathered weights
            p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    blocks: Any = Recomputed(bool(relevant[2]))
    if context > 1:
        blocks = _RehearsedRegions(context, blocks)
    shape = (config.latent_channels, latent_frames(frames), size[1] // 8, size[0] // 8)
    with fused_attention(), LiveBytes() as live, torch.device("meta"):
        noisy, noise = torch.empty(1, 3, *shape), torch.empty(1, 3, *shape)
        source, mask = torch.empty(1, *shape), torch.empty(1, *shape)
        text = torch.empty(1, TEXT_TOKENS, config.text_dim)
        velocity = transformer(noisy, torch.empty(1), text, source, mask, cache=blocks)
        (velocity - noise).pow(2).mean((0, 2, 3, 4, 5)).sum().backward()
    return live.peak


def _bytes(module, each: int) -> int:
    return each * sum(p.numel() for p in module.parameters())


def what_would_fit(need: Callable[[Settings, int], Need], settings: Settings, ranks: int, memory: int) -> Iterator[str]:
    """Ways to make it fit that many bytes a GPU, in words; need(settings, ranks) is a Need."""
    changed: dict = {}
    for change in CHEAPER:
        if not settings.lora and ("base" in change or "swap" in change):
            continue
        if all(getattr(settings, name) == value for name, value in change.items()):
            continue
        changed |= change
        if need(replace(settings, **changed), ranks).peak <= memory:
            yield ", ".join(f'"{name}": {_json(value)}' for name, value in changed.items())
            break
    groups = [c for c in (2, 4, 8) if c > settings.context and ranks % c == 0 and settings.batch % (ranks // c) == 0]
    for context in groups:
        everything = replace(settings, context=context)
        if need(everything, ranks).peak <= memory:
            yield f'"context": {context}'
            break
        if changed and need(replace(everything, **changed), ranks).peak <= memory:
            yield ", ".join(f'"{name}": {_json(value)}' for name, value in {**changed, "context": context}.items())
            break
    for more in (2, 4, 8, 16, 32, 64):
        if more > ranks and need(settings, more).peak <= memory:
            yield f"{more} such GPUs"
            break


def _json(value):
    return {True: "true", False: "false"}.get(value, f'"{value}"' if isinstance(value, str) else value)


def lines(need: Need, memory: int | None) -> Iterator[str]:
    """The table of one need."""
    parts = {"states": need.states, "frozen": need.frozen, "gathered": need.gathered, "work": need.work}
    yield "GiB of each GPU's memory: " + ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    fits = "" if memory is None else "; fits" if need.peak <= memory else f"; does not fit {memory / GIB:.0f} GiB"
    yield (
        f"with {FRAGMENTS - 1:.0%} for fragments and {CONTEXT / GIB:g} GiB for the "
        f"driver: {need.peak / GIB:.1f} GiB{fits}"
    )
    yield f"the first encoding takes {need.encode / GIB:.1f} GiB; of the host's memory, {need.host / GIB:.1f} GiB"
