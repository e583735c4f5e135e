"""Files written so that a kill, a full disk or a bad write leaves no half file.

Everything goes to a `.part` beside its place, is read back and compared, is
flushed to the disk and only then takes its name.
"""

import errno
import json
import os
import shutil
from contextlib import contextmanager

import numpy as np
import OpenImageIO as oiio


def write_image(path, pixels, *specs):
    """Write pixels (H, W, C) under the header of `specs`, and be sure of every bit.

    It has the size, type and channels of `pixels`; its compression must be that of the file. Of several
    headers each is a part of an EXR file, with its channels in their order. Returns what `read_codes` will
    read. Raises OSError when the file would not hold exactly `pixels`; what was there before then stays, and
    no part of the new file does.
    """
    with replacing(path) as part:
        _write(part, pixels, specs)
        pixels_read, spec_read = _read(part)
        # An unknown name of a compression becomes another one without a word.
        asked, found = (s.get_string_attribute("compression") for s in (specs[0], spec_read))
        if path.suffix == ".exr" and asked and asked != found:
            raise OSError(f"{path}: compression is {found}, not {asked}")
        bits = specs[0].get_int_attribute("oiio:BitsPerSample")
        codes = _codes(pixels_read, spec_read.get_int_attribute("oiio:BitsPerSample"))
        if not _same_bits(codes, _codes(pixels, bits)):
            raise OSError(f"{path}: the file does not read back as it was written")
    return codes


def read_image(path):
    """All channels of an image (H, W, C) in its own type, of all parts if it has several; alpha not multiplied in.

    Raises OSError if the file is not there, broken off or otherwise unreadable.
    """
    return _read(path)[0]


def read_codes(path):
    """As `read_image`, with 10- and 12-bit codes as plain numbers.

    How their spare bits are filled on reading is the format's affair, and not
    part of the pixel.
    """
    pixels, spec = _read(path)
    return _codes(pixels, spec.get_int_attribute("oiio:BitsPerSample"))


def write_json(path, data):
    """Write `data` as JSON, whole or not at all. Raises OSError."""
    text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path):
    """A name to write to (same extension); takes the place of `path` if all went well. Raises OSError, which
    names `path` where the disk is full."""
    part = path.with_name(f"{path.stem}.part{path.suffix}")
    try:
        yield part
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(f"{path}: could not be written ({error.strerror}); {_free(path)}") from None
        raise


def _read(path):
    config = oiio.ImageSpec()
    config.attribute("oiio:UnassociatedAlpha", 1)
    file = oiio.ImageInput.open(str(path), config)
    if file is None:
        raise OSError(f"{path}: cannot be read ({_one_line(oiio.geterror())})")
    spec = file.spec()
    parts = []
    for i in range(spec.get_int_attribute("oiio:subimages", 1)):
        parts.append(file.read_image(i, 0, 0, 10_000, spec.format) if file.seek_subimage(i, 0) else None)
    error = file.geterror()
    file.close()
    if error or any(part is None for part in parts):
        raise OSError(f"{path}: cannot be read ({_one_line(error)})")
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1), spec


def _write(path, pixels, specs):
    # ImageOutput reports a full disk once, at any of the three calls.
    file = oiio.ImageOutput.create(str(path))
    if file is None:
        raise OSError(f"{path}: no writer for this kind of file")
    starts = np.cumsum([0, *(spec.nchannels for spec in specs)])
    written = file.open(str(path), specs[0] if len(specs) == 1 else specs)
    for i, spec in enumerate(specs):
        written = written and (i == 0 or file.open(str(path), spec, "AppendSubimage"))
        written = written and file.write_image(np.ascontiguousarray(pixels[..., starts[i] : starts[i + 1]]))
    error = file.geterror()
    if not (file.close() and written):
        raise OSError(f"{path}: could not be written ({_one_line(error or file.geterror())}); {_free(path)}")


def _free(path):
    return f"{shutil.disk_usage(path.parent).free >> 20} MiB are free there"


def _codes(pixels, bits):
    spare = 8 * pixels.itemsize - bits if pixels.dtype == np.uint16 and bits else 0
    return pixels >> spare if spare > 0 else pixels


def _same_bits(a, b):
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    unsigned = f"u{a.itemsize}"
    return np.array_equal(np.ascontiguousarray(a).view(unsigned), np.ascontiguousarray(b).view(unsigned))


def _one_line(message):
    return " ".join(message.split())[:200] or "no reason given"
