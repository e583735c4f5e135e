"""Keep freed memory in the process, so that each step need not ask the system for it again."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# Parameters of glibc's mallopt: bytes free at the heap's end from which they are returned, number of mapped blocks.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER, DEFAULTS = (2**31 - 1, 0), (128 * 1024, 65536)  # values of the two; once set, glibc no longer adapts them


@contextlib.contextmanager
def blocks_used_again() -> Iterator[None]:
    """Context in which freed memory stays in the process; it is returned at the end. Has an effect with glibc only.

    Without it, mapping pages again takes two fifths of a lift's time on Linux.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, NEVER)
    try:
        yield
    finally:
        _set(libc, DEFAULTS)
        return_freed()


def return_freed() -> None:
    """Return freed memory to the system, also that between blocks in use. Has an effect with glibc only."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(ctypes.c_size_t(0))


def _set(libc, values):
    for parameter, value in zip((TRIM_THRESHOLD, MMAP_MAX), values):
        libc.mallopt(parameter, value)
