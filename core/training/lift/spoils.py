"""What services do to a video beside the edit: each of it by chance, from hardly anything to as bad as can be used."""

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

CODECS = ("none", "libx264", "libx264", "libx264", "libx265", "vae")  # drawn evenly


@dataclass(frozen=True)
class Worst:
    """The most of each, in the code range and in pixels; more teaches the gate to distrust more.

    soft, texture_lost, texture_new: sigma of the low pass, and the shares of the texture above it that are lost and
    made anew. gamma, gain: about 1. shift, jitter, bend: of the whole picture, of each frame, and from place to place.
    noise: of each pixel. smallest: share of the width and height. crf: of the codecs, from a good one to this.
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
    """(T, 3, H, W) in [0, 1] -> as a service returns it, (T, 3, h, w), 8 bits deep."""
    rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
    if rng.random() < 0.6:
        video = _regenerated(video, rng, gen, worst)
    video = video.clamp(1e-4, 1) ** (1 + rng.uniform(-1, 1) * worst.gamma * (rng.random() < 0.5))
    video = video * (1 + _drift(gen, video) * worst.gain * rng.random())
    video = _moved(video, rng, gen, worst)
    video = (video + rng.random() * worst.noise * torch.randn(video.shape, generator=gen)).clamp(0, 1)
    if rng.random() < 0.4:
        video = _smaller(video, rng.choice((0.75, 0.5, 0.5, worst.smallest)))
    codec = rng.choice(CODECS)
    if codec == "vae":
        video = through_embedded_codec(video)
    elif codec != "none":
        video = through_codec(video, codec, rng.randint(*worst.crf))
    return (video * 255).round() / 255


def _regenerated(video, rng, gen, worst):
    """Replace part of the texture by invented texture; some of that is fixed, some changes with each frame."""
    low = blur(video, rng.uniform(0.3, worst.soft))
    fine = video - low
    strength = blur(fine.abs().mean(1, keepdim=True), 2.0)

    def grains(count):
        v = torch.randn(count, 1, *video.shape[2:], generator=gen)
        v = v - blur(v, 0.9)
        return v / v.std()

    new = 0.8 * grains(1) + 0.5 * grains(len(video))
    return low + (1 - rng.random() * worst.texture_lost) * fine + rng.random() * worst.texture_new * strength * new


def _drift(gen, video):
    """Of each channel, in [-1, 1], smooth over frame and time."""
    coarse = torch.randn(1, 3, 3, 3, 4, generator=gen)
    size = (len(video), *video.shape[2:])
    field = F.interpolate(coarse, size, mode="trilinear", align_corners=True)[0].transpose(0, 1)
    return field / field.abs().max()


def _moved(video, rng, gen, worst):
    t, _, h, w = video.shape
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    angle, far = rng.uniform(0, 2 * math.pi), worst.shift * rng.random()
    jitter = torch.randn(t, 2, generator=gen) * worst.jitter * rng.random()
    bends = torch.randn(t, 2, max(2, h // 16), max(2, w // 16), generator=gen) * worst.bend * rng.random()
    if rng.random() < 0.5:
        bends = bends * 0
    bends = F.interpolate(bends, (h, w), mode="bicubic", align_corners=False)
    x = x + far * math.cos(angle) + jitter[:, 0, None, None] + bends[:, 0]
    y = y + far * math.sin(angle) + jitter[:, 1, None, None] + bends[:, 1]
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1)
    return F.grid_sample(video, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _smaller(video, share):
    size = [max(32, round(n * share / 2) * 2) for n in video.shape[2:]]
    return F.interpolate(video, size, mode="area")


def through_embedded_codec(video: torch.Tensor) -> torch.Tensor:
    """Encoded and decoded by mini's codec, whose sides are multiples of 16; the rest is filled and cut again."""
    codec, (t, _, h, w) = load_model("mini", "cpu").codec, video.shape
    filled = F.pad(video, (0, -w % 16, 0, -h % 16), mode="replicate")
    with torch.inference_mode():
        decoded = codec.decode(codec.encode(filled.transpose(0, 1)[None]), t)[0].transpose(0, 1)
    return decoded[..., :h, :w].clamp(0, 1).clone()


def through_codec(video: torch.Tensor, name: str = "libx264", crf: int = 23) -> torch.Tensor:
    """Written as a movie, BT.709, limited range, 4:2:0, and read again; odd sides lose a line."""
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
    with av.open(buffer, "r") as made:
        read = [
            f.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
            for f in made.decode(video=0)
        ]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255
