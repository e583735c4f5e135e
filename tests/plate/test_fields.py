"""Interlaced plates: named, refused unless --fields says what to do, and then exactly that."""

import av
import numpy as np
import pytest

from tests.plate.media import grey_levels, noise, write_image, write_movie
from vera.core.errors import InputError
from vera.core.plate.choice import Choice
from vera.core.plate.source import open_mask, open_plate

INTERLACED = 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, _ME
DPX_INTERLACE = 1928  # byte of the header, SMPTE 268M


def level(moment: int) -> int:
    return 40 + 10 * moment


def woven(count: int, first: str) -> list[np.ndarray]:
    """Frames of two flat fields each, every moment lighter than the one before; `first` is the earlier field."""
    frames = []
    for number in range(count):
        frame = np.zeros((48, 64, 3), np.uint8)
        early, late = (0, 1) if first == "upper" else (1, 0)
        frame[early::2], frame[late::2] = level(2 * number), level(2 * number + 1)
        frames.append(frame)
    return frames


def stating(order: int):
    """Of a stream: AVFieldOrder, 2 for upper and 3 for lower first."""

    def tune(stream):
        stream.codec_context.field_order = order

    return tune


def write(file, first="upper", order=2, pix_fmt="yuv444p", count=6):
    frames = [av.VideoFrame.from_ndarray(p, "rgb24").reformat(format=pix_fmt) for p in woven(count, first)]
    return str(write_movie(file, frames, codec="ffv1", pix_fmt=pix_fmt, tune=stating(order)))


@pytest.mark.parametrize(
    "order, words",
    [
        (2, "upper field first"),
        (3, "lower field first"),
        (4, "lower field first"),  # the upper is stored first, the lower is shown first
        (5, "upper field first"),
    ],
)
def test_a_container_that_states_fields_is_refused_with_what_to_say(tmp_path, order, words):
    with pytest.raises(InputError, match=f"interlaced, {words}; deinterlace it first.*--fields upper or lower"):
        open_plate(write(tmp_path / "m.mkv", order=order))


def test_frames_that_state_fields_are_refused(tmp_path):
    def fields(stream):
        stream.codec_context.flags |= INTERLACED

    movie = write_movie(tmp_path / "m.mpg", grey_levels(3), codec="mpeg2video", tune=fields)
    with pytest.raises(InputError, match="--fields ignore"):
        open_plate(str(movie))
    assert open_plate(str(movie), None, Choice(fields="ignore")).field_order in ("upper", "lower", "not stated")


@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv420p", "yuv422p10le", "gray"])
@pytest.mark.parametrize("first", ["upper", "lower"])
def test_deinterlaced_frames_show_the_moment_of_the_first_field(tmp_path, first, pix_fmt):
    movie = write(tmp_path / "m.mkv", first, pix_fmt=pix_fmt)
    plate = open_plate(movie, None, Choice(fields=first))
    assert plate.frames == (1, 2, 3, 4, 5, 6) and plate.fps == 24
    for frame in plate.frames:
        shown = plate.read(frame).astype(float) / np.iinfo(plate.dtype).max * 255
        assert np.abs(shown - level(2 * (frame - 1))).max() < 2, frame


def test_the_first_fields_lines_are_those_of_the_file(tmp_path):
    rng = np.random.default_rng(0)
    noisy = [
        av.VideoFrame.from_ndarray(rng.integers(16, 235, (48, 64), np.uint8), "gray").reformat(format="gray")
        for _ in range(4)
    ]
    movie = str(write_movie(tmp_path / "m.mkv", noisy, codec="ffv1", pix_fmt="gray", tune=stating(2)))
    whole = open_plate(movie, None, Choice(fields="ignore"))
    for first, lines in (("upper", slice(0, None, 2)), ("lower", slice(1, None, 2))):
        plate = open_plate(movie, None, Choice(fields=first))
        for frame in plate.frames:
            np.testing.assert_array_equal(plate.read(frame)[lines], whole.read(frame)[lines])
            assert (plate.read(frame) != whole.read(frame)).any()


def test_ignored_fields_leave_every_bit_as_it_is(tmp_path):
    movie, plain = write(tmp_path / "m.mkv"), write(tmp_path / "plain.mkv", order=1)
    plate, progressive = open_plate(movie, None, Choice(fields="ignore")), open_plate(plain)
    for frame in plate.frames:
        np.testing.assert_array_equal(plate.read(frame), progressive.read(frame))
    assert plate.notes == ("the movie is interlaced: frames are taken as they are, two moments in each",)
    assert progressive.notes == () and progressive.field_order is None


@pytest.mark.parametrize(
    "order, asked, words",
    [
        (2, "upper", "deinterlaced with the upper field first: "),
        (2, "lower", "lower field first, which the movie states to be upper"),
        (1, "upper", "the movie does not say that it is interlaced"),
    ],
)
def test_what_is_done_is_said(tmp_path, order, asked, words):
    (note,) = open_plate(write(tmp_path / "m.mkv", order=order), None, Choice(fields=asked)).notes
    assert words in note


def test_reading_in_any_order_gives_the_same_frames(tmp_path):
    movie = write(tmp_path / "m.mkv")
    plate = open_plate(movie, None, Choice(fields="upper"))
    whole = {frame: plate.read(frame) for frame in plate.frames}
    part = open_plate(movie, "2-4", Choice(fields="upper"))
    for frame in (4, 2, 3):
        np.testing.assert_array_equal(part.read(frame), whole[frame])


def test_how_fields_are_read_is_part_of_a_frames_fingerprint(tmp_path):
    movie = write(tmp_path / "m.mkv")
    prints = {open_plate(movie, None, Choice(fields=f)).fingerprint(2) for f in ("upper", "lower", "ignore")}
    assert len(prints) == 3


def test_an_interlaced_mask_is_refused(tmp_path):
    plate = open_plate(write(tmp_path / "m.mkv"), None, Choice(fields="upper"))
    with pytest.raises(InputError, match="^mask: .*interlaced"):
        open_mask(write(tmp_path / "mask.mkv"), plate)


def test_formats_that_the_filter_would_convert_are_refused(tmp_path):
    frames = [av.VideoFrame.from_ndarray(p, "rgb24") for p in woven(3, "upper")]
    movie = str(write_movie(tmp_path / "m.mkv", frames, codec="ffv1", pix_fmt="bgr0"))
    with pytest.raises(InputError, match="movies of bgr0 cannot be deinterlaced"):
        open_plate(movie, None, Choice(fields="upper"))


@pytest.fixture
def interlaced_dpx(tmp_path):
    file = write_image(tmp_path / "p.dpx", noise(1, np.uint16), oiio__BitsPerSample=10)
    content = bytearray(file.read_bytes())
    content[DPX_INTERLACE] = 1
    file.write_bytes(content)
    return str(file)


def test_a_dpx_that_states_fields_is_taken_as_it_is_or_refused(interlaced_dpx):
    with pytest.raises(InputError, match="interlaced; deinterlace it first, or, of a plate, say --fields ignore"):
        open_plate(interlaced_dpx)
    with pytest.raises(InputError, match="--fields upper takes the fields of movies apart"):
        open_plate(interlaced_dpx, None, Choice(fields="upper"))
    plate = open_plate(interlaced_dpx, None, Choice(fields="ignore"))
    assert plate.field_order == "not stated" and "interlaced" in plate.notes[0]
