"""Spoil a video as other editors do: shifted, drifted in colour, noisy, through a codec, smaller, 8 bits."""

import io
import math

import av
import numpy as np
import torch
import torch.nn.functional as F

from vera.core.training.lift.spoils import through_embedded_codec

MAX_DRIFT, NOISE = 0.05, 0.01


def spoil(video, seed, way):
    """(T, 3, H, W) in [0, 1] -> the same video as a video editor would return it, in 8 bits.

    Applied are a shift of half a pixel in a random direction, a gain of up to 5 % per channel that varies over frame
    and time, and noise. Then way: "vae" (the coarse codec of `mini`), "h264" (libx264, 4:2:0, crf 23), or "quarter" (a
    quarter of the width and height).
    """
    gen = torch.Generator().manual_seed(seed)
    video = shifted(video, gen) * (1 + drift(gen, *video.shape[:1], *video.shape[2:]))
    video = (video + NOISE * torch.randn(video.shape, generator=gen)).clamp(0, 1)
    video = {"vae": through_embedded_codec, "h264": through_h264, "quarter": quarter}[way](video)
    return (video * 255).round() / 255


def unspoil(edited, seed, size):
    """The degraded video at `size` (height, width), with spoil()'s shift and drift removed exactly."""
    gen = torch.Generator().manual_seed(seed)
    video = F.interpolate(edited, size, mode="bicubic").clamp(0, 1)
    video = shifted(video, gen, back=True)
    return (video / (1 + drift(gen, len(video), *size))).clamp(0, 1)


WAYS = ("vae", "h264", "quarter")


def shifted(video, gen, back=False):
    """Shift by half a pixel, the same on every frame, as a resize with another convention of pixel centres does."""
    t, _, h, w = video.shape
    angle = 2 * math.pi * float(torch.rand((), generator=gen))
    y, x = torch.meshgrid(torch.arange(h, dtype=torch.float32), torch.arange(w, dtype=torch.float32), indexing="ij")
    far = -0.5 if back else 0.5
    x, y = x + far * math.cos(angle), y + far * math.sin(angle)
    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], -1).expand(t, -1, -1, -1)
    return F.grid_sample(video, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def drift(gen, frames, height, width):
    """Relative change of each channel, (T, 3, H, W), smooth over frame and time, at most 0.05."""
    coarse = torch.randn(1, 3, 3, 3, 4, generator=gen)
    field = F.interpolate(coarse, (frames, height, width), mode="trilinear", align_corners=True)[0].transpose(0, 1)
    return MAX_DRIFT * field / field.abs().max()


def through_h264(video, crf=23):
    """Written as a movie, BT.709, limited range, and read again."""
    packed = (video * 255).round().byte().permute(0, 2, 3, 1).numpy()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as movie:
        stream = movie.add_stream("libx264", rate=24, options={"crf": str(crf), "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = packed.shape[2], packed.shape[1], "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        for picture in packed:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            movie.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))
        movie.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as movie:
        read = [
            f.reformat(format="rgb24", src_colorspace="ITU709", dst_color_range="JPEG").to_ndarray()
            for f in movie.decode(video=0)
        ]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255


def quarter(video):
    return F.interpolate(video, scale_factor=0.25, mode="area")
