"""The drift fit's sums over waves are those of the waves written out, and planted drift is found."""

import pytest
import torch
import torch.nn.functional as F

from vera.core.lifting.drift import Waves, cosines, find_drift

SIZE = (5, 13, 17)


def drawn(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_products_along_the_axes_are_those_of_whole_waves():
    one, other, field = Waves.of(SIZE, (2, 3, 4)), Waves.of(SIZE, (1, 2, 2)), drawn(*SIZE)
    basis, others = (cosines(SIZE, counts)[0].double() for counts in ((2, 3, 4), (1, 2, 2)))
    wanted = torch.einsum("ithw,jthw,thw->ij", basis, others, field.double())
    assert (one.products(field, other) - wanted).abs().max() < 1e-3
    assert (one.sums(field) - torch.einsum("ithw,thw->i", basis, field.double())).abs().max() < 1e-3


def test_a_field_is_the_sum_of_its_waves():
    waves, amounts = Waves.of(SIZE, (2, 3, 4)), drawn(24)
    wanted = torch.einsum("i,ithw->thw", amounts, cosines(SIZE, (2, 3, 4))[0])
    assert (waves.field(amounts) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize("size", [(39, 51), (50, 67)], ids=str)
def test_enlarged_waves_make_the_enlarged_field(size):
    waves, amounts = Waves.of(SIZE, (2, 3, 4)), drawn(24)
    wanted = F.interpolate(waves.field(amounts)[:, None], size, mode="bicubic", align_corners=False)[:, 0]
    assert (waves.enlarged(size).field(amounts) - wanted).abs().max() < 1e-5


def test_planted_drift_is_found():
    plate = 0.2 + 0.6 * drawn(5, 3, 48, 64)
    across = torch.linspace(0.5, -0.5, 64)
    edited = plate * (1 + 0.04 * across) + 0.01
    drift = find_drift(plate, edited, torch.ones(5, 1, 48, 64))
    gain, offset = drift.gain, drift.offset
    left = (1 + gain) * plate + offset - edited
    assert left.square().mean() < 0.1 * (edited - plate).square().mean()
