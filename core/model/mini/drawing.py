"""mini's drawing: the baseline of the edit and alpha latents, computed from the words alone.

"A large red star on the left, rising" is one path through the frame and one shape around it. A large model learns that
by itself; a small one would spend its training on it and still draw one object in disconnected pieces. So `Aim` first
reads a path from the text, or its centre from the mask. A small network then draws each latent pixel from its offset to
that path. Training uses the true path, so an ambiguous prompt does not blur the drawing, and the drawing is sharp
wherever the path goes. The drawing has no noisy input and learns quickly. The transformer is conditioned on it and
decides the rest.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vera.core.model.codec import TIME_STRIDE
from vera.core.model.functional import cell_centres, mean_of_words, zero_init
from vera.core.model.mini.camera import Camera, seen
from vera.core.model.mini.latent_over import Blend
from vera.kernels.gelu import gelu_tanh

Grid = tuple[int, int, int]  # latent frames, rows and columns of cells

MOTIONS = 5  # basis functions of time of a path
OFFSET_RATES = (0.7, 1.4, 2.8, 5.6, 11.2, 22.4)  # radians per size of the object; higher ones draw finer detail
FEATURES = 1 + 2 * 4 * len(OFFSET_RATES) + 1
MEAN_LOG_SIZE = 0.7  # subtracted from the log of an object's size in cells, so that the network's input is centred
OFFSET_REACH = 2.5  # object sizes at which the offset features fade out; raising it draws farther from the centre
HALF_TURNS = 4  # half periods of the finest position wave across the frame; raising it places more finely
PLACE_FEATURES = 2 + 4 * HALF_TURNS


class Drawing(nn.Module):
    """The mean latents of edit and alpha for the given words and path, (B, 2, C, T, H, W), fp32.

    forward(text, mask, progress, grid, path=None, cells=None, views=None):
        text      (B, N, D)        text states
        mask      (B, C, T, H, W)  latents of the mask, or None
        progress  (T, 2)           position in the shot of each latent frame's beginning and end, see `moments`
        grid      (T, H, W)        in latent pixels
        path      (B, T, 2, 3)     as from `Aim.path`; None: it is read from text or mask, and moved by the
        views     (T, 2, 3)        of the plate's camera, see camera.py; None: the camera is at rest
        cells     (B, K)           indices into the flattened grid; then only these are drawn, (B, 2, C, K)
    The result is zero for an empty prompt. coarse: leading channels that aim and camera read, see MiniConfig.
    """

    def __init__(
        self, text_dim: int, channels: int, coarse: int | None = None, dim: int = 512, layers: int = 4, words: int = 256
    ):
        super().__init__()
        coarse = channels if coarse is None else coarse
        self.aim = Aim(text_dim, coarse)
        self.camera = Camera(coarse)
        self.blend = Blend(channels, coarse)
        self.inner = nn.Linear(FEATURES + PLACE_FEATURES, dim)
        self.read = nn.Linear(text_dim, words)
        self.words = zero_init(nn.Linear(words, 2 * layers * dim))
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.outer = zero_init(nn.Linear(dim, 2 * channels))

    def forward(
        self,
        text: Tensor,
        mask: Tensor | None,
        progress: Tensor,
        grid: Grid,
        path: Tensor | None = None,
        cells: Tensor | None = None,
        views: Tensor | None = None,
    ) -> Tensor:
        """The drawing; the class's docstring has the arguments."""
        if path is None:
            path = self.aim.path(text, mask, progress, grid[2] / grid[1])
            path = path if views is None else seen(path, views.to(path.device), grid[2] / grid[1])
        places = place_features(grid, text.device).expand(len(text), -1, -1)
        x = torch.cat([offset_features(path, grid), places], dim=-1)
        if cells is not None:
            x = x.gather(1, cells[:, :, None].expand(-1, -1, x.shape[2]))
        x = gelu_tanh(self.inner(x.to(text.dtype)))
        words = self.words(gelu_tanh(self.read(mean_of_words(text)))).unflatten(1, (len(self.layers), 2, 1, -1))
        for i, layer in enumerate(self.layers):
            scale, shift = words[:, i].unbind(1)
            x = x + gelu_tanh(layer(x) * (1 + scale) + shift)
        drawn = self.outer(x).float() * (text != 0).flatten(1).any(1)[:, None, None]
        drawn = drawn.unflatten(2, (2, -1)).permute(0, 2, 3, 1)
        return drawn if cells is not None else drawn.unflatten(3, grid)


