"""Movies as clocks: uneven time stamps, rotation, fields, timecode, alpha beside the stream, files cut short."""

from fractions import Fraction

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests.plate.media import grey_levels, write_movie
from vera.core.errors import InputError
from vera.core.plate.clock import conform
from vera.core.plate.container import stated_size
from vera.core.plate.source import open_mask, open_plate
from vera.core.plate.timecode import timecode_words

RATE = Fraction(24)
TICK = 1 / RATE


@pytest.mark.parametrize(
    "ticks, shown",
    [
        ([0, 1, 2, 3], [0, 1, 2, 3]),
        ([5, 6, 7], [0, 1, 2]),  # a stamp that does not begin at 0
        ([0, 1, 3, 4], [0, 1, 1, 2, 3]),  # one frame left out
        ([7, 8, 10], [0, 1, 1, 2]),  # the same, and a stamp that does not begin at 0
        ([0, 4, 5], [0, 0, 0, 0, 1, 2]),  # a long gap
        ([0, 1, 1.3, 2, 3], [0, 2, 3, 4]),  # two frames on one tick: the later is shown
        ([0, 0.3, 1.2, 1.8, 3], [1, 2, 3, 4]),  # jitter within a tick, and a frame too many
    ],
)
def test_frames_are_held_and_dropped_as_a_host_does(ticks, shown):
    clock = conform([Fraction(t).limit_denominator(100) * TICK for t in ticks], [RATE])
    assert list(clock.shown) == shown
    assert clock.held == len(shown) - len(set(shown)) and clock.dropped == len(ticks) - len(set(shown))


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize("lasts, shown", [(1, [0, 1, 1, 2]), (3, [0, 1, 1, 2, 2, 2]), (0, [0, 1, 1, 2])])
def test_the_last_frame_of_an_uneven_movie_is_held_until_the_stated_end(start, lasts, shown):
    times = [(start + n) * TICK for n in (0, 1, 3)]
    assert list(conform(times, [RATE], end=times[-1] + lasts * TICK).shown) == shown


@pytest.mark.parametrize("lasts, shown", [(1, [0, 1, 2]), (Fraction(5, 4), [0, 1, 2]), (4, [0, 1, 2, 2, 2, 2])])
def test_the_last_frame_of_a_steady_movie_is_held_until_its_end(lasts, shown):
    times = [n * TICK for n in range(3)]
    average = 3 / ((2 + lasts) * TICK)
    assert list(conform(times, [average, RATE], end=times[-1] + lasts * TICK).shown) == shown


def test_of_two_frames_with_one_stamp_the_later_is_shown():
    clock = conform([n * TICK for n in (0, 1, 1, 3)], [RATE])
    assert clock.shown == (0, 2, 2, 3) and clock.held == 1 and clock.dropped == 1


@pytest.mark.parametrize(
    "rate", [Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60), Fraction(25, 2)]
)
@pytest.mark.parametrize("base", [1000, 90000, 600])
def test_rounded_time_stamps_of_a_steady_rate_are_steady(rate, base):
    times = [Fraction(round(n / rate * base), base) for n in range(300)]
    clock = conform(times, [rate])
    assert clock.is_even and clock.rate == rate and clock.shown == tuple(range(300))


def test_the_first_stated_rate_that_fits_is_taken():
    times = [n * TICK for n in range(50)]
    assert conform(times, [Fraction(23), RATE]).rate == RATE


@pytest.mark.parametrize(
    "times", [[None, None], [Fraction(0), None], [Fraction(1), Fraction(1)], [Fraction(2), Fraction(1)]]
)
def test_stamps_that_say_nothing_leave_every_frame_in_its_place(times):
    assert conform(times, [RATE]).shown == (0, 1)


