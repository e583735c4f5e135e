"""Still image files through OpenImageIO: headers checked, pixels read bit for bit."""

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio

from vera.core.errors import InputError
from vera.core.plate.channels import Part, Picture, choose_picture, has_chroma, left_out, pictures
from vera.core.plate.choice import OF_PICTURES, USUAL, Choice
from vera.core.plate.named_files import STILLS
from vera.core.plate.pixel import dtype_of
from vera.core.plate.png_chunks import animated_frames, chunks_of

# A damaged header can state any size. 4 GiB is a 16K RGBA frame of 32-bit floats.
oiio.attribute("limits:imagesize_MB", 4096)

# Last bytes of a complete file, for formats without random access.
_LAST_BYTES = {"png": b"IEND", "jpeg": b"\xff\xd9"}

_DPX_INTERLACED = 1  # "2:1 interlace" of SMPTE 268M

SAME_ASPECT = 1e-3  # largest difference of pixel aspects that count as equal: writers round them

# Codes of a TIFF's colour (PhotometricInterpretation) that OpenImageIO gives as grey or RGB: white is 0, black is 0,
# RGB, palette, CMYK, YCbCr.
_TIFF_COLORS = (0, 1, 2, 3, 5, 6)

MAX_PARTS = 256  # largest number of parts that are read from one file; further ones are ignored

Picker = Callable[[Sequence[Part], Choice], Picture | None]

# EXIF orientations 1 to 8 -> quarter turns to the left, and whether to mirror left and right after them.
_UPRIGHT = {
    1: (0, False),
    2: (0, True),
    3: (2, False),
    4: (2, True),
    5: (3, True),
    6: (3, False),
    7: (1, True),
    8: (1, False),
}


# Metadata by which a file states its colour.
_STATED_COLOR = ("oiio:ColorSpace", "chromaticities", "acesImageContainerFlag", "dpx:Transfer", "CICP")


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: x, y from the top left of the display window; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)"""
        return self.right - self.left, self.bottom - self.top

    def meets(self, other: "Window") -> bool:
        """Whether the two have a pixel in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def with_other(self, other: "Window") -> "Window":
        """The smallest rectangle that holds both."""
        return Window(
            min(self.left, other.left),
            min(self.top, other.top),
            max(self.right, other.right),
            max(self.bottom, other.bottom),
        )


@dataclass(frozen=True)
class Header:
    """The properties of a file's pixels.

    pixel_type: in which all channels are read. stored: the channels' own types.
    parts: number of parts of the file. window: data window. display: (width, height) of the display window.
    stated: metadata about its colour. aspect: of a pixel. rate: frames per second, or None. others: channels that are
    not read, those of other parts as `part.channel`
    """

    picture: Picture
    parts: int
    pixel_type: str
    stored: tuple[str, ...]
    window: Window
    display: tuple[int, int]
    orientation: int
    stated: tuple[str, ...] = ()
    aspect: float = 1.0
    rate: Fraction | None = None
    others: tuple[str, ...] = ()

    @property
    def label(self) -> tuple[str, str, str]:
        """Layer, view and part of the picture; a part by its name, or by its number if it has none."""
        part = self.picture.part
        number = f"{part.number}" if part.number else ""
        return self.picture.layer.lower(), part.view.lower(), (part.name or number) if self.parts > 1 else ""

    def __str__(self) -> str:
        width, height = self.window.size
        told = f"{width}x{height} {self.pixel_type} {','.join(self.picture.names)}"
        if (self.window.left, self.window.top) == (0, 0) and self.display == (width, height):
            return told
        return f"{told} at {self.window.left},{self.window.top} of {self.display[0]}x{self.display[1]}"


