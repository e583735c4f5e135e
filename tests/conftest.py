"""For every test: one thread of torch, set before anything imports it, and the signal handlers of before."""

import os
import signal
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several threads, that wait for one another, are slower


@pytest.fixture(autouse=True)
def signal_handlers_restored() -> Iterator[None]:
    """A render in a test listens to Ctrl-C and SIGTERM; the test run must still end by them afterwards."""
    saved = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in saved.items():
        if handler is not None:
            signal.signal(number, handler)
