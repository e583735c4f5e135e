"""The size that a movie's container states for its file, to detect truncated copies."""

import os
from pathlib import Path
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_UNKNOWN = -1  # an EBML size that a live recording leaves open


def stated_size(file: Path) -> int | None:
    """Smallest size in bytes that the file must have, by its outermost element; None if it is not stated.

    Matroska and WebM: the end of the Segment (RFC 8794, sections 5 and 6). AVI: the end of the first RIFF chunk.
    MP4 and MOV are checked by their index instead.
    """
    try:
        with open(file, "rb") as stream:
            start = stream.read(4)
            if start == b"RIFF":
                return 8 + int.from_bytes(stream.read(4), "little")
            if start == _EBML:
                return _end_of_segment(stream, file)
    except OSError:
        return None
    return None


def _end_of_segment(stream: BinaryIO, file: Path) -> int | None:
    size = _ebml_size(stream)
    if size is None or size == _UNKNOWN or size > os.stat(file).st_size:
        return None
    stream.seek(size, os.SEEK_CUR)
    if stream.read(4) != _SEGMENT:
        return None
    size = _ebml_size(stream)
    return None if size is None or size == _UNKNOWN else stream.tell() + size


def _ebml_size(stream: BinaryIO) -> int | None:
    """A variable-length size: the first byte's leading zeros count the bytes that follow."""
    first = stream.read(1)
    if not first or first[0] == 0:
        return None
    length = 8 - first[0].bit_length() + 1
    rest = stream.read(length - 1)
    if len(rest) != length - 1:
        return None
    value = first[0] & ((1 << (8 - length)) - 1)
    value = int.from_bytes(bytes([value]) + rest, "big")
    return _UNKNOWN if value == (1 << (7 * length)) - 1 else value
