from types import SimpleNamespace

import numpy as np
import pytest

from vera.core.plate.color import PlateColor
from vera.core.plate.color_exposure import shot_exposure
from vera.core.plate.color_space import LINEAR, SRGB, find_space

COLOR = PlateColor(LINEAR, "float")


def shot(level, frames=5, spread=1.5, size=(40, 60)):
    """Frames of log-normal luminance about `level`."""
    rng = np.random.default_rng(0)
    pictures = {
        f: (level * 2 ** rng.normal(0, spread, (*size, 1))).astype(np.float32).repeat(3, 2)
        for f in range(1, frames + 1)
    }
    return SimpleNamespace(frames=tuple(pictures), read=pictures.__getitem__, pictures=pictures)


@pytest.mark.parametrize(
    "level, stops", [(0.18, 0), (0.1, 0), (0.35, 0), (0.18 / 16, 3), (0.18 * 32, -4), (0.18 / 2**2.5, 1.5)]
)
def test_the_shots_median_comes_to_within_a_stop_of_mid_grey(level, stops):
    assert shot_exposure(shot(level), COLOR) == pytest.approx(stops, abs=0.25)


def test_highlights_letterbox_broken_pixels_and_an_odd_frame_do_not_move_it():
    plain = shot(0.02, frames=24)
    expected = shot_exposure(plain, COLOR)
    for picture in plain.pictures.values():
        picture[:8] = 0
        picture[8:9] = 60000
        picture[20, ::7] = np.nan
        picture[21, ::7] = np.inf
    plain.pictures[4][:] = 1000
    assert expected > 1 and shot_exposure(plain, COLOR) == pytest.approx(expected, abs=0.25)


def test_one_for_the_shot_whatever_space_it_is_in_and_none_for_displays():
    linear = shot(0.02)
    expected = shot_exposure(linear, COLOR)
    for name in ("ACEScg", "ARRI LogC3 (EI800)"):
        space = find_space(name)
        coded = SimpleNamespace(frames=linear.frames, read=lambda f, s=space: s.from_rec709(linear.read(f)))
        assert shot_exposure(coded, PlateColor(space, "float")) == pytest.approx(expected, abs=0.25)
    assert shot_exposure(linear, PlateColor(LINEAR, "float", 5.0)) == expected  # not on top of another
    assert shot_exposure(linear, PlateColor(SRGB, "float")) == 0


def test_frames_pass_one_at_a_time_and_no_more_than_needed():
    asked = []
    long = SimpleNamespace(
        frames=tuple(range(1001, 1801)), read=lambda f: asked.append(f) or np.full((4, 4, 3), 0.01, np.float32)
    )
    shot_exposure(long, COLOR)
    assert len(asked) <= 48 and asked == sorted(asked) and (asked[0], asked[-1]) == (1001, 1800)


def test_black_says_nothing():
    assert shot_exposure(SimpleNamespace(frames=(1,), read=lambda f: np.zeros((4, 4, 3), np.float32)), COLOR) == 0
