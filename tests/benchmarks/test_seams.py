import pytest
import torch

from benchmarks.seams import WAYS, changes, seams_of, summed


def test_changes_at_seams_are_counted_separately():
    steps = torch.full((32,), 0.1)
    steps[[8, 20]] = 0.2  # into frames 9 and 21, with which latent frames 3 and 6 begin
    steps[[11, 23]] = 0.3  # no joint: does not count
    made = torch.cat([torch.zeros(1), steps.cumsum(0)]).view(1, 33, 1, 1).expand(3, -1, 2, 2)
    assert changes(made, {3, 6}, {3, 4, 6}, 4) == pytest.approx((0.2, 0.5 / 3, 0.1), rel=1e-4)
    assert changes(made, {2}, {2, 7}, 4) == pytest.approx((0.1, 0.1, (0.1 * 4 + 0.4) / 6), rel=1e-4)


def test_seams_are_ends_and_what_is_not_inside_of_one_window():
    assert seams_of(WAYS["butted"](25, 13, 0), 25) == ({13}, {13})
    assert [w.span for w in WAYS["overlapped"](22, 13, 0)] == [(0, 13), (9, 22)]
    assert seams_of(WAYS["overlapped"](22, 13, 0), 22) == ({9, 13}, {9, 10, 11, 12, 13})


def test_clips_are_summed_and_their_scatter_is_the_error():
    assert summed([(2.0, 1.0), (2.0, 1.0)]) == (2.0, 0.0)
    ratio, error = summed([(1.0, 1.0), (3.0, 1.0), (2.0, 1.0)])
    assert ratio == 2.0 and error == pytest.approx((1 / 3) ** 0.5, abs=1e-3)  # of a mean of three


def test_butted_windows_share_nothing_and_cover_all():
    looks = WAYS["butted"](25, 13, 0)
    assert [w.span for w in looks] == [(0, 13), (13, 25)]
    assert all(torch.equal(w.weights, torch.ones(len(w.weights))) for w in looks)
