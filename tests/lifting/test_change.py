"""Change against noise: likely changes count next to certain ones, and sooner where much has changed."""

import pytest
import torch

from vera.core.lifting.change import LIMITS, find_change
from vera.core.lifting.noise import ENERGY_SCALE, Noise, features

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


@pytest.mark.parametrize("feature", [2, 3, 4], ids=["fine detail", "coarse detail", "movement"])
@pytest.mark.parametrize("lost, expected", [(0.02, 0.02), (0.1, 0.1), (1.0, 0.25), (4.0, 0.25)])
def test_a_quarter_of_a_details_energy_is_the_most_that_counts_as_noise(feature, lost, expected):
    """More than that is an edit, however regular: a codec that loses a detail with probability g errs by g (1 - g)."""
    energy = torch.logspace(-6, -1, 4000)
    of_plate = torch.zeros(1, 5, 1, 4000)
    of_plate[:, 0], of_plate[:, 1], of_plate[:, feature] = 1, 0.5, energy * ENERGY_SCALE
    squares = (lost * energy).view(1, 1, 1, -1)
    noise = Noise(of_plate, squares, torch.ones(1, 1, 1, 4000))
    assert float(noise.coefficients[feature]) * ENERGY_SCALE == pytest.approx(expected, rel=0.2)
