"""How much memory a model takes, before it is loaded: weights by arithmetic, work by a rehearsal.

A rehearsal runs the model's own code on the `meta` device, where tensors have shapes and no contents, and adds up
what would be alive at once. So it follows the code by itself, costs no memory, and knows nothing of what a
library allocates inside one operation (a convolution's workspace), nor of a GPU's fragmentation.
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
CONTEXT = GIB  # of the driver and the libraries; a guess, not measured
FRAGMENTS = 1.05  # what the allocator holds for what is asked of it; a guess, not measured
TEXT_TOKENS = 512


class LiveBytes(TorchDispatchMode):
    """Adds up the tensors that are made within it and alive: now, and at the peak; any device, views count nothing."""

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
    """Attention that, as on a GPU, never holds the scores; on `meta` torch would write them out."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is F.scaled_dot_product_attention:
            return torch.empty_like(args[0])
        return function(*args, **(kwargs or {}))


@cache
def weight_bytes(config: TransformerConfig, weights: str) -> dict[str, int]:
    """Of a Transformer: "blocks", "block" (one of them) and "rest". weights: "fp32", "bf16", "fp8" or "int8".

    8-bit matrices have a scale a row, fp32.
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
    """Beside the weights, of one step of a window in bf16: size (width, height) and number of its frames."""
    shape = (config.latent_channels, latent_frames(frames), size[1] // 8, size[0] // 8)
    dtype, device = torch.bfloat16, "meta"
    with torch.device(device):
        transformer = Transformer(replace(config, layers=2)).to(dtype)  # two hold at once what any number holds
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
    """Beside the weights, of decoding that many side by side: three layers, and the plate where it is seen again."""
    latents = torch.empty(1, vae.config.z_dim, 3, size[1] // 8, size[0] // 8, device=vae.device)
    codec = WanCodec(vae)
    with FusedAttention(), LiveBytes() as live:
        for _ in zip(*(codec.decode_stream(latents) for _ in range(streams))):
            pass
    return live.peak


@torch.no_grad()
def encoding_bytes(vae: "AutoencoderKLWan", size: tuple[int, int], streams: int = 2) -> int:
    """Beside the weights, of encoding that many: the plate and its mask."""
    codec = WanCodec(vae)
    with FusedAttention(), LiveBytes() as live:
        encoders = [codec.encode_stream() for _ in range(streams)]
        for frames in (1, TIME_STRIDE, TIME_STRIDE):
            for encode in encoders:
                encode(torch.empty(1, 3, frames, size[1], size[0], device=vae.device))
    return live.peak
