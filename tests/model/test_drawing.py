"""The drawing: a path read from the text or the mask, and what is drawn around it."""

import math

import pytest
import torch

from core.model.drawing import FEATURES, MOTIONS, PLACE_FEATURES, Aim, Drawing, motions, offset_features, place_features


@pytest.fixture
def aim():
    torch.manual_seed(0)
    aim = Aim(6, 4)
    for p in aim.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return aim


def test_only_the_rest_has_a_middle():
    """The other motions leave the middle of the way where it is: means of zero over the shot."""
    means = motions(torch.linspace(0, 1, 100001, dtype=torch.float64)).double().mean(0)
    torch.testing.assert_close(means, torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64), atol=1e-4, rtol=0)
    assert torch.linalg.matrix_rank(motions(torch.linspace(0, 1, 13))) == MOTIONS


def test_a_fresh_one_aims_at_the_middle_and_draws_nothing():
    text, progress = torch.randn(2, 3, 6), torch.tensor([0.0, 1.0])
    drawing = Drawing(6, 4, dim=8)
    path = drawing.aim.path(text, None, progress)
    assert not path[..., :2].any() and path.shape == (2, 2, 3)
    drawn = drawing(text, None, progress, (2, 3, 5))
    assert drawn.shape == (2, 2, 4, 2, 3, 5) and not drawn.any()


def test_the_drawing_goes_where_the_aim_goes_and_nothing_is_drawn_unasked():
    """The same picture, moved by two cells with the mask; what hangs on the place in the frame is taken out."""
    torch.manual_seed(1)
    drawing = Drawing(6, 4, dim=8)
    for p in drawing.parameters():
        torch.nn.init.normal_(p, std=0.4)
    text, progress = torch.randn(1, 3, 6), torch.zeros(1)
    masks = torch.zeros(2, 1, 4, 1, 9, 9)
    masks[0, ..., 4, 3], masks[1, ..., 4, 5] = 1, 1
    with torch.no_grad():
        drawing.aim.mask.weight.fill_(50.0)
        drawing.aim.outer.weight[-1] = 0
        drawing.aim.outer.bias[-1] = 0  # a radius of about two cells
        drawing.inner.weight[:, FEATURES:] = 0
        left, right = (drawing(text, mask, progress, (1, 9, 9)) for mask in masks)
        torch.testing.assert_close(right[..., 3:], left[..., 1:-2], atol=1e-4, rtol=1e-3)
        assert (right - left).abs().max() > 0.1
        assert not drawing(0 * text, masks[0], progress, (1, 9, 9)).any()


def test_a_mask_moves_the_middle_and_the_text_the_rest(aim):
    text, progress = torch.randn(2, 3, 6), torch.linspace(0, 1, 5)
    masks = torch.zeros(2, 2, 4, 5, 6, 8)  # two masks, a batch
    with torch.no_grad():
        aim.mask.weight.copy_(torch.tensor([50.0, 0, 0, 0]).view(1, 4, 1, 1, 1))
        masks[0, :, 0, :, 1, 6] = 1  # one cell each: up on the right, down on the left
        masks[1, :, 0, :, 4, 1] = 1
        told = aim.path(text, None, progress)
        first, second = (aim.path(text, mask, progress) for mask in masks)
    step = torch.tensor([2 * 5 / 8, -2 * 3 / 6, 0])
    torch.testing.assert_close(first - second, step.expand(2, 5, 3), atol=1e-4, rtol=0)
    # Motion and size are the text's.
    torch.testing.assert_close(first - first[:, :1], told - told[:, :1], atol=1e-5, rtol=0)
    assert torch.equal(first[..., 2], told[..., 2]) and (told - told[:, :1])[..., :2].abs().max() > 0.1


def test_offsets_are_in_the_object_s_own_sizes():
    """Two frames of other shapes, the object in the same place beside a token: the same features there."""
    small = offset_features(torch.tensor([[[0.0, 0.0, math.log(0.25)]]]), (1, 4, 4))
    # Twice as wide a frame with the object in its left half's middle.
    wide = offset_features(torch.tensor([[[-0.5, 0.0, math.log(0.25)]]]), (1, 4, 8))
    torch.testing.assert_close(wide.unflatten(1, (4, 8))[:, :, :4], small.unflatten(1, (4, 4)))
    # Half the frame around half the object is the same picture, but for the size that is told.
    large = offset_features(torch.tensor([[[0.0, 0.0, math.log(0.5)]]]), (1, 2, 2))
    torch.testing.assert_close(large[..., :-1], small.unflatten(1, (4, 4))[:, 1:3, 1:3, :-1].flatten(1, 2))


def test_what_is_far_is_told_nothing():
    features = offset_features(torch.tensor([[[-0.9, 0.0, math.log(0.05)]]]), (1, 3, 9))
    assert features[0, 1 * 9 + 8].abs().max() < 1e-6 and features[0, 1 * 9].abs().max() > 0.3


def test_place_features_tell_left_from_right_whatever_the_size():
    small, large = (place_features((2, h, w), "cpu").reshape(2, h, w, PLACE_FEATURES) for h, w in ((4, 6), (8, 12)))
    assert torch.equal(small[0], small[1])  # the same at all times
    left, right, top, bottom = small[0, 0, 0, 9], small[0, 0, -1, 9], small[0, 0, 0, 0], small[0, -1, 0, 0]
    assert -1 < left == pytest.approx(-right) and -1 < top == pytest.approx(-bottom) and left < 0 and top < 0
    middle = large.unflatten(1, (4, 2)).unflatten(3, (6, 2)).mean((2, 4))[..., [0, 9]]
    torch.testing.assert_close(middle, small[..., [0, 9]])
