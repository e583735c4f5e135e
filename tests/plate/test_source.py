import base64
import os
import shutil
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests.plate.media import grey_levels, planar, write_image, write_movie, write_noise, write_sequence
from vera.core.errors import InputError
from vera.core.plate import stills
from vera.core.plate.source import open_mask, open_plate


def refusal(call, *parts: str) -> str:
    """The one line of the InputError that `call` raises, which contains all `parts`."""
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message and ";" in message, f"not 'what; mend' in one line: {message!r}"
    for part in parts:
        assert part in message, f"{part!r} is not in {message!r}"
    return message


def bits_of(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels).view(f"u{pixels.dtype.itemsize}")


def assert_same_bits(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_array_equal(bits_of(got), bits_of(expected))


# ---- bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "rle", "zips", "zip", "piz"])
def test_every_half_survives(tmp_path, compression):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256, 1).repeat(3, 2)
    plate = open_plate(str(write_image(tmp_path / "p.exr", every, compression=compression)))
    assert (plate.pixel_type, plate.dtype) == ("half", np.float16)
    assert_same_bits(plate.read(1), every)


@pytest.mark.parametrize("extension", ["exr", "tif"])
def test_every_kind_of_float_survives(tmp_path, extension):
    rng = np.random.default_rng(4)
    pixels = rng.integers(0, 2**32, (32, 40, 4), dtype=np.uint32).view(np.float32)
    pixels[0, :6, 0] = [np.nan, np.inf, -np.inf, -0.0, 1e-45, -1e-40]
    plate = open_plate(str(write_image(tmp_path / f"p.{extension}", pixels)))
    assert plate.pixel_type == "float" and plate.channels == ("R", "G", "B", "A")
    assert_same_bits(plate.read(1), pixels)


def test_half_colour_beside_a_float_depth_channel_survives(tmp_path):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256, 1).repeat(3, 2)
    pixels = np.concatenate([every.astype(np.float32), np.full((256, 256, 2), 7, np.float32)], 2)

    def formats(spec):
        spec.channelformats = ("half", "half", "half", "float", "float")

    file = write_image(tmp_path / "p.exr", pixels, names=("R", "G", "B", "Z", "matte.x"), spec_hook=formats)
    plate = open_plate(str(file))
    assert (plate.channels, plate.pixel_type) == (("R", "G", "B"), "half")
    assert sorted(plate.ignored_channels) == ["Z", "matte.x"]
    np.testing.assert_array_equal(np.isnan(plate.read(1)), np.isnan(every))
    fine = ~np.isnan(every)  # the writer goes through float, which may alter the bits of a NaN
    np.testing.assert_array_equal(bits_of(plate.read(1))[fine], bits_of(every)[fine])


@pytest.mark.parametrize(
    "extension, bits, kind",
    [
        ("dpx", 10, "uint10"),
        ("dpx", 12, "uint12"),
        ("dpx", 16, "uint16"),
        ("dpx", 8, "uint8"),
        ("tif", 8, "uint8"),
        ("tif", 16, "uint16"),
        ("png", 8, "uint8"),
        ("png", 16, "uint16"),
        ("tga", 8, "uint8"),
        ("bmp", 8, "uint8"),
        ("tif", 32, "uint32"),
        ("exr", 32, "uint32"),
    ],
)
def test_every_integer_code_survives(tmp_path, extension, bits, kind):
    rng = np.random.default_rng(bits)
    codes = rng.integers(0, 2**bits, (64, 80, 3), dtype=np.uint64)
    codes[:, :, 0] = np.linspace(0, 2**bits - 1, 64 * 80).astype(np.uint64).reshape(64, 80)
    if bits in (10, 12):
        codes = codes << (16 - bits) | codes >> (2 * bits - 16)
    pixels = codes.astype({8: np.uint8, 32: np.uint32}.get(bits, np.uint16))
    depth = {"oiio__BitsPerSample": bits} if extension == "dpx" else {}
    plate = open_plate(str(write_image(tmp_path / f"p.{extension}", pixels, **depth)))
    assert (plate.pixel_type, plate.dtype, plate.extension) == (kind, pixels.dtype, extension)
    assert_same_bits(plate.read(1), pixels)


def test_10_bit_tiff_gives_back_its_codes(tmp_path):
    codes = np.arange(1024, dtype=np.uint16).reshape(32, 32, 1).repeat(3, 2)
    file = write_image(tmp_path / "p.tif", codes << 6 | codes >> 4, oiio__BitsPerSample=10)
    plate = open_plate(str(file))
    assert plate.pixel_type == "uint10"
    np.testing.assert_array_equal(plate.read(1) >> 6, codes)


# Found by `make fuzz`: an EXR whose header is damaged so that the library's message quotes bytes that are no text.
QUOTED_BYTES = (
    "di8xAQIAAABjYXBEYXRlAHJ0cmluZwATAAAAMjAyNjoxMTozMCAxMjoxMzo0N2NoYW5uZWxzAGNobGlzdAA3AAAAQgABAAAAAAAA"
    "AAEAAAABAAAARwABAAAAAAAAAAEAAAABAAAAUgABAAAAAAAAAAEAAAABAAAAAGNvbXByZXNzaW9uAGNvbXByZf//AAEAAAAJAAAA"
    "AGNvbXByZXNzaW9uAGNvbXByZXNzaW9uAAEAAAADZGF0YVdpbmRvdwBib3gyaQAQAAAAAAAATRcAAAAAAB8AAAAXAAA="
)


