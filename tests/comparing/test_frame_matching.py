"""Matching a result's frames, size and alpha to the plate."""

from fractions import Fraction

import numpy as np
import pytest

from tests.comparing.media import FPS, FRAMES, SIZE, disc, make_set, movie, plate
from vera.core.comparing.benchmark_rows import read_rows
from vera.core.comparing.frame_matching import Case, Video, pairing, scaled
from vera.core.comparing.methods import Folder
from vera.core.errors import InputError


@pytest.fixture
def rows(tmp_path):
    return read_rows([make_set(tmp_path / "set")[0]])[0]


def indices(first, last, step=1):
    return list(range(first, last + 1, step))


@pytest.mark.parametrize(
    ("count", "fps", "plates", "results", "said"),
    [
        (49, 16, indices(0, 48), indices(0, 48), ""),
        (49, 24, indices(0, 48), indices(0, 48), ""),  # equal counts: the header's rate is ignored
        (49, None, indices(0, 48), indices(0, 48), ""),
        (98, 32, indices(0, 48), indices(0, 96, 2), "32 fps beside 16"),
        (97, 32, indices(0, 48), indices(0, 96, 2), "32 fps beside 16"),
        (25, 8, indices(0, 48, 2), indices(0, 24), "8 fps beside 16"),
        (24, 8, indices(0, 46, 2), indices(0, 23), "lasts 48 of 49"),
        (45, 16, indices(0, 44), indices(0, 44), "lasts 45 of 49"),
        (53, 16, indices(0, 48), indices(0, 48), "lasts 53 of 49"),
        (13, 4, indices(0, 48, 4), indices(0, 12), "4 fps beside 16"),
    ],
)
def test_frames_of_equal_time_are_matched(count, fps, plates, results, said):
    pairs, notes = pairing(49, Fraction(16), count, fps and Fraction(fps), "a.mp4")
    assert [p for p, _ in pairs] == plates and [r for _, r in pairs] == results
    assert said in "; ".join(notes) and bool(notes) == bool(said)


@pytest.mark.parametrize(
    ("count", "fps", "words"),
    [
        (74, 24, "24 fps beside the plate's 16; convert it to 16 fps"),
        (40, 12, "12 fps"),
        (38, 16, "lasts 38 frames beside the plate's 49"),
        (81, 16, "lasts 81 frames"),
        (49 * 2 + 40, 32, "lasts 69 frames"),
        (1, 16, "lasts 1 frames"),
    ],
)
def test_rates_and_lengths_without_matching_frames_are_refused(count, fps, words):
    with pytest.raises(InputError, match=words):
        pairing(49, Fraction(16), count, Fraction(fps), "a.mp4")


def test_a_lossless_result_is_read_exactly(rows, tmp_path):
    case = Case(rows[0])
    video = Video(
        movie(tmp_path / "r.mp4", plate(0)), movie(tmp_path / "r_alpha.mp4", [disc(k) for k in range(FRAMES)]), case
    )
    for index in range(FRAMES):
        assert np.array_equal(video.picture(index), case.show(case.pixels(index)))
        assert np.array_equal(video.matte(index), case.alpha(index))
        assert np.abs(case.alpha(index) - disc(index)).max() < 1e-6
    assert video.note == ""


def test_another_size_is_scaled_and_another_aspect_is_refused(rows, tmp_path):
    case, (height, width) = Case(rows[0]), SIZE
    large = Video(movie(tmp_path / "large.mp4", plate(3, size=(2 * height, 2 * width))), None, case)
    assert large.picture(0).shape == (height, width, 3) and "128x96 scaled to 64x48" in large.note
    flat = np.full((96, 130, 3), 0.25, np.float32)
    assert np.allclose(scaled(flat, (48, 64)), 0.25, atol=1e-6)
    with pytest.raises(InputError, match="64x64 beside the plate's 64x48 was cropped or padded"):
        Video(movie(tmp_path / "square.mp4", plate(3, size=(64, 64))), None, case)


def test_an_inverted_alpha_is_detected_with_the_mask(tmp_path):
    file, _ = make_set(tmp_path / "set", kinds=("background_replace",), mask_path="mask.mp4")
    movie(tmp_path / "set/mask.mp4", [1.0 - (disc(k) > 0) for k in range(FRAMES)])
    row = read_rows([file])[0][0]
    with pytest.raises(InputError, match="inverse of the mask; use --alpha-of subject"):
        Case(row)
    case = Case(row, alpha_of="subject")
    assert np.abs(case.alpha(2) - (1 - disc(2))).max() < 1e-6


def test_without_alpha_the_mask_is_the_edit_region(tmp_path):
    file, _ = make_set(tmp_path / "set", alpha_path=None, mask_path="mask.mp4")
    movie(tmp_path / "set/mask.mp4", [1.0 * (disc(k) > 0) for k in range(FRAMES)])
    case = Case(read_rows([file])[0][0])
    assert case.alpha(1) is None and np.array_equal(case.edit_region(1) > 0, disc(1) > 0)


def names(folder, rows):
    return [Folder("m", folder, tuple(rows)).result(Case(row)).files[0].name for row in rows]


@pytest.mark.parametrize("stem", ("{v}_{p}", "{v}-{p}", "{v}/{p}", "{v}", "{p}"))
def test_results_are_found_by_name(rows, tmp_path, stem):
    for n in range(2):
        movie(tmp_path / "m" / (stem.format(v=f"v{n}", p=f"p{n}") + ".mp4"), plate(n))
    assert [name[-5] for name in names(tmp_path / "m", rows)] == ["0", "1"]


def test_an_ambiguous_or_unknown_name_is_refused(tmp_path):
    file, _ = make_set(tmp_path / "set", video_id="same")
    rows = read_rows([file])[0]
    movie(tmp_path / "m/same.mp4", plate(0))
    with pytest.raises(InputError, match="no movie named same_p0"):
        names(tmp_path / "m", rows)


def test_two_movies_for_one_row_are_refused(rows, tmp_path):
    movie(tmp_path / "m/v0_p0.mp4", plate(0))
    movie(tmp_path / "m/v0_p0.mkv", plate(0))
    with pytest.raises(InputError, match="v0_p0.mkv and v0_p0.mp4 are both results of v0_p0"):
        names(tmp_path / "m", rows[:1])


def test_a_truncated_movie_is_named_in_the_error(rows, tmp_path):
    whole = movie(tmp_path / "m/v0_p0.mp4", plate(0), FPS).read_bytes()
    (tmp_path / "m/v0_p0.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="v0_p0.mp4"):
        names(tmp_path / "m", rows[:1])
