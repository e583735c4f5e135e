import torch

from benchmarks.seams import WAYS, seam_ratio


def test_the_ratio_is_that_of_the_change_where_windows_meet():
    steps = torch.full((32,), 0.1)
    steps[[8, 20]] = 0.2  # into frames 9 and 21, with which latent frames 3 and 6 begin
    steps[[11, 23]] = 0.3  # no joint: does not count
    made = torch.cat([torch.zeros(1), steps.cumsum(0)]).view(1, 33, 1, 1).expand(3, -1, 2, 2)
    assert abs(seam_ratio(made, {3, 6}) - 2) < 1e-4
    assert abs(seam_ratio(made, {2, 7}) - 0.1 * 6 / (0.1 * 4 + 0.4)) < 1e-4


def test_butted_windows_share_nothing_and_cover_all():
    looks = WAYS["butted"](25, 13, 0)
    assert [(w.start, w.stop) for w in looks] == [(0, 13), (13, 25)]
    assert all(torch.equal(w.weights, torch.ones(len(w.weights))) for w in looks)