def test_a_message_that_quotes_bytes_is_a_refusal(tmp_path):
    (tmp_path / "p.exr").write_bytes(base64.b64decode(QUOTED_BYTES))
    refusal(lambda: open_plate(str(tmp_path / "p.exr")), "p.exr")


@pytest.mark.parametrize("bits", [2, 4, 10, 12])
def test_tiles_of_odd_bits_are_refused_before_they_are_decoded(tmp_path, bits, monkeypatch):
    """OpenImageIO's issue 5315 is a write out of bounds while such tiles are unpacked."""
    kind = np.uint8 if bits < 8 else np.uint16

    def tiled(spec):
        spec.tile_width = spec.tile_height = 16

    file = write_image(tmp_path / "p.tif", np.zeros((32, 32, 3), kind), spec_hook=tiled, oiio__BitsPerSample=bits)
    monkeypatch.setattr(stills, "_refuse_truncated", lambda *_: pytest.fail("decoded"))
    with pytest.raises(InputError, match=f"tiles of {bits} bits"):
        open_plate(str(file))


@pytest.mark.parametrize("extension", ["png", "tif", "tga"])
def test_unassociated_alpha_does_not_touch_colour(tmp_path, extension):
    pixels = np.random.default_rng(5).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    pixels[0, 0] = (200, 100, 50, 0)
    file = write_image(tmp_path / f"p.{extension}", pixels, oiio__UnassociatedAlpha=1)
    plate = open_plate(str(file))
    assert plate.channels == ("R", "G", "B", "A")
    assert_same_bits(plate.read(1), pixels)


def test_tiled_and_bottom_up_exr_are_read(tmp_path):
    pixels = np.random.default_rng(6).random((100, 70, 3)).astype(np.float16)

    def tiles(spec):
        spec.tile_width = spec.tile_height = 32

    assert_same_bits(open_plate(str(write_image(tmp_path / "t.exr", pixels, spec_hook=tiles))).read(1), pixels)
    file = write_image(tmp_path / "d.exr", pixels, openexr__lineOrder="decreasingY")
    assert_same_bits(open_plate(str(file)).read(1), pixels)


def test_a_moved_window_is_fine_as_long_as_both_agree(tmp_path):
    def moved(spec):
        spec.x = spec.full_x = 10
        spec.y = spec.full_y = -20

    pixels = np.random.default_rng(7).random((9, 7, 3)).astype(np.float32)
    plate = open_plate(str(write_image(tmp_path / "p.exr", pixels, spec_hook=moved)))
    assert_same_bits(plate.read(1), pixels)
    assert (plate.spec(1).full_x, plate.spec(1).full_y) == (10, -20)


def windows(x, y, width, height):
    """The data window begins at x, y of a display window of that size."""

    def hook(spec):
        spec.x, spec.y, spec.full_width, spec.full_height = x, y, width, height

    return hook


@pytest.mark.parametrize("x, y, width, height", [(-2, -3, 5, 4), (1, 0, 40, 30), (0, 0, 6, 9)])
def test_a_data_window_of_its_own_is_read_whole(tmp_path, x, y, width, height):
    pixels = np.random.default_rng(8).random((9, 7, 3)).astype(np.float32)
    plate = open_plate(str(write_image(tmp_path / "p.exr", pixels, spec_hook=windows(x, y, width, height))))
    assert_same_bits(plate.read(1), pixels)
    assert plate.offset == (x, y) and (plate.width, plate.height) == (7, 9)


# ---- sequences ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plate.####.exr", "plate.%04d.exr", "plate.@@@@.exr"])
def test_padding_forms_open_the_same_frames(tmp_path, name):
    write_sequence(tmp_path, range(-3, 4))
    plate = open_plate(str(tmp_path / name))
    assert plate.frames == (-3, -2, -1, 0, 1, 2, 3)
    for frame in plate.frames:
        assert (plate.read(frame) == np.float16(frame / 1024)).all()
    assert plate.file(-3).name == "plate.-003.exr"


def test_ranges_choose(tmp_path):
    pattern = str(write_sequence(tmp_path, range(1001, 1010)))
    assert open_plate(pattern).frames == tuple(range(1001, 1010))
    assert open_plate(pattern, "1003-1005").frames == (1003, 1004, 1005)
    assert open_plate(pattern, "1009").frames == (1009,)
    plate = open_plate(pattern, "1003-1005")
    with pytest.raises(ValueError, match="frame 1006 is not among 1003-1005"):
        plate.read(1006)


def test_a_gap_outside_the_range_does_not_matter(tmp_path):
    pattern = str(write_sequence(tmp_path, [1, 2, 3, 5, 6]))
    assert open_plate(pattern, "1-3").frames == (1, 2, 3)


def test_a_lone_still_is_one_frame(tmp_path):
    write_sequence(tmp_path, [1001])
    assert open_plate(str(tmp_path / "plate.1001.exr")).frames == (1001,)
    assert open_plate(str(tmp_path / "plate.1001.exr"), "1001").frames == (1001,)
    shutil.copy(tmp_path / "plate.1001.exr", tmp_path / "still.exr")
    assert open_plate(str(tmp_path / "still.exr")).frames == (1,)


def test_upper_case_extension(tmp_path):
    write_sequence(tmp_path, [1, 2], name="plate.{:04d}.exr")
    for n in (1, 2):
        os.rename(tmp_path / f"plate.000{n}.exr", tmp_path / f"plate.000{n}.EXR")
    plate = open_plate(str(tmp_path / "plate.####.EXR"))
    assert plate.frames == (1, 2) and plate.extension == "exr"


