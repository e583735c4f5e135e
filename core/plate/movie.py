"""Movies through PyAV: frames counted by decoding, decoded one after the other."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from vera.core.errors import InputError
from vera.core.plate.clock import Clock, conform
from vera.core.plate.container import stated_size
from vera.core.plate.pattern import choose_frames

MOVIES = ("avi", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mxf", "webm")

# Containers only, and local files only: a playlist named .mp4 must not open other files.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mxf,mpeg,mpegts,mpegvideo",
}

# Code of the matrix (ITU-T H.273, table 4) -> PyAV's name. 2 is "unspecified".
_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}

# A base rate that shows each stored frame so many times is a time base, not a rate: such movies are refused. Higher
# takes
# recordings with longer gaps, and more nonsense.
MAX_TICKS_PER_FRAME = 8
MIN_TICKS_REFUSED = 200  # ticks; shorter movies are conformed whatever their gaps

# Decoders that see the alpha which lies beside the stream, where `alpha_mode` says so.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

# Luma weights of red and blue (H.273, table 4).
_LUMA = {
    Colorspace.ITU709: (0.2126, 0.0722),
    Colorspace.FCC: (0.30, 0.11),
    Colorspace.ITU601: (0.299, 0.114),
    Colorspace.SMPTE240M: (0.212, 0.087),
    Colorspace.BT2020: (0.2627, 0.0593),
}

# The faster defaults are off by several codes.
_EXACT = (
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.BITEXACT
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


class Header(NamedTuple):
    """What a movie says of itself; fps 0 where it says nothing."""

    width: int
    height: int
    frames: int
    fps: Fraction


def movie_header(file: Path) -> Header:
    """Of a movie, without decoding: quick, and only as true as the file is. Raises InputError if broken off."""
    refuse_truncated(file)
    with _open(file) as container:
        stream = _video_stream(container, file)
        rate = stream.average_rate or stream.guessed_rate or 0
        frames = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
        return Header(stream.width, stream.height, frames, Fraction(rate))


def refuse_truncated(file: Path) -> None:
    """Raises InputError for an empty file, and for one that ends before its index does."""
    size = file.stat().st_size
    if size == 0:
        raise InputError(f"{file}: the file is empty (0 bytes); write it again")
    with _open(file) as container:
        stream = _video_stream(container, file)
        end = max((entry.pos + entry.size for entry in stream.index_entries), default=0)
    end = max(end, stated_size(file) or 0)
    if end > size:
        raise InputError(f"{file}: breaks off at {size} bytes of at least {end}; write or copy it again")


class Movie:
    """The frames of one video stream, numbered from 1.

    Opening decodes as far as the last frame asked for: no header says reliably how many frames
    there are. Reading in order decodes each frame once more and holds one; going back starts
    over from the first, because only that gives the same bits for every codec. Not for use by
    several threads at once.

    A movie is a clock: where its time stamps are uneven, frames are held and dropped at the stated rate, as hosts show
    it. A stated rotation is applied. Interlaced fields are refused. Alpha beside the stream (VP8 and VP9 in WebM) is
    decoded with it. names: of the channels. notes: what a user should know, a sentence each. timecode: of frame 1.

    8-bit sources become rgb24 (uint8); deeper ones 16-bit RGB (`pixel_type` "uint16", full
    scale 65535). The stream's matrix and range are respected; a matrix that is not stated is
    BT.709 from 720 lines and BT.601 below, a range that is not stated is limited for YUV. Values
    beyond nominal black and white are clipped. RGB streams keep their codes exactly.
    """

    _current: av.VideoFrame | None  # the stored frame that was decoded last

    def __init__(self, file: Path, asked: range | None) -> None:
        self.file = file
        refuse_truncated(file)
        self._rewind()
        # A range that starts before frame 1 is refused; its message wants the full count.
        first, self._clock = self._survey(asked[-1] if asked and asked[0] > 0 else None)
        self.frames = choose_frames(asked, list(range(1, len(self._clock.shown) + 1)), str(file))
        self._turns = round(first.rotation / 90) % 4  # quarter turns to the left that make it upright
        self.width, self.height = (first.height, first.width) if self._turns % 2 else (first.width, first.height)
        self.pixel_type = "uint8" if _bits(first) == 8 else "uint16"
        self.has_alpha = _alpha(first) is not None
        self.names = ("R", "G", "B", "A") if self.has_alpha else ("R", "G", "B")
        self.color_codes = (int(first.color_primaries), int(first.color_trc))
        self.fps, self.pixel_aspect = self._clock.rate, self._aspect()
        stream = _video_stream(self._container, file)
        self.timecode = stream.metadata.get("timecode") or self._container.metadata.get("timecode")
        self.notes = self._notes(first)
        self._rewind()

    def read(self, frame: int) -> np.ndarray:
        """RGB as (H, W, 3), uint8 or uint16. Raises InputError if decoding fails."""
        return np.ascontiguousarray(np.rot90(_rgb(self._decoded(frame)), self._turns))

    def read_alpha(self, frame: int) -> np.ndarray | None:
        """Alpha as stored, (H, W) float32 in [0, 1], or None if the stream has none."""
        alpha = _alpha(self._decoded(frame))
        return None if alpha is None else np.ascontiguousarray(np.rot90(alpha, self._turns))

    def close(self) -> None:
        self._stream.close()
        self._container.close()

    def _survey(self, last: int | None) -> tuple[av.VideoFrame, Clock]:
        """Decode up to frame `last`, or to the end: the first frame, and which frame is shown when."""
        times: list[Fraction | None] = []
        first = None
        for frame in self._stream:
            number = len(times) + 1
            first = first or frame
            _refuse_frame(frame, f"frame {number}: {self.file}")
            shape, was = (f"{f.width}x{f.height} {f.format.name}" for f in (frame, first))
            if shape != was:
                raise InputError(f"frame {number}: {self.file}: {shape}, but frame 1 is {was}; write it in one size")
            stamp = None if frame.pts is None or frame.time_base is None else frame.pts * Fraction(frame.time_base)
            times.append(stamp)
            if last is not None and self._reaches(times, last):
                break
        if first is None:
            raise InputError(f"{self.file}: its video stream holds no frame; write it again")
        return first, self._clock_of(times)

    def _reaches(self, times: list[Fraction | None], last: int) -> bool:
        """Whether frame `last` is known: frames dropped from a clock need more stored ones than it has ticks."""
        return len(times) >= last and len(self._clock_of(times).shown) >= last

    def _clock_of(self, times: list[Fraction | None]) -> Clock:
        stream = _video_stream(self._container, self.file)
        # The average rate counts what is stored; the base rate is what a recorder with gaps means.
        rates = [Fraction(rate) if rate else None for rate in (stream.average_rate, stream.guessed_rate)]
        clock = conform(times, rates)
        if len(clock.shown) > max(MIN_TICKS_REFUSED, MAX_TICKS_PER_FRAME * len(times)):
            raise InputError(
                f"{self.file}: its time stamps are uneven, and no steady rate fits them; conform it to one first,"
                " for example by ffmpeg -i IN -fps_mode cfr -r 24 OUT"
            )
        return clock

    def _aspect(self) -> float:
        stream = _video_stream(self._container, self.file)
        aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
        return 1 / aspect if self._turns % 2 else aspect

    def _notes(self, first: av.VideoFrame) -> tuple[str, ...]:
        notes = []
        if self._turns:
            notes.append(
                f"the movie's rotation of {first.rotation:g} degrees is applied; the "
                "layer is upright, as players show it"
            )
        if not self._clock.is_even:
            notes.append(
                f"the movie's time stamps are uneven: at its {float(self._clock.rate or 0):.5g} frames a second it has"
                f" {len(self._clock.shown)} frames, {self._clock.held} held and {self._clock.dropped} dropped"
            )
        return tuple(notes)

    def _decoded(self, frame: int) -> av.VideoFrame:
        current = self._current
        stored = self._clock.shown[frame - 1] + 1
        if stored < self._number:
            self._rewind()
        while self._number < stored:
            current = next(self._stream, None)
            self._current = current
            self._number += 1
            if current is None:
                self._rewind()
                raise InputError(f"frame {frame}: {self.file}: gone; the file has changed, start again")
        assert current is not None
        return current

    def _rewind(self) -> None:
        if hasattr(self, "_container"):
            self.close()
        self._container = _open(self.file)
        self._stream = self._decode()
        self._number = 0  # of the stored frame that was decoded last, from 1
        self._current = None

    def _decode(self) -> Generator[av.VideoFrame, None, None]:
        stream = _video_stream(self._container, self.file)
        stream.thread_type = "AUTO"
        number = 0
        try:
            for number, frame in enumerate(self._frames_of(stream), 1):  # noqa: B007 - the message names it
                yield frame
        except (av.FFmpegError, OSError) as error:
            raise InputError(
                f"frame {number + 1}: {self.file}: cannot be decoded ({error.strerror}); write it again"
            ) from None
        except UnicodeDecodeError:
            raise InputError(f"frame {number + 1}: {self.file}: cannot be decoded; write it again") from None

    def _frames_of(self, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
        decoder = _ALPHA_DECODERS.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
        if decoder is None:
            yield from self._container.decode(stream)
            return
        codec: Any = av.CodecContext.create(decoder, "r")
        for packet in self._container.demux(stream):
            yield from codec.decode(packet if packet.size else None)


def _open(file: Path) -> av.container.InputContainer:
    try:
        return av.open(str(file), options=_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise InputError(f"{file}: not a readable movie ({error.strerror}); write it again") from None
    except UnicodeDecodeError:  # of a codec's or a tag's name
        raise InputError(f"{file}: not a readable movie (damaged header); write it again") from None


def _video_stream(container: av.container.InputContainer, file: Path) -> av.VideoStream:
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if not s.disposition & cover]
    if not streams:
        raise InputError(f"{file}: has no video stream; supply a movie with a picture")
    return streams[0]


def _refuse_frame(frame: av.VideoFrame, where: str) -> None:
    if frame.is_corrupt:
        raise InputError(f"{where}: damaged; write it again")
    if frame.rotation % 90:
        raise InputError(f"{where}: a rotation of {frame.rotation} degrees is not supported; bake it in")
    if frame.interlaced_frame:
        raise InputError(f"{where}: interlaced fields are not supported; deinterlace it first")
    name = frame.format.name
    if _bits(frame) > 16 or "f16" in name or name.startswith(("xyz", "bayer")):
        raise InputError(f"{where}: pixels of format {name} are not supported yet; write 8 to 16 bits")
    if not frame.format.is_rgb and _matrix(frame) is None:
        raise InputError(f"{where}: YUV matrix {frame.colorspace} (H.273) is not supported yet; write BT.709")


def _bits(frame: av.VideoFrame) -> int:
    return max(8, *(c.bits for c in frame.format.components))


def _is_grey(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("gray", "ya", "mono", "pal"))


def _matrix(frame: av.VideoFrame) -> Colorspace | None:
    """The stream's matrix, the usual one if it states none, None if it is not known here."""
    if frame.colorspace in (2, 3) or _is_grey(frame):
        return Colorspace.ITU709 if frame.height >= 720 else Colorspace.ITU601
    return _MATRICES.get(frame.colorspace)


