"""Files: atomic writing, strict reading, and locks with one holder.

A file is written to a `.part` in the same folder, which is always a new file of this process and never a link. It is
flushed to the disk, and only then takes its name. So a kill, a full disk or a failed write leaves no partial file.

Files that are read may come from somebody else. Links are not followed, only regular files are opened, and size,
nesting, digits, duplicate names and types are checked before a value is used.
"""

import errno
import hashlib
import json
import math
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Not on Windows, where a name that is a link is refused by `_refuse_link` alone.
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # a FIFO without a writer would block the opening
_QUOTED = 60  # characters of a wrong value that a message repeats


# ---- Writing ------------------------------------------------------------------------


def part_of(path: Path) -> Path:
    """The temporary name of a file while it is written, with the same folder and extension."""
    return path.with_name(f"{path.stem}.part{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a new, empty file to write to; without an error, it replaces `path` at the end.

    A link at either name is replaced, never followed. Raises OSError, with `path` in its message if the disk is full.
    """
    part = part_of(path)
    try:
        part.unlink(missing_ok=True)
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW | _FLAGS, 0o666))
        yield part
        with open_regular(part, os.O_RDWR) as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(f"{path}: could not be written ({error.strerror}); {free_space(path)}") from None
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    with replacing(path) as part:
        part.write_bytes(content)


def write_json(path: Path, data: object) -> None:
    """Write `data` as JSON, whole or not at all. Raises OSError."""
    write_bytes(path, (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode())


def make_folder(root: Path, name: str = "") -> Path:
    """The folder `name` within `root`, made where it is not there; `root` itself may be reached through a link.

    Raises NotADirectoryError where a part of `name` is a link or a file: what is written there would land elsewhere.
    """
    root.mkdir(parents=True, exist_ok=True)
    folder = root
    for part in Path(name).parts:
        folder = folder / part
        with suppress(FileExistsError):
            folder.mkdir()
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is a link or a file where a folder belongs", str(folder))
    return folder


def free_space(path: Path) -> str:
    """Room on the disk of a file, in words."""
    return f"{shutil.disk_usage(path.parent).free >> 20} MiB are free there"


# ---- Reading ------------------------------------------------------------------------


def open_regular(path: Path, flags: int = os.O_RDONLY, follow_links: bool = False) -> Any:
    """An open binary file, which is a regular one and no link. Raises OSError."""
    no_follow = 0 if follow_links else _NO_FOLLOW
    if not follow_links and not _NO_FOLLOW:
        _refuse_link(path)
    try:
        descriptor = os.open(path, flags | no_follow | _NO_WAIT | _FLAGS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "is a link", str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return os.fdopen(descriptor, "rb" if flags == os.O_RDONLY else "rb+")


def is_regular(path: Path) -> bool:
    """Whether there is a file that is no link, folder or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def file_digest(path: Path) -> str:
    """SHA-256 of a regular file's bytes, 64 hex digits. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a link", str(path))


class JsonError(ValueError):
    """JSON that is not as it should be: one line that says what is wrong, without the file's name."""


@dataclass(frozen=True)
class JsonLimits:
    """Bounds of a JSON document; a higher one takes more memory and time from a hostile file."""

    bytes: int = 64 * 2**20  # a manifest of 100,000 frames has some 60 MB
    depth: int = 32  # arrays and objects within one another
    digits: int = 40  # characters of one number


@dataclass(frozen=True)
class Either:
    """A shape that one of several fits."""

    shapes: tuple[Any, ...]

    def __init__(self, *shapes: Any) -> None:
        object.__setattr__(self, "shapes", shapes)


def read_json(path: Path, shape: Any = object, limits: JsonLimits = JsonLimits(), *, follow_links: bool = False) -> Any:
    """The value in a JSON file, checked against `shape` (see `check_shape`).

    Raises OSError if there is no regular file to be read, JsonError if it holds anything else.
    """
    with open_regular(path, follow_links=follow_links) as file:
        content = file.read(limits.bytes + 1)
    value = parse_json(content, limits)
    check_shape(value, shape)
    return value


def read_json_or(path: Path, default: Any, shape: Any = object) -> Any:
    """As `read_json`; `default` where there is no file, or one that cannot be trusted."""
    try:
        return read_json(path, shape)
    except (OSError, JsonError):
        return default


def parse_json(content: bytes, limits: JsonLimits = JsonLimits()) -> Any:
    """Strict JSON: UTF-8 without lone surrogates, within the limits, no NaN, no infinity, no name twice.

    Raises JsonError.
    """
    if len(content) > limits.bytes:
        raise JsonError(f"is larger than {limits.bytes} bytes")

    def whole(text: str) -> int:
        _check_digits(text, limits)
        return int(text)

    def number(text: str) -> float:
        _check_digits(text, limits)
        if not math.isfinite(value := float(text)):
            raise JsonError(f"{text} is not a finite number")
        return value

    try:
        value = json.loads(
            content.decode("utf-8-sig"),  # editors of Windows begin files with a byte order mark
            parse_int=whole,
            parse_float=number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_without_repeats,
        )
        _check_depth(value, limits)
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates
    except UnicodeError:
        raise JsonError("is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"is not JSON, line {error.lineno}: {error.msg}") from None
    except RecursionError:
        raise JsonError(f"is nested deeper than {limits.depth}") from None
    return value


def check_shape(value: Any, shape: Any, where: str = "") -> None:
    """Raise JsonError, which names the place, where a value does not have a shape. A shape is

    str, bool, dict, list, type(None)   that type
    int, float                          a whole number; any number (true and false are none)
    object                              anything
    [shape]                             an array of such
    {"name": shape, "other?": shape}    an object with these names, `other` perhaps; further names are ignored
    Either(shape, ...)                  one of several
    """
    if isinstance(shape, Either):
        for one in shape.shapes:
            with suppress(JsonError):
                return check_shape(value, one, where)
        _refuse_shape(value, " or ".join(map(_shape_name, shape.shapes)), where)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            _refuse_shape(value, "an array", where)
        for index, item in enumerate(value):
            check_shape(item, shape[0], f"{where}[{index}]")
    elif isinstance(shape, dict):
        if not isinstance(value, dict):
            _refuse_shape(value, "an object", where)
        for name, part in shape.items():
            place = f"{where}.{name.removesuffix('?')}".lstrip(".")
            if name.removesuffix("?") in value:
                check_shape(value[name.removesuffix("?")], part, place)
            elif not name.endswith("?"):
                raise JsonError(f"{place} is missing")
    elif not _has_type(value, shape):
        _refuse_shape(value, _shape_name(shape), where)


_TYPE_NAMES = {
    str: "text",
    bool: "true or false",
    dict: "an object",
    list: "an array",
    type(None): "null",
    int: "a whole number",
    float: "a number",
    object: "anything",
}


def _shape_name(shape: Any) -> str:
    return _TYPE_NAMES[type(shape) if isinstance(shape, (list, dict)) else shape]


def _has_type(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _refuse_shape(value: Any, wanted: str, where: str) -> None:
    raise JsonError(f"{where or 'it'} is not {wanted}: {shortened(value)}")


def shortened(value: object, most: int = _QUOTED) -> str:
    """A value as a message may quote it, in one line of at most so many characters."""
    text = repr(value[: 2 * most] if isinstance(value, str) else value) if _is_small(value) else type(value).__name__
    return text if len(text) <= most else text[: most - 3] + "..."


def _is_small(value: object) -> bool:
    """Whether repr() is cheap: of an integer of 10^5 digits or a deep object it is not."""
    if isinstance(value, int):
        return value.bit_length() < 256
    return not isinstance(value, (list, dict, tuple)) or len(value) == 0


def _check_digits(text: str, limits: JsonLimits) -> None:
    if len(text) > limits.digits:
        raise JsonError(f"holds a number of {len(text)} digits; at most {limits.digits} are allowed")


def _check_depth(value: Any, limits: JsonLimits) -> None:
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, (list, dict))]:
        depth += 1
        if depth > limits.depth:
            raise JsonError(f"is nested deeper than {limits.depth}")
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]


