"""Extend a trained mini to a codec with further channels, see `MiniCodec.extended`.

The first channels stay as they are: with the further ones' weights at 0 the model draws what it drew. Of the composite,
the baseline holds the plate's further channels. Training goes on from there.
"""

import torch
from torch import Tensor

# The dimension of latent channels in each weight that has one, and how many layers share it, one after the other.
CHANNELS_OF = {
    "patch_embedding.weight": (1, 1),
    "source_embedding.weight": (1, 1),
    "mask_embedding.weight": (1, 1),
    "drawing_embedding.weight": (1, 2),
    "drawing.outer.weight": (0, 2),
    "drawing.outer.bias": (0, 2),
    "proj_out.weight": (0, -1),  # -1: as often as a patch has cells
    "proj_out.bias": (0, -1),
}


def widened(state: dict[str, Tensor], channels: int, wider: int) -> dict[str, Tensor]:
    """The weights of a transformer for latents of `channels` as those of one for `wider`; what is new is 0."""
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
