"""Chunks of PNG files that OpenImageIO passes by: primaries, gamma, animation."""

import struct
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Largest number and size of chunks that are read before the pixels; files with more are read without them.
MOST_CHUNKS, MOST_BYTES = 200, 1 << 16
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)  # x and y of red, green, blue, white
SAME_XY = 0.002  # largest difference of chromaticities that count as the same: writers round to 3 digits
GAMMA_OF_SRGB = 1 / 2.2
SAME_GAMMA = 0.05  # largest difference of exponents from codes to light that count as the same


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


def stated_codes(chunks: dict[bytes, bytes]) -> tuple[int, int, int, int] | None:
    """Primaries, transfer, matrix and full range (ITU-T H.273) of cICP; None without it."""
    chunk = chunks.get(b"cICP", b"")
    return (chunk[0], chunk[1], chunk[2], chunk[3]) if len(chunk) == 4 else None


def stated_curve(chunks: dict[bytes, bytes]) -> tuple[tuple[float, ...], float] | None:
    """x and y of red, green, blue and white, and the exponent from light to codes, if cHRM or gAMA state other ones
    than sRGB's and no other chunk takes precedence; else None. What one of them leaves out is sRGB's."""
    if {b"iCCP", b"sRGB", b"cICP"} & set(chunks):
        return None
    xy, gamma = _primaries(chunks.get(b"cHRM", b"")), _gamma(chunks.get(b"gAMA", b""))
    if max(abs(a - b) for a, b in zip(xy, SRGB)) > SAME_XY:
        return xy, gamma
    # The PNG specification tells writers of sRGB files to add a gamma of 1/2.2 for old readers.
    return None if abs(1 / gamma - 1 / GAMMA_OF_SRGB) <= SAME_GAMMA else (SRGB, gamma)


def _primaries(chunk: bytes) -> tuple[float, ...]:
    if len(chunk) != 32:
        return SRGB
    numbers = [number / 100_000 for number in struct.unpack(">8I", chunk)]
    return (*numbers[2:], *numbers[:2])


def _gamma(chunk: bytes) -> float:
    """A gamma of 0 is none."""
    value = struct.unpack(">I", chunk)[0] / 100_000 if len(chunk) == 4 else 0.0
    return value or GAMMA_OF_SRGB
