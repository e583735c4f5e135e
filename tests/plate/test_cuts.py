"""Cuts on drawn shots whose cuts are known."""

import math

import pytest
import torch

from vera.core.errors import InputError
from vera.core.plate.cuts import NEIGHBOUR_FRAMES, refuse_cuts_outside, with_cuts
from vera.core.recipe import parse_cuts


def backdrop(seed, height=27, width=144):
    """A field of colours of several scales, wider than the frame so that a camera may pan over it."""
    generator, field = torch.Generator().manual_seed(seed), 0
    for scale in (1, 2, 4):
        coarse = torch.rand(1, 3, 3 * scale, 12 * scale, generator=generator) / scale
        field = field + torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (field / 1.75).clamp(0, 1)


def shot(seed, count, pan=0.0, noise=0.01, ball=0.0, light=lambda t: 1.0, hold=1):
    """Frames (3, 27, 48): pan in pixels a frame, a ball of that radius that wanders, pictures held for some frames."""
    back, frames = backdrop(seed), []
    generator = torch.Generator().manual_seed(seed + 1000)
    y, x = torch.meshgrid(torch.arange(27.0), torch.arange(48.0), indexing="ij")
    for t in range(count):
        moved = t // hold * hold
        at = round(moved * pan) % 96
        frame = back[:, :, at : at + 48].clone()
        frame[:, (x - 24 - 20 * math.sin(moved / 6)) ** 2 + (y - 13) ** 2 < ball**2] = 0.9
        frames.append((frame * light(t) + noise * torch.randn(frame.shape, generator=generator)).clamp(0, 1))
    return frames


def found(frames, cuts="auto"):
    numbered = list(with_cuts(enumerate(frames), lambda item: item[1], cuts, number_of=lambda item: item[0]))
    assert [n for (n, _), _ in numbered] == list(range(len(frames)))
    shots = [s for _, s in numbered]
    return [i for i in range(1, len(shots)) if shots[i] != shots[i - 1]]


@pytest.mark.parametrize(
    "made",
    [
        {"noise": 0.0},
        {"noise": 0.1},
        {"pan": 1.5},
        {"pan": 6.0},
        {"pan": 1.5, "hold": 2, "noise": 0.0},
        {"ball": 7.0},
        {"ball": 11.0, "noise": 0.05},
        {"light": lambda t: 0.3 + 0.02 * t},
        {"light": lambda t: 1.0 if t < 15 else 0.45},  # a lamp goes out
        {"light": lambda t: 2.5 if t == 15 else 1.0},  # a flash
        {"light": lambda t: 0.8 + 0.2 * math.sin(2.1 * t)},  # flicker
    ],
)
def test_one_shot_has_no_cut(made):
    for seed in range(3):
        assert found(shot(seed, 30, **made)) == []


@pytest.mark.parametrize("lengths", [(30, 30), (2, 20, 2), (9, 3, 12, 5), (40, 2, 40)])
@pytest.mark.parametrize("made", [{}, {"pan": 1.0, "noise": 0.05}, {"ball": 8.0}])
def test_every_cut_is_found_where_it_is(lengths, made):
    for seed in (0, 10):
        frames = [f for k, n in enumerate(lengths) for f in shot(seed + k, n, **made)]
        places = [sum(lengths[: k + 1]) for k in range(len(lengths) - 1)]
        assert found(frames) == places


def test_a_shot_that_comes_back_is_cut_twice():
    a, b = shot(1, 40), shot(2, 10)
    assert found(a[:20] + b + a[20:]) == [20, 30]


def test_a_dissolve_is_no_cut():
    a, b = shot(1, 40), shot(2, 40)
    mixed = [p * (1 - t) + q * t for p, q, t in zip(a, b, torch.linspace(0, 1, 24))]
    assert found(a[:12] + mixed + b[:12]) == []


@pytest.mark.parametrize("count", [0, 1, 2, 3, NEIGHBOUR_FRAMES, 2 * NEIGHBOUR_FRAMES + 1])
def test_short_clips_come_out_whole(count):
    assert found(shot(3, count)) == []


def test_given_cuts_are_taken_at_their_word():
    assert found(shot(1, 20), parse_cuts("3, 4,19")) == [3, 4, 19]
    assert found(shot(1, 10) + shot(2, 10), parse_cuts("none")) == []
    assert parse_cuts(None) == parse_cuts(" Auto ") == "auto"


def test_no_more_than_a_few_frames_are_held():
    taken = []

    def frames():
        for item in enumerate(shot(1, 60)):
            taken.append(item[0])
            yield item

    for given, _ in with_cuts(frames(), lambda item: item[1]):
        assert taken[-1] - given[0] <= NEIGHBOUR_FRAMES


@pytest.mark.parametrize("text", ["soon", "1;2", "5,4", "4,4", "1,,2", "1.5"])
def test_cuts_that_make_no_sense(text):
    with pytest.raises(InputError, match=text.replace(".", r"\.")):
        parse_cuts(text)


@pytest.mark.parametrize("cuts", [(1001,), (1000,), (1010, 1021)])
def test_cuts_outside_the_frames(cuts):
    refuse_cuts_outside("auto", range(1001, 1021))
    refuse_cuts_outside((1002, 1020), range(1001, 1021))
    with pytest.raises(InputError, match=f"cut {cuts[-1]} is not among"):
        refuse_cuts_outside(cuts, range(1001, 1021))
