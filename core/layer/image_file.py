"""Write images and verify every bit before the file takes its name."""

from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from vera.core.files import free_space, open_regular, replacing

_MAX_CHANNELS = 10_000  # channels read of one part; a part with more is cut off there
_MAX_VALUES = 2**31  # pixels times channels of a file; larger files are refused. 16384 x 16384 RGBA has half of it


def write_image(path: Path, pixels: np.ndarray, *specs: oiio.ImageSpec, with_loss: bool = False) -> np.ndarray:
    """Write pixels (H, W, C) with the headers `specs`, read the file back and compare.

    The file has the size, type and channels of `pixels` and the compression of the first header. With several headers,
    each describes one part of an EXR file and names its channels in order.
    with_loss: colour may differ (DWA); alpha may not.
    Returns the pixels that `read_codes` will read. Raises OSError if the file would not hold `pixels`; an earlier file
    then stays, and no part of the new file does.
    """
    with replacing(path) as part:
        _write(part, pixels, specs)
        pixels_read, spec_read = _read(part)
        # OpenImageIO replaces an unknown compression by another one silently.
        asked, found = (s.get_string_attribute("compression") for s in (specs[0], spec_read))
        if path.suffix == ".exr" and asked and asked != found:
            raise OSError(f"{path}: compression is {found}, not {asked}")
        bits = specs[0].get_int_attribute("oiio:BitsPerSample")
        codes = _codes(pixels_read, spec_read.get_int_attribute("oiio:BitsPerSample"))
        if with_loss:
            if codes.shape != pixels.shape or codes.dtype != pixels.dtype:
                raise OSError(f"{path}: the file does not read back in the shape that was written")
        elif not _same_bits(codes, _codes(pixels, bits)):
            raise OSError(f"{path}: the file does not read back as it was written")
    return codes


def read_image(path: Path) -> np.ndarray:
    """All channels of all parts of an image, (H, W, C), in its own type. Alpha is not multiplied in.

    Raises OSError if the file is not there, is a link, is cut short or is otherwise unreadable.
    """
    return _read(path)[0]


def read_codes(path: Path) -> np.ndarray:
    """`read_image` with 10- and 12-bit codes as plain numbers.

    Formats fill the spare bits differently when reading; the spare bits are not part of the pixel.
    """
    pixels, spec = _read(path)
    return _codes(pixels, spec.get_int_attribute("oiio:BitsPerSample"))


def _read(path: Path) -> tuple[np.ndarray, oiio.ImageSpec]:
    open_regular(path).close()
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    file = oiio.ImageInput.open(str(path), config)
    if file is None:
        raise OSError(f"{path}: cannot be read ({_one_line(_error_of(oiio))})")
    spec = file.spec()
    if spec.width * spec.height * spec.nchannels > _MAX_VALUES:
        raise OSError(
            f"{path}: cannot be read ({spec.width}x{spec.height} with {spec.nchannels} channels is too large)"
        )
    parts, whole = [], True
    for i in range(spec.get_int_attribute("oiio:subimages", 1)):
        part = file.read_image(i, 0, 0, _MAX_CHANNELS, spec.format) if file.seek_subimage(i, 0) else None
        if part is None:
            whole = False
            break
        parts.append(part)
    error = _error_of(file)
    file.close()
    if error or not whole:
        raise OSError(f"{path}: cannot be read ({_one_line(error)})")
    try:
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1), spec
    except ValueError:
        raise OSError(f"{path}: cannot be read (its parts differ in size)") from None


def _write(path: Path, pixels: np.ndarray, specs: tuple[oiio.ImageSpec, ...]) -> None:
    # ImageOutput reports a full disk once, at any of the three calls.
    file = oiio.ImageOutput.create(str(path))
    if file is None:
        raise OSError(f"{path}: no writer for this kind of file")
    starts = np.cumsum([0, *(spec.nchannels for spec in specs)])
    written = file.open(str(path), specs[0] if len(specs) == 1 else specs)
    for i, spec in enumerate(specs):
        written = written and (i == 0 or file.open(str(path), spec, "AppendSubimage"))
        written = written and file.write_image(np.ascontiguousarray(pixels[..., starts[i] : starts[i + 1]]))
    error = _error_of(file)
    if not (file.close() and written):
        raise OSError(f"{path}: could not be written ({_one_line(error or _error_of(file))}); {free_space(path)}")


def _error_of(source: object) -> str:
    """OpenImageIO's last error. For a damaged file it may contain bytes that are no text."""
    try:
        return source.geterror()  # type: ignore[attr-defined]
    except UnicodeDecodeError:
        return "damaged, with an error message that is no text"


def _codes(pixels: np.ndarray, bits: int) -> np.ndarray:
    spare = 8 * pixels.itemsize - bits if pixels.dtype == np.uint16 and bits else 0
    return pixels >> spare if spare > 0 else pixels


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    unsigned = f"u{a.itemsize}"
    return np.array_equal(np.ascontiguousarray(a).view(unsigned), np.ascontiguousarray(b).view(unsigned))


def _one_line(message: str) -> str:
    return " ".join(message.split())[:200] or "no reason given"
