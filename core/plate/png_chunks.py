"""Chunks of PNG files that OpenImageIO passes by: primaries, gamma, animation."""

import struct
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Largest number and size of chunks that are read before the pixels; files with more are read without them.
MOST_CHUNKS, MOST_BYTES = 200, 1 << 16
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)  # x and y of red, green, blue, white
SAME_XY = 0.002  # largest difference of chromaticities that count as the same: writers round to 3 digits
GAMMA_OF_SRGB = 1 / 2.2


def chunks_of(file: Path) -> dict[bytes, bytes]:
    """The chunks before the pixels, by name; of large ones the name alone. Empty for what is no PNG file."""
    found: dict[bytes, bytes] = {}
    with open(file, "rb") as stream:
        if stream.read(8) != SIGNATURE:
            return {}
        while len(found) < MOST_CHUNKS:
            head = stream.read(8)
            if len(head) < 8:
                break
            size, name = struct.unpack(">I4s", head)
            if name == b"IDAT":
                break
            found[name] = stream.read(size) if size <= MOST_BYTES else b""
            stream.seek(4 if size <= MOST_BYTES else size + 4, 1)
    return found


def animated_frames(chunks: dict[bytes, bytes]) -> int:
    """How many frames an animated PNG has; 1 for any other."""
    animation = chunks.get(b"acTL", b"")
    return struct.unpack(">I", animation[:4])[0] if len(animation) >= 4 else 1


def stated_primaries(chunks: dict[bytes, bytes]) -> tuple[float, ...] | None:
    """x and y of red, green, blue and white where cHRM is what counts and states others than sRGB's; None else."""
    chunk = chunks.get(b"cHRM", b"")
    if len(chunk) != 32 or {b"iCCP", b"sRGB", b"cICP"} & set(chunks):
        return None
    numbers = [number / 100_000 for number in struct.unpack(">8I", chunk)]
    xy = (*numbers[2:], *numbers[:2])
    return None if max(abs(a - b) for a, b in zip(xy, SRGB)) <= SAME_XY else xy


def stated_gamma(chunks: dict[bytes, bytes]) -> float | None:
    """The exponent from light to codes that gAMA states; None where there is none."""
    chunk = chunks.get(b"gAMA", b"")
    value = struct.unpack(">I", chunk)[0] / 100_000 if len(chunk) == 4 else 0.0
    return value or None