class Stills:
    """Image files by frame number, of one type and one display window. `pick` chooses the channels.

    Data windows may differ from frame to frame: all frames are read into one window that contains them, with 0 outside
    of their own. Grey files are read as colour. Alpha that only some files have is left out. Opening reads every
    header, and enough of every file to detect truncation. Raises InputError with frame and file. Several threads may
    read.

    names: of the channels that `read` returns. notes: messages for the user. field_order: see `Movie`.
    """

    def __init__(
        self, files: dict[int, Path], pick: Picker, choice: Choice = USUAL, widest: Window | None = None
    ) -> None:
        self.files = files
        self.frames = range(min(files), max(files) + 1)
        self._pick, self._choice = pick, choice
        self._headers = {f: _check_file(files[f], self._where(f), pick, choice) for f in self.frames}
        first = self._headers[self.frames[0]]
        for frame, header in self._headers.items():
            if (header.pixel_type, header.display) != (first.pixel_type, first.display):
                raise InputError(
                    f"{self._where(frame)}: {header}, but frame {self.frames[0]} is {first}; write all frames alike"
                )
        if pick is choose_picture:
            self._refuse_unlike(first)
        self.display, self.pixel_type, self.picture = first.display, first.pixel_type, first.picture
        self.window = functools.reduce(Window.with_other, (h.window for h in self._headers.values()))
        if pick is choose_picture and not self.window.meets(Window(0, 0, *self.display)):
            raise InputError(
                f"{self._where(self.frames[0])}: {first}: its data window lies outside the display window, so that"
                " nothing of it is seen; write it within"
            )
        self.width, self.height = self.window.size
        self.names = self._common_names()
        self.field_order = self._field_order()
        self.notes = self._notes()

    def read(self, frame: int) -> np.ndarray:
        """The chosen channels as (H, W, C) in the file's own type, bit for bit.

        Colour is not multiplied by alpha, also in formats with unassociated alpha (PNG, and TIFF or TGA that state it).
        Raises InputError if the file is damaged or has changed since it was opened.
        """
        where, header = self._where(frame), self._headers[frame]
        image = _open(self.files[frame], where)
        now = _header(image, where, self._pick, self._choice)
        if now != header:
            raise InputError(f"{where}: now {now}, was {header}; the file has changed, start again")
        picks = [now.picture.indices[now.picture.names.index(c)] for c in self._stored_names(now)]
        image.seek_subimage(now.picture.part.number, 0)
        first, last = min(picks), max(picks)
        pixels = _whole(image, image.read_image(now.picture.part.number, 0, first, last + 1, _oiio_type(now)), where)
        pixels = pixels.reshape(*pixels.shape[:2], last + 1 - first)
        if picks != list(range(first, last + 1)):
            pixels = pixels[..., [p - first for p in picks]]
        return self._placed(_upright(pixels, now.orientation), now.window)

    def spec(self, frame: int) -> oiio.ImageSpec:
        """The header of the chosen part with all its metadata, its data window that of all frames."""
        image = _open(self.files[frame], self._where(frame))
        image.seek_subimage(self._headers[frame].picture.part.number, 0)
        spec = image.spec().copy()
        if self._headers[frame].orientation != 1:
            spec.full_x = spec.full_y = 0
        spec.full_width, spec.full_height = self.display
        spec.x, spec.y = spec.full_x + self.window.left, spec.full_y + self.window.top
        spec.width, spec.height = self.window.size
        return spec

    def other_channels(self) -> tuple[str, ...]:
        """Channels that are not read (of other parts as `part.channel`), of all frames, and alpha that some lack."""
        has_alpha = any("A" in header.picture.names for header in self._headers.values())
        dropped = ("A",) if has_alpha and "A" not in self.names else ()
        return tuple(dict.fromkeys([*(name for h in self._headers.values() for name in h.others), *dropped]))

    def _refuse_unlike(self, first: Header) -> None:
        """Raise InputError if frames show another layer, view or part than the first, or have other pixels."""
        for frame, header in self._headers.items():
            if header.label != first.label:
                theirs, ours = (h.picture.title or "the unnamed one" for h in (header, first))
                raise InputError(
                    f"{self._where(frame)}: its picture is {theirs}, but that of frame {self.frames[0]} is {ours};"
                    " write all frames alike, or choose one by --layer"
                )
            if abs(header.aspect - first.aspect) > SAME_ASPECT:
                raise InputError(
                    f"{self._where(frame)}: pixels of aspect {header.aspect:g}, but those of frame {self.frames[0]} are"
                    f" of {first.aspect:g}; write all frames alike"
                )

    def _field_order(self) -> str | None:
        """ "not stated" for DPX headers that state interlaced lines, else None.

        Raises InputError for interlaced files unless the user asks to read frames as they are.
        """
        frame, asked = self.frames[0], self._choice.fields
        interlaced = self.spec(frame).get_int_attribute("dpx:Interlace") == _DPX_INTERLACED
        if asked in ("upper", "lower"):
            raise InputError(
                f"{self._where(frame)}: --fields {asked} takes the fields of movies apart, not those of stills;"
                " deinterlace them first, or say --fields ignore to take frames as they are"
            )
        if interlaced and asked is None:
            raise InputError(
                f"{self._where(frame)}: interlaced; deinterlace it first, or, of a plate, say --fields ignore to take"
                " frames as they are"
            )
        return "not stated" if interlaced else None

    def _common_names(self) -> tuple[str, ...]:
        """The common channels: colour unless every frame is grey and may stay so, and alpha if every frame has it."""
        named = [h.picture.names for h in self._headers.values()]
        alpha = ("A",) if all("A" in names for names in named) else ()
        if all(set(names) <= {"A"} for names in named):
            return alpha
        if any("R" in names for names in named) or self._pick is choose_picture:
            return ("R", "G", "B", *alpha)
        return ("Y", *alpha)

    def _stored_names(self, header: Header) -> list[str]:
        """The file's channels for `names`, in order; a grey file's luminance is used three times."""
        grey = header.picture.is_grey
        return ["Y" if grey and c in "RGB" else c for c in self.names]

    def _placed(self, pixels: np.ndarray, window: Window) -> np.ndarray:
        if window == self.window:
            return np.ascontiguousarray(pixels)
        whole = np.zeros((self.height, self.width, pixels.shape[-1]), pixels.dtype)
        x, y = window.left - self.window.left, window.top - self.window.top
        whole[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        return whole

    def _notes(self) -> tuple[str, ...]:
        headers = list(self._headers.values())
        notes = [f"{self.picture.title} is the picture"] if self.picture.title else []
        grey = [f for f, h in self._headers.items() if h.picture.is_grey]
        if grey and "R" in self.names:
            some = "luminance alone" if len(grey) == len(headers) else f"frame {grey[0]} has luminance alone"
            notes.append(f"{some}: read as three equal channels")
        if len({h.window for h in headers}) > 1:
            notes.append("data windows differ from frame to frame: the composite has one that holds them all")
        if self.field_order:
            notes.append("the files are interlaced: frames are taken as they are, two moments in each")
        mixed = next((f for f, h in self._headers.items() if len(h.stored) > 1), None)
        if mixed is not None:
            notes.append(
                f"frame {mixed} has channels of half and of float: all are read as float, which holds both exactly, and"
                " the composite is float"
            )
        other = next((f for f, h in self._headers.items() if _differs(h, headers[0])), None)
        if other is not None:
            notes.append(
                f"frame {other} states another colour than frame {self.frames[0]}: all are read as that one is"
            )
        other = next((f for f, h in self._headers.items() if h.rate != headers[0].rate), None)
        if other is not None:
            rates = (h.rate for h in (headers[0], self._headers[other]))
            first, later = (f"{float(rate):.5g}" if rate else "no" for rate in rates)
            notes.append(
                f"frame {other} states {later} frames a second, frame {self.frames[0]} {first}:"
                " that of the first is used"
            )
        if headers[0].orientation != 1:
            notes.append("the files' Orientation is applied; the layer is upright, as viewers show the plate")
        return tuple(notes)

    def _where(self, frame: int) -> str:
        return f"frame {frame}: {self.files[frame]}"


def _differs(header: Header, first: Header) -> bool:
    """Whether a frame states another colour; grey ones among coloured ones may, and are read alike."""
    return header.stated != first.stated and header.picture.is_grey == first.picture.is_grey


def frame_rate(spec: oiio.ImageSpec) -> Fraction | None:
    """Frames per second from the metadata of EXR or DPX, or None."""
    rate = spec.getattribute("FramesPerSecond")
    if isinstance(rate, tuple) and len(rate) == 2 and rate[0] > 0 and rate[1] > 0:
        return Fraction(*rate)
    for name in ("FramesPerSecond", "dpx:FrameRate", "dpx:TemporalFrameRate"):
        rate = spec.getattribute(name)
        if isinstance(rate, (int, float)) and 0 < rate < 10000:
            return _exact_rate(float(rate))
    return None


def pixel_aspect(spec: oiio.ImageSpec) -> float:
    """Width over height of a pixel; 1.0 if the file does not say."""
    aspect = spec.get_float_attribute("PixelAspectRatio", 1.0)
    return aspect if 0 < aspect < float("inf") else 1.0


def _exact_rate(rate: float) -> Fraction:
    """23.976 is stored for 24000/1001, and so on."""
    whole = Fraction(round(rate))
    ntsc = Fraction(round(rate) * 1000, 1001)
    for exact in (whole, ntsc):
        if abs(rate - exact) < 0.002:
            return exact
    return Fraction(rate).limit_denominator(1001)


def _open(file: Path, where: str) -> oiio.ImageInput:
    try:
        size = os.stat(file).st_size
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); supply the file") from None
    if file.is_dir():
        raise InputError(f"{where}: a directory, not an image file; move it away")
    if size == 0:
        raise InputError(f"{where}: the file is empty (0 bytes); write it again")
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    image = oiio.ImageInput.open(str(file), config)
    if image is None:
        raise InputError(f"{where}: not a readable image ({_opening_error()}); write it again")
    wanted = STILLS[file.suffix[1:].lower()]
    if image.format_name() != wanted:
        raise InputError(f"{where}: holds {image.format_name()}, not {wanted}; rename the file")
    return image


