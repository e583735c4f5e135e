"""Plates and masks: open the files of a shot, check all of them, and read frames bit for bit."""

import hashlib
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import OpenImageIO as oiio

from vera.core.errors import InputError
from vera.core.plate.channels import choose_mask, choose_picture, is_matte
from vera.core.plate.choice import OF_PICTURES, OF_VIDEO, USUAL, Choice
from vera.core.plate.decoded import EncodingProperty
from vera.core.plate.movie import Movie, movie_header
from vera.core.plate.named_files import MOVIES, extension_of, list_files, refuse_wrong_name
from vera.core.plate.pattern import choose_frames, find_pattern, frame_in_name, parse_frames, show_frames
from vera.core.plate.pixel import dtype_of, to_unit
from vera.core.plate.stills import Picker, Stills, Window, frame_rate, pixel_aspect

# Alpha of a mask from which it counts as 1, because compressed movies do not keep it exactly. Raising it takes more of
# the masks whose alpha is nearly 1 by that alpha.
OPAQUE = 0.99
# Difference of a mask's colour channels from which a warning says that it is not grey. Raising it warns of fewer masks.
COLORED = 0.1

# Rec.709 luminance.
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclass(frozen=True)
class Plate:
    """The frames of a shot, made by `open_plate`.

    frames: contiguous frame numbers; a movie's start at 1
    channels: R, G, B or R, G, B, A
    pixel_type: one of PIXEL_TYPES in core/plate/pixel.py
    dtype: numpy type of the frames; 10- and 12-bit values come in uint16, scaled to its full range
    width, height: of the stored pixels, an EXR's data window
    offset: x and y of the data window from the top left of the display window; negative for overscan
    display: size of the display window
    extension: in lower case, without the dot
    color_codes: a movie's primaries and transfer (ITU-T H.273); None for stills, which have a `spec`
    ignored_channels: in the files and not read
    notes: messages about unexpected properties of the files
    timecode: SMPTE timecode of a movie's first frame, or None
    field_order: None for progressive frames, "upper" or "lower" if stated, else "not stated"
    matrix, range: of a movie's YUV, as used; None for stills
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
    display: tuple[int, int]
    notes: tuple[str, ...]
    timecode: str | None
    field_order: str | None
    matrix: EncodingProperty | None
    range: EncodingProperty | None
    _source: Movie | Stills = field(repr=False)
    _hashes: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def dtype(self) -> np.dtype:
        return dtype_of(self.pixel_type)

    @property
    def picture(self) -> str:
        """The picture of a file that is read, such as "part beauty, view left"; "" for the unnamed one and for
        movies."""
        return self._source.picture.title if isinstance(self._source, Stills) else ""

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
        return self._source.spec(frame) if isinstance(self._source, Stills) else None

    def file(self, frame: int) -> Path:
        """The file that holds the frame."""
        self._check(frame)
        return self._source.files[frame] if isinstance(self._source, Stills) else self._source.file

    def fingerprint(self, frame: int) -> str:
        """A SHA-256 that changes when the frame's content does, in hex.

        It covers the file's bytes, the options of reading and, for a movie, the frame number. It costs one read of the
        file, much less than decoding, and is equal on every machine, unlike size and date. A file is hashed again only
        if its size or date changes.
        """
        file = self.file(frame)
        status = os.stat(file)
        key = (file, status.st_size, status.st_mtime_ns)
        if key not in self._hashes:
            with open(file, "rb") as stream:
                self._hashes[key] = hashlib.file_digest(stream, "sha256").hexdigest()
        digest = self._hashes[key]
        # The options of reading count too. A movie's frames share one file.
        chosen = self.picture if isinstance(self._source, Stills) else self._source.name_of(frame)
        return hashlib.sha256(f"{digest} {chosen}".encode()).hexdigest() if chosen else digest

    def read_with_alpha(self, frame: int) -> tuple[np.ndarray, np.ndarray | None]:
        """What `read` returns, and the alpha as stored, (H, W) float32 in [0, 1]; None without one.

        Raises InputError as `read`, and for NaN.
        """
        pixels = self.read(frame)
        if isinstance(self._source, Movie):
            return pixels, self._source.read_alpha(frame)
        return pixels, _parts_of(self._source, frame, pixels)[1]

    def in_display(self, values: np.ndarray) -> np.ndarray:
        """Values (H, W) or (H, W, C) of the data window, cropped and padded with 0 to the display window."""
        return _within(values, _plate_window(self), Window(0, 0, *self.display))

    def _check(self, frame: int) -> None:
        if frame not in self._source.frames:
            raise ValueError(f"frame {frame} is not among {show_frames(self._source.frames)} of {self.path}")


@dataclass(frozen=True)
class Mask:
    """The editable area, one value per pixel, made by `open_mask`.

    window: of the plate's pixels in its display window, see `Plate.offset`
    own: window of the mask's pixels, likewise
    notes: messages for the user
    """

    path: str
    frames: tuple[int, ...]
    width: int
    height: int
    uses_alpha: bool
    window: Window
    own: Window
    notes: tuple[str, ...]
    _source: Movie | Stills = field(repr=False)
    _numbers: dict[int, int] = field(repr=False)

    def read(self, frame: int) -> np.ndarray:
        """The mask of a plate frame, (H, W) float32 in [0, 1]: 1 is inside.

        Raises InputError, naming frame and file, if it is damaged or holds NaN.
        """
        if frame not in self._numbers:
            raise ValueError(f"frame {frame} is not among those of the mask {self.path}")
        color, alpha = _mask_parts(self._source, self._numbers[frame])
        values = np.ascontiguousarray(alpha) if self.uses_alpha or color is None else _luminance(color)
        return _within(values, self.own, self.window)


@dataclass(frozen=True)
class HeldOutMask:
    """A mask, or none, minus the area that is held out."""

    mask: Mask | None
    hold_out: Mask

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Mask`."""
        return (*(self.mask.notes if self.mask else ()), *self.hold_out.notes)

    def read(self, frame: int) -> np.ndarray:
        """See `Mask.read`."""
        free = 1 - self.hold_out.read(frame)
        return free if self.mask is None else self.mask.read(frame) * free


