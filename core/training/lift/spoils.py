"""Degrade a video as services that edit video do: softness, colour drift, misalignment, noise, size, compression.

Each kind is drawn at random, from hardly visible to barely usable.
"""

import io
import math
import random
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F

from vera.core.lifting.smooth import blur
from vera.core.model.load import load_model
from vera.core.model.mini.mini_codec import MiniCodec

CODECS = ("none", "libx264", "libx264", "libx264", "libx265", "vae")  # each entry is drawn with equal probability


@dataclass(frozen=True)
class Worst:
    """Upper bound of each degradation. Raising one teaches the gate to trust edited videos less.

    soft: sigma in pixels of the low pass that separates texture
    texture_lost, texture_new: shares of the texture that are removed, and replaced by invented texture
    gamma, gain: deviation of the exponent and of the channels' gain from 1
    shift, jitter, bend: misalignment in pixels: of the clip, of each frame, and varying over the frame
    noise: standard deviation at each pixel, on values of 0 to 1
    smallest: least share of width and height. Unlike the others, raising it degrades less
    crf: range of the codecs' quality setting; higher compresses more
    """

    soft: float = 1.2
    texture_lost: float = 0.9
    texture_new: float = 0.9
    gamma: float = 0.06
    gain: float = 0.05
    shift: float = 0.9
    jitter: float = 0.25
    bend: float = 0.4
    noise: float = 0.012
    smallest: float = 0.25
    crf: tuple[int, int] = (16, 28)


WORST_CASE = Worst()


def spoil(video: torch.Tensor, seed: int, worst: Worst = WORST_CASE) -> torch.Tensor:
    """Degrade a clip (T, 3, H, W) in [0, 1]. Returns (T, 3, h, w) in steps of 1/255, possibly smaller."""
    rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
    if rng.random() < 0.6:
        video = _with_new_texture(video, rng, gen, worst)
    video = video.clamp(1e-4, 1) ** (1 + rng.uniform(-1, 1) * worst.gamma * (rng.random() < 0.5))
    video = video * (1 + _drift(gen, video) * worst.gain * rng.random())
    video = _misaligned(video, rng, gen, worst)
    video = (video + rng.random() * worst.noise * torch.randn(video.shape, generator=gen)).clamp(0, 1)
    if rng.random() < 0.4:
        video = _downsized(video, rng.choice((0.75, 0.5, 0.5, worst.smallest)))
    codec = rng.choice(CODECS)
    if codec == "vae":
        video = through_embedded_codec(video)
    elif codec != "none":
        video = through_codec(video, codec, rng.randint(*worst.crf))
    return (video * 255).round() / 255


def _with_new_texture(video: torch.Tensor, rng: random.Random, gen: torch.Generator, worst: Worst) -> torch.Tensor:
    """Replace part of the texture by invented texture, of which some is fixed and some changes with each frame.

    video: (T, 3, H, W), as for the functions below
    """
    low = blur(video, rng.uniform(0.3, worst.soft))
    fine = video - low
    strength = blur(fine.abs().mean(1, keepdim=True), 2.0)

    def grains(count):
        v = torch.randn(count, 1, *video.shape[2:], generator=gen)
        v = v - blur(v, 0.9)
        return v / v.std()

    new = 0.8 * grains(1) + 0.5 * grains(len(video))
    return low + (1 - rng.random() * worst.texture_lost) * fine + rng.random() * worst.texture_new * strength * new


def _drift(gen: torch.Generator, video: torch.Tensor) -> torch.Tensor:
    """A random field of the clip's shape, in [-1, 1], smooth over frame and time, separate for each channel."""
    coarse = torch.randn(1, 3, 3, 3, 4, generator=gen)
    size = (len(video), *video.shape[2:])
    field = F.interpolate(coarse, size, mode="trilinear", align_corners=True)[0].transpose(0, 1)
    return field / field.abs().max()


def _misaligned(video: torch.Tensor, rng: random.Random, gen: torch.Generator, worst: Worst) -> torch.Tensor:
    """The clip shifted, shaken and bent by fractions of a pixel."""
    t, _, h, w = video.shape
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    angle, distance = rng.uniform(0, 2 * math.pi), worst.shift * rng.random()
    jitter = torch.randn(t, 2, generator=gen) * worst.jitter * rng.random()
    bends = torch.randn(t, 2, max(2, h // 16), max(2, w // 16), generator=gen) * worst.bend * rng.random()
    if rng.random() < 0.5:
        bends = bends * 0
    bends = F.interpolate(bends, (h, w), mode="bicubic", align_corners=False)
    x = x + distance * math.cos(angle) + jitter[:, 0, None, None] + bends[:, 0]
    y = y + distance * math.sin(angle) + jitter[:, 1, None, None] + bends[:, 1]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1)
    return F.grid_sample(video, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _downsized(video: torch.Tensor, share: float) -> torch.Tensor:
    """The clip at this share of its size, with even sides of at least 32 pixels."""
    size = [max(32, round(n * share / 2) * 2) for n in video.shape[2:]]
    return F.interpolate(video, size, mode="area")


def through_embedded_codec(video: torch.Tensor) -> torch.Tensor:
    """The clip (T, 3, H, W) encoded and decoded by mini's coarse codec, padded to sides that are multiples of 16."""
    codec, (t, _, h, w) = load_model("mini", "cpu").codec, video.shape
    assert isinstance(codec, MiniCodec)
    padded = F.pad(video, (0, -w % 16, 0, -h % 16), mode="replicate")
    with torch.inference_mode():
        decoded = codec.decode(codec.coarsely(padded.transpose(0, 1)[None]), t)[0].transpose(0, 1)
    return decoded[..., :h, :w].clamp(0, 1).clone()


def through_codec(video: torch.Tensor, name: str = "libx264", crf: int = 23) -> torch.Tensor:
    """The clip (T, 3, H, W) encoded and decoded in BT.709, limited range, 4:2:0; an odd side loses its last line."""
    video = video[..., : video.shape[2] // 2 * 2, : video.shape[3] // 2 * 2]
    packed = (video.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    threads = {"threads": "1"} if name == "libx264" else {"x265-params": "log-level=none:pools=none:frame-threads=1"}
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as movie:
        stream: Any = movie.add_stream(name, rate=24, options={"crf": str(crf), **threads})
        stream.width, stream.height, stream.pix_fmt = packed.shape[2], packed.shape[1], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for picture in packed:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            movie.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))
        movie.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer, "r") as movie:
        read = [
            f.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
            for f in movie.decode(video=0)
        ]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255
