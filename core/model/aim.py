"""mini's aim: where in the frame the text, or the mask, wants the layer, told to every token.

"On the left", "large" and "rising" are one path through the frame, and what a token has to draw
depends on where it is beside it. A large model finds that by itself; a small one would spend its
training on it and still draw one object in pieces that do not meet. So the path is read from the
text in one place, taught by the truth, and each token is told its offset from it, in sizes of the object.
"""

import math

import torch
from torch import nn

from core.model.parts import gelu_tanh, halves, mean_of_words, zero_init

MOTIONS = 5  # functions of time that a path is made of
RATES = (0.7, 1.4, 2.8, 5.6)  # radians per half height of the object
FEATURES = 1 + 4 * len(RATES) + 1
REACH = 3.0  # half heights within which an offset is told


class Aim(nn.Module):
    """Reads a path from the text states, or its middle from the mask where there is one."""

    def __init__(self, text_dim: int, channels: int):
        super().__init__()
        self.inner = nn.Linear(text_dim, text_dim)
        self.outer = zero_init(nn.Linear(text_dim, 2 * MOTIONS + 1))
        self.mask = zero_init(nn.Conv3d(channels, 1, 1))

    def path(self, text, mask, progress):
        """(B, T, 3) fp32: x and y of the layer's middle in halves of the frame, right and down, and the log of
        its size, a radius in halves of the frame's height. text (B, N, D), mask (B, C, T, H, W) or None,
        progress (T,): how far through the shot's motion each latent frame is, 0 to 1."""
        told = self.outer(gelu_tanh(self.inner(mean_of_words(text)))).float()
        steps = told[:, :-1].unflatten(1, (2, MOTIONS))
        path = (steps @ motions(progress.to(text.device)).T).transpose(1, 2)
        if mask is not None:
            path = path + self.centre_of(mask) - steps[:, None, :, 0]
        size = told[:, None, -1:] - 1.5
        return torch.cat([path, size.expand(-1, path.shape[1], 1)], dim=-1)

    def centre_of(self, mask):
        """Middle of the mask, frame by frame: latents (B, C, T, H, W) -> (B, T, 2)."""
        weight = self.mask(mask)[:, 0].float().flatten(2).softmax(-1).unflatten(2, mask.shape[3:])
        y, x = (halves(n, mask.device) for n in mask.shape[3:])
        return torch.stack([weight.sum(2) @ x, weight.sum(3) @ y], dim=-1)


def motions(progress):
    """(T,) -> (T, MOTIONS): rest, straight on, once round, and two bounces; all but the first of zero mean over 0 .. 1."""
    turn = 2 * math.pi * progress.float()
    return torch.stack(
        [torch.ones_like(turn), progress.float() - 0.5, turn.sin(), turn.cos(), turn.sin().abs() - 2 / math.pi], dim=-1
    )


def offset_features(path, grid):
    """A path (B, T, 3) and the tokens' grid (T, h, w) -> (B, T * h * w, FEATURES), fp32.

    Sines and cosines of a token's offset from the path, and the object's size in tokens, all
    fading with the distance: what is far away is told nothing.
    """
    _, height, width = grid
    y, x = halves(height, path.device)[:, None], halves(width, path.device)[None]
    centre_x, centre_y, size = (path[:, :, None, None, i] for i in range(3))
    radius = size.exp()
    dx, dy = torch.broadcast_tensors((x - centre_x) * (width / height) / radius, (y - centre_y) / radius)
    waves = [f(rate * d) for rate in RATES for d in (dx, dy) for f in (torch.sin, torch.cos)]
    features = torch.stack([torch.ones_like(dx), *waves, (size + 1.5).expand_as(dx)], dim=-1)
    near = torch.exp(-(dx**2 + dy**2) / (2 * REACH**2))
    return (features * near[..., None]).flatten(1, 3)


class AimEmbedding(nn.Module):
    """What one branch makes of the offsets: (B, L, FEATURES) -> (B, L, D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.inner = nn.Linear(FEATURES, dim)
        self.outer = zero_init(nn.Linear(dim, dim))

    def forward(self, features):
        return self.outer(gelu_tanh(self.inner(features)))