def _is_full_range(frame: av.VideoFrame) -> bool:
    if frame.color_range == ColorRange.UNSPECIFIED:
        return frame.format.name.startswith("yuvj") or _is_grey(frame)
    return frame.color_range == ColorRange.JPEG


def _rgb(frame: av.VideoFrame) -> np.ndarray:
    if frame.format.is_rgb:
        target = "rgb24" if _bits(frame) == 8 else "rgb48le"
        return _packed(_convert(frame, target, dst_color_range=ColorRange.JPEG))
    if _bits(frame) > 8:
        return _deep_yuv_to_rgb(frame)
    rgb = _convert(
        frame,
        "rgb24",
        src_colorspace=_matrix(frame),
        src_color_range=ColorRange.JPEG if _is_full_range(frame) else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    )
    return _packed(rgb)


def _deep_yuv_to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """YUV of 9 to 16 bits to 16-bit RGB by the equations of H.273, section 8.3.

    swscale only brings chroma to full size: its own conversion puts limited-range white at
    65283 of 65535.
    """
    bits, matrix, full = _bits(frame), _matrix(frame), _is_full_range(frame)
    range_ = ColorRange.JPEG if full else ColorRange.MPEG
    whole = _convert(
        frame,
        f"yuv444p{bits}le",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=range_,
        dst_color_range=range_,
    )
    y, u, v = (_plane(whole, i, bits).astype(np.float32) for i in range(3))
    step = 2 ** (bits - 8)
    black, luma, chroma = (0, 2**bits - 1, 2**bits - 1) if full else (16 * step, 219 * step, 224 * step)
    y = (y - black) / luma
    u = (u - 128 * step) / chroma
    v = (v - 128 * step) / chroma
    assert matrix is not None  # refused when the movie was opened
    red, blue = _LUMA[matrix]
    r = y + 2 * (1 - red) * v
    b = y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    rgb = np.stack([r, g, b], axis=-1)
    return np.rint(np.clip(rgb, 0, 1) * 65535).astype(np.uint16)