def test_metadata(tmp_path):
    file = write_image(
        tmp_path / "p.exr",
        np.zeros((4, 4, 3), np.float16),
        FramesPerSecond=(oiio.TypeDesc("rational"), (24000, 1001)),
        PixelAspectRatio=2.0,
        smpte__TimeCode=(oiio.TypeDesc("timecode"), (17, 4)),
        artist="someone",
    )
    plate = open_plate(str(file))
    assert (plate.fps, plate.pixel_aspect, plate.is_movie) == (Fraction(24000, 1001), 2.0, False)
    spec = plate.spec(1)
    assert spec.getattribute("smpte:TimeCode") == (17, 4) and spec.getattribute("artist") == "someone"
    assert open_plate(str(write_image(tmp_path / "q.png", np.zeros((4, 4, 3), np.uint8)))).fps is None


@pytest.mark.parametrize(
    "stored, rate",
    [
        (23.976, Fraction(24000, 1001)),
        (24.0, Fraction(24)),
        (29.97, Fraction(30000, 1001)),
        (12.5, Fraction(25, 2)),
        (59.94, Fraction(60000, 1001)),
    ],
)
def test_dpx_frame_rate(tmp_path, stored, rate):
    file = write_image(tmp_path / "p.dpx", np.zeros((4, 4, 3), np.uint16), dpx__FrameRate=stored)
    assert open_plate(str(file)).fps == rate


def test_further_parts_are_ignored_by_name(tmp_path):
    beauty, depth = oiio.ImageSpec(8, 6, 3, "half"), oiio.ImageSpec(8, 6, 1, "float")
    beauty.attribute("oiio:subimagename", "beauty")
    depth.attribute("oiio:subimagename", "depth")
    depth.channelnames = ("Z",)
    write_parts(tmp_path / "p.exr", beauty, depth)
    plate = open_plate(str(tmp_path / "p.exr"))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ("depth.Z",)
    assert plate.read(1).shape == (6, 8, 3)
    write_parts(tmp_path / "q.exr", depth, beauty)
    plate = open_plate(str(tmp_path / "q.exr"))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ("Z",)
    assert plate.notes == ("part beauty is the picture", "left out of the plate and its composite: Z")


def write_parts(file: Path, *specs) -> None:
    out = oiio.ImageOutput.create(str(file))
    assert out.open(str(file), specs), out.geterror()
    for n, spec in enumerate(specs):
        if n:
            assert out.open(str(file), spec, "AppendSubimage"), out.geterror()
        assert out.write_image(np.zeros((spec.height, spec.width, spec.nchannels), np.float32))
    assert out.close()


# ---- fingerprints ------------------------------------------------------------------------


def test_fingerprint_follows_content_alone(tmp_path):
    pattern = str(write_sequence(tmp_path, [1, 2]))
    plate = open_plate(pattern)
    before = plate.fingerprint(1)
    assert before == open_plate(pattern).fingerprint(1) != plate.fingerprint(2)
    file = tmp_path / "plate.0001.exr"
    os.utime(file, (1, 1))
    assert plate.fingerprint(1) == before
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert plate.fingerprint(1) != before


def test_fingerprint_of_a_movie_is_by_frame_and_file(tmp_path):
    file = write_movie(tmp_path / "m.mp4", grey_levels(3))
    plate = open_plate(str(file))
    prints = [plate.fingerprint(f) for f in plate.frames]
    assert len(set(prints)) == 3
    assert prints == [open_plate(str(file)).fingerprint(f) for f in (1, 2, 3)]
    other = open_plate(str(write_movie(tmp_path / "n.mp4", grey_levels(4))))
    assert other.fingerprint(1) != prints[0]


# ---- movies ------------------------------------------------------------------------------

B_FRAMES = {"bf": "3", "g": "8", "crf": "10"}


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "avi"])
@pytest.mark.parametrize("count", [1, 2, 16, 17])
def test_movie_frames_are_counted_exactly(tmp_path, extension, count):
    file = write_movie(tmp_path / f"m.{extension}", grey_levels(count), options=B_FRAMES)
    plate = open_plate(str(file))
    assert plate.frames == tuple(range(1, count + 1))
    assert (plate.width, plate.height, plate.fps) == (64, 48, Fraction(24))
    assert (plate.is_movie, plate.pixel_type, plate.channels) == (True, "uint8", ("R", "G", "B"))
    assert plate.spec(1) is None and plate.file(1) == file
    for frame in plate.frames:
        assert abs(plate.read(frame).mean() - (10 + 12 * ((frame - 1) % 20))) < 3, frame


def test_vp9_in_webm(tmp_path):
    plate = open_plate(str(write_movie(tmp_path / "m.webm", grey_levels(9), codec="libvpx-vp9")))
    assert plate.frames == tuple(range(1, 10))
    assert abs(plate.read(9).mean() - 106) < 4


def test_movie_reads_the_same_in_any_order(tmp_path):
    noise = np.random.default_rng(8).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    file = str(write_movie(tmp_path / "m.mp4", list(noise), options=B_FRAMES))
    plate = open_plate(file)
    forward = [plate.read(f).copy() for f in plate.frames]
    assert len({a.tobytes() for a in forward}) == 12
    for frame in (12, 5, 6, 6, 1, 12, 3, 2):
        np.testing.assert_array_equal(plate.read(frame), forward[frame - 1])
    part = open_plate(file, "4-7")
    assert part.frames == (4, 5, 6, 7)
    np.testing.assert_array_equal(part.read(6), forward[5])