def _refuse_constant(name: str) -> None:
    raise JsonError(f"{name} is not a number in JSON")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise JsonError(f"the name {shortened(twice)} is there twice")
    return values


# ---- JSON that notices damage ---------------------------------------------------------


def write_sealed_json(path: Path, data: dict[str, Any]) -> None:
    """As `write_json`, with a digest of everything else under the name "digest".

    Raises OSError; ValueError for a NaN or an infinity, which JSON does not have.
    """
    write_bytes(path, _json_text({**data, "digest": _seal(data)}).encode())


def read_sealed_json(path: Path, shape: Any = dict) -> dict[str, Any]:
    """What `write_sealed_json` wrote, with its digest. Raises OSError; JsonError where one byte is another."""
    with open_regular(path) as file:
        content = file.read(JsonLimits.bytes + 1)
    value = parse_json(content)
    check_shape(value, dict)
    rest = {name: part for name, part in value.items() if name != "digest"}
    if value.get("digest") != _seal(rest) or content != _json_text(value).encode():
        raise JsonError("is damaged: its digest is another")
    check_shape(value, shape)
    return value


def _seal(data: dict[str, Any]) -> str:
    return hashlib.sha256(_json_text(data).encode()).hexdigest()


def _json_text(data: object) -> str:
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# ---- Locks ------------------------------------------------------------------------------


class LockHeldError(Exception):
    """Another process holds the lock. holder: the note that it left, "" where there is none."""

    def __init__(self, path: Path, holder: str = "") -> None:
        super().__init__(f"{path}: held by {holder}" if holder else str(path))
        self.holder = holder


class FileLock:
    """One holder a file, until it is released or its process ends, however it ends. Raises LockHeldError, OSError.

    Through flock (POSIX) or msvcrt.locking (Windows). note: what a second process is shown of the holder.
    """

    def __init__(self, path: Path, note: str = "") -> None:
        self.path = Path(path)
        while True:
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _NO_FOLLOW | _FLAGS, 0o600 if not note else 0o644)
            try:
                _lock(self.descriptor)
            except OSError as error:
                holder = _note_in(self.descriptor)
                os.close(self.descriptor)
                if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                    raise
                raise LockHeldError(self.path, holder) from None
            if self._is_there():
                break
            os.close(self.descriptor)  # its last holder removed it meanwhile
        if note:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, note.encode(), 0) if hasattr(os, "pwrite") else os.write(
                self.descriptor, note.encode()
            )

    def release(self, remove: bool = False) -> None:
        """Let others have it. remove: the file, too."""
        if remove and os.name != "nt":
            self.path.unlink(missing_ok=True)
        os.close(self.descriptor)
        if remove and os.name == "nt":
            with suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        try:
            return os.name == "nt" or os.path.samestat(
                os.fstat(self.descriptor), os.stat(self.path, follow_symlinks=False)
            )
        except FileNotFoundError:
            return False


_NOTE_BYTES = 200  # largest part of a holder's note that is read, in bytes


def _note_in(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, _NOTE_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    return "".join(c if c.isprintable() else " " for c in text).strip()


if sys.platform == "win32":
    import msvcrt

    _LOCKED_BYTE = 2**30  # behind the note, because a locked byte cannot be read by others

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
