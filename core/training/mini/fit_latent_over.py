"""Fit mini's compositing of latents to its codec, from clips whose composite is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from vera.core.training.mini.codec_training import layers_of

if TYPE_CHECKING:
    from vera.core.model.mini.latent_over import Blend
    from vera.core.model.mini.mini_codec import MiniCodec

SIZE = 96  # side of the square clips in pixels
FRAMES = 5  # frames of a clip: two latent frames


def fit_blend(blend: Blend, codec: MiniCodec, seed: int, count: int = 300) -> None:
    """Fit `blend` in place, from clips seed .. seed + count - 1."""
    blend.fit(_examples(codec, seed, count))


@torch.inference_mode()
def _examples(codec, seed, count):
    device = next(codec.parameters()).device
    for k in range(seed, seed + count):
        source, edit, alpha, composite, _ = codec.encode(layers_of(k, SIZE, FRAMES).to(device))[:, None]
        yield source, edit, alpha, composite
