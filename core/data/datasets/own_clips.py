"""A user's own layered shots as training clips: any format that a plate may have, any size, length and rate.

A folder with `instruction.txt` is one shot. Each of these is a movie (`source.mov`) or a numbered sequence
(`source.0001.exr`, ...):

    source               the plate
    layer                the edit with its alpha (RGBA); or `edit` and `alpha`
    [mask] [composite]   optional; a mask may be a still (`mask.png`), and a missing composite is computed from the
                         layers

A shot is cut into clips of 49 frames at 16 frames a second, of at most 832x480 pixels with sides in multiples of 16.
Floating-point layers (EXR) are premultiplied and laid over in linear light, as compositors do. Others are straight and
laid over in encoded values. TIFF and TGA state themselves whether they are premultiplied. The model composites in
encoded values, so the edit's colour of a floating-point layer is recomputed to give the same composite there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from vera.core.errors import InputError
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY, decode_srgb, encode_srgb
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.named_files import MOVIES, STILLS
from vera.core.plate.pattern import choose_frames, find_pattern, show_frames
from vera.core.plate.source import Mask, Plate, open_mask, open_plate

CLIP_FPS = 16  # frames per second of every clip
CLIP_PIXELS = 832 * 480  # most pixels of a clip's frame; a larger shot is scaled down
MULTIPLE = 16  # pixels: each side of a clip is a multiple of this
USUAL_FPS = 24  # frames per second assumed for a source that states no rate; raising it skips more frames
# Share by which two stated rates may differ (24 and 23.976 are one). Raising it accepts clips that run apart.
MAX_RATE_DIFFERENCE = 0.002
MEDIA = ("source", "layer", "edit", "alpha", "composite", "mask")
FULL_SCALE = 65535  # largest value of 16 bits
STATING = (".tif", ".tiff", ".tga")  # files that state whether their colour is multiplied by alpha
# A medium's name in any case, then anything that is not a letter: a digit, a separator, the extension's point.
_NEAR_NAME = re.compile(rf"({'|'.join(MEDIA)})(?![a-z])", re.IGNORECASE)
MIN_ALPHA = 1e-4  # below it, a premultiplied colour is not divided by alpha


@dataclass(frozen=True)
class Segment:
    """The part of a shot that is one clip. positions: of the shot's frames, from 0, one for each frame of the clip.
    size: (width, height) in pixels."""

    positions: tuple[int, ...]
    size: tuple[int, int]


def media_in(folder: Path) -> dict[str, Path]:
    """The shot's media by name: a movie's file, a sequence's pattern, or the file of a mask that is a still.

    Raises InputError for two of one name, for an edit besides a layer, and for a file whose name is nearly that of a
    medium (`Mask.png`, `mask_0001.png`): it would be left out.
    """
    found: dict[str, Path] = {}
    for name in MEDIA:
        there = {path for file in sorted(folder.glob(f"{name}.*")) if (path := _as_media(file)) is not None}
        if len(there) > 1:
            raise InputError(f"{folder}: several of {name}: {', '.join(sorted(p.name for p in there))}; keep one")
        found |= dict.fromkeys([name], *there) if there else {}
    _refuse_near_names(folder)
    if "layer" in found and (double := [name for name in ("edit", "alpha") if name in found]):
        raise InputError(f"{folder}: layer besides {' and '.join(double)}; keep the layer, or edit and alpha")
    if "mask" in found and len(files := files_of(found["mask"])) == 1:
        found["mask"] = files[0]
    return found


def segments_of(media: dict[str, Path], frames: int) -> list[Segment]:
    """Divide a shot into clips of `frames` frames. The last clips overlap if the length is not a multiple.

    Raises InputError for a shot that is too short, for media that differ in length, size or rate, and for a layer
    without alpha.
    """
    source = Picture(media["source"]).plate
    count = len(source.frames)
    for name, path in media.items():
        if name in ("alpha", "mask"):
            _check_matte(path, source, still=name == "mask")
        elif name != "source":
            _check_layer(Picture(path), source, needs_alpha=name == "layer")
    positions = retimed(count, float(source.fps or USUAL_FPS), frames)
    if positions is None:
        raise InputError(f"{media['source']}: {count} frames; {frames} are the fewest of a clip")
    size = clip_size(source)
    # a remainder of at least half a clip becomes another clip
    number = max(1, (len(positions) + frames // 2) // frames)
    starts = [round(i * (len(positions) - frames) / max(1, number - 1)) for i in range(number)]
    return [Segment(tuple(positions[start : start + frames]), size) for start in starts]


def _check_layer(layer: Picture, source: Plate, needs_alpha: bool) -> None:
    plate = layer.plate
    _check_length(plate.path, len(plate.frames), source)
    _check_rate(plate.path, plate.fps, source)
    if plate.display != source.display:
        (width, height), (whole_width, whole_height) = plate.display, source.display
        raise InputError(
            f"{plate.path}: {width}x{height}, but the source is {whole_width}x{whole_height}; render it at that size"
        )
    if needs_alpha and not layer.has_alpha:
        raise InputError(f"{plate.path}: has no alpha; give the edit's colour as `edit` and its alpha as `alpha`")


def _check_matte(path: Path, source: Plate, still: bool) -> None:
    """still: one file for all frames is accepted."""
    if path.suffix[1:].lower() in MOVIES:
        movie = open_plate(str(path))
        _check_length(str(path), len(movie.frames), source)
        _check_rate(str(path), movie.fps, source)
    elif len(files_of(path)) > 1:
        _check_length(str(path), _count(path), source)
    elif not still:
        _check_length(str(path), 1, source)
    _matte(path, source, range(1))  # the first frame alone: its size, and whether it can be read


def _check_length(path: str, count: int, source: Plate) -> None:
    if count != len(source.frames):
        raise InputError(f"{path}: {count} frames, but the source has {len(source.frames)}")


def _check_rate(path: str, fps: Fraction | None, source: Plate) -> None:
    """Frames are matched by position, which means the same moments only at one rate. A rate not stated is accepted."""
    if fps and source.fps and abs(fps / source.fps - 1) > MAX_RATE_DIFFERENCE:
        rates = f"{float(fps):.5g} frames a second, but the source has {float(source.fps):.5g}"
        raise InputError(f"{path}: {rates}; state one rate in both, or convert one")


def retimed(count: int, fps: float, least: int) -> list[int] | None:
    """Indices of the frames that resample `count` frames at `fps` to CLIP_FPS; None if fewer than `least` result.

    A shot at CLIP_FPS or slower, or one that would get too short, keeps every frame.
    """
    shown = [round(k * fps / CLIP_FPS) for k in range(math.floor((count - 1) * CLIP_FPS / fps) + 1)]
    if fps <= CLIP_FPS or len(shown) < least:
        shown = list(range(count))
    return shown if len(shown) >= least else None


def clip_size(source: Plate) -> tuple[int, int]:
    """(width, height) in pixels of a shot's clips: the shot's aspect ratio, at most its own pixels and CLIP_PIXELS."""
    width, height = source.display
    pixels = min(CLIP_PIXELS, round(width * height * source.pixel_aspect))
    return model_size(width, height, source.pixel_aspect, max(pixels, MULTIPLE**2), MULTIPLE)


def files_of(path: Path) -> list[Path]:
    """The files of a movie, or of a sequence in order."""
    pattern = None if path.is_file() else find_pattern(path)
    return [path] if pattern is None else [pattern.file(frame) for frame in pattern.frames()]


class Picture:
    """A source, layer, edit or composite, read in its display window: all frames, or those at the positions `part`."""

    def __init__(self, path: Path, part: range | None = None) -> None:
        """Raises InputError."""
        self.plate = plate = open_plate(str(path), None if part is None else show_frames(_numbers(path, part)))
        self._color = PlateColor(resolve_space(None, plate), plate.pixel_type, light_curve=DISPLAY)
        self.in_light = plate.pixel_type in ("half", "float")
        self.has_alpha = "A" in plate.channels or (plate.is_movie and "A" in plate.ignored_channels)
        self._premultiplied = self.in_light if (stated := self._stated()) is None else stated

    def _stated(self) -> bool | None:
        """Whether the files state that colour is multiplied by alpha; None where their format does not."""
        spec = self.plate.spec(self.plate.frames[0])
        if spec is None or not self.has_alpha or Path(self.plate.path).suffix.lower() not in STATING:
            return None
        return not spec.get_int_attribute("oiio:UnassociatedAlpha", 0)

    def encoded(self, index: int) -> np.ndarray:
        """The frame at this index as a display shows it, (H, W, 3) float32 in [0, 1]."""
        return self.plate.in_display(self._color.to_model(self.plate.read(self.plate.frames[index])))

    def straight(self, index: int, alpha: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The frame's own colour, encoded, (H, W, 3), and the alpha, (H, W), both float32 in [0, 1].

        alpha: in the display window; None takes the frame's own.
        """
        pixels, own = self.plate.read_with_alpha(self.plate.frames[index])
        if alpha is None:
            if own is None:
                raise InputError(f"{self.plate.path}: has no alpha")
            alpha = self.plate.in_display(own)
        if not self._premultiplied:
            return self.plate.in_display(self._color.to_model(pixels)), alpha
        stored = self.plate.in_display(pixels[..., :3].astype(np.float32))
        divided = np.where(alpha[..., None] > MIN_ALPHA, stored / np.maximum(alpha[..., None], MIN_ALPHA), 0)
        if self.in_light:
            return replace(self._color, pixel_type="float").to_model(divided.astype(np.float32)), alpha
        most = np.iinfo(pixels.dtype).max
        return self._color.to_model(np.rint(divided.clip(0, most)).astype(pixels.dtype)), alpha


