"""mini's codec for layers: 4x8x8, causal.

It implements the interface of codec.py. A latent frame has four frames; the first latent frame has the clip's first
frame only, repeated four times. Frames are folded into cells of 4x8x8 pixels. The encoder is fitted in closed form: it
projects onto the principal components of cells of layered clips, half whitened, so that latents have mean 0, mean
square 1 and no correlation. The decoder adds a small convolutional network to the components' inverse. The network sees
neighbouring cells and the latent frame before, which removes seams between cells. All of it runs at latent resolution,
which suits a CPU.

Channels are ordered by importance, and may be nested: `extended` appends channels to a codec and leaves its own, the
coarse ones, as they are. Latents whose fine channels are 0 decode like those of the smaller codec. The network sees
coarse channels only. Where fine ones are there, it adds only what no channel can hold.
"""

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.codec import SPACE_STRIDE as SPACE
from vera.core.model.codec import TIME_STRIDE as TIME
from vera.core.model.codec import Codec, LatentClip, hold_last, pad_frames

CELL = 3 * TIME * SPACE * SPACE
LEAST_FINE = 1e-3  # largest fine latent of a latent frame that counts as none; raising it takes weak ones for rounding


class MiniCodec(nn.Module, Codec):
    """mini's codec. `fit` fits the encoder; core/training/mini/codec_training.py trains `refiner`.

    coarse: leading channels, all that the refiner sees; None: all channels.
    """

    remembers = False

    def __init__(self, channels: int = 24, width: int = 192, blocks: int = 3, coarse: int | None = None):
        super().__init__()
        self.channels = channels
        self.coarse = channels if coarse is None else coarse
        self.encoder = nn.Conv2d(CELL, channels, 1)
        self.inverse = nn.Conv2d(channels, CELL, 1)
        self.refiner = nn.Sequential(
            nn.Conv2d(2 * self.coarse, width, 3, padding=1),
            *(Mix(width) for _ in range(blocks)),
            nn.Conv2d(width, CELL, 1),
        )
        for parameter in self.refiner[-1].parameters():
            nn.init.zeros_(parameter)
        self.encoder.requires_grad_(False)
        self.inverse.requires_grad_(False)

    @torch.no_grad()
    def fit(self, cells: Tensor, weights: Tensor) -> None:
        """Fit the encoder to the principal components of folded cells (N, CELL) in [-1, 1] with weights (N,)."""
        cells, weights = cells.double(), (weights / weights.sum()).double()[:, None]
        mean = (cells * weights).sum(0)
        covariance = ((cells - mean) * weights).T @ (cells - mean)
        variance, directions = torch.linalg.eigh(covariance)
        variance, directions = (x.flip(-1)[..., : self.channels] for x in (variance, directions))
        # Half whitening keeps coarse components stronger, so that a sampler settles them first.
        scale = variance**0.25 / variance.sqrt().mean().sqrt()
        forward = (directions * scale / variance.sqrt()).T
        self.encoder.weight.copy_(forward[:, :, None, None])
        _bias(self.encoder).copy_(-forward @ mean)
        self.inverse.weight.copy_((directions * variance.sqrt() / scale)[:, :, None, None])
        _bias(self.inverse).copy_(mean)

    @torch.no_grad()
    def extended(self, channels: int, square: Tensor) -> "MiniCodec":
        """A codec of `channels` whose first ones are this codec's, bit for bit; the others are the principal components
        of what this codec loses, half whitened in the same unit.

        square: (CELL, CELL) mean products of folded cells in [-1, 1], less the bias of `inverse`.
        """
        forward, back = (layer.weight[:, :, 0, 0].double() for layer in (self.encoder, self.inverse))
        square, mean, kept = square.double(), _bias(self.inverse).double(), self.channels
        lost = torch.eye(CELL, dtype=torch.float64) - back @ forward
        variance, directions = torch.linalg.eigh(lost @ square @ lost.T)
        variance, directions = (x.flip(-1)[..., : channels - kept] for x in (variance, directions))
        root = variance.clamp_min(variance[0] * 1e-9) ** 0.25  # of each new component's deviation, in pixels
        length = forward.norm(dim=1)
        mine = ((forward @ square * forward).sum(1) / length**2) ** 0.25
        unit = (1 / (length * mine)).mean()  # of `fit`'s half whitening
        rows = (directions / (root * unit)).T
        new = MiniCodec(channels, self.refiner[0].out_channels, len(self.refiner) - 2, self.coarse)
        new.encoder.weight.copy_(torch.cat([self.encoder.weight, rows.float()[:, :, None, None]]))
        _bias(new.encoder).copy_(torch.cat([_bias(self.encoder), (-rows @ mean).float()]))
        columns = (directions * root * unit).float()[:, :, None, None]
        new.inverse.weight.copy_(torch.cat([self.inverse.weight, columns], dim=1))
        _bias(new.inverse).copy_(_bias(self.inverse))
        new.refiner.load_state_dict(self.refiner.state_dict())
        return new

    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) encoded colour in [0, 1] -> latents (B, C, 1 + ceil((T-1)/4), H/8, W/8)."""
        video = pad_frames(video)
        held = video[:, :, :1].expand(-1, -1, TIME - 1, -1, -1)
        return self.encode_groups(torch.cat([held, video], dim=2))

    def coarsely(self, video: Tensor) -> Tensor:
        """`encode` with the fine channels 0: what a codec of the coarse channels alone keeps."""
        latents = self.encode(video)
        latents[:, self.coarse :] = 0
        return latents

    def encode_stream(self) -> Callable[[Tensor], Tensor]:
        return lambda frames: self.encode_groups(hold_last(frames, TIME))

    def encode_groups(self, video: Tensor) -> Tensor:
        """Encode groups of four frames independently: (B, 3, 4t, H, W) -> (B, C, t, H/8, W/8)."""
        b, t = video.shape[0], video.shape[2] // TIME
        return self.encoder(fold(video * 2 - 1)).unflatten(0, (b, t)).transpose(1, 2)

    def decode_cells(self, before: Tensor, now: Tensor) -> Tensor:
        """Folded cells (N, CELL, h, w) of latents `now` (N, C, h, w); `before` are those of the latent frame before."""
        coarse = self.coarse
        added = self.refiner(torch.cat([before[:, :coarse], now[:, :coarse]], dim=1))
        if coarse < self.channels:
            there = now[:, coarse:].abs().amax((1, 2, 3), keepdim=True) > LEAST_FINE
            held = F.conv2d(F.conv2d(added, self.encoder.weight), self.inverse.weight)
            added = added - there * held
        return self.inverse(now) + added

    def decode_stream(self, latents: LatentClip) -> Iterator[Tensor]:
        """Yield (B, 3, n, H, W) for each latent frame: n is 1 for the first, then 4. Values are not clamped."""
        before = torch.zeros_like(latents[:, :, 0])
        for i in range(latents.shape[2]):
            now = latents[:, :, i]
            frames = unfold(self.decode_cells(before, now), 1)
            yield frames[:, :, -1:] if i == 0 else frames
            before = now


def codec_of_state(state: Mapping[str, Tensor]) -> MiniCodec:
    """The codec whose weights these are. Raises RuntimeError or KeyError if they are none of a codec."""
    channels, seen = state["encoder.weight"].shape[0], state["refiner.0.weight"].shape[1]
    codec = MiniCodec(channels, coarse=seen // 2)
    codec.load_state_dict(state, assign=True)
    return codec.requires_grad_(False)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


class Mix(nn.Module):
    """A residual block: depthwise 5x5, norm, pointwise expansion."""

    def __init__(self, width: int, expand: int = 2):
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.up = nn.Conv2d(width, expand * width, 1)
        self.down = nn.Conv2d(expand * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, h, w) -> the same."""
        return x + self.down(F.gelu(self.up(self.norm(self.spatial(x)))))


def fold(video: Tensor) -> Tensor:
    """(B, 3, 4t, H, W) -> (B*t, CELL, H/8, W/8)."""
    b, c, t, h, w = video.shape
    x = video.reshape(b, c, t // TIME, TIME, h // SPACE, SPACE, w // SPACE, SPACE)
    return x.permute(0, 2, 1, 3, 5, 7, 4, 6).reshape(b * t // TIME, CELL, h // SPACE, w // SPACE)


def unfold(cells: Tensor, groups: int) -> Tensor:
    """(B*t, CELL, h, w) in [-1, 1] -> (B, 3, 4t, H, W) in [0, 1]; groups = t."""
    n, _, h, w = cells.shape
    x = (cells * 0.5 + 0.5).reshape(n // groups, groups, 3, TIME, SPACE, SPACE, h, w)
    return x.permute(0, 2, 1, 3, 6, 4, 7, 5).reshape(n // groups, 3, groups * TIME, h * SPACE, w * SPACE)
