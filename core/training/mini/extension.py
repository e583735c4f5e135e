"""Extend a trained mini to a codec with further channels, see `MiniCodec.extended`.

The first channels keep their weights, and those of the new ones start at 0: the model draws what it drew before. In the
composite's baseline the new channels are the plate's. Training goes on from there.
"""

import torch
from torch import Tensor

# For each weight with latent channels: their dimension, and the number of groups of channels along it.
CHANNELS_OF = {
    "patch_embedding.weight": (1, 1),
    "source_embedding.weight": (1, 1),
    "mask_embedding.weight": (1, 1),
    "drawing_embedding.weight": (1, 2),
    "drawing.outer.weight": (0, 2),
    "drawing.outer.bias": (0, 2),
    "proj_out.weight": (0, -1),  # -1: one group for each cell of a patch
    "proj_out.bias": (0, -1),
}


def widened(state: dict[str, Tensor], channels: int, wider: int) -> dict[str, Tensor]:
    """A transformer's weights for latents of `channels`, extended to `wider` channels by weights of 0."""
    return {name: _widened(name, value, channels, wider) for name, value in state.items()}


def _widened(name, value, channels, wider):
    found = next((place for end, place in CHANNELS_OF.items() if name.endswith(end)), None)
    if found is None:
        return value
    dim, groups = found
    parts = value.unflatten(dim, (groups, channels))
    shape = list(parts.shape)
    shape[dim + 1] = wider - channels
    return torch.cat([parts, parts.new_zeros(shape)], dim=dim + 1).flatten(dim, dim + 1)