def _parts(image: oiio.ImageInput) -> list[Part]:
    """All parts of a file. The image is left at its first one."""
    found: list[Part] = []
    while len(found) < MAX_PARTS and image.seek_subimage(len(found), 0):
        spec = image.spec()
        name = spec.get_string_attribute("oiio:subimagename") or spec.get_string_attribute("name")
        found.append(Part(len(found), name, spec.get_string_attribute("view"), tuple(spec.channelnames)))
    _library_error(image)  # that there are no more
    image.seek_subimage(0, 0)
    return found


def _header(image: oiio.ImageInput, where: str, pick: Picker, choice: Choice) -> Header:
    parts = _parts(image)
    picture = pick(parts, choice)
    if picture is None:
        raise InputError(f"{where}: {_no_picture(parts, choice)}")
    image.seek_subimage(picture.part.number, 0)
    spec = image.spec()
    if spec.deep or spec.depth > 1:
        raise InputError(f"{where}: deep and volume images are not supported yet; flatten it")
    _refuse_odd_tiles(spec, where)
    _refuse_other_colors(spec, where)
    orientation = spec.get_int_attribute("Orientation", 1)
    orientation = orientation if orientation in _UPRIGHT else 1
    left, top = spec.x - spec.full_x, spec.y - spec.full_y
    window = Window(left, top, left + spec.width, top + spec.height)
    display = spec.full_width, spec.full_height
    if orientation != 1:
        turned = orientation >= 5
        width, height = (spec.height, spec.width) if turned else (spec.width, spec.height)
        window, display = Window(0, 0, width, height), (width, height)
    stored = tuple(sorted({str(spec.channelformat(i)) for i in picture.indices}))
    stated = tuple(str(spec.getattribute(name)) for name in _STATED_COLOR)
    kind = _pixel_type(spec, stored, where)
    seen = (window, display, orientation, stated, pixel_aspect(spec), frame_rate(spec), left_out(parts, picture))
    return Header(picture, len(parts), kind, stored, *seen)


