"""Estimate the GPU memory of full-size training before anything is loaded or encoded.

Weights, moments, average and gradients are counted. The activations of a clip's forward and backward pass are found by
running both on torch's `meta` device, as in core/model/footprint.py. No estimate has been measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from vera.core.model.codec import latent_frames
from vera.core.model.config import TransformerConfig
from vera.core.model.footprint import CONTEXT, FRAGMENTATION, GIB, TEXT_TOKENS, LiveBytes, encoding_bytes
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.sampling.parallel import Regions
from vera.core.training.full.sharded_model import RecomputingRunner, with_adapters

if TYPE_CHECKING:
    from vera.core.training.full.full_settings import Settings

FLOAT, HALF = 4, 2  # bytes of a number in fp32, and in bf16 or fp16


class RehearsalKey(NamedTuple):
    """The settings on which the estimate of weights and activations depends, hashable; lora: items of the dict."""

    lora: tuple[tuple[str, Any], ...] | None
    base: str
    recompute: bool | str
    bf16: bool


# fp32 copies of one layer's pixels on the GPU while a row is encoded: the five layers, and the four pictures with which
# straight and premultiplied colour are compared. Raising it makes the estimate more cautious.
LAYERS_HELD = 9

# Changes to a configuration that save memory, in the order of their cost in time and quality, the cheapest first.
CHEAPER_CHANGES = (
    {"recompute": True},
    {"ema_on": "host"},
    {"base": "bf16"},
    {"base": "int8"},
    {"swap": True},
)


@dataclass(frozen=True)
class Need:
    """Memory in bytes: of one GPU at the two moments of highest use, and of the host for all ranks.

    states: trained weights, moments, average, gradients. frozen: weights that are not trained. gathered: blocks while
    they are gathered, and their gradients. work: activations of a clip. encode: all memory while rows are encoded.
    host: host memory for all ranks together.
    """

    states: int
    frozen: int
    gathered: int
    work: int
    encode: int
    host: int

    @property
    def peak(self) -> int:
        """The largest use of one GPU, with fragmentation and the driver's context."""
        train = self.states + self.frozen + self.gathered + self.work
        return int(max(train, self.encode) * FRAGMENTATION) + CONTEXT


@contextmanager
def fused_attention() -> Iterator[None]:
    """Replace torch's attention by one with the memory use of a GPU's fused kernels, which never hold the scores.

    The function itself is replaced, because a torch function mode is inactive while blocks are recomputed in backward.
    """
    original = F.scaled_dot_product_attention
    functional: Any = F
    functional.scaled_dot_product_attention = lambda query, key, value: _FusedAttention.apply(query, key, value)
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = original


class _FusedAttention(torch.autograd.Function):
    """Allocates and saves the tensors that a fused attention does; computes nothing."""

    @staticmethod
    def forward(ctx, query, key, value):
        out = torch.empty_like(query)
        sums = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx, gradient):
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])


class _LocalExchange(torch.autograd.Function):
    """Allocates the memory of an exchange between ranks (core/sampling/parallel.py) without other ranks."""

    @staticmethod
    def forward(ctx, shapes, *parts):
        ctx.shapes = [part.shape for part in parts]
        sizes = [shape.numel() for shape in map(torch.Size, shapes)]
        sent = torch.cat([part.reshape(-1) for part in parts])
        got = sent.new_empty(sum(sizes))
        return tuple(part.view(shape) for part, shape in zip(got.split(sizes), shapes))

    @staticmethod
    def backward(ctx, *gradients):
        return None, *_LocalExchange.apply(ctx.shapes, *gradients)


class _OneRankOfRegions(Regions):
    """The memory use of one rank out of `ranks` that share a clip."""

    def __init__(self, ranks: int, inner):
        self.group, self.half, self.ranks, self.inner = None, None, ranks, inner

    def rank_and_size(self, group):
        return 0, self.ranks

    def exchange(self, group, shapes, *parts):
        return _LocalExchange.apply(shapes, *parts)


def training_need(
    config: TransformerConfig,
    settings: Settings,
    ranks: int,
    size: tuple[int, int],
    encoders: tuple[nn.Module, nn.Module],
) -> Need:
    """The memory that training needs on one of `ranks` GPUs.

    size: (width, height) of the clips in pixels. encoders: the modules of the codec and the text encoder, on `meta`.
    """
    key = rehearsal_key(settings)
    counts = _parameter_counts(config, key)
    copies = 3 + (settings.ema > 0 and settings.ema_on == "gpu") + 1  # weights, two moments, average, gradient
    per_rank = counts.sharded // ranks + counts.whole
    frozen_whole = settings.base == "int8" or settings.swap
    frozen_blocks = 0 if settings.swap else config.layers * counts.block_frozen_bytes // (1 if frozen_whole else ranks)
    gathered_frozen = counts.block_frozen_bytes if settings.swap or not frozen_whole else 0
    blocks = 2 * (counts.block_trained * HALF + gathered_frozen)  # the running block and the next one
    gathered = blocks + counts.block_trained * (HALF + FLOAT) + counts.outside * (HALF + HALF)
    work = working_bytes(config, key, settings.context, settings.frames, size)
    vae, text = encoders
    pixels = LAYERS_HELD * 3 * settings.frames * size[0] * size[1] * FLOAT
    encode = _bytes(text, HALF) + _bytes(vae, FLOAT) + _encoding_bytes(vae, size) + pixels
    average = FLOAT * per_rank if settings.ema > 0 and settings.ema_on == "host" else 0
    host = ranks * (average + (config.layers * counts.block_frozen_bytes if settings.swap else 0))
    return Need(FLOAT * copies * per_rank, frozen_blocks + counts.outside_frozen_bytes, gathered, work, encode, host)


