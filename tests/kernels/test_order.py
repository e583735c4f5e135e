"""Medians of sizes: the native kernel gives the reference's value."""

import pytest
import torch

from vera.kernels import order as kernel

pytestmark = pytest.mark.skipif(kernel.native_median is None, reason="the native kernels are not built")


@pytest.mark.parametrize("count", [1, 2, 3, 1000, 100_001])
@pytest.mark.parametrize("steps", [0, 3], ids=["distinct", "with equals"])
def test_the_median_is_that_of_sorted_sizes(count, steps):
    drawn = torch.Generator().manual_seed(count)
    values, weight = torch.randn(count, generator=drawn), torch.rand(count, generator=drawn)
    values = (values * steps).round() / steps if steps else values
    weight[0] = 1
    sizes = values.abs()[weight > 0.3].sort().values
    assert kernel.median_size(values, weight, 0.3) == float(sizes[(len(sizes) - 1) // 2])
    assert kernel.reference(values, weight, 0.3) == float(sizes[(len(sizes) - 1) // 2])


def test_nothing_has_no_median():
    assert kernel.median_size(torch.ones(5), torch.zeros(5), 0.0) is None
