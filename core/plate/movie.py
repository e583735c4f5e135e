"""Read movies through PyAV. Frames are counted by decoding, and decoded in order."""

from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from vera.core.errors import InputError
from vera.core.plate import decoded
from vera.core.plate.choice import USUAL, Choice
from vera.core.plate.clock import Clock, conform
from vera.core.plate.container import stated_size
from vera.core.plate.fields import deinterlaced, stated_order
from vera.core.plate.pattern import choose_frames

# Containers only, and local files only: a playlist named .mp4 must not open other files.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,matroska,webm,avi,mxf,mpeg,mpegts,mpegvideo",
}

# Ticks per stored frame from which a base rate is a time base and no frame rate; such movies are refused. Raising it
# accepts recordings with longer gaps, and more broken files.
MAX_TICKS_PER_FRAME = 8
MIN_SURVEYED = 12  # frames decoded at least, because fewer say little about an uneven movie's rate
MIN_TICKS_REFUSED = 200  # ticks; shorter movies are conformed with any gaps

# FFmpeg's names of formats that state a duration for each frame, so that a last frame that is held can be seen.
_STATING_DURATIONS = ("mov,mp4,m4a,3gp,3g2,mj2",)

# Decoders that decode the separate alpha stream that `alpha_mode` announces.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


class Header(NamedTuple):
    """A movie's own statements; fps is 0 if it states none."""

    width: int
    height: int
    frames: int
    fps: Fraction