class Shot:
    """The part of a shot from its first to its last position in `part`, read frame by frame."""

    def __init__(self, media: dict[str, Path], part: range) -> None:
        """Raises InputError."""
        self.source = Picture(media["source"], part)
        self.edit = Picture(media.get("layer") or media["edit"], part)
        self.composite = Picture(media["composite"], part) if "composite" in media else None
        self.alpha = None if "layer" in media else _matte(media["alpha"], self.source.plate, part)
        self.mask = _matte(media["mask"], self.source.plate, part) if "mask" in media else None

    def read(self, index: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """The layers of one frame at (width, height), each (H, W, 3) uint16, encoded. Raises InputError.

        index: of the part's frames, from 0.
        """
        source = self.source.encoded(index)
        edit, alpha = self.edit.straight(index, self._of_matte(self.alpha, index))
        if self.composite is not None:
            composite = self.composite.encoded(index)
        else:
            composite = (_over_in_light if self.edit.in_light else _over)(edit, alpha, source)
        if self.edit.in_light:
            edit = _edit_in_codes(composite, alpha, source)
        mask = self._of_matte(self.mask, index)
        return {name: _as_16_bits(v) for name, v in _shrunk(source, edit, alpha, composite, mask, size).items()}

    def _of_matte(self, matte: Mask | None, index: int) -> np.ndarray | None:
        return None if matte is None else self.source.plate.in_display(matte.read(matte.frames[index]))


def read_segment(media: dict[str, Path], segment: Segment) -> dict[str, torch.Tensor]:
    """Layer -> (T, H, W, 3) uint16 of one clip. Raises InputError."""
    first, last = segment.positions[0], segment.positions[-1]
    shot = Shot(media, range(first, last + 1))
    frames = [shot.read(position - first, segment.size) for position in segment.positions]
    return {name: torch.from_numpy(np.stack([frame[name] for frame in frames])) for name in frames[0]}


def _numbers(path: Path, part: range) -> range:
    """The frame numbers of a movie or a sequence at these positions."""
    pattern = None if path.is_file() else find_pattern(path)
    if pattern is None:
        return range(part.start + 1, part.stop + 1)
    there = choose_frames(None, pattern.frames(), str(path))
    if len(there) < part.stop:
        raise InputError(f"{path}: {len(there)} frames; the shot has changed, start again")
    return there[part.start : part.stop]


def _count(path: Path) -> int:
    """The number of frames of a movie or a sequence. Raises InputError for a gap."""
    pattern = None if path.is_file() else find_pattern(path)
    if pattern is None:
        return len(open_plate(str(path)).frames)
    return len(choose_frames(None, pattern.frames(), str(path)))


def _matte(path: Path, source: Plate, part: range) -> Mask:
    """An alpha or a mask at these positions: frames are matched by position, whatever their numbers."""
    is_movie = path.suffix[1:].lower() in MOVIES
    numbers = source.frames[: len(part)] if path.is_file() and not is_movie else _numbers(path, part)
    return open_mask(str(path), replace(source, frames=tuple(numbers), is_movie=is_movie))


def _as_media(file: Path) -> Path | None:
    """A movie, or the still of a mask, as it is; a frame of a sequence as its pattern; None for what is neither."""
    extension = file.suffix[1:].lower()
    parts = file.name.split(".")
    if extension in MOVIES or (extension in STILLS and parts[:-1] == ["mask"]):
        return file
    if extension in STILLS and len(parts) == 3 and parts[1].isdigit():
        return file.with_name(f"{parts[0]}.{'#' * len(parts[1])}.{parts[2]}")
    return None


def _refuse_near_names(folder: Path) -> None:
    for file in sorted(folder.iterdir()):
        name = _NEAR_NAME.match(file.name)
        extension = file.suffix[1:].lower()
        if name and extension in (*STILLS, *MOVIES) and not (name[1] in MEDIA and _as_media(file)):
            meant = name[1].lower()
            still = f", or {meant}.{extension} for all frames" if meant == "mask" and extension in STILLS else ""
            right = f"{meant}.{extension}" if extension in MOVIES else f"{meant}.0001.{extension} and so on{still}"
            raise InputError(f"{file}: its name is not one of a shot's media; name it {right}, or move it away")


def _over(edit: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    return alpha[..., None] * edit + (1 - alpha[..., None]) * source


def _over_in_light(edit: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    return encode_srgb(_over(decode_srgb(edit), alpha, decode_srgb(source)))


def _edit_in_codes(composite: np.ndarray, alpha: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Solve alpha * E + (1 - alpha) * source = composite for the straight colour E, clipped to [0, 1]."""
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
