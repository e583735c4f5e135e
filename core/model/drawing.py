"""What the words alone would draw: mini's first guess of the edit and alpha layers.

"A large red star on the left, rising" is one path through the frame and one shape around it. A
large model finds that by itself; a small one would spend its training on it and still draw one object
in pieces that do not meet. So the path is read from the text in one place, or its middle from the mask,
taught by the truth, and a small network draws each latent pixel from where it lies beside that path. It sees no
noise, so it learns quickly, and it gives the mean of all that the words allow: the transformer,
told the drawing, decides the rest.
"""

import math

import torch
from torch import nn

from core.model.parts import gelu_tanh, halves, mean_of_words, zero_init

MOTIONS = 5  # functions of time that a path is made of
RATES = (0.7, 1.4, 2.8, 5.6, 11.2)  # radians per radius of the object
FEATURES = 1 + 4 * len(RATES) + 1
USUAL_SIZE = 0.7  # log of a radius in cells
REACH = 3.0  # radii within which an offset is told
TURNS = 4
PLACE_FEATURES = 2 + 4 * TURNS


class Drawing(nn.Module):
    """forward(text, mask, progress, grid): the mean latents (B, 2, C, T, H, W) of edit and alpha that the words allow.

    text (B, N, D), mask (B, C, T, H, W) or None, progress as `Aim.path` has it, grid (T, H, W) in
    latent pixels. Zeros where nothing is said.
    """

    def __init__(self, text_dim: int, channels: int, dim: int = 384, layers: int = 3):
        super().__init__()
        self.aim = Aim(text_dim, channels)
        self.inner = nn.Linear(FEATURES + PLACE_FEATURES, dim)
        self.read = nn.Linear(text_dim, dim)
        self.words = zero_init(nn.Linear(dim, 2 * layers * dim))
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.outer = zero_init(nn.Linear(dim, 2 * channels))

    def forward(self, text, mask, progress, grid):
        offsets = offset_features(self.aim.path(text, mask, progress).detach(), grid)  # the truth alone teaches it
        places = place_features(grid, text.device).expand(len(text), -1, -1)
        x = gelu_tanh(self.inner(torch.cat([offsets, places], dim=-1).to(text.dtype)))
        words = self.words(gelu_tanh(self.read(mean_of_words(text)))).unflatten(1, (len(self.layers), 2, 1, -1))
        for i, layer in enumerate(self.layers):
            scale, shift = words[:, i].unbind(1)
            x = x + gelu_tanh(layer(x) * (1 + scale) + shift)
        drawn = self.outer(x).float() * (text != 0).flatten(1).any(1)[:, None, None]
        return drawn.unflatten(2, (2, -1)).permute(0, 2, 3, 1).unflatten(3, grid)


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
            path = path.detach() + self.centre_of(mask) - steps[:, None, :, 0].detach()  # it teaches its own reading only
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
    """A path (B, T, 3) and a grid (T, h, w) -> (B, T * h * w, FEATURES), fp32.

    Sines and cosines of a cell's offset from the path in sizes of the object, and that size in cells, all fading
    with the distance: what is far away is told nothing.
    """
    _, height, width = grid
    y, x = halves(height, path.device)[:, None], halves(width, path.device)[None]
    centre_x, centre_y, size = (path[:, :, None, None, i] for i in range(3))
    radius = size.exp()
    dx, dy = torch.broadcast_tensors((x - centre_x) * (width / height) / radius, (y - centre_y) / radius)
    waves = [f(rate * d) for rate in RATES for d in (dx, dy) for f in (torch.sin, torch.cos)]
    features = torch.stack([torch.ones_like(dx), *waves, (size + math.log(height / 2) - USUAL_SIZE).expand_as(dx)], dim=-1)
    near = torch.exp(-(dx**2 + dy**2) / (2 * REACH**2))
    return (features * near[..., None]).flatten(1, 3)


def place_features(grid, device):
    """Where each cell of a grid (T, h, w) is in the frame, (T * h * w, PLACE_FEATURES): x and y in [-1, 1] across the
    frame whatever its size, and sines and cosines of one to four half turns of each."""
    features = []
    for axis in (1, 2):
        at = halves(grid[axis], device)
        turns = at[:, None] * math.pi / 2 * torch.arange(1, TURNS + 1, device=device)
        shape = [1, 1, 1, PLACE_FEATURES // 2]
        shape[axis] = grid[axis]
        one = torch.cat([at[:, None], turns.sin(), turns.cos()], dim=1).reshape(shape)
        features.append(one.expand(*grid, PLACE_FEATURES // 2))
    return torch.cat(features, dim=-1).flatten(0, 2)
