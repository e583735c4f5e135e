"""Find the files that a path names: a sequence by its pattern, a still, or a movie.

No file is opened and little is imported, so that a wrong path is refused at once.
"""

import os
from pathlib import Path

from vera.core.errors import InputError
from vera.core.plate.pattern import Pattern, find_pattern, hint, same_letters, same_unicode

# Extension of a still -> the format that OpenImageIO must find in its files.
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
MOVIES = ("avi", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mxf", "webm")


def refuse_wrong_name(path: Path) -> None:
    """Raise InputError for a path that cannot be a sequence, still or movie, or that does not exist."""
    refuse_unnameable(path)
    extension = extension_of(path)
    if path.is_dir():
        refuse_absent(path)
    if extension not in STILLS and extension not in MOVIES:
        known = ", ".join([*STILLS, *MOVIES])
        other = hint(path)
        raise InputError(f"{path}: the extension {extension!r} is not known; {other or f'use one of {known}'}")
    if extension in MOVIES and not path.is_file() and find_pattern(path):
        raise InputError(f"{path}: a frame pattern in a movie's name; name the movie file itself")
    refuse_absent(path)


def refuse_absent(path: Path) -> None:
    """Raise InputError if neither the file nor a file that fits the pattern exists."""
    pattern = None if path.is_file() else find_pattern(path)
    if pattern is not None:
        list_files(pattern, path)
    elif path.is_dir():
        raise InputError(f"{path}: a directory; name its files, such as {path.name}/plate.####.exr")
    elif not path.is_file():
        raise InputError(f"{path}: no such file; {hint(path) or _hint_at_name(path) or 'check the name'}")


def list_files(pattern: Pattern, path: Path) -> dict[int, Path]:
    """The files of a pattern, by frame number. path: as given, for messages. Raises InputError if there are none."""
    try:
        frames, misfit = pattern.frames(), _misfit(pattern)
    except OSError as error:
        raise InputError(
            f"{path}: the folder {pattern.folder} cannot be read ({error.strerror}); check its name"
        ) from None
    if not frames:
        fix = misfit or hint(path) or "check the name and the padding"
        raise InputError(f"{path}: no file fits this pattern; {fix}")
    return {frame: pattern.file(frame) for frame in frames}


def _hint_at_name(path: Path) -> str:
    """The probable error in the name of a file that is not there; "" if none is found."""
    if path.parts and path.parts[0].startswith(("~", "$")):
        return "~ and $NAME are not replaced here: write the whole path"
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return ""
    alike = (name for name in names if name != path.name and same_letters(name) == same_letters(path.name))
    near = next(alike, None)
    if near is None:
        return ""
    form = "with other capitals" if same_unicode(near) != same_unicode(path.name) else "in another Unicode form"
    return f"{near} is written {form}; copy its name from the folder"


def _misfit(pattern: Pattern) -> str:
    """What a file that nearly fits has otherwise; "" if there is none. Raises OSError."""
    for find, how in (
        (pattern.badly_padded, "is padded otherwise"),
        (pattern.in_other_case, "is written with other capitals"),
        (pattern.in_other_form, "is written in another Unicode form; copy its name from the folder"),
    ):
        name = find()
        if name:
            return f"{name} {how}"
    return ""


def refuse_unnameable(path: Path) -> None:
    """Raise InputError for a path that no file can hold: a name on it is no UTF-8, or its working folder is gone."""
    try:
        f"{path}{os.path.abspath(path)}".encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: its name, or that of a folder above it, is not UTF-8; rename it") from None
    except FileNotFoundError:
        raise InputError(
            f"{path}: the working folder is gone; change to another folder, or give the whole path"
        ) from None


def extension_of(path: Path) -> str:
    """The extension in lower case, without the dot."""
    return path.suffix[1:].lower()