def open_plate(path: str, frames: str | None = None, choice: Choice = USUAL) -> Plate:
    """Open a padded sequence (`plate.####.exr`, `%04d`, `@@@`), a still or a movie.

    frames: `"1001-1049"`, `"1001"` or `"-5-10"`; None takes all
    choice: options of reading
    A single still has the frame number in its name (`plate.1001.exr`), else 1. The headers of all frames are read and
    checked here, and movies are decoded. Raises InputError.
    """
    wanted = None if frames is None else parse_frames(frames)
    source = _open_source(Path(path), wanted, choose_picture, choice)
    shared: dict[str, Any] = dict(
        path=str(path),
        frames=tuple(source.frames),
        width=source.width,
        height=source.height,
        pixel_type=source.pixel_type,
        extension=extension_of(Path(path)),
        field_order=source.field_order,
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
            display=(source.width, source.height),
            notes=(*source.notes, *_left_out_note(("A",) if source.has_alpha else ())),
            timecode=source.timecode,
            matrix=source.matrix,
            range=source.range,
            **shared,
        )
    spec = source.spec(source.frames[0])
    ignored = source.other_channels()
    return Plate(
        channels=source.names,
        fps=frame_rate(spec),
        pixel_aspect=pixel_aspect(spec),
        offset=(source.window.left, source.window.top),
        is_movie=False,
        ignored_channels=ignored,
        color_codes=None,
        display=source.display,
        notes=(*source.notes, *_left_out_note(ignored)),
        timecode=None,
        matrix=None,
        range=None,
        **shared,
    )


