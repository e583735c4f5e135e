"""Change against noise: likely changes count next to certain ones, and sooner where much has changed."""

import pytest
import torch

from vera.core.lifting.change import LIMITS, find_change
from vera.core.lifting.noise import features

SIZE, FRAMES, SIGMA = (80, 120), 3, 0.02


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def lifted_band(share, chi):
    """How much is found of a band of that chi-square, beside a sure block that is `share` of the frame.

    The band's sign changes from pixel to pixel, so that no mean tells more of it than its pixels do.
    """
    residual = SIGMA * torch.randn(FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    rows, y = 40, slice(20, 60)
    columns = round(share * SIZE[0] * SIZE[1] / rows)
    block, band = slice(30, 30 + columns), slice(30 + columns, 42 + columns)
    residual[..., y, block] = 0.4
    signs = 1 - 2 * ((torch.arange(rows)[:, None] + torch.arange(12)) % 2)
    residual[..., y, band] = SIGMA * (chi / 3) ** 0.5 * signs
    trust = torch.ones(FRAMES, 1, *SIZE)
    trust[..., y, 30 : 42 + columns] = 0
    plate = torch.full((FRAMES, 3, *SIZE), 0.5)
    region = find_change(residual, features(plate), trust)
    assert region[..., y, block].mean() == 1
    return float(region[..., y, band].mean())


def test_what_is_likely_beside_a_change_is_of_it_sooner_where_much_has_changed():
    between = (LIMITS.likely + LIMITS.likely_among_much) / 2
    assert lifted_band(0.5 * LIMITS.much, between) < 0.4 and lifted_band(3 * LIMITS.much, between) > 0.95
    assert lifted_band(0.5 * LIMITS.much, 1.2 * LIMITS.likely) > 0.95
    assert lifted_band(3 * LIMITS.much, 0.7 * LIMITS.likely_among_much) < 0.4


def test_noise_alone_is_no_change():
    residual = SIGMA * torch.randn(FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(1))
    plate = torch.full((FRAMES, 3, *SIZE), 0.5)
    assert not find_change(residual, features(plate), torch.ones(FRAMES, 1, *SIZE)).any()
