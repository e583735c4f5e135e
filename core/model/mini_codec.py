"""mini's codec: 4x8x8, 16 channels, causal, trained for layers.

It follows the codec contract (codec.py). A latent frame stands for four frames,
the first one for the clip's first frame alone, held four times. All convolution
happens at latent resolution, between a space-to-depth fold and its inverse, so
that it runs on a CPU; neighbouring cells overlap through the convolutions, so
no block edges show. The decoder looks one latent frame back.
"""

import torch
import torch.nn.functional as F
from torch import nn

TIME, SPACE = 4, 8
CELL = 3 * TIME * SPACE * SPACE


class MiniCodec(nn.Module):
    """See the module; `latent_mean` and `latent_std` (C,) bring latents to unit variance."""

    time_stride = TIME
    space_stride = SPACE

    def __init__(self, channels=16, encoder_width=160, encoder_blocks=2, decoder_width=192, decoder_blocks=3):
        super().__init__()
        self.channels = channels
        self.encoder = nn.Sequential(
            nn.Conv2d(CELL, encoder_width, 1),
            *(Mix(encoder_width) for _ in range(encoder_blocks)),
            nn.Conv2d(encoder_width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(2 * channels, decoder_width, 3, padding=1),
            *(Mix(decoder_width) for _ in range(decoder_blocks)),
            nn.Conv2d(decoder_width, CELL, 1),
        )
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))

    def encode(self, video):
        """(B, 3, T, H, W) encoded colour in [0, 1] -> latents (B, C, 1 + ceil((T-1)/4), H/8, W/8)."""
        first, rest = video[:, :, :1], video[:, :, 1:]
        short = -rest.shape[2] % TIME
        if short:
            rest = torch.cat([rest, rest[:, :, -1:].expand(-1, -1, short, -1, -1)], dim=2)
        return self.encode_groups(torch.cat([first.expand(-1, -1, TIME, -1, -1), rest], dim=2))

    def encode_groups(self, video):
        """(B, 3, 4t, H, W), four frames a latent, each group by itself -> (B, C, t, H/8, W/8)."""
        b, t = video.shape[0], video.shape[2] // TIME
        latents = self.raw_latents(fold(video * 2 - 1))
        latents = (latents - self._row(self.latent_mean)) / self._row(self.latent_std)
        return latents.unflatten(0, (b, t)).transpose(1, 2)

    def raw_latents(self, cells):
        """Folded frames (B*t, CELL, h, w) in [-1, 1] -> (B*t, C, h, w), not yet normalised."""
        return self.encoder(cells)

    def decode_stream(self, latents):
        """Yield (B, 3, n, H, W) a latent frame: n is 1 for the first, then 4. Values are not clamped."""
        before = torch.zeros_like(latents[:, :, 0])
        for i in range(latents.shape[2]):
            now = latents[:, :, i]
            frames = unfold(self.decoder(torch.cat([before, now], dim=1)), 1)
            yield frames[:, :, -1:] if i == 0 else frames
            before = now

    def decode(self, latents, frames):
        """The stream, joined and cut to exactly `frames`: (B, 3, frames, H, W)."""
        return torch.cat(list(self.decode_stream(latents)), dim=2)[:, :, :frames]

    def _row(self, x):
        return x[None, :, None, None]


class Mix(nn.Module):
    """A residual block: depthwise 5x5, norm, pointwise expansion."""

    def __init__(self, width: int, expand: int = 2):
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.norm = nn.GroupNorm(1, width)
        self.up = nn.Conv2d(width, expand * width, 1)
        self.down = nn.Conv2d(expand * width, width, 1)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(self.spatial(x)))))


def fold(video):
    """(B, 3, 4t, H, W) -> (B*t, CELL, H/8, W/8)."""
    b, c, t, h, w = video.shape
    x = video.reshape(b, c, t // TIME, TIME, h // SPACE, SPACE, w // SPACE, SPACE)
    return x.permute(0, 2, 1, 3, 5, 7, 4, 6).reshape(b * t // TIME, CELL, h // SPACE, w // SPACE)


def unfold(cells, groups):
    """(B*t, CELL, h, w) in [-1, 1] -> (B, 3, 4t, H, W) in [0, 1]; groups = t."""
    n, _, h, w = cells.shape
    x = (cells * 0.5 + 0.5).reshape(n // groups, groups, 3, TIME, SPACE, SPACE, h, w)
    return x.permute(0, 2, 1, 3, 6, 4, 7, 5).reshape(n // groups, 3, groups * TIME, h * SPACE, w * SPACE)
