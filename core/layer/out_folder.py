"""Checks of a delivery's folder: writable, large enough, without misplaced files or links, and held by one job."""

import errno
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vera.core.errors import InputError, StoppedError
from vera.core.files import FileLock, LockHeldError, make_folder
from vera.core.layer.outputs import FRAME_FOLDERS
from vera.core.plate.named_files import refuse_unnameable

JOB, NOTES, PICTURES, LATENTS, KEPT = ".job", ".job/frames", ".job/preview", ".job/latents", "kept"
# Every folder that a delivery creates inside its own. The service resolves links in each of them.
FOLDERS = (*FRAME_FOLDERS, JOB, NOTES, PICTURES, LATENTS, KEPT)
LOCK = ".lock"  # lock file of the job that works in the folder; its text names the process
_MOST_FOLDERS = 200  # largest number of folders in an accepted path; raising it accepts deeper ones
_UNEXPANDED = re.compile(r"~|\$\w+|\$\{\w+\}|%\w+%")  # names that a shell replaces
_POLL_SECONDS = 0.5  # seconds between attempts to get a lock that another job holds; raising it reacts later
# Error codes of locking on file systems that have no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError if the path is not a folder, or cannot be created or written."""
    refuse_unnameable(folder)
    literal = next((part for part in folder.parts if _UNEXPANDED.fullmatch(part)), None)
    if literal and not os.path.lexists(folder):
        raise InputError(f"--out {_short(folder)}: {literal} is not replaced here; write the whole path")
    if len(folder.absolute().parts) > _MOST_FOLDERS:
        raise InputError(f"--out {_short(folder)}: more than {_MOST_FOLDERS} folders; choose another --out")
    try:
        ground = nearest_there(folder)
    except OSError as error:
        raise InputError(f"--out {_short(folder)}: {error.strerror}; choose another --out") from None
    if not ground.is_dir():
        raise InputError(f"--out {folder}: {ground} is not a directory; choose another --out")
    if not os.access(ground, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: {ground} is not writable; choose another --out")


def refuse_misplaced(folder: Path, files: Iterable[Path], unfinished: Iterable[str]) -> None:
    """Raise InputError if a link or a file stands where a folder is needed, or a folder where a file is needed.

    files: that will be written
    unfinished: patterns of temporary files that killed writes left
    Links in place of files are allowed: they are replaced.
    """
    for name in FOLDERS:
        mode = _mode(folder / name)
        if mode is not None and not stat.S_ISDIR(mode):
            what = "a link" if stat.S_ISLNK(mode) else "no folder"
            raise InputError(f"--out {folder}: {name} is {what}, so that results would be written elsewhere; remove it")
    inside = (path for name in (JOB, NOTES, PICTURES, LATENTS, KEPT) for path in _entries(folder / name))
    more = (path for path in inside if path.relative_to(folder).as_posix() not in FOLDERS)
    for file in (*files, *more, *(path for pattern in unfinished for path in folder.glob(pattern))):
        mode = _mode(file)
        if mode is not None and stat.S_ISDIR(mode):
            raise InputError(f"--out {folder}: {file.relative_to(folder)} is a folder; remove it")


@contextmanager
def claimed(
    folder: Path,
    wait: bool = False,
    stopping: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[None]:
    """Create the folder and hold it exclusively. The system releases the lock when the process ends in any way.

    wait: wait until another job has ended; `say` then gets a message, and stopping() is polled
    Raises InputError if another job works there, StoppedError, OSError.
    """
    make_folder(folder)
    lock, said = None, False
    while lock is None:
        try:
            lock = FileLock(folder / LOCK, f"process {os.getpid()} on {socket.gethostname()}")
        except LockHeldError as held:
            holder = held.holder or "another process"
            if not wait:
                raise InputError(
                    f"--out {folder}: {holder} works in it; give the command again when it has ended, or with --wait,"
                    " or choose another --out"
                ) from None
            if not said:
                say(f"waiting for {holder}, which works in {folder}")
                said = True
            if stopping():
                raise StoppedError(f"stopped while waiting for {holder}") from None
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            say(f"{folder}: its file system has no locks; let no two jobs work there at once")
            break
    try:
        yield
    finally:
        if lock is not None:
            lock.release(remove=True)


def refuse_too_small(folder: Path, need: int) -> None:
    """Raise InputError if fewer than `need` bytes are free."""
    free = shutil.disk_usage(nearest_there(folder)).free
    if need > free:
        raise InputError(
            f"--out {folder}: about {_size(need)} will be written and {_size(free)} are free;"
            " make room or choose another --out"
        )


def remove_empty(folder: Path, up_to: Path) -> None:
    """Remove a folder and those above it, below `up_to`, as far as they are empty."""
    folder = folder.absolute()
    while up_to in folder.parents:
        try:
            folder.rmdir()
        except OSError:  # something is in it, or it is not there
            if folder.exists():
                return
        folder = folder.parent


def nearest_there(path: Path) -> Path:
    """The path if it exists, else the nearest existing folder above it. Raises OSError for a name that the file system
    refuses."""
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


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


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
