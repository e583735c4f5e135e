"""Encode video to latents and decode it: the interface of every codec, and the full-size codec.

A codec has
    time_stride = 4, space_stride = 8, channels
    encode(video)          (B, 3, T, H, W) -> (B, C, latent_frames(T), H/8, W/8)
    encode_stream()        -> a function of the next frames of one video, (B, 3, n, H, W), first 1,
                              then up to 4 at a time, that returns their latent frame (B, C, 1, H/8, W/8)
    decode_stream(latents) -> iterator of (B, 3, n, H, W), one latent frame at a
                              time: n = 1 for the first, 4 for each one after it. It reads
                              only shape and [:, :, i] of the latents, so they may be on disk
    decode(latents, frames)  (B, 3, frames, H, W): the stream, joined and trimmed

Video is encoded (display-referred) colour in [0, 1], float, any T >= 1; H and W are multiples of 8. Time is causal: the
first frame is one latent frame, and then every four frames are one. So T is padded to 4k + 1 by repeating the last
frame, and the decoder trims. Latents are normalised to about unit variance. Decoded values are not clamped. All results
are fp32, on the codec's device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vera.core.errors import InputError
from vera.core.files import Either, JsonError, check_shape

TIME_STRIDE = 4
SPACE_STRIDE = 8

Frame = TypeVar("Frame")


def latent_frames(frames: int) -> int:
    """Number of latent frames of `frames` frames: 1 + ceil((frames - 1) / 4)."""
    return 1 + (frames - 1 + TIME_STRIDE - 1) // TIME_STRIDE


def pad_frames(video: Tensor) -> Tensor:
    """Repeat the last frame of (B, C, T, H, W) until T is 4k + 1."""
    return hold_last(video, 1 + TIME_STRIDE * (latent_frames(video.shape[2]) - 1))


def latent_groups(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    """The frames in groups of one latent frame: the first frame alone, then up to four."""
    frames = iter(frames)
    size = 1
    while group := list(islice(frames, size)):
        yield group
        size = TIME_STRIDE


def hold_last(video: Tensor, frames: int) -> Tensor:
    """Repeat the last frame of (B, C, T, H, W) until T is `frames`."""
    return torch.cat([video, video[:, :, -1:].expand(-1, -1, frames - video.shape[2], -1, -1)], dim=2)


class LatentClip(Protocol):
    """Latents (B, C, T, H, W), in memory or on disk, as decoding reads them."""

    @property
    def shape(self) -> Any:
        """(B, C, T, H, W)."""

    def __getitem__(self, key: Any, /) -> Any:
        """[:, :, i]: latent frame i, (B, C, H, W)."""


class Codec(ABC):
    """Base class of the codecs; the module's docstring has the interface.

    remembers: whether a latent frame depends on the frames before it
    ahead: latent frames that a stream decodes in one turn. Its frames and its state then wait in host memory for its
        next turn, so that the device need not hold all streams. 0 keeps all streams on the device.
    """

    ahead = 0

    time_stride = TIME_STRIDE
    space_stride = SPACE_STRIDE
    channels: int
    remembers: bool

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, C, latent_frames(T), H/8, W/8)."""

    @abstractmethod
    def encode_stream(self) -> Callable[[Tensor], Tensor]:
        """A function from the next frames of one video (first 1, then up to 4 at a time) to their latent frame."""

    @abstractmethod
    def decode_stream(self, latents: LatentClip) -> Iterator[Tensor]:
        """Yield (B, 3, n, H, W), one latent frame at a time: n is 1 for the first, then 4."""

    def decode(self, latents: Tensor, frames: int) -> Tensor:
        """Latents (B, C, t, h, w) -> (B, 3, frames, 8h, 8w)."""
        if latent_frames(frames) != latents.shape[2]:
            raise ValueError(f"{latents.shape[2]} latent frames are not {frames} frames")
        return torch.cat(list(self.decode_stream(latents)), dim=2)[:, :, :frames]


# The fields of the VAE's configuration that are used here, with their types; diffusers does not check them.
CONFIG_SHAPE = {
    "patch_size": Either(int, type(None)),
    "temperal_downsample": [bool],
    "dim_mult": [int],
    "z_dim": int,
    "latents_mean": [float],
    "latents_std": [float],
}


