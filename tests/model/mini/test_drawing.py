"""The drawing: a path predicted from the text or the mask, and the picture drawn around it."""

import math

import pytest
import torch

from vera.core.model.mini.drawing import (
    FEATURES,
    MOTIONS,
    PLACE_FEATURES,
    Aim,
    Drawing,
    moments,
    motions,
    offset_features,
    place_features,
)


@pytest.fixture
def aim():
    torch.manual_seed(0)
    aim = Aim(6, 4)
    for p in aim.parameters():
        torch.nn.init.normal_(p, std=0.1)
    return aim


def test_only_the_rest_position_has_a_nonzero_mean():
    """All other motions have a mean of zero over the shot, so they do not move the path's middle."""
    means = motions(torch.linspace(0, 1, 100001, dtype=torch.float64)).double().mean(0)
    torch.testing.assert_close(means, torch.tensor([1.0, 0, 0, 0, 0], dtype=torch.float64), atol=1e-4, rtol=0)
    assert torch.linalg.matrix_rank(motions(torch.linspace(0, 1, 13))) == MOTIONS


def test_an_untrained_drawing_aims_at_the_middle_and_draws_nothing():
    text, progress = torch.randn(2, 3, 6), moments([0, 1], 2)
    drawing = Drawing(6, 4, dim=8)
    path = drawing.aim.path(text, None, progress, 1.4)
    assert not path[..., :2].any() and path.shape == (2, 2, 2, 3)
    drawn = drawing(text, None, progress, (2, 3, 5))
    assert drawn.shape == (2, 2, 4, 2, 3, 5) and not drawn.any()


@pytest.fixture
def drawing():
    torch.manual_seed(1)
    drawing = Drawing(6, 4, dim=8)
    for p in drawing.parameters():
        torch.nn.init.normal_(p, std=0.4)
    with torch.no_grad():
        drawing.aim.mask.weight.fill_(50.0)
        drawing.aim.outer.weight.zero_()
        drawing.aim.outer.bias.zero_()[-1] = 0.3  # at rest, a size of about two cells
        drawing.inner.weight[:, FEATURES:] = 0  # the drawing does not depend on the place in the frame
    return drawing


def test_the_drawing_follows_the_aim_and_is_empty_without_an_object(drawing):
    """A mask that moves by two cells moves the same picture by two cells."""
    text, progress = torch.randn(1, 3, 6), torch.zeros(1, 2)
    masks = torch.zeros(2, 1, 4, 1, 9, 9)
    masks[0, ..., 4, 3], masks[1, ..., 4, 5] = 1, 1
    with torch.no_grad():
        left, right = (drawing(text, mask, progress, (1, 9, 9)) for mask in masks)
        torch.testing.assert_close(right[..., 3:], left[..., 1:-2], atol=1e-4, rtol=1e-3)
        assert (right - left).abs().max() > 0.1
        assert not drawing(0 * text, masks[0], progress, (1, 9, 9)).any()


def test_the_drawing_follows_a_given_path(drawing):
    text, progress, grid = torch.randn(2, 3, 6), moments([1, 2], 4), (2, 5, 7)
    aimed = drawing.aim.path(text, None, progress, 1.4)
    with torch.no_grad():
        unled, led, away = (drawing(text, None, progress, grid, path) for path in (None, aimed, aimed + 0.3))
    torch.testing.assert_close(led, unled)
    assert (away - unled).abs().max() > 0.1


def test_a_path_moves_alike_in_every_frame_and_stays_inside(aim):
    """Motion is in half frame heights, the rest position in half frames. A path is clamped at the frame's edge."""
    text, progress = torch.randn(2, 3, 6), torch.linspace(0, 1, 9)
    with torch.no_grad():
        square, wide = (aim.path(text, None, progress, aspect) for aspect in (1.0, torch.tensor([2.0, 2.0])))
        torch.testing.assert_close((wide - wide[:, :1])[..., 0] * 2, (square - square[:, :1])[..., 0])
        torch.testing.assert_close(wide[..., 1:], square[..., 1:])
        aim.outer.bias[: 2 * MOTIONS] += 9
        held = aim.path(text, None, progress, 2.0)
    radius = held[..., 2].exp()
    torch.testing.assert_close(held[..., 0].amax(1), 1 - radius[:, 0] / 2)
    torch.testing.assert_close(held[..., 1].amax(1), 1 - radius[:, 0])


def test_drawing_some_cells_equals_drawing_all(drawing):
    text, progress, grid = torch.randn(2, 3, 6), moments([0, 3], 4), (2, 5, 7)
    cells = torch.stack([torch.randperm(70)[:9] for _ in range(2)])
    with torch.no_grad():
        whole = drawing(text, None, progress, grid).flatten(3)
        some = drawing(text, None, progress, grid, cells=cells)
    torch.testing.assert_close(some, torch.stack([w[..., c] for w, c in zip(whole, cells)]), atol=1e-3, rtol=1e-3)


