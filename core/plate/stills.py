"""Still image files through OpenImageIO: headers checked, pixels read bit for bit."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio

from vera.core.errors import InputError
from vera.core.plate.pixel import dtype_of

# extension -> the format that must be inside
STILLS = {
    "exr": "openexr",
    "dpx": "dpx",
    "tif": "tiff",
    "tiff": "tiff",
    "png": "png",
    "jpg": "jpeg",
    "jpeg": "jpeg",
    "tga": "targa",
    "bmp": "bmp",
}

# A header may promise any size; 4 GiB holds a 16K RGBA frame of 32-bit floats.
oiio.attribute("limits:imagesize_MB", 4096)

# How a complete file ends, for formats that can only be read from the top.
_LAST_BYTES = {"png": b"IEND", "jpeg": b"\xff\xd9"}

Picker = Callable[[Sequence[str]], tuple[int, ...]]


@dataclass(frozen=True)
class Header:
    """What a file says of its pixels. `picks` are the indices of `channels` in the file.

    Width and height are the data window's; `offset` is where it begins, x and y from the top left
    of the display window, whose size is `display`.
    """

    width: int
    height: int
    channels: tuple[str, ...]
    pixel_type: str
    picks: tuple[int, ...]
    offset: tuple[int, int]
    display: tuple[int, int]

    def __str__(self) -> str:
        told = f"{self.width}x{self.height} {self.pixel_type} {','.join(self.channels)}"
        if self.offset == (0, 0) and self.display == (self.width, self.height):
            return told
        return f"{told} at {self.offset[0]},{self.offset[1]} of {self.display[0]}x{self.display[1]}"


def pick_plate(names: Sequence[str]) -> tuple[int, ...]:
    """R, G, B, and A if there is one; none if one of R, G and B lacks."""
    if not {"R", "G", "B"} <= set(names):
        return ()
    return tuple(names.index(c) for c in "RGBA" if c in names)


def pick_mask(names: Sequence[str]) -> tuple[int, ...]:
    """What a mask may be made of: R, G, B or else the first channel, and A if there is one."""
    colour = [c for c in names if c != "A"]
    wanted = ["R", "G", "B"] if {"R", "G", "B"} <= set(names) else colour[:1]
    return tuple(names.index(c) for c in [*wanted, "A"] if c in names)


class Stills:
    """Image files by frame number, all of one size and type. `pick` chooses the channels.

    Opening reads every header, and enough of every file to see that it does not break off.
    Raises InputError that names the frame and the file. May be read by several threads.
    """

    def __init__(self, files: dict[int, Path], pick: Picker):
        self.files = files
        self.frames = range(min(files), max(files) + 1)
        self._pick = pick
        first = self.frames[0]
        for frame in self.frames:
            header = _check_file(files[frame], self._where(frame), pick)
            if frame == first:
                self.header = header
            elif header != self.header:
                raise InputError(
                    f"{self._where(frame)}: {header}, but frame {first} is {self.header};"
                    " write all frames alike"
                )
        self.width, self.height = self.header.width, self.header.height
        self.pixel_type = self.header.pixel_type

    def read(self, frame: int) -> np.ndarray:
        """The chosen channels as (H, W, C) in the file's own type, bit for bit.

        Alpha and colour come as stored: where the format keeps colour unassociated with alpha
        (PNG, and TIFF or TGA that say so), it is not multiplied. Raises InputError if the file
        is damaged or has changed since it was opened.
        """
        where = self._where(frame)
        image = _open(self.files[frame], where)
        now = _header(image, where, self._pick)
        if now != self.header:
            raise InputError(f"{where}: now {now}, was {self.header}; the file has changed, start again")
        picks = now.picks
        first, last = min(picks), max(picks)
        pixels = image.read_image(0, 0, first, last + 1, _oiio_type(now))
        _refuse_failed(image, pixels, where)
        if picks != tuple(range(first, last + 1)):
            pixels = pixels[..., [p - first for p in picks]]
        return pixels

    def spec(self, frame: int) -> oiio.ImageSpec:
        """The file's header with all its metadata."""
        return _open(self.files[frame], self._where(frame)).spec().copy()

    def other_channels(self) -> tuple[str, ...]:
        """Channels of the first frame that are not read; of further parts as `part.channel`."""
        frame = self.frames[0]
        image = _open(self.files[frame], self._where(frame))
        names = [n for i, n in enumerate(image.spec().channelnames) if i not in self.header.picks]
        part = 1
        while image.seek_subimage(part, 0):
            label = image.spec().get_string_attribute("oiio:subimagename") or f"part{part}"
            names += [f"{label}.{n}" for n in image.spec().channelnames]
            part += 1
        return tuple(names)

    def _where(self, frame: int) -> str:
        return f"frame {frame}: {self.files[frame]}"


