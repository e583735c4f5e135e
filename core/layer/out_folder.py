"""The folder of a delivery: that it can be written, has room, holds nothing that misleads, and has one owner."""

import errno
import os
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

JOB, NOTES, PICTURES, LATENTS, KEPT = ".job", ".job/frames", ".job/preview", ".job/latents", "kept"
# Every folder that a delivery makes within its own. The service checks where each of them leads.
FOLDERS = (*FRAME_FOLDERS, JOB, NOTES, PICTURES, LATENTS, KEPT)
LOCK = ".lock"  # held while a job works there; its text says who does
_MOST_FOLDERS = 200  # within one another; deeper paths are no use to any host
_POLL_SECONDS = 0.5  # between two looks at a lock that another holds
# What file systems without locks answer.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def refuse_unwritable(folder: Path) -> None:
    """Raise InputError where the folder is none, or cannot be made or written."""
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
    """Raise InputError where a link or a file has the place of a folder, or a folder that of a file.

    files: which will be written, and unfinished: patterns of what killed writes left. Links in place of files are
    no harm: they are replaced.
    """
    for name in FOLDERS:
        mode = _mode(folder / name)
        if mode is not None and not stat.S_ISDIR(mode):
            what = "a link" if stat.S_ISLNK(mode) else "no folder"
            raise InputError(f"--out {folder}: {name} is {what}, results would land elsewhere; remove it")
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
    """Make the folder and hold it for this job alone; the system releases it when this process ends, however it ends.

    wait: until another job has ended; `say` gets a line on it, and stopping() is asked meanwhile. Raises InputError
    where another job works there, StoppedError, OSError.
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