def test_moments_of_latent_frames_are_those_of_their_frames():
    """A shot of 17 frames is 5 latent frames: frame 0, then 1 to 4, ..., 13 to 16."""
    frames = torch.tensor([[0.0, 0], [1, 4], [5, 8], [9, 12], [13, 16]])
    torch.testing.assert_close(moments(range(5), 5), frames / 16)
    torch.testing.assert_close(moments([4, 1], 5), frames[[4, 1]] / 16)
    assert not moments([0], 1).any()


def test_a_mask_moves_the_middle_and_the_text_the_rest(aim):
    text, progress = torch.randn(2, 3, 6), torch.linspace(0, 1, 5)
    masks = torch.zeros(2, 2, 4, 5, 6, 8)  # two masks, a batch
    with torch.no_grad():
        aim.outer.bias[-1] = -1  # small, so that nothing is held at the frame's edge
        aim.mask.weight.copy_(torch.tensor([50.0, 0, 0, 0]).view(1, 4, 1, 1, 1))
        masks[0, :, 0, :, 1, 6] = 1  # one cell each: up on the right, down on the left
        masks[1, :, 0, :, 4, 1] = 1
        told = aim.path(text, None, progress, 1.5)
        first, second = (aim.path(text, mask, progress, 1.5) for mask in masks)
    step = torch.tensor([2 * 5 / 8, -2 * 3 / 6, 0])
    torch.testing.assert_close(first - second, step.expand(2, 5, 3), atol=1e-4, rtol=0)
    # Motion and size are the text's.
    torch.testing.assert_close(first - first[:, :1], told - told[:, :1], atol=1e-5, rtol=0)
    assert torch.equal(first[..., 2], told[..., 2]) and (told - told[:, :1])[..., :2].abs().max() > 0.01


def at(x, y, size):
    return torch.tensor([x, y, math.log(size)]).expand(1, 1, 2, 3)


def test_offsets_are_in_the_object_s_own_sizes():
    """Two frames of different aspects, with the object at the same place relative to a token: equal features."""
    small = offset_features(at(0.0, 0.0, 0.25), (1, 4, 4))
    # Twice as wide a frame with the object in its left half's middle.
    wide = offset_features(at(-0.5, 0.0, 0.25), (1, 4, 8))
    torch.testing.assert_close(wide.unflatten(1, (4, 8))[:, :, :4], small.unflatten(1, (4, 4)))
    # Half the frame around half the object is the same picture, except for the feature of the object's size.
    large = offset_features(at(0.0, 0.0, 0.5), (1, 2, 2))
    torch.testing.assert_close(large[..., :-1], small.unflatten(1, (4, 4))[:, 1:3, 1:3, :-1].flatten(1, 2))


def test_features_distinguish_a_latent_frames_begin_and_end():
    """For an object at rest both groups of features are equal. In motion one group follows the begin, the other the
    end."""
    still, moved = at(0.1, 0.2, 0.5), at(0.1, 0.2, 0.5).clone()
    moved[:, :, 1, 0] += 0.05
    still, moved = (offset_features(path, (1, 3, 3))[0, 4, 1:-1].unflatten(0, (-1, 2, 2, 2)) for path in (still, moved))
    torch.testing.assert_close(still[:, :, 0], still[:, :, 1])
    shrink = moved[:, :, 0] / still[:, :, 0]  # they fade a little as the distance grows
    torch.testing.assert_close(shrink, shrink.flatten()[0].expand_as(shrink))
    assert (moved[:, 0, 1] - still[:, 0, 1]).abs().max() > 0.1


def test_features_far_from_the_object_are_zero():
    features = offset_features(at(-0.9, 0.0, 0.05), (1, 3, 9))
    assert features[0, 1 * 9 + 8].abs().max() < 1e-6 and features[0, 1 * 9].abs().max() > 0.3


def test_place_features_distinguish_left_and_right_at_any_size():
    small, large = (place_features((2, h, w), "cpu").reshape(2, h, w, PLACE_FEATURES) for h, w in ((4, 6), (8, 12)))
    assert torch.equal(small[0], small[1])  # the same at all times
    left, right, top, bottom = small[0, 0, 0, 9], small[0, 0, -1, 9], small[0, 0, 0, 0], small[0, -1, 0, 0]
    assert -1 < left == pytest.approx(-right) and -1 < top == pytest.approx(-bottom) and left < 0 and top < 0
    middle = large.unflatten(1, (4, 2)).unflatten(3, (6, 2)).mean((2, 4))[..., [0, 9]]
    torch.testing.assert_close(middle, small[..., [0, 9]])
