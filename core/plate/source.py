"""Plates and masks: frames in files, refused when opened or read bit for bit."""

import hashlib
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from vera.core.errors import InputError
from vera.core.plate.movie import MOVIES, Movie
from vera.core.plate.pattern import (
    Pattern,
    choose_frames,
    find_pattern,
    frame_in_name,
    parse_frames,
    show_frames,
)
from vera.core.plate.pixel import dtype_of, is_float, to_unit
from vera.core.plate.stills import STILLS, Picker, Stills, frame_rate, pick_mask, pick_plate, pixel_aspect

# Rec.709 luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class Plate:
    """The frames of a shot as filmed. Made by `open_plate`.

    `frames` are contiguous frame numbers; a movie's count from 1. `channels` is R, G, B or
    R, G, B, A. `pixel_type` is one of `vera.core.plate.pixel.PIXEL_TYPES`, `dtype` the numpy type of
    what `read` returns: 10 and 12 bits come in uint16, scaled to its full range. `width` and `height`
    are of the pixels there are, an EXR's data window; `offset` is where that begins, x and y from the
    top left of the display window, negative for overscan. `extension` is
    in lower case, without the dot. `color_codes` are a movie's primaries and transfer (ITU-T
    H.273); None for stills, whose `spec` tells. `ignored_channels` are in the files and not read.
    """

    path: str
    frames: tuple[int, ...]
    width: int
    height: int
    channels: tuple[str, ...]
    pixel_type: str
    fps: Fraction | None
    pixel_aspect: float
    offset: tuple[int, int]
    is_movie: bool
    extension: str
    ignored_channels: tuple[str, ...]
    color_codes: tuple[int, int] | None
    _source: Movie | Stills = field(repr=False)
    _hashes: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def dtype(self) -> np.dtype:
        return dtype_of(self.pixel_type)

    def read(self, frame: int) -> np.ndarray:
        """The frame as (H, W, C) in the file's own type, bit for bit.

        Colour is not multiplied with alpha, nor divided by it: EXR holds it associated
        (premultiplied), PNG unassociated. Movies: see `vera.core.plate.movie.Movie`. Raises
        InputError, naming frame and file, if the file is damaged or has changed.
        """
        self._check(frame)
        return self._source.read(frame)

    def spec(self, frame: int) -> oiio.ImageSpec | None:
        """The header of a still with all its metadata; None for a movie."""
        self._check(frame)
        return None if self.is_movie else self._source.spec(frame)

    def file(self, frame: int) -> Path:
        """The file that holds the frame."""
        self._check(frame)
        return self._source.file if self.is_movie else self._source.files[frame]

    def fingerprint(self, frame: int) -> str:
        """A SHA-256 that changes when the frame's content does, in hex.

        Of the file's bytes; for a movie of the whole file's bytes and the frame number. Costs one
        read of the file, far less than decoding it, and is the same on every machine, which
        size and date are not. A file is hashed again only if its size or date changes.
        """
        file = self.file(frame)
        status = os.stat(file)
        key = (file, status.st_size, status.st_mtime_ns)
        if key not in self._hashes:
            with open(file, "rb") as stream:
                self._hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        digest = self._hashes[key]
        return hashlib.sha256(f"{digest} {frame}".encode()).hexdigest() if self.is_movie else digest

    def _check(self, frame: int) -> None:
        if frame not in self._source.frames:
            raise ValueError(f"frame {frame} is not among {show_frames(self._source.frames)} of {self.path}")


@dataclass(frozen=True)
class Mask:
    """Where to edit, a value a pixel. Made by `open_mask`."""

    path: str
    frames: tuple[int, ...]
    width: int
    height: int
    uses_alpha: bool
    _source: Movie | Stills = field(repr=False)
    _numbers: dict[int, int] = field(repr=False)

    def read(self, frame: int) -> np.ndarray:
        """The mask of a plate frame, (H, W) float32 in [0, 1]: 1 is inside.

        Raises InputError, naming frame and file, if it is damaged or holds NaN.
        """
        if frame not in self._numbers:
            raise ValueError(f"frame {frame} is not among those of the mask {self.path}")
        color, alpha = _mask_parts(self._source, self._numbers[frame])
        return np.ascontiguousarray(alpha) if self.uses_alpha else _luminance(color)


def open_plate(path: str, frames: str | None = None) -> Plate:
    """Open a padded sequence (`plate.####.exr`, `%04d`, `@@@`), a still or a movie.

    `frames`: `"1001-1049"`, `"1001"`, `"-5-10"`; None takes all there are. A lone still is the
    frame in its name (`plate.1001.exr`), else frame 1. The headers of all frames are read and
    checked here, and movies decoded. Raises InputError.
    """
    asked = None if frames is None else parse_frames(frames)
    source = _open_source(Path(path), asked, pick_plate)
    shared = dict(
        path=str(path),
        frames=tuple(source.frames),
        width=source.width,
        height=source.height,
        pixel_type=source.pixel_type,
        extension=_extension(Path(path)),
        _source=source,
    )
    if isinstance(source, Movie):
        return Plate(
            channels=("R", "G", "B"),
            fps=source.fps,
            pixel_aspect=source.pixel_aspect,
            offset=(0, 0),
            is_movie=True,
            ignored_channels=("A",) if source.has_alpha else (),
            color_codes=source.color_codes,
            **shared,
        )
    spec = source.spec(source.frames[0])
    return Plate(
        channels=source.header.channels,
        fps=frame_rate(spec),
        pixel_aspect=pixel_aspect(spec),
        offset=source.header.offset,
        is_movie=False,
        ignored_channels=source.other_channels(),
        color_codes=None,
        **shared,
    )