def frame_rate(spec: oiio.ImageSpec) -> Fraction | None:
    """Frames a second out of the metadata of EXR or DPX, or None."""
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


def _header(image: oiio.ImageInput, where: str, pick: Picker) -> Header:
    spec = image.spec()
    if spec.deep or spec.depth > 1:
        raise InputError(f"{where}: deep and volume images are not supported yet; flatten it")
    names = spec.channelnames
    picks = pick(names)
    if not picks:
        raise InputError(
            f"{where}: has channels {', '.join(names)} but no R, G and B in its first part, which is"
            " not supported yet; write the picture as R, G, B"
        )
    if spec.get_int_attribute("Orientation", 1) != 1:
        raise InputError(f"{where}: a turned or mirrored Orientation is not supported yet; bake it in")
    return Header(
        spec.width,
        spec.height,
        tuple(names[i] for i in picks),
        _pixel_type(spec, picks, where),
        picks,
        (spec.x - spec.full_x, spec.y - spec.full_y),
        (spec.full_width, spec.full_height),
    )


def _pixel_type(spec: oiio.ImageSpec, picks: tuple[int, ...], where: str) -> str:
    formats = sorted({str(spec.channelformat(i)) for i in picks})
    if len(formats) > 1:
        raise InputError(
            f"{where}: channels of different types ({', '.join(formats)}) are not supported yet;"
            " write them in one type"
        )
    stored = "uint32" if formats[0] == "uint" else formats[0]
    if stored == "uint16":
        bits = spec.get_int_attribute("oiio:BitsPerSample", 16) or 16
        stored = f"uint{bits}"
    if stored not in ("uint8", "uint10", "uint12", "uint16", "uint32", "half", "float"):
        raise InputError(
            f"{where}: pixels of type {stored} are not supported yet; write 8, 10, 12, 16 or 32 bits,"
            " half or float"
        )
    return stored


def _check_file(file: Path, where: str, pick: Picker) -> Header:
    image = _open(file, where)
    header = _header(image, where, pick)
    _refuse_truncated(image, file, header, where)
    return header


def _refuse_truncated(image: oiio.ImageInput, file: Path, header: Header, where: str) -> None:
    """Cheap for whole files: read the ends of those with direct access, look for the closing
    bytes of those without. Only what is in doubt, and tiles, which lie in any order, is read
    in full."""
    mark = _LAST_BYTES.get(image.format_name())
    height, kind = header.height, _oiio_type(header)
    spec = image.spec()
    first, last = min(header.picks), max(header.picks) + 1
    if spec.tile_width or (mark and mark not in _tail(file)):
        _refuse_failed(image, image.read_image(0, 0, first, last, kind), where)
    elif not mark:
        for y in (spec.y, spec.y + height - 1):
            _refuse_failed(image, image.read_scanlines(y, y + 1, 0, first, last, kind), where)


def _refuse_failed(image: oiio.ImageInput, pixels: np.ndarray | None, where: str) -> None:
    # Some readers hand back an array and leave only a message.
    message = _library_error(image)
    if pixels is None or message:
        raise InputError(f"{where}: broken off or damaged ({_line(message)}); write it again")


def _tail(file: Path) -> bytes:
    with open(file, "rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 64))
        return stream.read()


def _oiio_type(header: Header) -> str:
    return {"float16": "half", "float32": "float", "uint32": "uint"}.get(
        name := str(dtype_of(header.pixel_type)), name
    )


def _opening_error() -> str:
    return _line(_library_error(oiio))


def _library_error(source: Any) -> str:
    """OpenImageIO's last error, of a file or of an opening; it may quote a damaged header's bytes, which are no text."""
    try:
        return source.geterror()
    except UnicodeDecodeError:
        return "damaged header"


def _line(text: str) -> str:
    """A library's message in one line."""
    return " ".join(text.split())[:200] or "no reason given"
