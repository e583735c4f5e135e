"""A lock that the system releases when its holder ends, however it ends."""

import os


class Held(Exception):
    """Another process holds the lock."""


class FileLock:
    """One holder a file, through flock (POSIX) or msvcrt.locking (Windows). Raises Held."""

    def __init__(self, path):
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(self.descriptor)
        except OSError:
            os.close(self.descriptor)
            raise Held(str(path)) from None

    def release(self):
        os.close(self.descriptor)


if os.name == "nt":
    import msvcrt

    def _lock(descriptor):
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
