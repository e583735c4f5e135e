"""ICC profiles for tests, by matrix and curves, written after ICC.1:2022."""

import struct

import numpy as np

# x and y of red, green, blue and white.
SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
ADOBE = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06, 0.3127, 0.3290)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
PROPHOTO = (0.734699, 0.265301, 0.159597, 0.840403, 0.036598, 0.000105, 0.345704, 0.358540)
D50 = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def gamma(value: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(value * 256))


def linear() -> bytes:
    return struct.pack(">4sII", b"curv", 0, 0)


def table(curve, count=1024) -> bytes:
    values = np.rint(curve(np.linspace(0, 1, count)) * 65535).astype(">u2")
    return struct.pack(">4sII", b"curv", 0, count) + values.tobytes()


def parametric(kind: int, *values: float) -> bytes:
    fixed = [round(value * 65536) for value in values]
    return struct.pack(f">4sIHH{len(values)}i", b"para", 0, kind, 0, *fixed)


def srgb_curve() -> bytes:
    return parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def colorants(xy) -> np.ndarray:
    """RGB to XYZ relative to D50, white adapted by Bradford's matrix."""
    points = np.array(xy).reshape(4, 2)
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(1)]) / points[:, 1]
    white = xyz[:, 3]
    adapt = np.linalg.inv(BRADFORD) @ np.diag((BRADFORD @ D50) / (BRADFORD @ white)) @ BRADFORD
    return adapt @ xyz[:, :3] @ np.diag(np.linalg.solve(xyz[:, :3], white))


def xyz_tag(values) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(float(v) * 65536) for v in values))


def text_tag(text: str) -> bytes:
    return b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text.encode() + bytes(80)


def profile(xy, curves, description="a profile", space=b"RGB ", connection=b"XYZ ", **more: bytes) -> bytes:
    """curves: one for all channels, or three."""
    matrix = colorants(xy)
    three = curves if isinstance(curves, tuple) else (curves,) * 3
    tags = {b"desc": text_tag(description), b"wtpt": xyz_tag(D50)}
    if space == b"GRAY":
        tags[b"kTRC"] = three[0]
    else:
        tags |= {b"%cXYZ" % c: xyz_tag(matrix[:, i]) for i, c in enumerate(b"rgb")}
        tags |= {b"%cTRC" % c: three[i] for i, c in enumerate(b"rgb")}
    tags |= {name.encode(): value for name, value in more.items()}
    place, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        index += struct.pack(">4sII", name, place + len(body), len(value))
        body += value
    size = place + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"test", 0x02400000, b"mntr", space, connection)
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28)
    header += struct.pack(">3i", *(round(v * 65536) for v in D50))
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + index + body