class Aim(nn.Module):
    """Reads a path from the text states, or its centre from the mask's first `channels` if there is one."""

    def __init__(self, text_dim: int, channels: int):
        super().__init__()
        self.inner = nn.Linear(text_dim, text_dim)
        self.outer = zero_init(nn.Linear(text_dim, 2 * MOTIONS + 1))
        self.mask = zero_init(nn.Conv3d(channels, 1, 1))

    def path(self, text: Tensor, mask: Tensor | None, progress: Tensor, aspect: Tensor | float) -> Tensor:
        """The path of an object, (B, *progress.shape, 3) fp32: x and y of its centre in half frames (right, down), and
        the log of its half height in half frame heights.

        text: (B, N, D). mask: (B, C, T, H, W) or None.
        progress: (T, ...), position in the shot, 0 to 1
        aspect: the frame's width over its height, or (B,)
        The mean position is predicted in half frames and the movement in half frame heights; the path is clamped to
        the frame.
        """
        told, more = self.outer(gelu_tanh(self.inner(mean_of_words(text)))).float(), (1,) * progress.ndim
        steps, size = told[:, :-1].unflatten(1, (2, MOTIONS)), told[:, -1].view(-1, *more, 1) - 1
        aspect = torch.as_tensor(aspect, dtype=torch.float32, device=told.device).expand(len(told))
        shape = torch.stack([aspect, torch.ones_like(aspect)], dim=-1)  # half frame heights per half frame
        rest = steps[..., 0].view(-1, *more, 2)
        moved = torch.einsum(
            "bcm,t...m->bt...c", steps[..., 1:] / shape[..., None], motions(progress.to(told.device))[..., 1:]
        )
        if mask is not None:  # its gradient reaches `centre_of` only
            rest, moved, size = self.centre_of(mask).unflatten(1, (-1, *more[1:])), moved.detach(), size.detach()
        reach = (1 - size.exp() / shape.view(-1, *more, 2)).clamp_min(0)
        path = torch.minimum(torch.maximum(rest + moved, -reach), reach)
        return torch.cat([path, size.expand(*path.shape[:-1], 1)], dim=-1)

    def centre_of(self, mask: Tensor) -> Tensor:
        """Centre of the mask in each latent frame: latents (B, C, T, H, W) -> (B, T, 2)."""
        weight = (
            self.mask(mask[:, : self.mask.in_channels])[:, 0]
            .float()
            .flatten(2)
            .softmax(-1)
            .unflatten(2, mask.shape[3:])
        )
        y, x = (cell_centres(n, mask.device) for n in mask.shape[3:])
        return torch.stack([weight.sum(2) @ x, weight.sum(3) @ y], dim=-1)


def moments(latents: Iterable[int], whole: int) -> Tensor:
    """Position in a shot of `whole` latent frames, 0 to 1, of the beginning and end of latent frames `latents` (T,):
    (T, 2). The first latent frame has one frame, each other one four."""
    ends = torch.as_tensor(list(latents), dtype=torch.float32)
    begins = (ends - (TIME_STRIDE - 1) / TIME_STRIDE).clamp_min(0)
    return torch.stack([begins, ends], dim=1) / max(whole - 1, 1)


def motions(progress: Tensor) -> Tensor:
    """Basis functions (..., MOTIONS) of progress (...): rest, straight motion, one turn (two functions), and bouncing.

    All but the first have zero mean over 0 .. 1.
    """
    turn = 2 * math.pi * progress.float()
    return torch.stack(
        [torch.ones_like(turn), progress.float() - 0.5, turn.sin(), turn.cos(), turn.sin().abs() - 2 / math.pi], dim=-1
    )


def offset_features(path: Tensor, grid: Grid) -> Tensor:
    """Features (B, T * h * w, FEATURES), fp32, of the cells of a grid (T, h, w) relative to a path (B, T, 2, 3).

    They are sines and cosines of a cell's offset, in object sizes, from the path at the beginning and at the end of the
    latent frame, and the object's size in cells. All features fade to zero with the distance from the path.
    """
    _, height, width = grid
    y, x = cell_centres(height, path.device)[:, None], cell_centres(width, path.device)[None]
    center = path.unflatten(2, (2, 1, 1))  # (B, T, 2, 1, 1, 3)
    radius = center[..., 2].exp()
    dx, dy = torch.broadcast_tensors((x - center[..., 0]) * (width / height) / radius, (y - center[..., 1]) / radius)
    waves = [
        f(rate * d)
        for rate in OFFSET_RATES
        for both in (dx, dy)
        for d in both.unbind(2)
        for f in (torch.sin, torch.cos)
    ]
    size = center[..., 2].mean(2) + math.log(height / 2) - MEAN_LOG_SIZE
    features = torch.stack([torch.ones_like(waves[0]), *waves, size.expand_as(waves[0])], dim=-1)
    near = torch.exp(-(dx**2 + dy**2) / (2 * OFFSET_REACH**2)).mean(2)
    return (features * near[..., None]).flatten(1, 3)


def place_features(grid: Grid, device: torch.device | str) -> Tensor:
    """Position features (T * h * w, PLACE_FEATURES) of each cell of a grid (T, h, w): x and y in [-1, 1] across the
    frame, and sines and cosines of one to HALF_TURNS half turns of each."""
    features = []
    for axis in (1, 2):
        at = cell_centres(grid[axis], device)
        turns = at[:, None] * math.pi / 2 * torch.arange(1, HALF_TURNS + 1, device=device)
        shape = [1, 1, 1, PLACE_FEATURES // 2]
        shape[axis] = grid[axis]
        one = torch.cat([at[:, None], turns.sin(), turns.cos()], dim=1).reshape(shape)
        features.append(one.expand(*grid, PLACE_FEATURES // 2))
    return torch.cat(features, dim=-1).flatten(0, 2)
