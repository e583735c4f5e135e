"""Estimate a model's memory before it is loaded: weights by arithmetic, working memory by a rehearsal.

A rehearsal runs the model's own code on the `meta` device, where tensors have shapes but no contents, and adds up the
tensors that are alive at once. So it follows changes of the code and costs no memory. It does not see memory that a
library allocates inside one operation (a convolution's workspace), nor a GPU's fragmentation.
"""

import weakref
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vera.core.model.codec import TIME_STRIDE, WanCodec, latent_frames
from vera.core.model.config import TransformerConfig
from vera.core.model.quantise import KINDS, is_quantised
from vera.core.model.transformer import Transformer, kept_in_float32

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

GIB = 2**30
CONTEXT = GIB  # bytes used by driver and libraries; a guess, not measured
FRAGMENTATION = 1.05  # allocated over requested memory; a guess, not measured. Raising it plans more cautiously
TEXT_TOKENS = 512


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors created inside it that are alive, now and at the peak, on any device. Views are
    free."""

    def __enter__(self):
        self.now = self.peak = 0
        self._seen = set()
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given | self._seen:
                    self._add(storage)
        return result

    def _add(self, storage):
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key, size):
        self._seen.discard(key)
        self.now -= size


class FusedAttention(TorchFunctionMode):
    """Attention without a score matrix, as on a GPU; on `meta`, torch would allocate the scores."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


@cache
def weight_bytes(config: TransformerConfig, weights: str) -> dict[str, int]:
    """Bytes of a Transformer's "blocks", of one "block", and of the "rest". weights: "fp32", "bf16", "fp8" or "int8".

    8-bit matrices have one fp32 scale per row.
    """
    with torch.device("meta"):
        transformer = Transformer(replace(config, layers=1))
    total = {"block": 0, "rest": 0}
    for name, value in transformer.named_parameters():
        owner = transformer.get_submodule(name.rpartition(".")[0])
        size = 4 if weights == "fp32" or kept_in_float32(name) else 2
        count = value.numel() * size
        if weights in KINDS and is_quantised(name, owner):
            count = value.numel() + value.shape[0] * 4
        total["block" if name.startswith("blocks.") else "rest"] += count
    return total | {"blocks": total["block"] * config.layers}


@torch.no_grad()
def denoising_bytes(config: TransformerConfig, size: tuple[int, int], frames: int, batch: int = 1) -> int:
    """Working memory of one denoising step of a window in bf16, without weights. size: (width, height)."""
    shape = (config.latent_channels, latent_frames(frames), size[1] // 8, size[0] // 8)
    dtype, device = torch.bfloat16, "meta"
    with torch.device(device):
        transformer = Transformer(replace(config, layers=2)).to(dtype)  # two blocks have the same peak as any number
    for name, value in transformer.named_parameters():
        value.data = value.data.float() if kept_in_float32(name) else value.data
    with FusedAttention(), LiveBytes() as live:
        latents = torch.empty(batch, 3, *shape, dtype=dtype, device=device)
        source, mask = (torch.empty(batch, *shape, device=device) for _ in range(2))
        text = torch.empty(batch, TEXT_TOKENS, config.text_dim, dtype=dtype, device=device)
        state = torch.empty(9, *latents.shape[1:], device=device)  # the solver's, the noise, velocities: fp32
        transformer(latents, torch.empty(batch, device=device), text, source, mask)
    del state
    return live.peak


@torch.no_grad()
def decoding_bytes(vae: "AutoencoderKLWan", size: tuple[int, int], streams: int = 4) -> int:
    """Working memory of decoding, without weights. streams: three layers, and the plate for relative colour."""
    latents = torch.empty(1, vae.config.z_dim, 3, size[1] // 8, size[0] // 8, device=vae.device)
    codec = WanCodec(vae)
    with FusedAttention(), LiveBytes() as live:
        for _ in zip(*(codec.decode_stream(latents) for _ in range(streams))):
            pass
    return live.peak


@torch.no_grad()
def encoding_bytes(vae: "AutoencoderKLWan", size: tuple[int, int], streams: int = 2) -> int:
    """Working memory of encoding, without weights. streams: the plate and its mask."""
    codec = WanCodec(vae)
    with FusedAttention(), LiveBytes() as live:
        encoders = [codec.encode_stream() for _ in range(streams)]
        for frames in (1, TIME_STRIDE, TIME_STRIDE):
            for encode in encoders:
                encode(torch.empty(1, 3, frames, size[1], size[0], device=vae.device))
    return live.peak