def test_lossless_rgb_movies_keep_their_codes(tmp_path):
    rng = np.random.default_rng(9)
    pictures = rng.integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    plate = open_plate(str(write_movie(tmp_path / "8.mov", list(pictures), codec="png", pix_fmt="rgb24")))
    assert plate.pixel_type == "uint8"
    np.testing.assert_array_equal([plate.read(1), plate.read(2)], pictures)
    for pix_fmt, bits in (("gbrp10le", 10), ("gbrp12le", 12), ("gbrp16le", 16)):
        codes = rng.integers(0, 2**bits, (3, 48, 64)).astype(np.uint16)
        codes[:, 0, 0], codes[:, 0, 1] = 0, 2**bits - 1
        frame = planar(pix_fmt, codes[1], codes[2], codes[0])
        plate = open_plate(str(write_movie(tmp_path / f"{bits}.mkv", [frame], codec="ffv1", pix_fmt=pix_fmt)))
        got = plate.read(1)
        assert plate.pixel_type == "uint16" and got.dtype == plate.dtype == np.uint16
        np.testing.assert_array_equal(got >> (16 - bits), np.moveaxis(codes, 0, -1))
        np.testing.assert_allclose(got / 65535, np.moveaxis(codes, 0, -1) / (2**bits - 1), atol=1 / 65535)
        assert got.max() == 65535 and got.min() == 0


# kr, kb of ITU-T H.273; the code marks the stream, None leaves it unmarked
MATRICES = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 5: (0.299, 0.114), 9: (0.2627, 0.0593), 7: (0.212, 0.087)}


def rgb_reference(y, u, v, kr, kb, bits, full):
    """The equations of H.273, in double precision."""
    if full:
        y, u, v = y / (2**bits - 1), (u - 2 ** (bits - 1)) / (2**bits - 1), (v - 2 ** (bits - 1)) / (2**bits - 1)
    else:
        s = 2 ** (bits - 8)
        y, u, v = (y - 16 * s) / (219 * s), (u - 128 * s) / (224 * s), (v - 128 * s) / (224 * s)
    r, b = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    return np.clip(np.stack([r, (y - kr * r - kb * b) / (1 - kr - kb), b], -1), 0, 1)


@pytest.mark.parametrize("pix_fmt, bits", [("yuv444p", 8), ("yuv444p10le", 10), ("yuv444p12le", 12)])
@pytest.mark.parametrize(
    "matrix, full, height",
    [
        (1, False, 48),
        (1, True, 48),
        (6, False, 48),
        (5, False, 720),
        (9, True, 48),
        (7, False, 48),
        (2, False, 48),
        (2, False, 720),
    ],
)
def test_matrix_and_range_against_the_equations(tmp_path, pix_fmt, bits, matrix, full, height):
    rng = np.random.default_rng(bits)
    step, dtype = 2 ** (bits - 8), np.uint8 if bits == 8 else np.uint16
    y = rng.integers(0, 2**bits, (height, 64)).astype(dtype)
    u, v = (rng.integers(40 * step, 216 * step, (height, 64)).astype(dtype) for _ in range(2))
    y[0, :2] = [16 * step, 235 * step]
    u[0, :2] = v[0, :2] = 128 * step

    frame = planar(pix_fmt, y, u, v)
    frame.colorspace, frame.color_range = matrix, 2 if full else 1

    def tune(stream):
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1

    file = write_movie(tmp_path / "m.mkv", [frame], codec="ffv1", pix_fmt=pix_fmt, tune=tune)
    got = open_plate(str(file)).read(1)
    unmarked = (0.2126, 0.0722) if height >= 720 else (0.299, 0.114)
    weights = MATRICES.get(matrix, unmarked)
    # double: the planes are unsigned
    expected = rgb_reference(y.astype(float), u.astype(float), v.astype(float), *weights, bits, full)
    scale, tolerance = (255, 1.0) if bits == 8 else (65535, 1.0)
    assert np.abs(got - expected * scale).max() <= tolerance
    if not full:
        assert (got[0, 0] == 0).all() and (got[0, 1] == scale).all()


def test_prores_is_16_bit_rgb(tmp_path):
    frame = planar("yuv422p10le", *(np.full((48, w), c, np.uint16) for w, c in ((64, 940), (32, 512), (32, 512))))
    plate = open_plate(str(write_movie(tmp_path / "m.mov", [frame], codec="prores_ks", pix_fmt="yuv422p10le")))
    assert (plate.pixel_type, plate.read(1).dtype) == ("uint16", np.uint16)
    assert (plate.read(1) > 65535 - 200).all()


def test_alpha_of_a_movie_plate_is_ignored_by_name(tmp_path):
    planes = [np.full((48, 64), 30000, np.uint16)] * 4
    file = write_movie(tmp_path / "m.mkv", [planar("gbrap16le", *planes)], codec="ffv1", pix_fmt="gbrap16le")
    plate = open_plate(str(file))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ("A",)
    assert plate.read(1).shape == (48, 64, 3)


# ---- refusals ----------------------------------------------------------------------------


def test_gap(tmp_path):
    pattern = str(write_sequence(tmp_path, [1, 2, 4, 6]))
    refusal(lambda: open_plate(pattern), "frame 3, 5 missing", "plate.####.exr")
    refusal(lambda: open_plate(pattern, "2-4"), "frame 3 missing")


def test_range_outside(tmp_path):
    pattern = str(write_sequence(tmp_path, range(5, 9)))
    for asked in ("4-6", "8-9", "100", "-5"):
        refusal(lambda: open_plate(pattern, asked), f"frames {asked} asked", "5-8", "plate.####.exr")


