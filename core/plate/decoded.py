"""Convert a decoded video frame to RGB and alpha, with the stated, default or requested matrix and range."""

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vera.core.errors import InputError
from vera.core.plate.choice import MATRICES, Choice

# Code of the matrix (ITU-T H.273, table 4) -> PyAV's name. 2 is "unspecified", 3 reserved.
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
_UNSTATED = (2, 3)
_BY_NAME = dict(
    zip(
        MATRICES,
        (Colorspace.ITU601, Colorspace.ITU709, Colorspace.BT2020, Colorspace.SMPTE240M, Colorspace.FCC),
        strict=True,
    )
)
_NAMES = {matrix: name for name, matrix in _BY_NAME.items()}
HD_LINES = 720  # height in lines from which an unstated matrix is BT.709; below, it is BT.601

# Luma weights of red and blue (H.273, table 4).
_LUMA = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}

# swscale's faster defaults have errors of several codes.
_EXACT_OPTIONS = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class EncodingProperty:
    """A property of a frame's encoding, the value that is used, and the reason: "stated", "asked for", or a default.

    stated: the movie's own statement, or None
    """

    value: str
    why: str
    stated: str | None = None

    @property
    def overrules(self) -> bool:
        """Whether the movie states another value than the one that is used."""
        return self.stated is not None and self.stated != self.value


def matrix_read(frame: av.VideoFrame, choice: Choice) -> EncodingProperty:
    """The YUV matrix; "rgb" or "grey" for pixels without one."""
    if frame.format.is_rgb:
        return EncodingProperty("rgb", "its pixels are RGB")
    stated = None if frame.colorspace in _UNSTATED else _MATRICES.get(frame.colorspace)
    stated_name = _NAMES[stated] if stated is not None and not _is_grey(frame) else None
    if choice.matrix:
        return EncodingProperty(choice.matrix, "asked for", stated_name)
    if stated_name:
        return EncodingProperty(stated_name, "stated", stated_name)
    where = f"{HD_LINES} lines and more" if frame.height >= HD_LINES else f"fewer than {HD_LINES} lines"
    return EncodingProperty(_NAMES[_usual_matrix(frame)], f"not stated; usual for {where}")


def range_read(frame: av.VideoFrame, choice: Choice) -> EncodingProperty:
    """Whether the codes use all values ("full"), or have head room and foot room ("limited")."""
    if frame.format.is_rgb:
        return EncodingProperty("full", "its pixels are RGB")
    stated = {ColorRange.MPEG: "limited", ColorRange.JPEG: "full"}.get(ColorRange(frame.color_range))
    if stated is None and frame.format.name.startswith("yuvj"):
        stated = "full"
    if choice.range:
        return EncodingProperty(choice.range, "asked for", stated)
    if stated:
        return EncodingProperty(stated, "stated", stated)
    if _is_grey(frame):
        return EncodingProperty("full", "not stated; usual for grey")
    return EncodingProperty("limited", "not stated; usual for YUV")


def refuse_unreadable(frame: av.VideoFrame, choice: Choice, where: str) -> None:
    """Raise InputError for pixels that `rgb` cannot read, and for options that do not apply to them."""
    name = frame.format.name
    if bits(frame) > 16 or "f16" in name or name.startswith(("xyz", "bayer")):
        raise InputError(f"{where}: pixels of format {name} are not supported yet; write 8 to 16 bits")
    for asked in ("matrix", "range"):
        if frame.format.is_rgb and getattr(choice, asked):
            raise InputError(f"{where}: its pixels are RGB ({name}), which has no {asked}; leave --{asked} out")
    if frame.format.is_rgb or _is_grey(frame) or choice.matrix:
        return
    if frame.colorspace not in _UNSTATED and frame.colorspace not in _MATRICES:
        raise InputError(
            f"{where}: YUV matrix {frame.colorspace} (H.273) is not supported yet; write BT.709, or name another one by"
            " --matrix"
        )


