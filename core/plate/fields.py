"""Interlaced movies: the stated field order, and deinterlacing by FFmpeg's bwdif."""

from collections.abc import Iterator
from fractions import Fraction

import av

from vera.core.errors import InputError

# FFmpeg's AVFieldOrder: which field is shown first; 0 is unknown, 1 progressive.
_STATED = {2: "upper", 3: "lower", 4: "lower", 5: "upper"}
# First field -> bwdif's name of it (top or bottom field first).
_PARITY = {"upper": "tff", "lower": "bff"}


def stated_order(stream: av.VideoStream) -> str | None:
    """The field that is shown first, "upper" or "lower"; None if the stream is progressive or does not state it."""
    return _STATED.get(int(stream.codec_context.field_order or 0))


def deinterlaced(frames: Iterator[av.VideoFrame], first_field: str, where: str) -> Iterator[av.VideoFrame]:
    """The frames deinterlaced, one for one and with their time stamps (bwdif).

    The lines of the first field are kept. The others are interpolated from neighbouring lines and fields.
    first_field: "upper" or "lower". where: names the file in messages. Raises InputError.
    """
    graph: av.filter.Graph | None = None
    for frame in frames:
        if graph is None:
            graph = _graph(frame, first_field)
            format_, base = frame.format.name, Fraction(frame.time_base or Fraction(1, 1))
        graph.push(frame)
        yield from _filtered(graph, format_, base, where)
    if graph is not None:
        graph.push(None)
        yield from _filtered(graph, format_, base, where)


def _graph(frame: av.VideoFrame, first_field: str) -> av.filter.Graph:
    """FFmpeg's filter graph for frames like this one."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 1)
    )
    bwdif = graph.add("bwdif", f"mode=send_frame:parity={_PARITY[first_field]}:deint=all")
    sink = graph.add("buffersink")
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph


def _filtered(graph: av.filter.Graph, format_: str, base: Fraction, where: str) -> Iterator[av.VideoFrame]:
    """The frames that the graph has ready. Raises InputError if the filter has changed the pixel format."""
    while True:
        try:
            frame = graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        if frame.format.name != format_:  # the filter converts formats that it does not support
            raise InputError(f"{where}: movies of {format_} cannot be deinterlaced here; deinterlace it first")
        yield frame
