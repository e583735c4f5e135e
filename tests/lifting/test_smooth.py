"""Filters of videos: what is computed frame by frame has the bits of the whole video's."""

import torch

from vera.core.lifting.drift import find_drift, without_drift
from vera.core.lifting.smooth import blur, blurred, by_frame

SIZE = (5, 3, 24, 32)


def video(seed):
    return torch.rand(SIZE, generator=torch.Generator().manual_seed(seed))


def test_frames_are_joined_in_order_for_one_result_and_for_several():
    a, b = video(1), video(2)
    assert torch.equal(by_frame(torch.sub, a, b), a - b)
    least, sums = by_frame(lambda x, y: (torch.minimum(x, y), (x + y).sum(1, keepdim=True)), a, b)
    assert torch.equal(least, torch.minimum(a, b)) and torch.equal(sums, (a + b).sum(1, keepdim=True))


def test_a_blur_of_a_function_of_frames_is_the_blur_of_the_whole():
    a, b = video(3), video(4)
    assert torch.equal(blurred(torch.mul, (a, b), 1.5, 0.7), blur(a * b, 1.5, 0.7))


def test_drift_is_removed_as_its_gain_and_offset_say():
    plate = video(5)
    drift = find_drift(plate, 1.04 * plate + 0.01, torch.ones(SIZE[0], 1, *SIZE[2:]))
    assert torch.equal(drift.removed(plate), without_drift(plate, drift.gain, drift.offset))
    assert abs(drift.size() - float((drift.gain.abs() + drift.offset.abs()).mean())) < 1e-6
