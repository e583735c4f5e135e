"""The normal equations of registration are those of its columns written out."""

import torch

from vera.core.lifting.registration import _basis, _normal_equations


def test_sums_of_moments_are_those_of_columns():
    gx, gy, error = torch.randn(3, 2, 11, 14, generator=torch.Generator().manual_seed(1)).double()
    weight = torch.rand(2, 11, 14, generator=torch.Generator().manual_seed(2)).double()
    basis = _basis((11, 14))[0].double()
    columns = torch.cat([gx[:, None] * basis, gy[:, None] * basis], 1)
    left, right = _normal_equations(gx.float(), gy.float(), weight.float(), error.float())
    assert (left - torch.einsum("tihw,tjhw,thw->tij", columns, columns, weight)).abs().max() < 1e-3
    assert (right - torch.einsum("tihw,thw,thw->ti", columns, error, weight)).abs().max() < 1e-3
