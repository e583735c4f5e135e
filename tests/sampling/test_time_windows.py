import itertools
import math

import pytest
import torch

from vera.core.sampling.time_windows import PHASES, windows

GRID = list(itertools.product(range(1, 45), (1, 2, 3, 4, 7, 13, 21), range(len(PHASES))))


def test_weights_sum_to_one_and_every_window_is_complete():
    for length, size, step in GRID:
        found = windows(length, size, step)
        total = torch.zeros(length)
        for window in found:
            assert window.stop - window.start == min(size, length) and 0 <= window.start and window.stop <= length
            assert (window.weights > 0).all()
            total[window.start : window.stop] += window.weights
        torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)


def test_neighbouring_windows_overlap_by_a_third_in_order():
    for length, size, step in GRID:
        starts = [w.start for w in windows(length, size, step)]
        assert all(0 < b - a <= size - size // 3 for a, b in itertools.pairwise(starts))
        assert len(starts) <= 2 + math.ceil(max(0, length - size) / (size - size // 3))


def test_a_short_clip_is_one_window_with_weight_one():
    for length, size in ((1, 1), (5, 13), (13, 13)):
        (window,) = windows(length, size, 3)
        assert window.start == 0 and torch.equal(window.weights, torch.ones(length))


def test_weights_change_linearly_across_an_overlap():
    first, second = windows(22, 13, 0)[:2]
    assert second.start == 9
    torch.testing.assert_close(first.weights[9:], torch.tensor([0.8, 0.6, 0.4, 0.2]))
    torch.testing.assert_close(second.weights[:4], torch.tensor([0.2, 0.4, 0.6, 0.8]))
    assert torch.equal(first.weights[:9], torch.ones(9))


def test_weights_of_a_window_that_was_moved_into_the_shot_are_level_beyond_the_third():
    first, second = windows(18, 13, 0)
    assert second.start == 5  # they share 8 frames, not 4
    rising = torch.tensor([1, 2, 3, 4, 5, 5, 5, 5])
    torch.testing.assert_close(second.weights[:8], rising / (rising + rising.flip(0)))
    torch.testing.assert_close(first.weights[5:], second.weights[:8].flip(0))


def test_windows_of_a_step_are_shifted_by_its_part_of_the_stride():
    assert [[w.start for w in windows(43, 16, step)] for step in range(4)] == [
        [0, 11, 22, 27],
        [0, 6, 17, 27],
        [0, 9, 20, 27],
        [0, 3, 14, 25, 27],
    ]


@pytest.mark.parametrize("size", [13, 21])
def test_seams_move_between_steps_and_repeat_after_four(size):
    places = [[w.start for w in windows(100, size, step)][1:-1] for step in range(8)]
    assert not set.intersection(*map(set, places[:4]))
    assert places[:4] == places[4:]