def bits(frame: av.VideoFrame) -> int:
    """Significant bits of a component, at least 8."""
    return max(8, *(c.bits for c in frame.format.components))


def rgb(frame: av.VideoFrame, choice: Choice) -> np.ndarray:
    """The frame as (H, W, 3): uint8, or for deeper frames uint16 with full scale 65535."""
    if frame.format.is_rgb:
        target = "rgb24" if bits(frame) == 8 else "rgb48le"
        return _packed(_convert(frame, target, dst_color_range=ColorRange.JPEG))
    matrix = _BY_NAME[matrix_read(frame, choice).value]
    full = range_read(frame, choice).value == "full"
    if bits(frame) > 8:
        return _deep_yuv_to_rgb(frame, matrix, full)
    converted = _convert(
        frame,
        "rgb24",
        src_colorspace=matrix,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return _packed(converted)


def alpha(frame: av.VideoFrame) -> np.ndarray | None:
    """The frame's alpha, (H, W) float32 in [0, 1], or None.

    It is read from the stored plane if there is one: conversions lose exact 0 and 1.
    """
    parts = [c for c in frame.format.components if c.is_alpha]
    if not parts:
        return None
    part, full_scale = parts[0], np.float32(2 ** parts[0].bits - 1)
    if part.plane == 3:
        return _plane(frame, 3, part.bits).astype(np.float32) / full_scale
    packed = _packed(_convert(frame, "rgba" if part.bits == 8 else "rgba64le"))
    return packed[..., 3].astype(np.float32) / full_scale


def _is_grey(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya", "mono", "pal"))


def _usual_matrix(frame: av.VideoFrame) -> Colorspace:
    return Colorspace.ITU709 if frame.height >= HD_LINES else Colorspace.ITU601


def _deep_yuv_to_rgb(frame: av.VideoFrame, matrix: Colorspace, full: bool) -> np.ndarray:
    """YUV of 9 to 16 bits to 16-bit RGB by the equations of H.273, section 8.3.

    swscale only enlarges the chroma planes: its own conversion maps limited-range white to 65283 of 65535.
    """
    depth = bits(frame)
    range_ = ColorRange.JPEG if full else ColorRange.MPEG
    whole = _convert(
        frame,
        f"yuv444p{depth}le",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=range_,
        dst_color_range=range_,
    )
    y, u, v = (_plane(whole, i, depth).astype(np.float32) for i in range(3))
    step = 2 ** (depth - 8)
    black, luma, chroma = (0, 2**depth - 1, 2**depth - 1) if full else (16 * step, 219 * step, 224 * step)
    y = (y - black) / luma
    u = (u - 128 * step) / chroma
    v = (v - 128 * step) / chroma
    red, blue = _LUMA[matrix]
    r = y + 2 * (1 - red) * v
    b = y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    deep = np.stack([r, g, b], axis=-1)
    return np.rint(np.clip(deep, 0, 1) * 65535).astype(np.uint16)


def _plane(frame: av.VideoFrame, index: int, depth: int) -> np.ndarray:
    big_endian = frame.format.name.endswith("be")
    kind = np.dtype(np.uint8 if depth == 8 else np.uint16).newbyteorder(">" if big_endian else "<")
    plane: Any = frame.planes[index]
    rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    return rows[:, : plane.width]


def _packed(frame: av.VideoFrame) -> np.ndarray:
    """The one plane of rgb24, rgba, rgb48le or rgba64le as (H, W, C)."""
    channels, depth = len(frame.format.components), bits(frame)
    kind = np.dtype(np.uint8 if depth == 8 else "<u2")
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    pixels = rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)
    return pixels.astype(kind.newbyteorder("="))


def _convert(frame: av.VideoFrame, target: str, **color: Any) -> av.VideoFrame:
    return VideoReformatter().reformat(frame, format=target, interpolation=_EXACT_OPTIONS, threads=1, **color)