class WanCodec(nn.Module, Codec):
    """Wan2.1's video VAE (diffusers' AutoencoderKLWan), or a smaller one of its kind.

    It encodes to the mode of the distribution. The VAE works on [-1, 1] and does not apply its latents_mean and
    latents_std; this class does both. The VAE's own decode() clamps to [-1, 1]; the stream does not clamp, and equals
    decode() up to rounding once clamped. A stream needs the memory of one latent frame. A VAE may fold patches of
    pixels into its channels (as Wan2.2 does) as long as a latent pixel is 8x8 pixels. Raises InputError if it is not
    4x8x8.
    """

    remembers = True
    mean: Tensor
    std: Tensor

    def __init__(self, vae: Any):
        super().__init__()
        config = vae.config
        try:
            check_shape({name: list(v) if isinstance(v, tuple) else v for name, v in config.items()}, CONFIG_SHAPE)
        except JsonError as error:
            raise InputError(f"video codec's configuration: {error}; copy the codec again") from None
        patch = config.patch_size or 1
        strides = (2 ** sum(config.temperal_downsample), patch * 2 ** (len(config.dim_mult) - 1))
        if strides != (TIME_STRIDE, SPACE_STRIDE):
            raise InputError(f"video codec with strides {strides}: only Wan2.1's, 4 in time and 8 in space, is taken")
        self.vae = vae.eval()
        self.channels, self.patch = config.z_dim, patch
        for name, values in (("mean", config.latents_mean), ("std", config.latents_std)):
            if len(values) != config.z_dim or (name == "std" and not all(values)):
                raise InputError(f"video codec: its latents' {name} is not of {config.z_dim} channels, or holds a 0")
            statistic = torch.tensor(values, dtype=torch.float32, device=vae.device)
            self.register_buffer(name, statistic.view(1, -1, 1, 1, 1), persistent=False)

    @torch.no_grad()
    def encode(self, video: Tensor) -> Tensor:
        encode = self.encode_stream()
        groups = pad_frames(video).split([1] + [TIME_STRIDE] * (latent_frames(video.shape[2]) - 1), dim=2)
        return torch.cat([encode(group) for group in groups], dim=2)

    def encode_stream(self) -> Callable[[Tensor], Tensor]:
        past = no_past(self.vae.encoder)

        @torch.no_grad()
        def encode(frames: Tensor) -> Tensor:
            first = all(slot is None for slot in past)
            video = hold_last(frames.to(self.vae.device, self.vae.dtype) * 2 - 1, 1 if first else TIME_STRIDE)
            return (self.posterior(video, past).chunk(2, dim=1)[0].float() - self.mean) / self.std

        return encode

    @torch.no_grad()
    def decode_stream(self, latents: LatentClip) -> Iterator[Tensor]:
        past, at = no_past(self.vae.decoder), self.vae.device
        for start in range(0, latents.shape[2], self.ahead or 1):
            indices = range(start, min(start + (self.ahead or 1), latents.shape[2]))
            move_past(past, at)
            made: Iterator[Tensor] = (self._decoded(latents[:, :, i], past, i == 0) for i in indices)
            if self.ahead:
                made = iter([frames.cpu() for frames in made])
                move_past(past, "cpu")
            yield from made

    def _decoded(self, latent: Tensor, past: list[Tensor | None], first: bool) -> Tensor:
        """The frames of one normalised latent frame (B, C, h, w), about in [0, 1]."""
        latent = latent.to(self.vae.device, torch.float32)[:, :, None] * self.std + self.mean
        return (self.pictures(latent.to(self.vae.dtype), past, first).float() + 1) / 2

    def posterior(self, video: Tensor, past: list[Tensor | None]) -> Tensor:
        """Mean and log variance (B, 2C, 1, h, w), not normalised, of the latent frame of the next frames of a video.

        The frames are in [-1, 1], first 1, then 4. `past` is no_past(vae.encoder) for the first call.
        """
        from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

        return self.vae.quant_conv(self.vae.encoder(patchify(video, self.patch), feat_cache=past, feat_idx=[0]))

    def pictures(self, latent: Tensor, past: list[Tensor | None], first: bool) -> Tensor:
        """The frames in [-1, 1], not clamped, of the next latent frame (B, C, 1, h, w), not normalised: first 1, then
        4.

        `past` is no_past(vae.decoder) for the first call.
        """
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        hidden = self.vae.post_quant_conv(latent)
        return unpatchify(self.vae.decoder(hidden, feat_cache=past, feat_idx=[0], first_chunk=first), self.patch)


def move_past(past: list[Tensor | None], device: torch.device | str) -> None:
    """Move a stream's state to a device, in place. Slots without a tensor hold strings or None."""
    past[:] = [slot.to(device) if isinstance(slot, Tensor) else slot for slot in past]


def no_past(part: nn.Module) -> list[Tensor | None]:
    """An empty state for the causal convolutions of a VAE's encoder or decoder, one slot each. Each stream needs its
    own
    list."""
    # Slow to import, and not needed for mini.
    from diffusers.models.autoencoders.autoencoder_kl_wan import (
        WanCausalConv3d,
    )

    return [None] * sum(isinstance(m, WanCausalConv3d) for m in part.modules())
