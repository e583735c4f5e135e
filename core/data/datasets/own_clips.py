"""A user's own layered shots as training clips: any format that a plate may have, any size, length and rate.

A folder with `instruction.txt` is one shot. Each of these is a movie (`source.mov`) or a numbered sequence
(`source.0001.exr`, ...):

    source               the plate
    layer                the edit with its alpha (RGBA); or `edit` and `alpha`
    [mask] [composite]   a missing composite is computed from the layers

A shot is cut into clips of 49 frames at 16 frames a second, of at most 832x480 pixels with sides in multiples of 16.
Floating-point layers (EXR) are premultiplied and laid over in linear light, as compositors do. Others are straight and
laid over in encoded values. The model composes in encoded values: there, the edit's colour is chosen so that the
composite is the same.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vera.core.errors import InputError
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY, decode_srgb, encode_srgb
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.named_files import MOVIES, STILLS
from vera.core.plate.pattern import find_pattern
from vera.core.plate.source import Mask, Plate, open_mask, open_plate

CLIP_FPS = 16  # frames per second of every clip
CLIP_PIXELS = 832 * 480  # a larger shot is made smaller
MULTIPLE = 16  # pixels: each side of a clip is a multiple of this
USUAL_FPS = 24  # frames per second of a sequence that states none
MEDIA = ("source", "layer", "edit", "alpha", "composite", "mask")
FULL_SCALE = 65535  # largest value of 16 bits
MIN_ALPHA = 1e-4  # below it, a premultiplied colour is not divided by alpha


@dataclass(frozen=True)
class Segment:
    """The part of a shot that is one clip. positions: of the shot's frames, from 0, one for each frame of the clip.
    size: (width, height) in pixels."""

    positions: tuple[int, ...]
    size: tuple[int, int]


def media_in(folder: Path) -> dict[str, Path]:
    """The shot's media by name: a movie's file, or a sequence's pattern. Raises InputError for two of one name."""
    found: dict[str, Path] = {}
    for name in MEDIA:
        there = {path for file in sorted(folder.glob(f"{name}.*")) if (path := _as_media(file)) is not None}
        if len(there) > 1:
            raise InputError(f"{folder}: several of {name}: {', '.join(sorted(p.name for p in there))}; keep one")
        found |= dict.fromkeys([name], *there) if there else {}
    return found