def _refuse_odd_tiles(spec: oiio.ImageSpec, where: str) -> None:
    """Raise InputError before a tile is decoded whose samples are no whole bytes.

    OpenImageIO's TIFF reader has an open report of a write out of bounds for such tiles (issue 5315). Scanlines of 10
    and 12 bits, as in plates, take another code path.
    """
    bits = spec.get_int_attribute("oiio:BitsPerSample", 8)
    if spec.tile_width and bits % 8:
        raise InputError(
            f"{where}: tiles of {bits} bits a sample are not read; write it in scanlines, or in 8 or 16 bits"
        )


def _refuse_other_colors(spec: oiio.ImageSpec, where: str) -> None:
    """Raise InputError for a TIFF whose numbers are no RGB or grey: CIELAB, or the samples of a camera's sensor."""
    code = spec.get_int_attribute("tiff:PhotometricInterpretation", _TIFF_COLORS[0])
    if code not in _TIFF_COLORS:
        name = spec.get_string_attribute("tiff:ColorSpace") or {32803: "sensor samples", 34892: "linear raw"}.get(code)
        raise InputError(f"{where}: its pixels are {name or f'of kind {code}'}, not RGB; write it as R, G, B")


def _no_picture(parts: Sequence[Part], choice: Choice) -> str:
    """The reason why no picture was found, with the pictures or channels that exist."""
    found = [picture for part in parts for picture in pictures(part)]
    there = [picture.title or "the plain picture" for picture in found]
    asked = " ".join(f"--{kind} {name}" for kind, name in choice.given(OF_PICTURES).items())
    if asked and there:
        return f"has no picture for {asked}; there are {'; '.join(there[:8])}"
    names = [name for part in parts for name in part.channels]
    more = ", ..." if len(names) > 12 else ""
    if there:
        layers = ", ".join(dict.fromkeys(picture.layer for picture in found))
        return f"holds no picture but passes of data ({layers}); --layer {found[0].layer} reads it as a picture"
    if any(has_chroma(part, name.rpartition(".")[0]) for part in parts for name in part.channels):
        return f"is luminance and chroma, or inks ({', '.join(names[:4])}), which is not supported; write it as R, G, B"
    return (
        f"has channels {', '.join(names[:12])}{more} but no R, G and B and no luminance; write the picture as R, G, B"
    )


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    turns, mirrored = _UPRIGHT[orientation]
    turned = np.rot90(pixels, turns)
    return turned[:, ::-1] if mirrored else turned