def uneven_movie(file, ticks, codec="libx264"):
    """A movie of 24 ticks a second, frame k of grey level k at ticks[k]."""
    with av.open(str(file), "w") as out:
        stream = out.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        for tick, picture in zip(ticks, grey_levels(len(ticks)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = tick, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return str(file)


@pytest.mark.parametrize("lasts, frames", [(1, 3), (10, 12)])
def test_a_last_frame_that_lasts_longer_is_held(tmp_path, lasts, frames):
    movie = tmp_path / "m.mp4"
    with av.open(str(movie), "w") as out:
        stream = out.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        pictures = [av.VideoFrame.from_ndarray(p, "rgb24").reformat(format="yuv420p") for p in grey_levels(3)]
        packets = [packet for picture in [*pictures, None] for packet in stream.encode(picture)]
        for packet in packets:
            packet.duration = 1
        packets[-1].duration = lasts
        out.mux(packets)
    plate = open_plate(str(movie))
    assert plate.frames == tuple(range(1, frames + 1)) and plate.fps == 24
    assert any("held" in note for note in plate.notes) == (lasts > 1)


@pytest.mark.parametrize("extension", ["mp4", "mkv", "mov"])
def test_an_uneven_movie_shows_what_a_player_shows_at_each_tick(tmp_path, extension):
    ticks = [0, 1, 2, 5, 6, 8, 9, 11]
    plate = open_plate(uneven_movie(tmp_path / f"m.{extension}", ticks))
    levels = [round((plate.read(f).mean() - 10) / 12) for f in plate.frames]
    expected = [max(k for k, tick in enumerate(ticks) if tick <= now) for now in range(len(levels))]
    assert levels == expected and len(levels) >= 12 and plate.fps == 24
    assert "held" in plate.notes[0]


def test_a_time_base_is_not_taken_for_a_rate(tmp_path, monkeypatch):
    """Stamps in milliseconds at random: a base rate of 1,000 a second would make thousands of frames."""
    stamps = [Fraction(t, 1000) for t in (0, 37, 81, 103, 160, 333, 1200, 2201)]
    assert len(conform(stamps, [Fraction(1000)]).shown) > 2000
    movie = uneven_movie(tmp_path / "m.mp4", [0, 1, 4, 5])
    monkeypatch.setattr("vera.core.plate.movie.conform", lambda times, rates: conform(stamps, [Fraction(1000)]))
    with pytest.raises(InputError, match="no steady rate fits them; conform it"):
        open_plate(movie)


def test_a_range_of_an_uneven_movie_is_read_in_any_order(tmp_path):
    movie = uneven_movie(tmp_path / "m.mp4", [0, 1, 4, 5])
    whole, part = open_plate(movie), open_plate(movie, "3-5")
    for frame in (5, 3, 4):
        np.testing.assert_array_equal(part.read(frame), whole.read(frame))


@pytest.mark.parametrize("asked", ["1", "2", "1-2", "1-3", "3-3", "4-6"])
def test_a_short_range_of_an_uneven_movie_states_the_rate_that_the_whole_has(tmp_path, asked):
    movie = uneven_movie(tmp_path / "m.mp4", [0, 1, 2, 3, 7, 8, 12, 13, 14])
    assert open_plate(movie).fps == 24
    assert open_plate(movie, asked).fps == 24


def test_near_rates_are_not_chosen_by_the_rounding_of_stamps():
    times = [Fraction(round(n / Fraction(24000, 1001) * 1000), 1000) for n in range(12)]
    assert conform(times, [Fraction(24000, 1001), Fraction(24)]).rate == Fraction(24000, 1001)
    assert conform(times, [Fraction(24), Fraction(24000, 1001)]).rate == Fraction(24)


def test_a_steady_movie_raises_no_note(tmp_path):
    assert open_plate(str(write_movie(tmp_path / "m.mkv", grey_levels(10)))).notes == ()


@pytest.mark.parametrize("degrees, turns", [(90, 1), (180, 2), (270, 3), (-90, 3)])
def test_a_stated_rotation_is_applied_and_said(tmp_path, degrees, turns):
    """Display matrices turn to the left, as PyAV says `rotation`."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = (250, 30, 30)
    plain = open_plate(str(write_movie(tmp_path / "a.mp4", [picture])))

    def turn(stream):
        stream.set_display_rotation(degrees) if hasattr(stream, "set_display_rotation") else pytest.skip(
            "PyAV cannot write it"
        )

    turned = open_plate(str(write_movie(tmp_path / "b.mp4", [picture], tune=turn)))
    np.testing.assert_array_equal(turned.read(1), np.rot90(plain.read(1), turns))
    assert "rotation" in turned.notes[0] and (turned.height, turned.width) == turned.read(1).shape[:2]


@pytest.mark.parametrize("degrees, aspect", [(0, 2), (90, 0.5), (180, 2), (270, 0.5)])
def test_a_rotated_pixel_is_as_high_as_it_was_wide(tmp_path, degrees, aspect):
    def tune(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        if degrees:
            stream.set_display_rotation(degrees)

    assert open_plate(str(write_movie(tmp_path / "a.mp4", grey_levels(1), tune=tune))).pixel_aspect == aspect


@pytest.mark.parametrize("codec, extension", [("libvpx-vp9", "webm"), ("libvpx", "webm"), ("libvpx-vp9", "mkv")])
def test_alpha_beside_the_stream_is_decoded(tmp_path, codec, extension):
    frames = []
    for _ in range(3):
        pixels = np.full((48, 64, 4), 255, np.uint8)
        pixels[:, 32:, 3] = 0
        frames.append(av.VideoFrame.from_ndarray(pixels, "rgba").reformat(format="yuva420p"))
    movie = write_movie(
        tmp_path / f"m.{extension}", frames, codec=codec, pix_fmt="yuva420p", options={"auto-alt-ref": "0"}
    )
    plate = open_plate(str(write_movie(tmp_path / "p.mkv", grey_levels(3))))
    mask = open_mask(str(movie), plate)
    assert mask.uses_alpha and mask.read(2)[:, :28].min() > 0.98 and mask.read(2)[:, 36:].max() < 0.02
    assert open_plate(str(movie)).ignored_channels == ("A",)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("extension", ["mkv", "webm", "avi", "mp4", "mov"])
def test_a_movie_that_was_cut_short_in_a_copy_is_refused(tmp_path, extension, share):
    codec = "libvpx-vp9" if extension == "webm" else "libx264"
    noise = [np.random.default_rng(k).integers(0, 255, (48, 64, 3), np.uint8) for k in range(12)]
    file = write_movie(tmp_path / f"m.{extension}", noise, codec=codec)
    assert len(open_plate(str(file)).frames) == 12
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="m\\."):
        open_plate(str(file))


def test_a_container_that_says_no_size_is_believed(tmp_path):
    file = tmp_path / "m.bin"
    file.write_bytes(b"\x1a\x45\xdf\xa3\x81\x00\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" + bytes(10))
    assert stated_size(file) is None
    file.write_bytes(b"plain text")
    assert stated_size(file) is None


@pytest.mark.parametrize(
    "text, rate, later, shown",
    [
        ("01:00:00:00", Fraction(24), 0, "01:00:00:00"),
        ("01:00:00:00", Fraction(24), 30, "01:00:01:06"),
        ("23:59:59:23", Fraction(24), 1, "00:00:00:00"),
        ("00:00:59:29", Fraction(30000, 1001), 1, "00:01:00:00"),
        ("00:00:59;29", Fraction(30000, 1001), 1, "00:01:00:02"),
        ("00:00:59.29", Fraction(30000, 1001), 1, "00:01:00:02"),  # a point means drop-frame, too
        ("00:04:59;29", Fraction(30000, 1001), 0, "00:04:59:29"),
        ("00:08:59;29", Fraction(30000, 1001), 1, "00:09:00:02"),
        ("00:09:59;29", Fraction(30000, 1001), 1, "00:10:00:00"),
        ("10:11:12:13", Fraction(25), 0, "10:11:12:13"),
        # above 30 frames a second the field counts pairs (SMPTE 12M-1); "+" marks the second frame of a pair
        ("01:00:00;00", Fraction(60000, 1001), 3600, "01:01:00:02"),
        ("01:00:00;45", Fraction(60000, 1001), 0, "01:00:00:22+"),
        ("01:00:00:45", Fraction(60), 1, "01:00:00:23"),
        ("10:11:12:48", Fraction(50), 1, "10:11:12:24+"),
        ("10:11:12:49", Fraction(50), 1, "10:11:13:00"),
        ("00:00:00:46", Fraction(48), 1, "00:00:00:23+"),
    ],
)
def test_timecode_counts_on_and_drops_numbers(text, rate, later, shown):
    word, _ = timecode_words(text, rate, later)
    fields = [word >> shift & mask for shift, mask in ((24, 0x3F), (16, 0x7F), (8, 0x7F), (0, 0x3F))]
    assert ":".join(f"{f >> 4}{f & 15}" for f in fields) + "+" * (word >> 15 & 1) == shown
    assert bool(word >> 6 & 1) == (text[8] in ";.")


@pytest.mark.parametrize(
    "text", ["", "1:2:3:4", "tomorrow", "24:00:00:00", "01:60:00:00", "01:00:60:00", "01:00:00:24"]
)
def test_what_is_no_timecode_is_none(text):
    assert timecode_words(text, RATE, 0) is None


def test_a_movies_timecode_is_found(tmp_path):
    movie = tmp_path / "m.mov"
    with av.open(str(movie), "w") as out:
        out.metadata["timecode"] = "01:00:00:00"
        stream = out.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in grey_levels(2):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode())
    assert open_plate(str(movie)).timecode == "01:00:00:00"


def test_openimageio_reads_the_timecode_that_is_written(tmp_path):
    spec = oiio.ImageSpec(4, 4, 3, "half")
    spec.attribute("smpte:TimeCode", oiio.TypeTimeCode, timecode_words("01:02:03:04", RATE, 0))
    out = oiio.ImageOutput.create(str(tmp_path / "a.exr"))
    assert out.open(str(tmp_path / "a.exr"), spec) and out.write_image(np.zeros((4, 4, 3), np.float16)) and out.close()
    read = oiio.ImageInput.open(str(tmp_path / "a.exr")).spec()
    attribute = next(a for a in read.extra_attribs if a.name == "smpte:TimeCode")
    assert read.metadata_val(attribute, False) == "01:02:03:04"