def open_mask(path: str, plate: Plate, frames: str | None = None, holds_out: bool = False) -> Mask:
    """Open a mask for a plate: a sequence, a movie or a still.

    The mask is placed by its display window and is 0 outside of its data window. A mask with the size of the plate's
    data window is placed in that window. A sequence must have the plate's frame numbers. A movie is matched from its
    first frame to the plate's first frame; with a movie plate, both count from 1. If the plate is a range of a
    sequence, a movie with as many frames as the whole sequence is matched to the whole. A still covers every frame.

    frames: the plate's frames that the mask must cover, all by default
    holds_out: for messages, whether the mask says where the edit may not be

    The mask is the alpha channel, unless that is at least OPAQUE everywhere on every frame; then it is the luminance
    (Rec.709 weights) or the first channel. Integers are divided by their maximum, floats are clamped to [0, 1]. All
    frames are read once here. Raises InputError, also for NaN.
    """
    wanted = range(plate.frames[0], plate.frames[-1] + 1)
    if frames is not None:
        wanted = choose_frames(parse_frames(frames), list(plate.frames), plate.path)
    try:
        source, numbers, length_notes = _open_mask_source(Path(path), plate, wanted)
        window = _plate_window(plate)
        _refuse_other_size(source, plate, path)
        own = _window_of(source, plate)
        survey = _survey_mask(source, sorted(set(numbers.values())), own, window)
    except InputError as error:
        raise InputError(f"{'hold-out' if holds_out else 'mask'}: {error}") from None
    notes = (
        *_value_notes(survey, holds_out),
        *_origin_notes(source, survey.uses_alpha, plate),
        *length_notes,
    )
    return Mask(
        path=str(path),
        frames=tuple(wanted),
        width=plate.width,
        height=plate.height,
        uses_alpha=survey.uses_alpha,
        window=window,
        own=own,
        notes=tuple(note.replace("the mask", "the hold-out mask") for note in notes) if holds_out else notes,
        _source=source,
        _numbers=numbers,
    )


def _left_out_note(ignored: tuple[str, ...]) -> tuple[str, ...]:
    """The note on channels that are not read."""
    if not ignored:
        return ()
    more = f" and {len(ignored) - 6} more" if len(ignored) > 6 else ""
    return (f"left out of the plate and its composite: {', '.join(ignored[:6])}{more}",)


def _plate_window(plate: Plate) -> Window:
    left, top = plate.offset
    return Window(left, top, left + plate.width, top + plate.height)


def _window_of(source: Movie | Stills, plate: Plate) -> Window:
    """The window of a mask's pixels, in the plate's display window."""
    size = (source.width, source.height)
    if isinstance(source, Stills) and (source.display == plate.display or source.display != size):
        return source.window
    return _plate_window(plate) if size == (plate.width, plate.height) else Window(0, 0, *size)


def _refuse_other_size(source: Movie | Stills, plate: Plate, path: str) -> None:
    size = (source.width, source.height)
    display = size if isinstance(source, Movie) else source.display
    if display != plate.display and size != (plate.width, plate.height):
        shown = f"{display[0]}x{display[1]}"
        data = "" if display == size else f" with a data window of {size[0]}x{size[1]}"
        raise InputError(
            f"{path}: {shown}{data}, but the plate is {plate.display[0]}x{plate.display[1]};"
            " render the mask at the plate's size"
        )


def _within(values: np.ndarray, window: Window, wanted: Window) -> np.ndarray:
    """The values (H, W) or (H, W, C) of `window`, cropped and padded with 0 to the window `wanted`."""
    if window == wanted:
        return values
    width, height = wanted.size
    placed = np.zeros((height, width, *values.shape[2:]), np.float32)
    left, top = max(window.left, wanted.left), max(window.top, wanted.top)
    right, bottom = min(window.right, wanted.right), min(window.bottom, wanted.bottom)
    if left < right and top < bottom:
        part = values[top - window.top : bottom - window.top, left - window.left : right - window.left]
        placed[top - wanted.top : bottom - wanted.top, left - wanted.left : right - wanted.left] = part
    return placed