def _alpha(frame: av.VideoFrame) -> np.ndarray | None:
    """Taken from the stored plane where there is one: conversions lose exact 0 and 1."""
    parts = [c for c in frame.format.components if c.is_alpha]
    if not parts:
        return None
    alpha, full_scale = parts[0], np.float32(2 ** parts[0].bits - 1)
    if alpha.plane == 3:
        return _plane(frame, 3, alpha.bits).astype(np.float32) / full_scale
    packed = _packed(_convert(frame, "rgba" if alpha.bits == 8 else "rgba64le"))
    return packed[..., 3].astype(np.float32) / full_scale


def _plane(frame: av.VideoFrame, index: int, bits: int) -> np.ndarray:
    big_endian = frame.format.name.endswith("be")
    kind = np.dtype(np.uint8 if bits == 8 else np.uint16).newbyteorder(">" if big_endian else "<")
    plane: Any = frame.planes[index]
    rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    return rows[:, : plane.width]


def _packed(frame: av.VideoFrame) -> np.ndarray:
    """The one plane of rgb24, rgba, rgb48le or rgba64le as (H, W, C)."""
    channels, bits = len(frame.format.components), _bits(frame)
    kind = np.dtype(np.uint8 if bits == 8 else "<u2")
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, kind).reshape(plane.height, plane.line_size // kind.itemsize)
    pixels = rows[:, : frame.width * channels].reshape(frame.height, frame.width, channels)
    return pixels.astype(kind.newbyteorder("="))


def _convert(frame: av.VideoFrame, target: str, **color) -> av.VideoFrame:
    return VideoReformatter().reformat(frame, format=target, interpolation=_EXACT, threads=1, **color)
