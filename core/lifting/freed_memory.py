"""Large blocks of memory, used again instead of given back and taken anew for each step."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# Of glibc's mallopt: free memory at the end of the heap that is given back, blocks that are mapped one by one.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
NEVER, AS_BEFORE = (2**31 - 1, 0), (128 * 1024, 65536)  # its defaults, though they no longer adapt


@contextlib.contextmanager
def blocks_used_again() -> Iterator[None]:
    """Within it, free memory stays with the process: on Linux two fifths of a lift's time went into mapping pages anew.

    What is free is given back at the end. Elsewhere than with glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    _set(libc, NEVER)
    try:
        yield
    finally:
        _set(libc, AS_BEFORE)
        libc.malloc_trim(ctypes.c_size_t(0))


def _set(libc, values):
    for parameter, value in zip((TRIM_THRESHOLD, MMAP_MAX), values):
        libc.mallopt(parameter, value)