def test_reversed_and_empty_ranges(tmp_path):
    pattern = str(write_sequence(tmp_path, range(5, 9)))
    refusal(lambda: open_plate(pattern, "8-5"), "8-5", "backwards")
    refusal(lambda: open_plate(pattern, ""), "not a frame range")


def test_pattern_that_fits_nothing(tmp_path):
    write_sequence(tmp_path, [1], name="plate.{:03d}.exr")
    refusal(lambda: open_plate(str(tmp_path / "plate.####.exr")), "plate.####.exr", "plate.001.exr is padded otherwise")
    refusal(lambda: open_plate(str(tmp_path / "none.####.exr")), "none.####.exr", "check the name")
    refusal(lambda: open_plate(str(tmp_path / "no" / "p.####.exr")), "folder", "cannot be read")
    refusal(lambda: open_plate(str(tmp_path / "a.####.%04d.exr")), "several frame patterns")


def test_no_such_file(tmp_path):
    refusal(lambda: open_plate(str(tmp_path / "p.exr")), "p.exr: no such file")
    refusal(lambda: open_plate(str(tmp_path / "p.mp4")), "p.mp4: no such file")


def test_frame_that_cannot_be_opened(tmp_path):
    pattern = str(write_sequence(tmp_path, [1, 2]))
    os.unlink(tmp_path / "plate.0002.exr")
    os.symlink(tmp_path / "gone.exr", tmp_path / "plate.0002.exr")
    refusal(lambda: open_plate(pattern), "frame 2", "plate.0002.exr", "cannot be read")


def test_directory(tmp_path):
    (tmp_path / "d.exr").mkdir()
    refusal(lambda: open_plate(str(tmp_path / "d.exr")), "d.exr: a directory")
    pattern = str(write_sequence(tmp_path, [1, 3]))
    (tmp_path / "plate.0002.exr").mkdir()
    refusal(lambda: open_plate(pattern), "frame 2", "plate.0002.exr: a directory")


def test_unknown_extension(tmp_path):
    (tmp_path / "p.xyz").write_text("x")
    refusal(lambda: open_plate(str(tmp_path / "p.xyz")), "p.xyz", "'xyz'", "exr")
    refusal(lambda: open_plate(str(tmp_path / "p.####")), "extension")


@pytest.mark.parametrize("extension", ["exr", "dpx", "tif", "png", "jpg"])
def test_text_and_empty_files(tmp_path, extension):
    file = tmp_path / f"p.1001.{extension}"
    file.write_text("This is a text file\nof two lines, long enough for a header.\n" * 50)
    refusal(lambda: open_plate(str(file)), "frame 1001", file.name, "not a readable image")
    file.write_bytes(b"")
    refusal(lambda: open_plate(str(file)), "frame 1001", file.name, "empty (0 bytes)")


def test_png_named_exr(tmp_path):
    file = write_image(tmp_path / "p.png", np.zeros((4, 4, 3), np.uint8)).rename(tmp_path / "p.exr")
    refusal(lambda: open_plate(str(file)), "p.exr", "holds png, not openexr")


@pytest.mark.parametrize(
    "other, part",
    [(np.zeros((6, 9, 3), np.float16), "9x6 half R,G,B"), (np.zeros((6, 8, 3), np.float32), "8x6 float R,G,B")],
)
def test_change_between_frames(tmp_path, other, part):
    pattern = str(write_sequence(tmp_path, [1, 2, 3]))
    write_image(tmp_path / "plate.0002.exr", other)
    refusal(lambda: open_plate(pattern), "frame 2", "plate.0002.exr", part, "frame 1 is 8x6 half R,G,B")


@pytest.mark.parametrize("names", [("R", "G"), ("Z", "G", "B"), ("depth.Z",), ("X", "Y1")])
def test_plate_without_a_picture(tmp_path, names):
    file = write_image(tmp_path / "p.exr", np.zeros((4, 4, len(names)), np.float16), names=names)
    refusal(lambda: open_plate(str(file)), "frame 1", "p.exr", "no R, G and B", names[0])


@pytest.mark.parametrize(
    "formats",
    [("half", "half", "half", "float"), ("float", "float", "float", "half"), ("half", "float", "half", "half")],
)
def test_half_and_float_channels_are_read_as_float_exactly_and_said(tmp_path, formats):
    def hook(spec):
        spec.channelformats = formats

    pixels = np.random.default_rng(3).standard_normal((6, 5, 4)).astype(np.float32)
    for channel, kind in enumerate(formats):
        if kind == "half":
            pixels[..., channel] = pixels[..., channel].astype(np.float16)
    names = ("R", "G", "B", "A")
    plate = open_plate(str(write_image(tmp_path / "p.exr", pixels, names=names, spec_hook=hook)))
    assert plate.pixel_type == "float" and "half and of float" in plate.notes[0]
    np.testing.assert_array_equal(plate.read(1), pixels)


def test_other_mixtures_of_channel_types_are_refused(tmp_path):
    def hook(spec):
        spec.channelformats = ("half", "half", "uint")

    file = write_image(tmp_path / "p.exr", np.zeros((4, 4, 3), np.float32), spec_hook=hook)
    refusal(lambda: open_plate(str(file)), "p.exr", "different types (half, uint)")


def test_unsupported_pixel_types(tmp_path):
    file = write_image(tmp_path / "p.tif", np.zeros((4, 4, 3), np.float64))
    refusal(lambda: open_plate(str(file)), "p.tif", "double", "not supported yet")


