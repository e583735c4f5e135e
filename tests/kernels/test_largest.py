"""Running maxima: the native kernel gives the values of the reference."""

import pytest
import torch

from vera.kernels import largest as kernel

pytestmark = pytest.mark.skipif(kernel.largest_lines is None, reason="the native kernels are not built")
SHAPES = [(5, 3, 37, 61), (1, 1, 1, 9), (9, 1, 6, 6), (2, 1, 13, 2100)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("axis", [0, 2, 3])
@pytest.mark.parametrize("reach", [0, 1, 2, 3, 8])
def test_every_value_is_the_largest_of_its_neighbours(shape, axis, reach):
    video = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    assert torch.equal(kernel.largest(video, axis, reach), kernel.reference(video, axis, reach))


def test_the_result_does_not_depend_on_threads():
    video, threads = torch.randn(4, 2, 300, 400), torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        found = [kernel.largest(video, axis, 3) for axis in (0, 2, 3)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(v, kernel.reference(video, axis, 3)) for v, axis in zip(found, (0, 2, 3)))