def open_mask(path: str, plate: Plate, frames: str | None = None) -> Mask:
    """Open a mask for a plate, of the same size: a sequence, a movie or a still.

    `frames` are the plate's frames to cover, all by default. A sequence must have the same
    frame numbers. A movie is matched from its first frame to the plate's first; to a movie plate
    frame by frame, both counting from 1. A still covers every frame.

    The mask is the alpha channel unless that is 1 everywhere on every frame, else the luminance
    (Rec.709 weights) or the first channel. Integers are divided by their maximum, floats clamped
    to [0, 1]. Raises InputError, also for NaN: float masks are read through here once.
    """
    wanted = range(plate.frames[0], plate.frames[-1] + 1)
    if frames is not None:
        wanted = choose_frames(parse_frames(frames), list(plate.frames), plate.path)
    try:
        source, numbers = _open_mask_source(Path(path), plate, wanted)
        if (source.width, source.height) != (plate.width, plate.height):
            raise InputError(
                f"{path}: {source.width}x{source.height}, but the plate is"
                f" {plate.width}x{plate.height}; render the mask at the plate's size"
            )
        uses_alpha = _survey_mask(source, sorted(set(numbers.values())))
    except InputError as error:
        raise InputError(f"mask: {error}") from None
    return Mask(
        path=str(path),
        frames=tuple(wanted),
        width=source.width,
        height=source.height,
        uses_alpha=uses_alpha,
        _source=source,
        _numbers=numbers,
    )


def _open_source(path: Path, asked: range | None, pick: Picker) -> Movie | Stills:
    extension = _extension(path)
    if path.is_dir():
        raise InputError(f"{path}: a directory; name its files, such as {path.name}/plate.####.exr")
    if extension not in STILLS and extension not in MOVIES:
        known = ", ".join([*STILLS, *MOVIES])
        raise InputError(f"{path}: the extension {extension!r} is not known; use one of {known}")
    pattern = None if path.is_file() else find_pattern(path)
    if extension in MOVIES:
        if pattern:
            raise InputError(f"{path}: a frame pattern in a movie's name; name the movie file itself")
        _refuse_absent(path)
        return Movie(path, asked)
    if pattern is None:
        _refuse_absent(path)
        number = frame_in_name(path)
        there = {1 if number is None else number: path}
    else:
        there = _list_files(pattern, path)
    chosen = choose_frames(asked, list(there), str(path))
    return Stills({frame: there[frame] for frame in chosen}, pick)


def _refuse_absent(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the name")


def _list_files(pattern: Pattern, path: Path) -> dict[int, Path]:
    try:
        there, other = pattern.frames(), pattern.badly_padded()
    except OSError as error:
        raise InputError(
            f"{path}: the folder {pattern.folder} cannot be read ({error.strerror}); check its name"
        ) from None
    if not there:
        hint = f"{other} is padded otherwise" if other else "check the name and the padding"
        raise InputError(f"{path}: no file fits this pattern; {hint}")
    return {frame: pattern.file(frame) for frame in there}


def _extension(path: Path) -> str:
    return path.suffix[1:].lower()


def _open_mask_source(
    path: Path, plate: Plate, wanted: range
) -> tuple[Movie | Stills, dict[int, int]]:
    """The mask's frames, and which of them belongs to which of the plate's."""
    is_movie = _extension(path) in MOVIES
    if not is_movie and (path.is_file() or find_pattern(path) is None):
        still = _open_source(path, None, pick_mask)
        return still, dict.fromkeys(wanted, still.frames[0])
    offset = plate.frames[0] - 1 if is_movie and not plate.is_movie else 0
    asked = range(wanted[0] - offset, wanted[-1] - offset + 1)
    return _open_source(path, asked, pick_mask), dict(zip(wanted, asked))


def _survey_mask(source: Movie | Stills, frames: list[int]) -> bool:
    """Whether alpha is the mask; integer files are read only until that is known."""
    uses_alpha = False
    for frame in frames:
        color, alpha = _mask_parts(source, frame)
        uses_alpha = uses_alpha or color is None or (alpha is not None and not np.all(alpha == 1))
        if not is_float(source.pixel_type) and (uses_alpha or alpha is None):
            break
    return uses_alpha


def _mask_parts(
    source: Movie | Stills, frame: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Colour (H, W, C) and alpha (H, W), either or neither None, float32 in [0, 1]."""
    if isinstance(source, Movie):
        return to_unit(source.read(frame), source.pixel_type), source.read_alpha(frame)
    pixels = to_unit(source.read(frame), source.pixel_type)
    if np.isnan(pixels).any():
        raise InputError(
            f"frame {frame}: {source.files[frame]}: holds NaN; fill these pixels with 0 or 1"
        )
    pixels = np.clip(pixels, 0, 1)
    if "A" not in source.header.channels:
        return pixels, None
    color, alpha = pixels[..., :-1], pixels[..., -1]
    return (color if color.shape[-1] else None), alpha


def _luminance(color: np.ndarray) -> np.ndarray:
    if color.shape[-1] < 3:
        return np.ascontiguousarray(color[..., 0])
    return np.clip(color.astype(np.float64) @ _LUMINANCE, 0, 1).astype(np.float32)
