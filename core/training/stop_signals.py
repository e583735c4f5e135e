"""Keep stop signals away from worker processes.

Ctrl-C, SLURM and torchrun signal the whole process group of a run, but only the process that saves may react.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def ignore_stop_signals(*_: object) -> None:
    """Ignore stop signals in a worker process; call it when the worker starts. The parent process ends the worker."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def block_stop_signals() -> Iterator[None]:
    """Block stop signals while worker processes are started; pending signals are delivered afterwards.

    A worker inherits the block. That covers the time of its imports, before it can ignore the signals itself. Windows
    has no signal masks; there the context does nothing.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