@dataclass
class ParameterCounts:
    """Parameters of a transformer.

    sharded, whole: trained parameters that are sharded over the ranks, and those that are whole on every rank.
    block_trained, block_frozen_bytes: sharded parameters, and bytes of frozen parameters, of one block.
    outside, outside_frozen_bytes: all parameters, and bytes of the frozen ones, outside of the blocks.
    """

    sharded: int = 0
    whole: int = 0
    block_trained: int = 0
    block_frozen_bytes: int = 0
    outside: int = 0
    outside_frozen_bytes: int = 0


@lru_cache(64)
def _parameter_counts(config: TransformerConfig, key: RehearsalKey) -> ParameterCounts:
    counts = ParameterCounts()
    for name, p in rehearsed(config, key, 1).named_parameters():
        in_block = name.startswith("blocks.")
        times = config.layers if in_block else 1
        if p.requires_grad and kept_in_float32(name):
            counts.whole += times * p.numel()
        elif p.requires_grad:
            counts.sharded += times * p.numel()
            counts.block_trained += p.numel() if in_block else 0
        else:
            each = FLOAT if key.base == "fp32" else p.element_size()
            counts.block_frozen_bytes += p.numel() * each if in_block else 0
            counts.outside_frozen_bytes += p.numel() * each if not in_block else 0
        counts.outside += p.numel() if not in_block else 0
    return counts


def rehearsal_key(settings: Settings) -> RehearsalKey:
    """The settings on which the estimate of weights and activations depends."""
    lora = (
        None
        if settings.lora is None
        else tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in settings.lora.items())
    )
    return RehearsalKey(lora, settings.base, settings.recompute, settings.bf16)


def rehearsed(config: TransformerConfig, key: RehearsalKey, layers: int) -> Transformer:
    """A transformer with `layers` blocks on `meta`, its weights in their compute dtype, trained or frozen."""
    lora = None if key.lora is None else {k: list(v) if isinstance(v, tuple) else v for k, v in key.lora}
    with torch.device("meta"):
        transformer = with_adapters(Transformer(replace(config, layers=layers)), Rehearsal(lora, key.base, 0))
    for name, p in transformer.named_parameters():
        wide = not key.bf16 or kept_in_float32(name) or name.endswith(".scale")
        if p.is_floating_point():
            p.data = p.data.float() if wide else p.data.bfloat16()
    return transformer


@dataclass(frozen=True)
class Rehearsal:
    """The settings that `with_adapters` reads."""

    lora: dict | None
    base: str
    seed: int


@lru_cache(64)
def working_bytes(
    config: TransformerConfig, key: RehearsalKey, context: int, frames: int, size: tuple[int, int]
) -> int:
    """Peak of the activations of one clip's passes in bytes, on one of `context` ranks, without weights and gradients.

    Each further block adds the same amount, so two small transformers give the peak of any number of blocks.
    """
    few, more = (_activation_peak(rehearsed(config, key, n), key, context, frames, size) for n in (2, 3))
    peak = few + (config.layers - 2) * (more - few)
    if key.recompute == "but attention":  # two attentions per block (joint, and each branch's own) keep their results
        tokens = latent_frames(frames) * (size[0] // 16) * (size[1] // 16) // context
        peak += config.layers * 2 * 3 * tokens * (config.dim * HALF + config.heads * FLOAT)
    return peak


def _activation_peak(transformer, key, context, frames, size) -> int:
    """Peak of live bytes in one forward and backward pass on `meta`."""
    config = transformer.config
    for p in transformer.parameters():
        if p.requires_grad:  # `Need.gathered` counts the gradients
            p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
    blocks: Any = RecomputingRunner(bool(key.recompute))
    if context > 1:
        blocks = _OneRankOfRegions(context, blocks)
    shape = (config.latent_channels, latent_frames(frames), size[1] // 8, size[0] // 8)
    with fused_attention(), LiveBytes() as live, torch.device("meta"):
        noisy, noise = torch.empty(1, 3, *shape), torch.empty(1, 3, *shape)
        source, mask = torch.empty(1, *shape), torch.empty(1, *shape)
        text = torch.empty(1, TEXT_TOKENS, config.text_dim)
        velocity = transformer(noisy, torch.empty(1), text, source, mask, cache=blocks)
        (velocity - noise).pow(2).mean((0, 2, 3, 4, 5)).sum().backward()
    return live.peak


@lru_cache(8)
def _encoding_bytes(vae: Any, size: tuple[int, int]) -> int:
    """`encoding_bytes` of one layer."""
    return encoding_bytes(vae, size, 1)


def _bytes(module, each: int) -> int:
    return each * sum(p.numel() for p in module.parameters())


def what_would_fit(need: Callable[[Settings, int], Need], settings: Settings, ranks: int, memory: int) -> Iterator[str]:
    """Yield changes, in words, with which training fits `memory` bytes per GPU; need(settings, ranks) is a Need."""
    changed: dict = {}
    for change in CHEAPER_CHANGES:
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
    """The lines of `vera plan --train` about memory."""
    parts = {"states": need.states, "frozen": need.frozen, "gathered": need.gathered, "work": need.work}
    yield "GiB of each GPU's memory: " + ", ".join(f"{name} {size / GIB:.1f}" for name, size in parts.items())
    fits = "" if memory is None else "; fits" if need.peak <= memory else f"; does not fit {memory / GIB:.0f} GiB"
    yield (
        f"with {FRAGMENTATION - 1:.0%} for fragments and {CONTEXT / GIB:g} GiB for the "
        f"driver: {need.peak / GIB:.1f} GiB{fits}"
    )
    yield f"the first encoding takes {need.encode / GIB:.1f} GiB; of the host's memory, {need.host / GIB:.1f} GiB"
