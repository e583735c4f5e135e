"""Memory that is used again: counted in page faults, and given back at the end.

Each test has a process of its own, whose heap holds nothing that an earlier test has freed.
"""

import functools
import platform

import pytest
import torch

from tests.forked import spawn
from vera.core.lifting.freed_memory import blocks_used_again, return_freed

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
SIZE = 64 * 2**20  # bytes, 16384 pages


def in_own_process(test):
    """Run a test function without arguments in a process of its own. The wrapper pickles the function by its name."""

    @functools.wraps(test)
    def wrapped():
        spawn(run, (test.__name__,))

    return wrapped


def run(rank, name):
    return_freed()
    globals()[name].__wrapped__()


def faults(times):
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(SIZE, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@in_own_process
def test_blocks_are_used_again_within_and_given_back_after():
    """The first dozens may lie beside one another, between small things; then they come for nothing."""
    apart, before = faults(8), resident()
    with blocks_used_again():
        assert min(faults(8) for _ in range(10)) < 0.2 * apart and resident() - before > 0.9 * SIZE
    assert resident() - before < 0.2 * SIZE


@in_own_process
def test_what_is_freed_can_be_returned_between():
    with blocks_used_again():
        faults(1)
        before = resident()
        return_freed()
        assert before - resident() > 0.8 * SIZE


@in_own_process
def test_an_error_gives_them_back_too():
    before = resident()
    with pytest.raises(ValueError), blocks_used_again():
        faults(1)
        raise ValueError
    assert resident() - before < 0.2 * SIZE