def test_deep_image(tmp_path):
    spec = oiio.ImageSpec(4, 4, 4, "half")
    spec.deep = True
    out = oiio.ImageOutput.create(str(tmp_path / "p.exr"))
    samples = oiio.DeepData()
    samples.init(spec)
    assert out.open(str(tmp_path / "p.exr"), spec) and out.write_deep_image(samples) and out.close()
    refusal(lambda: open_plate(str(tmp_path / "p.exr")), "p.exr", "deep", "not supported yet")


def test_header_bomb(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    (tmp_path / "p.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"0" * 100)) + chunk(b"IEND", b"")
    )
    refusal(lambda: open_plate(str(tmp_path / "p.png")), "frame 1", "p.png", "not a readable image", "4096 MB limit")


def test_zero_size_header(tmp_path):
    file = write_image(tmp_path / "p.tga", np.zeros((4, 4, 3), np.uint8))
    data = bytearray(file.read_bytes())
    data[12:16] = bytes(4)
    file.write_bytes(data)
    refusal(lambda: open_plate(str(file)), "frame 1", "p.tga")


def broken_off(file: Path, whole: bytes, share: float) -> None:
    file.write_bytes(whole[: max(1, int(len(whole) * share))] if share < 1 else whole[:-1])


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95, 1])
@pytest.mark.parametrize("compression", ["none", "rle", "zips", "zip", "piz", "dwaa"])
def test_exr_that_breaks_off(tmp_path, compression, share):
    file = tmp_path / "p.1003.exr"
    pixels = np.random.default_rng(10).random((120, 90, 3)).astype(np.float16)
    write_image(file, pixels, compression=compression)
    broken_off(file, file.read_bytes(), share)
    refusal(lambda: open_plate(str(file)), "frame 1003", "p.1003.exr")


# The last byte of PNG and TGA belongs to a checksum and a footer: without it all pixels are there.
ENDS_IN_PIXELS = ["tiled", "decreasingY", "dpx", "tif", "plain tif", "jpg", "bmp"]


@pytest.mark.parametrize(
    "kind, share",
    [(k, s) for k in [*ENDS_IN_PIXELS, "png", "tga"] for s in (0.3, 0.6, 0.95)] + [(k, 1) for k in ENDS_IN_PIXELS],
)
def test_other_files_that_break_off(tmp_path, kind, share):
    def tiles(spec):
        if kind == "tiled":
            spec.tile_width = spec.tile_height = 32

    extension = {"tiled": "exr", "decreasingY": "exr", "plain tif": "tif"}.get(kind, kind)
    extra = {"decreasingY": {"openexr__lineOrder": "decreasingY"}, "plain tif": {"compression": "none"}}.get(kind, {})
    values = np.random.default_rng(11).random((120, 90, 3))
    pixels = values.astype(np.float16) if extension == "exr" else (values * 255).astype(np.uint8)
    file = write_image(tmp_path / f"p.1003.{extension}", pixels, spec_hook=tiles, **extra)
    broken_off(file, file.read_bytes(), share)
    refusal(lambda: open_plate(str(file)), "frame 1003", file.name)


def test_damage_after_opening_is_refused_on_reading(tmp_path):
    file = tmp_path / "p.1003.exr"
    write_image(file, np.random.default_rng(12).random((120, 90, 3)).astype(np.float16), compression="zip")
    plate, whole = open_plate(str(file)), file.read_bytes()
    for share in (0.3, 0.9, 1):
        broken_off(file, whole, share)
        refusal(lambda: plate.read(1003), "frame 1003", "p.1003.exr")
    data = bytearray(whole)
    data[len(data) // 2] ^= 0xFF  # inside a compressed block: both ends are sound
    file.write_bytes(data)
    refusal(lambda: open_plate(str(file)).read(1003), "frame 1003", "p.1003.exr", "damaged")
    os.unlink(file)
    refusal(lambda: plate.read(1003), "frame 1003", "p.1003.exr", "cannot be read")
    write_image(file, np.zeros((120, 91, 3), np.float16))
    refusal(lambda: plate.read(1003), "frame 1003", "now 91x120", "has changed")


def test_movie_names_and_contents(tmp_path):
    refusal(lambda: open_plate(str(tmp_path / "m.####.mp4")), "m.####.mp4", "frame pattern in a movie's name")
    file = tmp_path / "m.mp4"
    file.write_bytes(b"")
    refusal(lambda: open_plate(str(file)), "m.mp4", "empty (0 bytes)")
    file.write_text("no movie at all\n" * 100)
    refusal(lambda: open_plate(str(file)), "m.mp4", "not a readable movie")


def test_movie_without_a_picture(tmp_path):
    with av.open(str(tmp_path / "m.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    refusal(lambda: open_plate(str(tmp_path / "m.mp4")), "m.mp4", "no video stream")


def test_movie_ranges(tmp_path):
    file = str(write_movie(tmp_path / "m.mp4", grey_levels(5), options=B_FRAMES))
    for asked in ("1-6", "6", "0-2", "-3", "1-999999999"):
        refusal(lambda: open_plate(file, asked), f"frames {asked} asked", "1-5", "m.mp4")


def test_playlist_named_mp4_opens_no_other_file(tmp_path):
    secret = write_movie(tmp_path / "secret.avi", grey_levels(3), codec="mpeg4")
    (tmp_path / "m.mp4").write_text(f"ffconcat version 1.0\nfile '{secret.name}'\n")
    refusal(lambda: open_plate(str(tmp_path / "m.mp4")), "m.mp4", "not a readable movie")


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99, 1])
def test_movie_that_breaks_off(tmp_path, share):
    file = write_movie(tmp_path / "m.mp4", grey_levels(40), options=B_FRAMES, movflags="faststart")
    broken_off(file, file.read_bytes(), share)
    refusal(lambda: open_plate(str(file)), "m.mp4", "breaks off")


def test_movie_damaged_inside(tmp_path):
    noise = np.random.default_rng(13).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)
    file = write_movie(tmp_path / "m.mkv", list(noise), options={"g": "4", "bf": "0"})
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
    file.write_bytes(data)
    refusal(lambda: open_plate(str(file)), "frame ", "m.mkv")


