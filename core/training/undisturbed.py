"""Signals that stop a run reach its whole process group; they are for the process that saves, and for no worker of
it."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


def ignore_stopping(*_: object) -> None:
    """In a worker process, when it starts: whoever started it decides when it ends."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def starting_workers() -> Iterator[None]:
    """While processes are started: what signals come are held back until then, and what is started never gets them.

    A worker that is still being imported has set no handler yet; it inherits what is blocked here. Nothing on Windows,
    which has no such masks.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
