"""Read and write primaries and curves of an ICC profile (ICC.1:2022); its description is not used.

Supported are RGB profiles with matrix and curves, and grey profiles with a curve. All lengths and offsets in the file
are checked before they are used.
"""

import struct
from dataclasses import dataclass

import numpy as np

from vera.core.errors import InputError

MAX_BYTES = 16 * 2**20  # largest size of a profile in bytes; larger ones are refused
MAX_TAGS = 256  # of a profile; one with more is refused as damaged
MAX_CURVE = 65536  # entries of a sampled curve; a longer one is refused as damaged
SAMPLES = 4096  # samples of a curve in `Profile`; raising it follows steep curves more closely
_HEADER, _TAG = 128, 12  # bytes
_D50 = np.array([0.9642, 1.0, 0.8249])  # white of the profile connection space
_PARAMETERS = (1, 3, 4, 5, 7)  # number of parameters of a parametric curve, by its type


_VERSION = 0x04300000  # 4.3, in which a curve may be one exponent with 16 fractional bits


def write_profile(rgb_to_xyz: np.ndarray, exponent: float) -> bytes:
    """A profile with these primaries and one curve. rgb_to_xyz: (3, 3), linear light to XYZ relative to D50;
    exponent: from codes to light."""

    def numbers_tag(kind: bytes, *values: float) -> bytes:
        return kind + bytes(4) + struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def text_tag(words: str) -> bytes:
        data = words.encode("utf-16-be")
        return b"mluc" + struct.pack(">IIIHHII", 0, 1, 12, 0x656E, 0x5553, len(data), 28) + data

    curve = b"para" + struct.pack(">IHHi", 0, 0, 0, round(exponent * 65536))
    tags = {
        b"desc": text_tag("the plate's primaries and curve"),
        b"cprt": text_tag("CC0"),
        b"wtpt": numbers_tag(b"XYZ ", *_D50),
    }
    tags |= {name + b"XYZ": numbers_tag(b"XYZ ", *column) for name, column in zip((b"r", b"g", b"b"), rgb_to_xyz.T)}
    tags |= {name: curve for name in (b"rTRC", b"gTRC", b"bTRC")}
    start = _HEADER + 4 + _TAG * len(tags)
    index, data = struct.pack(">I", len(tags)), b""
    for name, tag in tags.items():
        index += struct.pack(">4sII", name, start + len(data), len(tag))
        data += tag + bytes(-len(tag) % 4)
    head = struct.pack(">I4xI4s4s4s", start + len(data), _VERSION, b"mntr", b"RGB ", b"XYZ ")
    date = struct.pack(">6H", 2026, 1, 1, 0, 0, 0)  # one date, so that a job's files are the same on every run
    head += date + b"acsp" + bytes(28) + struct.pack(">3i", *(round(value * 65536) for value in _D50))
    return head.ljust(_HEADER, b"\0") + index + data


class ProfileError(InputError):
    """The profile is damaged or of an unsupported kind."""


@dataclass(frozen=True)
class Profile:
    """rgb_to_xyz: (3, 3), linear light to XYZ relative to D50
    curves: (SAMPLES, 3), light of evenly spaced codes of red, green and blue in [0, 1]
    A grey profile has three equal curves and Rec.709's primaries, which have no effect on grey.
    """

    rgb_to_xyz: np.ndarray
    curves: np.ndarray


