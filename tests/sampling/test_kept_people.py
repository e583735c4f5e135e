"""People kept without a mask: what the detector saw, without islands, the same for a mirrored picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vera.core.sampling.kept_people import background_of, looked_at_twice, people_in, without_islands

ASTRONAUT = Path(__file__).parents[1] / "model/people/astronaut.png"


def test_small_islands_are_left_out_and_large_parts_stay():
    confidence = torch.full((64, 64), 0.1)
    confidence[20:60, 10:40], confidence[5:15, 48:60], confidence[2:5, 2:5] = 0.95, 0.9, 0.99
    kept = without_islands(confidence)
    assert kept[2:5, 2:5].max() == 0
    kept[2:5, 2:5] = 0.99
    assert torch.equal(kept, confidence)


@pytest.mark.parametrize("people", [[40 * 30], [10 * 10], [10 * 10, 2 * 2], [6 * 6, 6 * 6]])
def test_people_are_measured_by_the_largest_of_them_not_by_the_picture(people):
    """Small people in a wide shot stay; a speck of 3 % of the largest of them goes."""
    confidence, kept = torch.full((64, 160), 0.1), torch.zeros(64, 160, dtype=torch.bool)
    for place, area in enumerate([*people, 1]):
        width = max(w for w in range(1, 31) if area % w == 0 and w * w <= area)
        confidence[8 : 8 + area // width, 4 + 40 * place : 4 + 40 * place + width] = 0.9
        kept[8 : 8 + area // width, 4 + 40 * place : 4 + 40 * place + width] = area > 0.03 * max(people)
    assert torch.equal(without_islands(confidence) > 0.5, kept)


def test_a_mirrored_picture_has_the_mirrored_people():
    picture = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(people_in(picture).flip(1), people_in(picture.flip(1)), atol=1e-3)


def test_where_nobody_is_there_is_no_second_look_and_the_mask_is_white():
    mask = background_of(torch.zeros(36, 64, 3), (32, 16))
    assert mask.shape == (16, 32) and mask.min() > 0.5


def test_a_small_person_is_found_at_the_same_place_as_a_large_one():
    """The astronaut in a corner of a wide grey picture covers the same pixels as alone, as far as the detector goes."""
    person = torch.from_numpy(np.asarray(Image.open(ASTRONAUT).convert("RGB"), np.float32)) / 255
    alone = looked_at_twice(person) > 0.5
    wide = torch.full((192, 288, 3), 0.6)
    wide[64:, 40:168] = person
    found = looked_at_twice(wide)[64:, 40:168] > 0.5
    assert (alone & found).sum() / (alone | found).sum() > 0.85
