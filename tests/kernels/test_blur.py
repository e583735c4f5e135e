"""Gaussian means: the native kernel against the reference in double precision, and the same bits however it is
called."""

import pytest
import torch

from vera.kernels import blur as kernel

pytestmark = pytest.mark.skipif(kernel._native is None, reason="the native kernels are not built")
SHAPES = [(5, 3, 37, 61), (1, 1, 1, 9), (9, 1, 6, 6), (3, 2, 2, 2), (2, 1, 130, 2100)]


def reference(video, space, time):
    for axis, sigma in ((3, space), (2, space), (0, time)):
        if sigma > 0 and video.shape[axis] > 1:
            video = kernel.reference_along(video, axis, kernel.half_kernel(sigma))
    return video


def noise(shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("sigmas", [(0.5, 0.0), (1.0, 0.7), (2.5, 0.7), (6.0, 1.5), (0.0, 3.0)], ids=str)
def test_means_are_those_of_double_precision(shape, sigmas):
    video = noise(shape)
    wanted = reference(video.double(), *sigmas)
    assert (kernel.blur(video, *sigmas) - wanted).abs().max() < 6e-7


def test_an_even_picture_stays_even_to_its_borders():
    assert (kernel.blur(torch.full((2, 1, 20, 30), 0.7), 4.0, 1.0) - 0.7).abs().max() < 3e-7


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_the_bits_do_not_depend_on_threads_or_on_what_lies_beside(axis):
    video, weights = noise((4, 2, 300, 400)), kernel.half_kernel(3.0)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = kernel.along(video, axis, weights)
        torch.set_num_threads(4)
        assert torch.equal(kernel.along(video, axis, weights), one)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(kernel.along(video[:, :1], axis, weights), one[:, :1])


def test_planes_at_once_have_the_bits_of_one_axis_after_the_other():
    video, weights = noise((3, 2, 130, 210)), kernel.half_kernel(2.5)
    assert torch.equal(kernel.blur(video, 2.5), kernel.along(kernel.along(video, 3, weights), 2, weights))


def test_a_view_is_read_as_it_lies():
    video = noise((3, 2, 20, 30))
    assert torch.equal(kernel.blur(video.flip(3), 2.0), kernel.blur(video.flip(3).clone(), 2.0))


def test_without_the_native_module_the_reference_is_used(monkeypatch):
    video = noise((2, 1, 20, 30))
    fast = kernel.blur(video, 2.0, 0.7)
    monkeypatch.setattr(kernel, "_native", None)
    assert (kernel.blur(video, 2.0, 0.7) - fast).abs().max() < 1e-6