def _value_notes(survey: "_Survey", holds_out: bool) -> tuple[str, ...]:
    """A warning about a mask whose values are probably not the intended ones."""
    uses_alpha, largest = survey.uses_alpha, survey.largest
    what = "alpha" if uses_alpha else "value"
    if largest == 0:
        effect = "it keeps nothing out" if holds_out else "nothing may be edited"
        return (f"the mask is black throughout{', by its alpha' if uses_alpha else ''}: {effect}",)
    if survey.color_difference > COLORED and not uses_alpha:
        return (
            f"the mask is coloured, and its luminance is used, {largest:.3g} at most; if its channels are several"
            " mattes, write the one that is meant in grey",
        )
    if largest <= 0.5:
        labels = "; labels of 0 and 1 in an integer file are nearly black: write 0 and its maximum"
        label = labels if largest < 0.05 else ""
        effect = "it keeps out at most" if holds_out else "the layer's alpha is at most"
        return (f"the mask's largest {what} is {largest:.3g}: {effect} that{label}",)
    effect = "nothing may be edited" if holds_out else "it allows everything"
    return (f"the mask is white throughout: {effect}",) if survey.smallest >= OPAQUE else ()


def _origin_notes(source: Movie | Stills, uses_alpha: bool, plate: Plate) -> tuple[str, ...]:
    """Notes: which channels the mask is read from, if not the usual ones; and a frame rate other than the plate's."""
    if isinstance(source, Movie):
        notes = tuple(f"the mask: {note}" for note in source.notes)
        if plate.fps and source.fps and plate.fps != source.fps:
            rates = f"{float(source.fps):.5g} frames a second, the plate {float(plate.fps):.5g}"
            notes += (f"the mask has {rates}: they are matched frame by frame",)
        return notes
    picture, others = source.picture, source.other_channels()
    channels = [picture.part.channels[i] for i in picture.indices]
    left = f"; left out: {', '.join(others[:6])}" if others else ""
    if len(channels) == 1 and not (is_matte(channels[0]) and (uses_alpha or not others)):
        return (f"the mask is channel {channels[0]}{left}",)
    if picture.title:
        return (f"the mask is of {picture.title}{left}",)
    return (f"the mask is the picture's luminance{left}",) if left and not uses_alpha else ()


def _open_source(path: Path, wanted: range | None, pick: Picker, choice: Choice = USUAL) -> Movie | Stills:
    refuse_wrong_name(path)
    if extension_of(path) in MOVIES:
        _refuse_choice(path, choice.given(OF_PICTURES), "of EXR files with several pictures; this is a movie")
        return Movie(path, wanted, choice)
    _refuse_choice(path, choice.given(OF_VIDEO), "of YUV movies; these are stills")
    pattern = None if path.is_file() else find_pattern(path)
    if pattern is None:
        number = frame_in_name(path)
        files = {1 if number is None else number: path}
    else:
        files = list_files(pattern, path)
    frames = choose_frames(wanted, list(files), str(path))
    stills = Stills({frame: files[frame] for frame in frames}, pick, choice)
    all_of = pattern if wanted is None else None  # misnamed files matter only if all frames are wanted
    for how, misfit in (
        ("padded otherwise", all_of.badly_padded() if all_of else None),
        ("written with other capitals", all_of.in_other_case() if all_of else None),
    ):
        if misfit:
            note = f"{misfit} is {how} and is not among the frames {show_frames(frames)}"
            stills.notes = (*stills.notes, note)
    return stills


def _refuse_choice(path: Path, options: dict[str, str], why: str) -> None:
    """Raise InputError if an option of reading was given that does not apply to the file."""
    for name in options:
        raise InputError(f"{path}: --{name} is {why}; leave it out")


