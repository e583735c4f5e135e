"""Where a drawn object is put: wholly inside the picture, with a note where it stands on nothing."""

from dataclasses import dataclass, replace

import pytest
import torch

from tests.layer.test_drawn_object import ASPECT, Disc
from vera.core.layer.drawn_object import DrawnFrame, coverage
from vera.core.layer.object_place import EDGE_MARGIN, groundless, inside

NOBODY = torch.zeros(36, 64)
SIZE = (90, 160)


def shot(places, **changes):
    """Frames of a disc at those places, (x, y) in -1 .. 1 each."""
    return [DrawnFrame(Disc(x=x, y=y, **changes), time) for time, (x, y) in enumerate(places)]


def edge_alpha(frame, moved):
    """The most alpha on the picture's border."""
    alpha = coverage(replace(frame, moved=moved), SIZE, ASPECT).alpha
    return max(float(line.max()) for line in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]))


@pytest.mark.parametrize("place", [(0.0, -0.8), (0.0, 0.8), (-0.95, 0.0), (0.95, 0.9)])
def test_what_is_cut_off_is_moved_inside_by_as_much(place):
    (frame,) = shot([place])
    moved = inside([frame], ASPECT)
    assert edge_alpha(frame, (0.0, 0.0)) > 0.5 and edge_alpha(frame, moved) == 0
    assert max(abs(place[0] + moved[0]) * ASPECT, abs(place[1] + moved[1])) > 1 - 0.4 - EDGE_MARGIN - 0.1
    assert [m == 0 for m in moved] == [abs(p) < 0.5 for p in place]


def test_what_moves_through_the_picture_is_not_moved():
    assert inside(shot([(-1.1, 0.0), (-0.2, 0.0), (0.6, 0.0)]), ASPECT) == (0, 0)


def test_what_does_not_fit_stays():
    assert inside(shot([(0.0, -0.5)], size=1.2), ASPECT) == (0, 0)


@dataclass(frozen=True)
class Wing(Disc):
    """A small disc from which a stick rises in frame 7 only."""

    moves: bool = True

    def points(self, time, u, v):
        found = super().points(time, u, v)
        stick = torch.maximum(u.abs() - 0.1, (v + 0.7).abs() - 0.3)
        return replace(found, distance=torch.minimum(found.distance, stick) if time >= 7 else found.distance)


def test_a_wing_that_is_raised_later_counts():
    frame = DrawnFrame(Wing(x=0.0, y=-0.65), 0)
    moved = inside([frame], ASPECT)
    assert moved[0] == 0 and moved[1] > 0.05
    assert edge_alpha(replace(frame, time=8), moved) == 0


@pytest.mark.parametrize(
    ("y", "standing", "person", "where"),
    [
        (-0.3, 1.0, False, "at 55% of the picture's height"),
        (0.3, 1.0, False, None),
        (-0.3, 0.1, False, None),
        (0.3, 1.0, True, "over a person"),
    ],
    ids=["high", "low", "in the air", "on somebody"],
)
def test_a_foot_on_nothing_is_told(y, standing, person, where):
    people = torch.ones_like(NOBODY) if person else NOBODY
    frames = [replace(frame, standing=standing) for frame in shot([(0.0, y)])]
    assert groundless(frames, people) == where
