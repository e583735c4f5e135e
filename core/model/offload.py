"""Text encoder and codec outside the GPU's memory, on the device only while they work.

The transformer stays where it is: it works step after step, and the others a few times in a shot.
"""

from contextlib import contextmanager

import torch

from core.model.codec import Codec


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
    """A codec (see codec.py) whose module visits the device; several streams may be open at once."""

    def __init__(self, codec, module, device):
        self.codec, self.visitor, self.channels = codec, Visitor(module, device), codec.channels

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
