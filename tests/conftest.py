"""For every test: one thread of torch, set before anything imports it, no waiting for the disk, the signal handlers of
before, one browser."""

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tools.browser import Browser, at_hand

os.environ.setdefault("OMP_NUM_THREADS", "1")  # several threads, that wait for one another, are slower


def pytest_collection_finish() -> None:
    """Garbage is not looked for among the thousands of tests and what they import: it takes a third of some tests."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def unflushed() -> Iterator[None]:
    """Files are not flushed to the disk: that guards against a loss of power, and thousands of flushes take minutes.

    That they are flushed before they take their names is a test of its own, in test_files.py.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def signal_handlers_restored() -> Iterator[None]:
    """A render in a test listens to Ctrl-C and SIGTERM; the test run must still end by them afterwards."""
    saved = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in saved.items():
        if handler is not None:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def spawned_as_copies() -> Callable[[], AbstractContextManager]:
    """Within `spawned_as_copies()` whatever this process spawns by multiprocessing is a copy, as forked.py says."""

    @contextmanager
    def patched() -> Iterator[None]:
        from multiprocessing.context import _concrete_contexts as contexts

        from tests import forked

        forked.server_ready()
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(contexts, "spawn", contexts[forked.METHOD])
            yield

    return patched


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all pages, as its start takes seconds; tests that need it are skipped where there is none."""
    if not at_hand():
        pytest.skip("needs chromium and chromedriver")
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