def read_profile(data: bytes) -> Profile:
    """The primaries and curves that a profile states. Raises ProfileError."""
    if not _HEADER + 4 <= len(data) <= MAX_BYTES or data[36:40] != b"acsp":
        raise ProfileError("it is damaged")
    tags, space, connection = _tags(data), data[16:20], data[20:24]
    if space not in (b"RGB ", b"GRAY"):
        raise ProfileError(f"it is of {_name_of(space)}, not of RGB")
    if space == b"GRAY":
        curve = _curve(_required(tags, b"kTRC"))
        return Profile(_REC709, np.stack([curve] * 3, -1))
    if b"A2B0" in tags or connection != b"XYZ ":
        raise ProfileError("it holds tables, not primaries and curves")
    columns = [_xyz(_required(tags, name)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    curves = [_curve(_required(tags, name)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    matrix = np.stack(columns, -1)
    if abs(np.linalg.det(matrix)) < 1e-4 or np.abs(matrix.sum(1) - _D50).max() > 0.05:
        raise ProfileError("its primaries do not add up to white")
    return Profile(matrix, np.stack(curves, -1))


def _tags(data: bytes) -> dict[bytes, bytes]:
    """The tags' data by name. Raises ProfileError."""
    (count,) = struct.unpack_from(">I", data, _HEADER)
    if count > MAX_TAGS or _HEADER + 4 + _TAG * count > len(data):
        raise ProfileError("it is damaged")
    tags = {}
    for index in range(count):
        name, start, size = struct.unpack_from(">4sII", data, _HEADER + 4 + _TAG * index)
        if start + size > len(data):
            raise ProfileError("it is damaged")
        tags[name] = data[start : start + size]
    return tags


def _required(tags: dict[bytes, bytes], name: bytes) -> bytes:
    """A tag's data. Raises ProfileError if the profile lacks it."""
    if name not in tags:
        raise ProfileError(f"it lacks {name.decode()}")
    return tags[name]


def _xyz(tag: bytes) -> np.ndarray:
    if len(tag) < 20 or tag[:4] != b"XYZ ":
        raise ProfileError("it is damaged")
    return np.array(struct.unpack_from(">3i", tag, 8)) / 65536


def _curve(tag: bytes) -> np.ndarray:
    """Light of SAMPLES evenly spaced codes. Raises ProfileError unless it rises."""
    codes = np.linspace(0, 1, SAMPLES)
    if len(tag) < 12 or tag[:4] not in (b"curv", b"para"):
        raise ProfileError("it is damaged")
    light = _table_curve(tag, codes) if tag[:4] == b"curv" else _parametric(tag, codes)
    if not np.isfinite(light).all() or (np.diff(light) < 0).any() or light[-1] - light[0] < 0.5:
        raise ProfileError("its curves do not rise from dark to light")
    return light


def _table_curve(tag: bytes, codes: np.ndarray) -> np.ndarray:
    """Light of the codes by a curve of type `curv`: a table, one exponent, or the identity."""
    (count,) = struct.unpack_from(">I", tag, 8)
    if count > MAX_CURVE or len(tag) < 12 + 2 * count:
        raise ProfileError("it is damaged")
    if count == 0:
        return codes
    values = np.frombuffer(tag, ">u2", count, 12)
    if count == 1:
        return codes ** (values[0] / 256)
    return np.interp(codes, np.linspace(0, 1, count), values / 65535)


def _parametric(tag: bytes, codes: np.ndarray) -> np.ndarray:
    """Light of the codes by a curve of type `para`: types 0 to 4 of ICC.1:2022, table 68."""
    (kind,) = struct.unpack_from(">H", tag, 8)
    if kind >= len(_PARAMETERS) or len(tag) < 12 + 4 * _PARAMETERS[kind]:
        raise ProfileError("it is damaged")
    numbers = [value / 65536 for value in struct.unpack_from(f">{_PARAMETERS[kind]}i", tag, 12)]
    g, a, b, c, d, e, f = numbers + [0.0] * (7 - len(numbers))
    with np.errstate(all="ignore"):
        if kind == 0:
            return codes**g
        if kind < 3:
            # 1: (aX + b)^g from X = -b/a on, else 0; 2: the same with c added to both
            offset = c if kind == 2 else 0.0
            return np.where(codes >= -b / a, np.maximum(a * codes + b, 0) ** g, 0) + offset
        power = np.maximum(a * codes + b, 0) ** g + e
        return np.where(codes >= d, power, c * codes + f)


def _name_of(signature: bytes) -> str:
    """A colour space's four-letter signature, for a message."""
    text = signature.decode("ascii", "replace").strip()
    return text if text.isprintable() else "another space"


# Rec.709's, adapted to D50 by Bradford's matrix.
_REC709 = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
