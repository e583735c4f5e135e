"""Small pictures and edits that the records start from."""

from pathlib import Path

import numpy as np

from tests.plate.media import write_image, write_movie

SIZE = (48, 64)  # height, width
Y, X = np.indices(SIZE)


def plate(frame: int, size=SIZE) -> np.ndarray:
    """Encoded pictures (H, W, 3) in [0, 1] with texture that moves by a pixel a frame."""
    y, x = np.indices(size)
    x = x + frame
    planes = [0.36 + 0.2 * np.sin(x / 5) * np.cos(y / 7), 0.4 + 0.16 * np.sin((x + y) / 6), 0.3 + 0.004 * y]
    grain = np.random.default_rng(frame).normal(0, 0.006, (*size, 1))
    return np.clip(np.stack(planes, -1) + grain, 0, 1)


def disc(frame: int, radius=11.0, soft=2.0) -> np.ndarray:
    """A matte (H, W, 1) that moves."""
    return np.clip((radius - np.hypot(Y - 24, X - 26 - frame)) / soft, 0, 1)[..., None]


def laid(alpha: np.ndarray, color, under: np.ndarray) -> np.ndarray:
    return alpha * np.array(color) + (1 - alpha) * under


EDITS = {
    "object": lambda p, n: laid(disc(n), (0.85, 0.2, 0.15), p),
    "soft object": lambda p, n: laid(disc(n, 12, 9), (0.2, 0.7, 0.3), p),
    "veil": lambda p, n: laid(0.45 * disc(n, 30, 14), (0.8, 0.8, 0.82), p),
    "haze": lambda p, n: laid(np.full((*SIZE, 1), 0.3), (0.7, 0.72, 0.75), p),
    "shadow": lambda p, n: p * (1 - 0.5 * disc(n, 13, 5)),
    "gain": lambda p, n: np.clip(p * np.array([1.25, 1.1, 0.9]), 0, 1),
    "light": lambda p, n: np.clip(p + 0.3 * disc(n, 24, 22), 0, 1),
    "object and shadow": lambda p, n: laid(disc(n, 8), (0.9, 0.85, 0.2), p * (1 - 0.45 * disc(n - 9, 9, 4))),
    "background": lambda p, n: laid(1 - disc(0, 15), (0.1, 0.25, 0.6), p) + 0.03 * np.sin(X / 3 + Y / 4)[..., None],
    "removed": lambda p, n: laid(disc(0, 9), p.mean((0, 1)), p),
    "drift": lambda p, n: laid(disc(n), (0.85, 0.2, 0.15), np.clip(p * 1.04 + 0.015, 0, 1)),
    "noise": lambda p, n: np.clip(
        laid(disc(n), (0.1, 0.3, 0.9), p) + np.random.default_rng(90 + n).normal(0, 0.02, (*SIZE, 3)), 0, 1
    ),
    "shifted": lambda p, n: np.roll(laid(disc(n), (0.85, 0.2, 0.15), p), (1, 1), (0, 1)),
    "nothing": lambda p, n: p,
}


def bytes_of(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def linear(picture: np.ndarray) -> np.ndarray:
    """Half floats in linear light."""
    light = np.where(picture <= 0.04045, picture / 12.92, ((picture + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float16)


def sequence(folder: Path, pictures, first=1001, extension="png", name="frame") -> str:
    """Writes pictures of 8 bits, or half floats in EXR; returns the pattern."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, first):
        pixels = linear(picture) if extension == "exr" else bytes_of(picture)
        write_image(folder / f"{name}.{number:04d}.{extension}", pixels)
    return str(folder / f"{name}.####.{extension}")


def film(path: Path, pictures, rate=24) -> str:
    """A movie that every build of FFmpeg codes alike: FFV1."""
    return str(write_movie(path, [bytes_of(p) for p in pictures], "ffv1", "bgr0", rate=rate))


def plates(count=3) -> list[np.ndarray]:
    return [plate(n) for n in range(count)]


def edited(kind: str, count=3) -> list[np.ndarray]:
    return [np.clip(EDITS[kind](plate(n), n), 0, 1) for n in range(count)]