def test_movie_of_an_unsupported_matrix(tmp_path):
    frame = planar("yuv444p", *([np.full((48, 64), 128, np.uint8)] * 3))
    frame.colorspace = 8

    def tune(stream):
        stream.codec_context.colorspace = 8

    file = write_movie(tmp_path / "m.mkv", [frame], codec="ffv1", pix_fmt="yuv444p", tune=tune)
    refusal(lambda: open_plate(str(file)), "frame 1", "m.mkv", "matrix 8", "not supported yet")


# ---- masks -------------------------------------------------------------------------------


@pytest.fixture
def plate(tmp_path):
    (tmp_path / "plate").mkdir()
    return open_plate(str(write_sequence(tmp_path / "plate", range(11, 15), size=(48, 64, 3))))


def ramp(channels: int, dtype, scale=1.0) -> np.ndarray:
    values = np.random.default_rng(channels).random((48, 64, channels))
    return (values * scale).astype(dtype)


def test_mask_from_alpha(tmp_path, plate):
    pixels = ramp(4, np.float32)
    mask = open_mask(str(write_image(tmp_path / "m.exr", pixels)), plate)
    assert mask.uses_alpha and mask.frames == plate.frames
    for frame in plate.frames:
        np.testing.assert_array_equal(mask.read(frame), pixels[..., 3])
    assert mask.read(11).dtype == np.float32


def test_mask_from_alpha_alone_even_when_full(tmp_path, plate):
    for value in (0.25, 1.0):
        file = write_image(tmp_path / "a.exr", np.full((48, 64, 1), value, np.float16), names=("A",))
        assert (open_mask(str(file), plate).read(12) == value).all()


def test_mask_from_luminance_when_alpha_is_full(tmp_path, plate):
    pixels = ramp(4, np.uint16, 65535)
    pixels[..., 3] = 65535
    mask = open_mask(str(write_image(tmp_path / "m.png", pixels)), plate)
    assert not mask.uses_alpha
    expected = (pixels[..., :3] / 65535.0) @ [0.2126, 0.7152, 0.0722]
    np.testing.assert_allclose(mask.read(11), expected, atol=1e-6)


def test_alpha_is_chosen_once_for_the_whole_shot(tmp_path, plate):
    """A matte that fills some frames must not turn into luminance there."""
    for frame in plate.frames:
        pixels = np.zeros((48, 64, 4), np.uint8)
        pixels[..., 3] = 255 if frame < 13 else 0
        write_image(tmp_path / f"m.{frame:04d}.png", pixels)
    mask = open_mask(str(tmp_path / "m.####.png"), plate)
    assert [mask.read(f).max() for f in plate.frames] == [1, 1, 0, 0]


@pytest.mark.parametrize("bits, dtype", [(8, np.uint8), (16, np.uint16)])
def test_grey_integer_mask_is_exact(tmp_path, plate, bits, dtype):
    codes = np.random.default_rng(bits).integers(0, 2**bits, (48, 64, 1)).astype(dtype)
    codes[0, :2, 0] = [0, 2**bits - 1]
    grey = open_mask(str(write_image(tmp_path / "g.png", codes)), plate).read(11)
    np.testing.assert_array_equal(grey, (codes[..., 0] / (2**bits - 1)).astype(np.float32))
    assert grey[0, 0] == 0 and grey[0, 1] == 1
    colour = open_mask(str(write_image(tmp_path / "c.png", codes.repeat(3, 2))), plate).read(11)
    np.testing.assert_allclose(colour, grey, rtol=2e-7)
    assert colour[0, 0] == 0 and colour[0, 1] == 1


def test_float_mask_is_clamped(tmp_path, plate):
    pixels = np.zeros((48, 64, 1), np.float32)
    pixels[0, :5, 0] = [-1, 2, np.inf, -np.inf, 0.5]
    mask = open_mask(str(write_image(tmp_path / "m.exr", pixels)), plate)
    np.testing.assert_array_equal(mask.read(11)[0, :5], [0, 1, 1, 0, 0.5])


def test_sequence_mask_goes_by_number(tmp_path, plate):
    pattern = str(write_sequence(tmp_path, range(10, 20), name="m.{:04d}.exr", size=(48, 64, 3)))
    mask = open_mask(pattern, plate)
    for frame in plate.frames:
        assert (mask.read(frame) == np.float32(np.float16(frame / 1024))).all()
    part = open_mask(pattern, plate, "12-13")
    assert part.frames == (12, 13)
    with pytest.raises(ValueError, match="frame 11"):
        part.read(11)


def test_movie_mask_starts_with_the_plate(tmp_path, plate):
    mask = open_mask(str(write_movie(tmp_path / "m.mp4", grey_levels(6))), plate)
    for n, frame in enumerate(plate.frames):
        assert abs(mask.read(frame).mean() * 255 - (10 + 12 * n)) < 3