def segments_of(media: dict[str, Path], frames: int) -> list[Segment]:
    """The clips of `frames` frames that a shot gives. Raises InputError for a shot that is too short, or whose media
    differ in length."""
    source = open_plate(str(media["source"]))
    count = len(source.frames)
    for name, path in media.items():
        if name == "source":
            continue
        other = len(open_plate(str(path)).frames)
        if other not in (count, 1 if name == "mask" else count):
            raise InputError(f"{path}: {other} frames, but the source has {count}")
    positions = retimed(count, float(source.fps or USUAL_FPS), frames)
    if positions is None:
        raise InputError(f"{media['source']}: {count} frames; {frames} are the fewest of a clip")
    size = clip_size(source)
    number = max(1, (len(positions) + frames // 2) // frames)  # the rest of a shot counts from half a clip on
    starts = [round(i * (len(positions) - frames) / max(1, number - 1)) for i in range(number)]
    return [Segment(tuple(positions[start : start + frames]), size) for start in starts]


def retimed(count: int, fps: float, least: int) -> list[int] | None:
    """Of `count` frames at `fps`, those that are shown at CLIP_FPS; None where they are fewer than `least`.

    A slower shot, or one that would be too short, is taken frame by frame.
    """
    shown = [round(k * fps / CLIP_FPS) for k in range(math.floor((count - 1) * CLIP_FPS / fps) + 1)]
    if fps <= CLIP_FPS or len(shown) < least:
        shown = list(range(count))
    return shown if len(shown) >= least else None


def clip_size(source: Plate) -> tuple[int, int]:
    """(width, height) of the shot's clips: its own shape, no larger than it is."""
    pixels = min(CLIP_PIXELS, round(source.width * source.height * source.pixel_aspect))
    return model_size(source.width, source.height, source.pixel_aspect, max(pixels, MULTIPLE**2), MULTIPLE)


def files_of(path: Path) -> list[Path]:
    """The files of a movie, or of a sequence in order."""
    pattern = None if path.is_file() else find_pattern(path)
    return [path] if pattern is None else [pattern.file(frame) for frame in pattern.frames()]


class Shot:
    """An opened shot, read frame by frame in order."""

    def __init__(self, media: dict[str, Path]) -> None:
        """Raises InputError."""
        self.source = open_plate(str(media["source"]))
        edit = media.get("layer") or media["edit"]
        self.edit = open_plate(str(edit))
        self.alpha = open_mask(str(media.get("layer") or media["alpha"]), self.edit)
        self.mask = open_mask(str(media["mask"]), self.source) if "mask" in media else None
        self.composite = open_plate(str(media["composite"])) if "composite" in media else None
        self.premultiplied = self.edit.pixel_type in ("half", "float")

    def read(self, position: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The layers of one frame at (width, height), each (H, W, 3) uint16, encoded. Raises InputError."""
        source = _encoded(self.source, position)
        alpha = _of_mask(self.alpha, self.edit, position)
        edit = _straight(self.edit, position, alpha) if self.premultiplied else _encoded(self.edit, position)
        if self.composite is not None:
            composite = _encoded(self.composite, position)
        else:
            composite = (_over_in_light if self.premultiplied else _over)(edit, alpha, source)
        if self.premultiplied:
            edit = _edit_in_codes(composite, alpha, source)
        mask = None if self.mask is None else _of_mask(self.mask, self.source, position)
        return {name: _as_16_bits(v) for name, v in _shrunk(source, edit, alpha, composite, mask, size).items()}


def read_segment(media: dict[str, Path], segment: Segment) -> dict[str, torch.Tensor]:
    """Layer -> (T, H, W, 3) uint16 of one clip. Raises InputError."""
    shot = Shot(media)
    frames = [shot.read(position, segment.size) for position in segment.positions]
    return {name: torch.from_numpy(np.stack([frame[name] for frame in frames])) for name in frames[0]}


def _as_media(file: Path) -> Path | None:
    """A movie as it is, a frame of a sequence as its pattern, None for what is neither."""
    extension = file.suffix[1:].lower()
    if extension in MOVIES:
        return file
    parts = file.name.split(".")
    if extension in STILLS and len(parts) == 3 and parts[1].isdigit():
        return file.with_name(f"{parts[0]}.{'#' * len(parts[1])}.{parts[2]}")
    return None


def _encoded(plate: Plate, position: int) -> np.ndarray:
    """A frame as a display shows it, (H, W, 3) float32 in [0, 1]."""
    color = PlateColor(resolve_space(None, plate), plate.pixel_type, light_curve=DISPLAY)
    return color.to_model(plate.read(plate.frames[position]))


def _straight(plate: Plate, position: int, alpha: np.ndarray) -> np.ndarray:
    """A premultiplied frame's own colour, encoded."""
    light = plate.read(plate.frames[position]).astype(np.float32)
    divided = np.where(alpha[..., None] > MIN_ALPHA, light / np.maximum(alpha[..., None], MIN_ALPHA), 0)
    return PlateColor(resolve_space(None, plate), "float", light_curve=DISPLAY).to_model(divided.astype(np.float32))


def _of_mask(mask: Mask, plate: Plate, position: int) -> np.ndarray:
    return mask.read(plate.frames[position])


def _over(edit: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    return alpha[..., None] * edit + (1 - alpha[..., None]) * source


def _over_in_light(edit: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    return encode_srgb(_over(decode_srgb(edit), alpha, decode_srgb(source)))


def _edit_in_codes(composite: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The straight colour E with alpha E + (1 - alpha) source = composite, within [0, 1]."""
    weight = alpha[..., None]
    edit = (composite - (1 - weight) * source) / np.maximum(weight, MIN_ALPHA)
    return np.where(weight > MIN_ALPHA, edit.clip(0, 1), 0).astype(np.float32)


def _shrunk(
    source: np.ndarray,
    edit: np.ndarray,
    alpha: np.ndarray,
    composite: np.ndarray,
    mask: np.ndarray | None,
    size: tuple[int, int],
) -> dict[str, np.ndarray]:
    """All at (width, height), (H, W, 3); the edit's colour weighed by alpha."""

    def small(picture: np.ndarray) -> np.ndarray:
        return shrink(torch.from_numpy(np.ascontiguousarray(picture)), *size).movedim(0, -1).numpy()

    weight = small(alpha[..., None])
    layers = {
        "source": small(source),
        "edit": np.where(weight > MIN_ALPHA, small(alpha[..., None] * edit) / np.maximum(weight, MIN_ALPHA), 0),
        "alpha": weight.repeat(3, -1),
        "composite": small(composite),
    }
    return layers if mask is None else layers | {"mask": small(mask[..., None]).repeat(3, -1)}


def _as_16_bits(picture: np.ndarray) -> np.ndarray:
    return np.rint(picture.clip(0, 1) * FULL_SCALE).astype(np.uint16)


def is_whole(media: Iterable[str]) -> bool:
    """Whether these media make a shot."""
    names = set(media)
    return "source" in names and ("layer" in names or {"edit", "alpha"} <= names)