def _open_mask_source(
    path: Path, plate: Plate, wanted: range
) -> tuple[Movie | Stills, dict[int, int], tuple[str, ...]]:
    """The mask's frames, for each plate frame the mask's frame, and a note on a length that is not the plate's."""
    is_movie = extension_of(path) in MOVIES
    if not is_movie and (path.is_file() or find_pattern(path) is None):
        still = _open_source(path, None, choose_mask)
        return still, dict.fromkeys(wanted, still.frames[0]), ()
    offset = 0
    notes: tuple[str, ...] = ()
    if is_movie:
        refuse_wrong_name(path)
        offset, notes = _place_of_movie(movie_header(path).frames, plate)
    mask_frames = range(wanted[0] - offset, wanted[-1] - offset + 1)
    return _open_source(path, mask_frames, choose_mask), dict(zip(wanted, mask_frames, strict=True)), notes


def _place_of_movie(count: int, plate: Plate) -> tuple[int, tuple[str, ...]]:
    """(plate frame number minus the mask's, notes) for a mask that is a movie of `count` frames.

    A note says how they are matched if the mask's length fits neither the plate's frames nor the whole sequence.
    """
    first, last = plate.frames[0], plate.frames[-1]
    if plate.is_movie:
        whole, begins = range(1, max(last, movie_header(Path(plate.path)).frames) + 1), 1
    else:
        pattern = None if Path(plate.path).is_file() else find_pattern(Path(plate.path))
        numbers = list(list_files(pattern, Path(plate.path))) if pattern else [first]
        whole, begins = range(numbers[0], numbers[-1] + 1), first
    if count == last - begins + 1:
        return begins - 1, ()
    if count == len(whole):
        notes = (f"the mask begins at frame {whole[0]}: it has as many frames as the whole sequence",)
        return whole[0] - 1, () if plate.is_movie else notes
    length = len(whole) if plate.is_movie else len(plate.frames)
    notes = (f"the mask has {count} frames, and the plate {length}: it is matched from frame {begins} on",)
    return begins - 1, notes


class _Survey(NamedTuple):
    """Properties of a mask's values where the plate has pixels, over all frames.

    uses_alpha: whether alpha is the mask
    largest, smallest: values of the mask
    color_difference: largest difference between the colour channels of a pixel
    """

    uses_alpha: bool
    largest: float
    smallest: float
    color_difference: float


def _survey_mask(source: Movie | Stills, frames: list[int], own: Window, window: Window) -> _Survey:
    uses_alpha, difference = False, 0.0
    extremes = {"alpha": (0.0, 1.0), "color": (0.0, 1.0)}
    for frame in frames:
        color, alpha = _mask_parts(source, frame)
        uses_alpha = uses_alpha or color is None or (alpha is not None and not np.all(alpha >= OPAQUE))
        if color is not None:
            difference = max(difference, float(np.ptp(color, axis=-1).max()))
        for name, values in (("alpha", alpha), ("color", None if color is None else _luminance(color))):
            if values is not None:
                values = _within(values, own, window)
                high, low = extremes[name]
                extremes[name] = max(high, float(values.max())), min(low, float(values.min()))
    return _Survey(uses_alpha, *extremes["alpha" if uses_alpha else "color"], difference)


def _mask_parts(source: Movie | Stills, frame: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Colour (H, W, C) and alpha (H, W), either or neither None, float32 in [0, 1]."""
    if isinstance(source, Movie):
        return to_unit(source.read(frame), source.pixel_type), source.read_alpha(frame)
    return _parts_of(source, frame, source.read(frame))


def _parts_of(source: Stills, frame: int, pixels: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    pixels = to_unit(pixels, source.pixel_type)
    if np.isnan(pixels).any():
        raise InputError(f"frame {frame}: {source.files[frame]}: holds NaN; fill these pixels with 0 or 1")
    pixels = np.clip(pixels, 0, 1)
    if "A" not in source.names:
        return pixels, None
    color, alpha = pixels[..., :-1], pixels[..., -1]
    return (color if color.shape[-1] else None), alpha


def _luminance(color: np.ndarray) -> np.ndarray:
    if color.shape[-1] < 3:
        return np.ascontiguousarray(color[..., 0])
    return np.clip(color.astype(np.float64) @ _LUMINANCE, 0, 1).astype(np.float32)
