"""People kept without a mask: what the detector saw, without islands, the same for a mirrored picture."""

import torch

from vera.core.sampling.kept_people import background_of, people_in, without_islands


def test_small_islands_are_left_out_and_large_parts_stay():
    confidence = torch.full((64, 64), 0.1)
    confidence[20:60, 10:40], confidence[5:15, 48:60], confidence[2:5, 2:5] = 0.95, 0.9, 0.99
    kept = without_islands(confidence)
    assert kept[2:5, 2:5].max() == 0
    kept[2:5, 2:5] = 0.99
    assert torch.equal(kept, confidence)


def test_a_mirrored_picture_has_the_mirrored_people():
    picture = torch.rand(48, 64, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(people_in(picture).flip(1), people_in(picture.flip(1)), atol=1e-3)


def test_the_mask_is_white_where_nobody_is():
    picture = torch.zeros(36, 64, 3)
    mask = background_of(picture, (32, 16))
    assert mask.shape == (1, 16, 32) or mask.shape == (16, 32)
    assert mask.min() > 0.5
