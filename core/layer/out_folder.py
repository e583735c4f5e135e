"""The folder of a delivery before work begins: that it can be written, has room, and holds nothing that misleads."""

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from vera.core.errors import InputError
from vera.core.layer.outputs import FRAME_FOLDERS

JOB, NOTES, PICTURES, LATENTS, KEPT = ".job", ".job/frames", ".job/preview", ".job/latents", "kept"
# Every folder that a delivery makes within its own. The service checks where each of them leads.
FOLDERS = (*FRAME_FOLDERS, JOB, NOTES, PICTURES, LATENTS, KEPT)


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError where the folder is none, or cannot be made or written."""
    try:
        ground = nearest_there(folder)
    except OSError as error:
        raise InputError(f"--out {_short(folder)}: {error.strerror}; choose another --out") from None
    if not ground.is_dir():
        raise InputError(f"--out {folder}: {ground} is not a directory; choose another --out")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: {ground} is not writable; choose another --out")


def refuse_misplaced(folder: Path, files: Iterable[Path], unfinished: Iterable[str]) -> None:
    """Raise InputError where a link or a file has the place of a folder, or a folder that of a file.

    files: which will be written, and unfinished: patterns of what killed writes left. Links in place of files are
    no harm: they are replaced.
    """
    for name in FOLDERS:
        mode = _mode(folder / name)
        if mode is not None and not stat.S_ISDIR(mode):
            what = "a link" if stat.S_ISLNK(mode) else "no folder"
            raise InputError(f"--out {folder}: {name} is {what}, results would land elsewhere; remove it")
    for file in (*files, *(path for pattern in unfinished for path in folder.glob(pattern))):
        mode = _mode(file)
        if mode is not None and stat.S_ISDIR(mode):
            raise InputError(f"--out {folder}: {file.relative_to(folder)} is a folder; remove it")


def refuse_too_small(folder: Path, need: int) -> None:
    """Raise InputError where less than `need` bytes are free."""
    free = shutil.disk_usage(nearest_there(folder)).free
    if need > free:
        raise InputError(
            f"--out {folder}: about {_size(need)} will be written and {_size(free)} are free;"
            " make room or choose another --out"
        )


def nearest_there(path: Path) -> Path:
    """The path, or the nearest folder above it that is there. Raises OSError for a name that no disk takes."""
    path = path.absolute()
    while not _exists(path) and path != path.parent:
        path = path.parent
    return path


def _exists(path: Path) -> bool:
    try:
        path.stat()
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except OSError:
        return None


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) < 100 else f"{text[:60]}... ({len(text)} characters)"


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
