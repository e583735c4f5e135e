"""Keep parts of a model in host memory, and move them to the device only while they work.

Level "parts": text encoder, codec and transformer take turns; each works a few times in a shot. Level "blocks": also
the transformer's blocks move at every step, by diffusers' group offloading, which loads the next block while one works.
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
    from vera.core.model.named import Finish, Subject

COMPUTES_ON = "computes_on"  # attribute of a transformer with offloaded blocks: the device on which it computes


def offloaded(model: Model, text_module: nn.Module, offload: str, device: torch.device | str) -> Model:
    """The model with parts offloaded as LoadOptions describes. text_module: the text encoder's module."""
    if offload == "blocks":
        offload_blocks(model.transformer, device)
    if offload == "none":
        return model
    lodger = Lodger(model.transformer, device) if offload == "parts" else None
    return replace(
        model,
        codec=VisitingCodec(model.codec, device, lodger),
        text=VisitingText(model.text, text_module, device, lodger),
    )


# Latent frames that a stream decodes in one turn. Raising it keeps more decoded frames in host memory (4.9 MB each at
# 832x480); lowering it moves the streams' states more often.
FRAMES_PER_TURN = 8


class Lodger:
    """A transformer that stays on the device from its first computation until another part needs the memory."""

    def __init__(self, transformer: nn.Module, device: torch.device | str):
        self.transformer, self.device, self.there = transformer, torch.device(device), True
        setattr(transformer, COMPUTES_ON, self.device)
        transformer.register_forward_pre_hook(self._come)

    def leave(self) -> None:
        """Make room for another part."""
        if self.there:
            self._move("cpu")

    def _come(self, module: nn.Module, inputs: object) -> None:
        if not self.there:
            self._move(self.device)

    def _move(self, device: torch.device | str) -> None:
        with torch.inference_mode(False):  # as for a Visitor
            self.transformer.to(device)
        self.there = device != "cpu"


class Visitor:
    """A module in host memory that is on the device only inside `on_device`.

    lodger: leaves the device first, or None
    """

    def __init__(self, module: nn.Module, device: torch.device | str, lodger: Lodger | None = None):
        self.module, self.device, self.guests, self.lodger = module.to("cpu"), device, 0, lodger

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """The module is on the device within this context."""
        if self.lodger is not None:
            self.lodger.leave()
        self._move(self.device)
        self.guests += 1
        try:
            yield
        finally:
            self.guests -= 1
            if not self.guests:
                self._move("cpu")

    def _move(self, device: torch.device | str) -> None:
        # Weights that are moved in inference mode could be used in inference mode only.
        with torch.inference_mode(False):
            self.module.to(device)


class VisitingText:
    """A text encoder (see interfaces.py) whose module visits the device."""

    def __init__(self, text: Text, module: nn.Module, device: torch.device | str, lodger: Lodger | None = None):
        self.text, self.visitor = text, Visitor(module, device, lodger)

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """See `Text`."""
        return self.text.check(prompt, anyway)

    def asks_for_people(self, prompt: str) -> bool:
        """See `Text`."""
        return self.text.asks_for_people(prompt)

    def in_front(self, prompt: str) -> Subject | None:
        """As the encoder's."""
        return self.text.in_front(prompt)

    def finish(self, prompt: str) -> Finish | None:
        """As the encoder's."""
        return self.text.finish(prompt)

    def encode(self, prompts: list[str]) -> Tensor:
        """See `Text`."""
        with self.visitor.on_device():
            return self.text.encode(prompts)


class VisitingCodec(Codec):
    """A codec (see codec.py) that visits the device; several streams may be open at once, and are decoded in turns."""

    def __init__(self, codec: Codec, device: torch.device | str, lodger: Lodger | None = None):
        self.codec, self.channels, self.remembers = codec, codec.channels, codec.remembers
        assert isinstance(codec, nn.Module)
        self.visitor = Visitor(codec, device, lodger)
        codec.ahead = FRAMES_PER_TURN

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
    """Keep a Transformer's blocks on the CPU; each is on the device only while it works. Raises InputError."""
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
        low_cpu_mem_usage=True,  # pin a block only on its turn: permanently pinned blocks would be in memory twice
    )
    setattr(transformer, COMPUTES_ON, device)


def computing_device(transformer: nn.Module) -> torch.device:
    """The device on which a transformer computes; offloaded weights are elsewhere."""
    return getattr(transformer, COMPUTES_ON, None) or next(transformer.parameters()).device
