"""What files say of their colour, their frames and their windows beside their pixels: read right, said, or refused."""

import struct
import zlib

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from PIL import Image

from vera.core.errors import InputError
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import resolve_space
from vera.core.plate.source import open_mask, open_plate

SRGB_XY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)  # white first, as the PNG specification has it
ADOBE_XY = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
CODES = (200, 60, 40)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def primaries(xy):
    return chunk(b"cHRM", struct.pack(">8I", *(round(v * 100_000) for v in xy)))


def gamma(value):
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def write_png(path, *chunks):
    """16 x 16 pixels of CODES in 8 bits."""
    head = struct.pack(">IIBBBBB", 16, 16, 8, 2, 0, 0, 0)
    pixels = zlib.compress((b"\0" + bytes(CODES) * 16) * 16)
    file = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *chunks, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    path.write_bytes(b"".join(file))
    return str(path)


def light_of(path):
    plate = open_plate(path)
    space = resolve_space(None, plate)
    return space.name, PlateColor(space, plate.pixel_type).light(plate.read(plate.frames[0]))[0, 0, :3]


def adobe_light():
    """Rec.709 light of CODES in Adobe RGB (1998), by its published matrices: XYZ of it, and sRGB's inverse."""
    to_xyz = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
    from_xyz = np.array([[3.24045, -1.53714, -0.49853], [-0.96927, 1.87601, 0.04156], [0.05564, -0.20403, 1.05723]])
    return from_xyz @ to_xyz @ (np.array(CODES) / 255) ** 2.2


def test_primaries_of_a_png_count(tmp_path):
    _, found = light_of(write_png(tmp_path / "a.png", gamma(1 / 2.2), primaries(ADOBE_XY)))
    np.testing.assert_allclose(found, adobe_light(), atol=2e-3)


@pytest.mark.parametrize(
    "chunks",
    [
        (),
        (gamma(0.45455),),
        (gamma(0.45455), primaries(SRGB_XY)),
        (chunk(b"sRGB", b"\0"), primaries(ADOBE_XY)),
        (chunk(b"cHRM", b"short"),),
    ],
)
def test_what_states_srgb_or_nothing_is_srgb(tmp_path, chunks):
    assert light_of(write_png(tmp_path / "a.png", *chunks))[0] == "srgb"


def test_an_animated_png_is_refused(tmp_path):
    path = write_png(tmp_path / "a.png", chunk(b"acTL", struct.pack(">II", 12, 0)))
    with pytest.raises(InputError, match="an animated PNG of 12 frames"):
        open_plate(path)


def test_a_frame_that_states_another_colour_is_named(tmp_path):
    write_png(tmp_path / "a.0001.png")
    write_png(tmp_path / "a.0002.png", gamma(1.0))
    (note,) = open_plate(str(tmp_path / "a.####.png")).notes
    assert note == "frame 2 states another colour than frame 1: all are read as that one is"


def test_a_frame_with_other_capitals_is_named(tmp_path):
    for name in ("a.0001.png", "a.0002.PNG"):
        write_png(tmp_path / name)
    plate = open_plate(str(tmp_path / "a.####.png"))
    assert plate.frames == (1,)
    assert plate.notes == ("a.0002.PNG is written with other capitals and is not among the frames 1",)


def write_exr(path, origin=(0, 0), value=0.5001, names=("R", "G", "B"), **attributes):
    spec = oiio.ImageSpec(16, 16, 3, "half")
    spec.channelnames = list(names)
    spec.x, spec.y = origin
    spec.full_x = spec.full_y = 0
    spec.full_width = spec.full_height = 16
    for name, text in attributes.items():
        spec.attribute(name, text)
    image = oiio.ImageOutput.create(str(path))
    image.open(str(path), spec)
    image.write_image(np.full((16, 16, 3), value, np.float16))
    image.close()
    return str(path)


@pytest.mark.parametrize("origin", [(16, 0), (0, 16), (-16, 0), (0, -16), (100, 100)])
def test_a_picture_outside_its_display_window_is_refused(tmp_path, origin):
    path = write_exr(tmp_path / "a.exr", origin)
    with pytest.raises(InputError, match="data window lies outside the display window"):
        open_plate(path)


def test_a_matte_outside_the_display_window_is_black(tmp_path):
    plate = open_plate(write_exr(tmp_path / "plate.exr"))
    mask = open_mask(write_exr(tmp_path / "a.exr", (16, 16)), plate)
    assert not mask.read(1).any() and mask.notes == ("the mask is black throughout: nothing may be edited",)


def test_a_cropped_matte_is_not_called_white_throughout(tmp_path):
    plate = open_plate(write_exr(tmp_path / "plate.exr"))
    assert open_mask(write_exr(tmp_path / "a.exr", (8, 0), value=1.0), plate).notes == ()


@pytest.mark.parametrize(
    "names, note",
    [
        (["Z", "id", "roto"], ("the mask is channel Z; left out: id, roto",)),
        (["crypto.R", "crypto.G", "crypto.B"], ("the mask is of layer crypto",)),
        (["R", "G", "B"], ()),
        (["matte", "Z", "id"], ("the mask is channel matte; left out: Z, id",)),
    ],
)
def test_a_mask_that_is_not_the_obvious_is_named(tmp_path, names, note):
    plate = open_plate(write_exr(tmp_path / "plate.exr"))
    path = write_exr(tmp_path / "a.exr", (8, 0), value=1.0, names=names)
    assert open_mask(path, plate).notes == note


def test_chromaticities_that_are_no_numbers_are_refused(tmp_path):
    plate = open_plate(write_exr(tmp_path / "a.exr", chromaticities="0.64,0.33"))
    with pytest.raises(InputError, match="no eight numbers"):
        resolve_space(None, plate)


def test_one_frame_of_grey_changes_no_colour(tmp_path):
    write_png(tmp_path / "a.0001.png")
    Image.new("L", (16, 16)).save(tmp_path / "a.0002.png")
    assert not [note for note in open_plate(str(tmp_path / "a.####.png")).notes if "another colour" in note]


@pytest.mark.parametrize("names", [("X", "Y", "Z"), ("P.X", "P.Y", "P.Z"), ("n.x", "n.y", "n.z")])
def test_a_pass_of_coordinates_is_no_luminance(tmp_path, names):
    path = write_exr(tmp_path / "a.exr", names=names)
    with pytest.raises(InputError, match="no R, G and B and no luminance"):
        open_plate(path)


def test_a_second_video_stream_is_named(tmp_path):
    path = str(tmp_path / "two.mkv")
    with av.open(path, "w") as container:
        streams = [container.add_stream("ffv1", rate=24) for _ in range(2)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        for stream in streams:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), "rgb24")))
        for stream in streams:
            container.mux(stream.encode())
    assert "the movie has 2 video streams: the first is read" in open_plate(path).notes