@pytest.mark.parametrize(
    "frames, count, first_shown, note",
    [
        ("1001-1004", 4, 0, None),
        ("1002-1003", 2, 0, None),  # made for the range
        ("1002-1003", 4, 1, "the mask begins at frame 1001: it has as many frames as the whole sequence"),
        ("1001-1004", 6, 0, "the mask has 6 frames, and the plate 4: it is matched from frame 1001 on"),
        ("1003-1004", 3, 0, "the mask has 3 frames, and the plate 2: it is matched from frame 1003 on"),
    ],
)
def test_a_movie_mask_is_matched_to_the_range_or_the_sequence_that_has_its_length(
    tmp_path, frames, count, first_shown, note
):
    pattern = write_noise(tmp_path / "p", range(1001, 1005))
    movie = write_movie(tmp_path / "m.mkv", grey_levels(count), codec="ffv1")
    plate = open_plate(str(pattern), frames)
    mask = open_mask(str(movie), plate)
    assert abs(mask.read(plate.frames[0]).mean() * 255 - (10 + 12 * first_shown)) < 3
    assert [n for n in mask.notes if "frame" in n] == ([note] if note else [])


@pytest.mark.parametrize(
    "frames, count, noted", [(None, 6, False), ("1-4", 6, False), ("1-4", 4, False), (None, 8, True), ("2-4", 8, True)]
)
def test_a_longer_mask_of_a_movie_plate_is_named(tmp_path, frames, count, noted):
    plate = open_plate(str(write_movie(tmp_path / "p.mkv", grey_levels(6), codec="ffv1")), frames)
    mask = open_mask(str(write_movie(tmp_path / "m.mkv", grey_levels(count), codec="ffv1")), plate)
    assert any("the mask has 8 frames, and the plate 6" in note for note in mask.notes) == noted


def test_how_a_masks_movie_is_read_is_said_of_the_mask(tmp_path):
    plate = open_plate(str(write_noise(tmp_path / "p", range(1001, 1004))))
    movie = tmp_path / "m.mkv"
    with av.open(str(movie), "w") as out:
        stream = out.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "gray"
        for tick, picture in zip((0, 1, 3), grey_levels(3), strict=True):
            frame = av.VideoFrame.from_ndarray(picture[..., 0].copy(), "gray")
            frame.pts, frame.time_base = tick, Fraction(1, 24)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    assert any(n.startswith("the mask: the movie's time stamps are uneven") for n in open_mask(str(movie), plate).notes)


def test_movie_mask_on_a_movie_plate_goes_by_frame(tmp_path):
    file = str(write_movie(tmp_path / "m.mp4", grey_levels(6)))
    part = open_plate(file, "3-4")
    mask = open_mask(file, part)
    assert abs(mask.read(4).mean() * 255 - 46) < 3


@pytest.mark.parametrize(
    "pix_fmt, bits, kind", [("gbrap12le", 12, np.uint16), ("yuva444p", 8, np.uint8), ("rgba64le", 16, None)]
)
def test_movie_alpha_keeps_exact_ends(tmp_path, plate, pix_fmt, bits, kind):
    codes = np.random.default_rng(14).integers(0, 2**bits, (48, 64))
    codes[0, :2] = [0, 2**bits - 1]
    if kind is None:
        rgba = np.full((48, 64, 4), 2**15, np.uint16)
        rgba[..., 3] = codes
        frame = av.VideoFrame.from_ndarray(rgba, "rgba64le")
    else:
        grey = np.full((48, 64), 2 ** (bits - 1), kind)
        frame = planar(pix_fmt, grey, grey, grey, codes.astype(kind))
    file = write_movie(tmp_path / "m.mkv", [frame] * 4, codec="ffv1", pix_fmt=pix_fmt)
    mask = open_mask(str(file), plate)
    assert mask.uses_alpha
    np.testing.assert_array_equal(mask.read(14), (codes / (2**bits - 1)).astype(np.float32))


def test_mask_refusals(tmp_path, plate):
    small = write_image(tmp_path / "s.png", np.zeros((40, 64, 1), np.uint8))
    refusal(lambda: open_mask(str(small), plate), "mask", "s.png", "64x40", "64x48")
    pattern = str(write_sequence(tmp_path, [11, 12, 14], name="m.{:04d}.exr", size=(48, 64, 3)))
    refusal(lambda: open_mask(pattern, plate), "mask", "frame 13 missing")
    shifted = str(write_sequence(tmp_path, range(1, 5), name="n.{:04d}.exr", size=(48, 64, 3)))
    refusal(lambda: open_mask(shifted, plate), "mask", "11-14", "1-4")
    short = write_movie(tmp_path / "m.mp4", grey_levels(3))
    refusal(lambda: open_mask(str(short), plate), "mask", "m.mp4", "1-4", "1-3")
    refusal(lambda: open_mask(str(tmp_path / "none.png"), plate), "mask", "none.png: no such file")
    refusal(lambda: open_mask(str(small), plate, "11-20"), "11-20", "11-14")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_nan_in_a_mask_names_its_frame_before_any_work(tmp_path, plate, channels):
    for frame in plate.frames:
        pixels = ramp(channels, np.float16)
        if frame == 13:
            pixels[5, 6, channels - 1] = np.nan
        write_image(tmp_path / f"m.{frame:04d}.exr", pixels)
    refusal(lambda: open_mask(str(tmp_path / "m.####.exr"), plate), "mask", "frame 13", "m.0013.exr", "NaN")
