"""Extend a trained mini to a codec with further channels, see `MiniCodec.extended`.

The first channels stay as they are: with the further ones' weights at 0 the model draws what it drew. Then the rows
of its last layers that predict the further channels are fitted by least squares on the features that the model
already has. Training goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vera.core.model.config import BRANCHES
from vera.core.model.mini.mini_transformer import MIN_NOISE_LEVEL
from vera.core.training.mini.flow import MIN_WEIGHTED_LEVEL, noise_levels, visible_weight

if TYPE_CHECKING:
    from vera.core.model.mini.mini_transformer import MiniTransformer
    from vera.core.training.mini.flow import EncodedClips

RIDGE = 1e-4  # ridge of the fits, relative to the features' mean square; raising it gives smaller weights
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


class Regression:
    """Weighted least squares of targets (N, K) on features (N, F) and a constant, from batches."""

    def __init__(self) -> None:
        self.square: Tensor | None = None
        self.product: Tensor | None = None

    def add(self, features: Tensor, targets: Tensor, weights: Tensor) -> None:
        """weights: (N,)."""
        features = torch.cat([features, torch.ones_like(features[:, :1])], dim=1).float()
        weighed = (features * weights[:, None]).T
        square, product = (weighed @ features).double(), (weighed @ targets.float()).double()
        self.square = square if self.square is None else self.square + square
        self.product = product if self.product is None else self.product + product

    def solve(self) -> tuple[Tensor, Tensor]:
        """Weights (K, F) and biases (K,)."""
        assert self.square is not None and self.product is not None
        ridge = RIDGE * self.square.diagonal().mean() * torch.eye(len(self.square), dtype=torch.float64)
        found = torch.linalg.solve(self.square + ridge, self.product).T.float()
        return found[:, :-1], found[:, -1]


class Captured:
    """While open, the last input of a layer, as `value`."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer

    def __enter__(self) -> Captured:
        self.hook = self.layer.register_forward_pre_hook(self.keep)
        return self

    def keep(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.value = inputs[0].detach()

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


@torch.no_grad()
def fit_fine(transformer: MiniTransformer, clips: Sequence[EncodedClips], coarse: int, shift: float) -> None:
    """Fit the rows of the drawing and of the three heads that predict the channels from `coarse` on, in place.

    shift: of the noise levels, as in training. Rows of the first `coarse` channels are left alone.
    """
    _fit_drawing(transformer, clips, coarse)
    _fit_heads(transformer, clips, coarse, shift, BRANCHES[:2])
    _fit_heads(transformer, clips, coarse, shift, BRANCHES[2:])  # the composite's baseline is made of the other two


def _fit_drawing(transformer, clips, coarse) -> None:
    drawing, layers = transformer.drawing, (Regression(), Regression())
    for each in clips:
        progress, path, wanted = each.shot.progress, each.shot.path, each.latents[:, 1:3, coarse:]
        with Captured(drawing.outer) as features:
            drawing(each.states, None, progress, tuple(wanted.shape[-3:]), path)
        weights = visible_weight(each.seen.flatten()), torch.ones_like(each.seen.flatten())
        for layer, targets, weight in zip(layers, wanted.unbind(1), weights):
            layer.add(features.value.flatten(0, 1), targets.movedim(1, -1).flatten(0, 3), weight)
    weights, biases = (x.unflatten(0, (2, -1)) for x in (drawing.outer.weight, drawing.outer.bias))
    for i, layer in enumerate(layers):
        weights[i, coarse:], biases[i, coarse:] = layer.solve()


def _fit_heads(transformer, clips, coarse, shift, names) -> None:
    """Add to the fine rows of these branches' heads what is still missing from the clean latents."""
    config, fits = transformer.config, [Regression() for _ in names]
    heads = [getattr(transformer, name).proj_out for name in names]
    for each in clips:
        clean = each.latents[:, 1:4]
        levels = noise_levels(len(clean), shift)
        s = levels.view(-1, 1, 1, 1, 1, 1)
        noisy = (1 - s) * clean + s * torch.randn_like(clean)
        with Captured(heads[0]) as first, Captured(heads[-1]) as last:
            velocity = transformer(noisy, levels * 1000, each.states, each.latents[:, 0], None, each.shot)
        missing = (clean - noisy + s.clamp_min(MIN_NOISE_LEVEL) * velocity)[:, :, coarse:] / config.latent_std
        weight = levels.clamp_min(MIN_WEIGHTED_LEVEL)[:, None] ** -2
        for fit, name, features in zip(fits, names, (first, last)):
            targets = patches(missing[:, BRANCHES.index(name)], config.patch)
            fit.add(features.value.flatten(0, 1), targets.flatten(0, 1), weight.expand(-1, targets.shape[1]).flatten())
    channels, fine = config.latent_channels, config.latent_channels - coarse
    for head, fit in zip(heads, fits):
        for rows, found in zip((head.weight, head.bias), fit.solve()):
            rows.unflatten(0, (-1, channels))[:, coarse:] += found.unflatten(0, (-1, fine))


def patches(latents: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """(B, C, T, H, W) -> (B, tokens, patch volume * C), the order of a head's output."""
    (t, h, w), (pt, ph, pw) = latents.shape[2:], patch
    x = latents.unflatten(4, (w // pw, pw)).unflatten(3, (h // ph, ph)).unflatten(2, (t // pt, pt))
    return x.permute(0, 2, 4, 6, 3, 5, 7, 1).flatten(4).flatten(1, 3)