def _pixel_type(spec: oiio.ImageSpec, formats: tuple[str, ...], where: str) -> str:
    if formats == ("float", "half"):
        return "float"  # it holds every half exactly
    if len(formats) > 1:
        raise InputError(
            f"{where}: channels of different types ({', '.join(formats)}) are not supported yet; write them in one type"
        )
    stored = "uint32" if formats[0] == "uint" else formats[0]
    if stored == "uint16":
        bits = spec.get_int_attribute("oiio:BitsPerSample", 16) or 16
        stored = f"uint{bits}"
    if stored not in ("uint8", "uint10", "uint12", "uint16", "uint32", "half", "float"):
        raise InputError(
            f"{where}: pixels of type {stored} are not supported yet; write 8, 10, 12, 16 or 32 bits, half or float"
        )
    return stored


def _check_file(file: Path, where: str, pick: Picker, choice: Choice) -> Header:
    image = _open(file, where)
    count = animated_frames(chunks_of(file)) if image.format_name() == "png" else 1
    if count > 1:
        raise InputError(f"{where}: an animated PNG of {count} frames; write them as a sequence or as a movie")
    header = _header(image, where, pick, choice)
    _refuse_truncated(image, file, header, where)
    return header


def _refuse_truncated(image: oiio.ImageInput, file: Path, header: Header, where: str) -> None:
    """Raise InputError for truncated files.

    It is cheap for complete files: with random access the last pixels are read, without it the closing bytes are
    checked. Only doubtful files and tiled ones, whose tiles can be in any order, are read completely.
    """
    mark = _LAST_BYTES.get(image.format_name())
    part, kind = header.picture.part.number, _oiio_type(header)
    image.seek_subimage(part, 0)
    spec = image.spec()
    first, last = min(header.picture.indices), max(header.picture.indices) + 1
    if spec.tile_width or part or (mark and mark not in _tail(file)):
        _refuse_failed(image, image.read_image(part, 0, first, last, kind), where)
    elif not mark:
        for y in (spec.y, spec.y + spec.height - 1):
            _refuse_failed(image, image.read_scanlines(y, y + 1, 0, first, last, kind), where)


def _whole(image: oiio.ImageInput, pixels: np.ndarray | None, where: str) -> np.ndarray:
    """The pixels that were read. Raises InputError if they could not be."""
    _refuse_failed(image, pixels, where)
    assert pixels is not None
    return pixels


def _refuse_failed(image: oiio.ImageInput, pixels: np.ndarray | None, where: str) -> None:
    # Some readers return an array even after an error, and only leave a message.
    message = _library_error(image)
    if pixels is None or message:
        raise InputError(f"{where}: broken off or damaged ({_line(message)}); write it again")


def _tail(file: Path) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 64))
        return stream.read()


def _oiio_type(header: Header) -> str:
    return {"float16": "half", "float32": "float", "uint32": "uint"}.get(name := str(dtype_of(header.pixel_type)), name)


def _opening_error() -> str:
    return _line(_library_error(oiio))


def _library_error(source: Any) -> str:
    """OpenImageIO's last error, of a file or of an opening. It may contain bytes of a damaged header that are no
    text."""
    try:
        return source.geterror()
    except UnicodeDecodeError:
        return "damaged header"


def _line(text: str) -> str:
    """A library's message in one line."""
    return " ".join(text.split())[:200] or "no reason given"
