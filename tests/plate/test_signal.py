"""--matrix and --range: the movie's tag, the default, and the user's option are each reported, and decode exactly."""

import av
import numpy as np
import pytest

from tests.plate.media import grey_levels, noise, planar, write_image, write_movie
from vera.core.errors import InputError
from vera.core.plate.choice import MATRICES, RANGES, Choice
from vera.core.plate.source import open_plate

# Luma weights of red and blue, ITU-T H.273 table 4, and the code in the stream.
WEIGHTS = {
    "bt709": (0.2126, 0.0722, 1),
    "fcc": (0.30, 0.11, 4),
    "bt601": (0.299, 0.114, 6),
    "smpte240m": (0.212, 0.087, 7),
    "bt2020": (0.2627, 0.0593, 9),
}
Y, U, V = 500, 420, 610  # of 10 bits


def movie(tmp_path, height=48, matrix=None, full=None, pix_fmt="yuv444p10le"):
    def tune(stream):
        if matrix is not None:
            stream.codec_context.colorspace = matrix
        if full is not None:
            stream.codec_context.color_range = 2 if full else 1

    planes = [np.full((height, 64), value, np.uint16) for value in (Y, U, V)]
    return str(
        write_movie(tmp_path / "m.mkv", [planar(pix_fmt, *planes)] * 2, codec="ffv1", pix_fmt=pix_fmt, tune=tune)
    )


def expected(matrix: str, full: bool) -> np.ndarray:
    """RGB in [0, 1] by the equations of H.273, section 8.3."""
    red, blue, _ = WEIGHTS[matrix]
    black, luma, chroma = (0, 1023, 1023) if full else (64, 876, 896)
    y, u, v = (Y - black) / luma, (U - 512) / chroma, (V - 512) / chroma
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    return np.array([r, (y - red * r - blue * b) / (1 - red - blue), b])


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("range_", RANGES)
def test_an_untagged_movie_is_read_as_the_user_says(tmp_path, matrix, range_):
    plate = open_plate(movie(tmp_path), None, Choice(matrix=matrix, range=range_))
    np.testing.assert_allclose(plate.read(1)[5, 5] / 65535, expected(matrix, range_ == "full"), atol=1e-4)
    assert (plate.matrix.why, plate.range.why) == ("asked for", "asked for") and plate.notes == ()


@pytest.mark.parametrize("height, matrix", [(48, "bt601"), (576, "bt601"), (720, "bt709"), (1080, "bt709")])
def test_an_unstated_matrix_is_reported_as_the_default(tmp_path, height, matrix):
    plate = open_plate(movie(tmp_path, height))
    assert plate.matrix.value == matrix and "not stated" in plate.matrix.why and plate.range.value == "limited"


@pytest.mark.parametrize("name", MATRICES)
def test_a_stated_matrix_is_reported_as_stated(tmp_path, name):
    plate = open_plate(movie(tmp_path, matrix=WEIGHTS[name][2], full=True))
    assert (plate.matrix.value, plate.matrix.why) == (name, "stated")
    assert (plate.range.value, plate.range.why) == ("full", "stated")


def test_the_option_overrides_the_movies_tag_and_is_reported(tmp_path):
    plate = open_plate(movie(tmp_path, matrix=1, full=False), None, Choice(matrix="bt601", range="full"))
    np.testing.assert_allclose(plate.read(1)[5, 5] / 65535, expected("bt601", True), atol=1e-4)
    assert plate.notes == (
        "the movie states the matrix bt709; it is read as bt601, as asked for",
        "the movie states the range limited; it is read as full, as asked for",
    )


def test_an_unsupported_matrix_can_be_overridden(tmp_path):
    ycgco = movie(tmp_path, matrix=8)
    with pytest.raises(InputError, match="YUV matrix 8 .*--matrix"):
        open_plate(ycgco)
    assert open_plate(ycgco, None, Choice(matrix="bt709")).matrix.value == "bt709"


def test_eight_bits_follow_too(tmp_path):
    file = str(write_movie(tmp_path / "m.mkv", grey_levels(2), codec="ffv1", pix_fmt="yuv420p"))
    limited, full = (open_plate(file, None, Choice(range=r)).read(2)[0, 0, 0] for r in ("limited", "full"))
    assert abs(int(limited) - 22) <= 1 and abs(int(full) - (16 + 22 * 219 / 255)) <= 1


def test_how_a_movie_is_read_is_part_of_its_frames_fingerprint(tmp_path):
    file = movie(tmp_path)
    choices = [Choice(), *(Choice(matrix=m) for m in MATRICES), *(Choice(range=r) for r in RANGES)]
    assert len({open_plate(file, None, choice).fingerprint(1) for choice in choices}) == len(choices)


@pytest.mark.parametrize("choice", [Choice(matrix="bt709"), Choice(range="full")])
def test_rgb_movies_and_stills_have_neither(tmp_path, choice):
    frames = [av.VideoFrame.from_ndarray(p, "rgb24") for p in grey_levels(2)]
    rgb = str(write_movie(tmp_path / "m.mkv", frames, codec="ffv1", pix_fmt="bgr0"))
    with pytest.raises(InputError, match="its pixels are RGB .*leave --(matrix|range) out"):
        open_plate(rgb, None, choice)
    still = str(write_image(tmp_path / "p.exr", noise(1)))
    with pytest.raises(InputError, match="--(matrix|range) is of YUV movies; these are stills; leave it out"):
        open_plate(still, None, choice)


@pytest.mark.parametrize("name", ["layer", "part", "view"])
def test_a_movie_has_no_layers_parts_or_views(tmp_path, name):
    file = str(write_movie(tmp_path / "m.mkv", grey_levels(2)))
    with pytest.raises(InputError, match=f"--{name} is of EXR files with several pictures; this is a movie"):
        open_plate(file, None, Choice(**{name: "beauty"}))