def movie_header(file: Path) -> Header:
    """The statements of a movie's header, without decoding; they can be wrong. Raises InputError for truncated
    files."""
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

    Opening decodes up to the last requested frame, because no header reliably states the number of frames. Reading in
    order decodes each frame once more and holds one. Going back starts again from the first frame: only this gives the
    same bits with every codec. One thread at a time may use it.

    If the time stamps are uneven, frames are held and dropped at the stated rate, as hosts do. A stated rotation is
    applied. Interlaced frames are refused unless `choice.fields` is set: "upper" and "lower" deinterlace every frame
    with this field first, whatever the movie states; "ignore" reads frames as they are. Separate alpha streams (VP8 and
    VP9 in WebM) are decoded too.

    8-bit sources become rgb24 (uint8), deeper ones 16-bit RGB (`pixel_type` "uint16", full scale 65535). The stated
    matrix and range are used unless `choice` has others. An unstated matrix is BT.709 from 720 lines on and BT.601
    below; an unstated range of YUV is limited. Values beyond nominal black and white are clipped. RGB streams keep
    their codes exactly.

    names: of the channels
    notes: messages for the user
    timecode: of frame 1
    matrix, range: as used, of the first frame
    field_order: "upper", "lower" or "not stated"; None for progressive frames
    """

    _current: av.VideoFrame | None  # the stored frame that was decoded last

    def __init__(self, file: Path, asked: range | None, choice: Choice = USUAL) -> None:
        self.file = file
        self.choice = choice
        refuse_truncated(file)
        self._rewind()
        # A range that starts before frame 1 is refused; its message wants the full count.
        first, self._clock = self._survey(asked[-1] if asked and asked[0] > 0 else None)
        self.frames = choose_frames(asked, list(range(1, len(self._clock.shown) + 1)), str(file))
        self._turns = round(first.rotation / 90) % 4  # quarter turns to the left that make it upright
        self.width, self.height = (first.height, first.width) if self._turns % 2 else (first.width, first.height)
        self.pixel_type = "uint8" if decoded.bits(first) == 8 else "uint16"
        self.has_alpha = decoded.alpha(first) is not None
        self.names = ("R", "G", "B", "A") if self.has_alpha else ("R", "G", "B")
        self.color_codes = (int(first.color_primaries), int(first.color_trc))
        self.fps, self.pixel_aspect = self._clock.rate, self._aspect()
        stream = _video_stream(self._container, file)
        self.timecode = stream.metadata.get("timecode") or self._container.metadata.get("timecode")
        self.matrix, self.range = decoded.matrix_read(first, choice), decoded.range_read(first, choice)
        self.field_order = self._field_order()
        self.notes = self._notes(first)
        self._rewind()

    def read(self, frame: int) -> np.ndarray:
        """RGB as (H, W, 3), uint8 or uint16. Raises InputError if decoding fails."""
        return np.ascontiguousarray(np.rot90(decoded.rgb(self._decoded(frame), self.choice), self._turns))

    def read_alpha(self, frame: int) -> np.ndarray | None:
        """Alpha as stored, (H, W) float32 in [0, 1], or None if the stream has none."""
        alpha = decoded.alpha(self._decoded(frame))
        return None if alpha is None else np.ascontiguousarray(np.rot90(alpha, self._turns))

    def name_of(self, frame: int) -> str:
        """What tells a frame from the file's others: its number, and how it is read where the user says that."""
        return " ".join([f"{frame}", *self.choice.given(("matrix", "range", "fields")).values()])

    def close(self) -> None:
        self._stream.close()
        self._container.close()

    def _survey(self, last: int | None) -> tuple[av.VideoFrame, Clock]:
        """Decode up to frame `last`, or to the end: the first frame, and which frame is shown when."""
        times: list[Fraction | None] = []
        first, frame = None, None
        for frame in self._stream:
            number = len(times) + 1
            first = first or frame
            self._refuse_frame(frame, f"frame {number}: {self.file}")
            shape, was = (f"{f.width}x{f.height} {f.format.name}" for f in (frame, first))
            if shape != was:
                raise InputError(f"frame {number}: {self.file}: {shape}, but frame 1 is {was}; write it in one size")
            stamp = None if frame.pts is None or frame.time_base is None else frame.pts * Fraction(frame.time_base)
            times.append(stamp)
            if last is not None and self._reaches(times, last):
                return first, self._clock_of(times)
        if first is None or frame is None:
            raise InputError(f"{self.file}: its video stream holds no frame; write it again")
        return first, self._clock_of(times, self._end_of(frame))

    def _end_of(self, last: av.VideoFrame) -> Fraction | None:
        """When the last frame ends; None where the container states no duration for each frame."""
        if self._container.format.name not in _STATING_DURATIONS or last.pts is None or last.time_base is None:
            return None
        return (last.pts + last.duration) * Fraction(last.time_base) if last.duration else None

    def _reaches(self, times: list[Fraction | None], last: int) -> bool:
        """Whether frame `last` is known: frames dropped from a clock need more stored ones than it has ticks."""
        return len(times) >= max(last, MIN_SURVEYED) and len(self._clock_of(times).shown) >= last

    def _clock_of(self, times: list[Fraction | None], end: Fraction | None = None) -> Clock:
        stream = _video_stream(self._container, self.file)
        # The average rate counts stored frames; the base rate is the true rate of a recording with gaps.
        rates = [Fraction(rate) if rate else None for rate in (stream.average_rate, stream.guessed_rate)]
        clock = conform(times, rates)
        if (
            clock.is_even and end is not None
        ):  # of an uneven movie, writers give the last frame the one before's duration
            clock = conform(times, rates, end)
        if len(clock.shown) > max(MIN_TICKS_REFUSED, MAX_TICKS_PER_FRAME * len(times)):
            raise InputError(
                f"{self.file}: its time stamps are uneven, and no steady rate fits them; conform it to one first,"
                " for example by ffmpeg -i IN -fps_mode cfr -r 24 OUT"
            )
        return clock

    def _refuse_frame(self, frame: av.VideoFrame, where: str) -> None:
        if frame.is_corrupt:
            raise InputError(f"{where}: damaged; write it again")
        if frame.rotation % 90:
            raise InputError(f"{where}: a rotation of {frame.rotation} degrees is not supported; bake it in")
        decoded.refuse_unreadable(frame, self.choice, where)
        if self._is_interlaced and self.choice.fields is None:
            order = stated_order(_video_stream(self._container, self.file))
            which = (
                f"interlaced, {order} field first" if order else "interlaced, and it does not say which field is first"
            )
            raise InputError(
                f"{where}: {which}; deinterlace it first, or, of a plate, say --fields upper or lower (which is first),"
                " or --fields ignore to take frames as they are"
            )

    def _field_order(self) -> str | None:
        if not self._is_interlaced:
            return None
        return stated_order(_video_stream(self._container, self.file)) or "not stated"

    def _aspect(self) -> float:
        stream = _video_stream(self._container, self.file)
        aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
        return 1 / aspect if self._turns % 2 else aspect

    def _notes(self, first: av.VideoFrame) -> tuple[str, ...]:
        notes = [
            f"the movie states the {what} {read.stated}; it is read as {read.value}, as asked for"
            for what, read in (("matrix", self.matrix), ("range", self.range))
            if read.overrules
        ]
        notes += self._field_notes()
        count = len(_video_streams(self._container))
        if count > 1:
            notes.append(f"the movie has {count} video streams: the first is read")
        if self._turns:
            notes.append(
                f"the movie's rotation of {first.rotation:g} degrees is applied; the "
                "layer is upright, as players show it"
            )
        if not self._clock.is_timed:
            notes.append("the movie's time stamps fall: every stored frame is shown once, in the order of decoding")
        if not self._clock.is_even:
            notes.append(
                f"the movie's time stamps are uneven: at its {float(self._clock.rate or 0):.5g} frames a second it has"
                f" {len(self._clock.shown)} frames, {self._clock.held} held and {self._clock.dropped} dropped"
            )
        return tuple(notes)

    def _field_notes(self) -> list[str]:
        asked, order = self.choice.fields, self.field_order
        if asked == "ignore":
            return ["the movie is interlaced: frames are taken as they are, two moments in each"] if order else []
        if asked is None:
            return []
        stated = f", which the movie states to be {order}" if order in ("upper", "lower") and order != asked else ""
        known = "" if order else "; the movie does not say that it is interlaced"
        return [
            f"deinterlaced with the {asked} field first{stated}{known}: the plate and its composite are the"
            " deinterlaced frames"
        ]

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
        self._is_interlaced = stated_order(_video_stream(self._container, self.file)) is not None
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
        frames = self._noted(self._stored_frames(stream))
        if self.choice.fields in ("upper", "lower"):
            frames = deinterlaced(frames, self.choice.fields, str(self.file))
        yield from frames

    def _noted(self, frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
        """The frames; whether one is interlaced is noted, because a filter's frames do not say it any more."""
        for frame in frames:
            self._is_interlaced = self._is_interlaced or frame.interlaced_frame
            yield frame

    def _stored_frames(self, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
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


def _video_streams(container: av.container.InputContainer) -> list[av.VideoStream]:
    cover = av.stream.Disposition.attached_pic
    # A damaged stream may have no decoder.
    return [s for s in container.streams.video if not s.disposition & cover and s.codec_context is not None]


def _video_stream(container: av.container.InputContainer, file: Path) -> av.VideoStream:
    streams = _video_streams(container)
    if not streams:
        raise InputError(f"{file}: has no video stream; supply a movie with a picture")
    return streams[0]
