"""Parts of a model outside the GPU's memory, on the device only while they work.

First the text encoder and the codec, which work a few times in a shot. Then the transformer's blocks,
which come and go at every step: through diffusers' group offloading, the next one while one works.
"""

from contextlib import contextmanager

import torch

from vera.core.extras import require
from vera.core.model.codec import Codec
from vera.core.model.quantise import quietly


class Visitor:
    """A module that waits in the host's memory, and is on the device while anybody has asked it in."""

    def __init__(self, module, device):
        self.module, self.device, self.guests = module.to("cpu"), device, 0

    @contextmanager
    def there(self):
        self._move(self.device)
        self.guests += 1
        try:
            yield
        finally:
            self.guests -= 1
            if not self.guests:
                self._move("cpu")

    def _move(self, device):
        # Weights moved in inference mode would be of use in inference mode only.
        with torch.inference_mode(False):
            self.module.to(device)


class VisitingText:
    """A text encoder (see text.py) whose module visits the device."""

    def __init__(self, text, module, device):
        self.text, self.visitor = text, Visitor(module, device)
        self.check = text.check

    def encode(self, prompts):
        with self.visitor.there():
            return self.text.encode(prompts)


class VisitingCodec(Codec):
    """A codec (see codec.py) that visits the device; several streams may be open at once."""

    def __init__(self, codec, device):
        self.codec, self.visitor, self.channels = codec, Visitor(codec, device), codec.channels

    def encode(self, video):
        with self.visitor.there():
            return self.codec.encode(video)

    def encode_stream(self):
        encode = self.codec.encode_stream()

        def visit_and_encode(frames):
            with self.visitor.there():
                return encode(frames)

        return visit_and_encode

    def decode_stream(self, latents):
        with self.visitor.there():
            yield from self.codec.decode_stream(latents)


def offload_blocks(transformer, device):
    """Keep a Transformer, on the CPU, there: each block is on the device while it works. Raises InputError."""
    require("--offload blocks", "accelerate", "diffusers", otherwise="use --offload parts")
    with quietly():
        from diffusers.hooks import apply_group_offloading

    device = torch.device(device)
    apply_group_offloading(
        transformer,
        onload_device=device,
        offload_device="cpu",
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
        low_cpu_mem_usage=True,  # pinned when it is their turn: pinned for good they would be in memory twice
    )
    transformer.computes_on = device


def computing_device(transformer) -> torch.device:
    """Where a transformer computes, which is not where its weights wait."""
    return getattr(transformer, "computes_on", None) or next(transformer.parameters()).device
