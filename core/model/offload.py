"""Parts of a model outside the GPU's memory, on the device only while they work.

First the text encoder and the codec, which work a few times in a shot. Then the transformer's blocks,
which come and go at every step: through diffusers' group offloading, the next one while one works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vera.core.extras import require
from vera.core.model.codec import Codec, LatentClip
from vera.core.model.quantise import without_library_logging

if TYPE_CHECKING:
    from vera.core.model.interfaces import Model, Text

COMPUTES_ON = "computes_on"  # the attribute of a transformer that says where, when its blocks are offloaded


def offloaded(model: Model, text_module: nn.Module, offload: str, device: torch.device | str) -> Model:
    """The model with what waits outside the device, see LoadOptions; text_module: the text encoder's weights."""
    if offload == "blocks":
        offload_blocks(model.transformer, device)
    if offload == "none":
        return model
    return replace(
        model, codec=VisitingCodec(model.codec, device), text=VisitingText(model.text, text_module, device)
    )


class Visitor:
    """A module that waits in the host's memory, and is on the device while anybody has asked it in."""

    def __init__(self, module: nn.Module, device: torch.device | str):
        self.module, self.device, self.guests = module.to("cpu"), device, 0

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """The module is on the device within this context."""
        self._move(self.device)
        self.guests += 1
        try:
            yield
        finally:
            self.guests -= 1
            if not self.guests:
                self._move("cpu")

    def _move(self, device: torch.device | str) -> None:
        # Weights moved in inference mode would be of use in inference mode only.
        with torch.inference_mode(False):
            self.module.to(device)


class VisitingText:
    """A text encoder (see interfaces.py) whose module visits the device."""

    def __init__(self, text: Text, module: nn.Module, device: torch.device | str):
        self.text, self.visitor = text, Visitor(module, device)

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """As the encoder's."""
        return self.text.check(prompt, anyway)

    def encode(self, prompts: list[str]) -> Tensor:
        """As the encoder's."""
        with self.visitor.on_device():
            return self.text.encode(prompts)


class VisitingCodec(Codec):
    """A codec (see codec.py) that visits the device; several streams may be open at once."""

    def __init__(self, codec: Codec, device: torch.device | str):
        self.codec, self.channels, self.remembers = codec, codec.channels, codec.remembers
        assert isinstance(codec, nn.Module)
        self.visitor = Visitor(codec, device)

    def encode(self, video: Tensor) -> Tensor:
        with self.visitor.on_device():
            return self.codec.encode(video)

    def encode_stream(self) -> Callable[[Tensor], Tensor]:
        encode = self.codec.encode_stream()

        def visit_and_encode(frames: Tensor) -> Tensor:
            with self.visitor.on_device():
                return encode(frames)

        return visit_and_encode

    def decode_stream(self, latents: LatentClip) -> Iterator[Tensor]:
        with self.visitor.on_device():
            yield from self.codec.decode_stream(latents)


def offload_blocks(transformer: nn.Module, device: torch.device | str) -> None:
    """Keep a Transformer, on the CPU, there: each block is on the device while it works. Raises InputError."""
    require("--offload blocks", "accelerate", "diffusers", otherwise="use --offload parts")
    with without_library_logging():
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
    setattr(transformer, COMPUTES_ON, device)


def computing_device(transformer: nn.Module) -> torch.device:
    """Where a transformer computes, which is not where its weights wait."""
    return getattr(transformer, COMPUTES_ON, None) or next(transformer.parameters()).device
