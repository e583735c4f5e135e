"""What files say of their colour, their frames and their windows beside their pixels: read right, said, or refused."""

import struct
import zlib
from types import SimpleNamespace

import av
import numpy as np
import OpenImageIO as oiio
import pytest
from PIL import Image

from vera.core.errors import InputError
from vera.core.layer.image_file import write_image
from vera.core.layer.origin import Origin
from vera.core.layer.outputs.composite import composite_header
from vera.core.layer.outputs.output import Formats
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import resolve_space, space_reason
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


def codes(*values):
    return chunk(b"cICP", bytes(values))


@pytest.mark.parametrize(
    "chunks, name",
    [
        ((codes(1, 13, 0, 1),), "srgb"),
        ((codes(1, 1, 0, 1),), "srgb"),  # as a movie with these codes
        ((codes(9, 14, 0, 1),), "sRGB Encoded Rec.2020"),
        ((codes(12, 1, 0, 1),), "sRGB Encoded P3-D65"),
        ((codes(9, 16, 0, 1), chunk(b"sRGB", b"\0")), "Rec.2100-PQ - Display"),
        ((codes(9, 8, 0, 1),), "Linear Rec.2020"),
        ((gamma(1),), "linear"),
        ((gamma(1 / 1.8),), "Gamma 1.8 Encoded Rec.709"),
        ((gamma(1 / 2.4),), "Gamma 2.4 Encoded Rec.709"),
        ((gamma(0),), "srgb"),
    ],
)
def test_a_png_is_read_by_the_chunk_that_takes_precedence(tmp_path, chunks, name):
    assert light_of(write_png(tmp_path / "a.png", *chunks))[0] == name


@pytest.mark.parametrize("gamma_of_codes", [1.5, 1.96, 2.6])
def test_any_gamma_of_a_png_is_its_curve(tmp_path, gamma_of_codes):
    _, found = light_of(write_png(tmp_path / "a.png", gamma(1 / gamma_of_codes)))
    np.testing.assert_allclose(found, (np.array(CODES) / 255) ** gamma_of_codes, atol=1e-3)


@pytest.mark.parametrize(
    "chunks, words",
    [
        ((codes(9, 16, 9, 0),), "its cICP chunk states matrix 9 and range 0"),
        ((codes(1, 13, 0, 0),), "its cICP chunk states matrix 0 and range 0"),
        ((codes(1, 16, 0, 1),), "it states PQ"),
        ((codes(255, 255, 0, 1),), "it states transfer 255"),
        ((chunk(b"iCCP", b"x\0\0" + zlib.compress(b"garbage")),), "its ICC profile is damaged"),
        ((primaries((0,) * 8),), "no set of primaries"),
    ],
)
def test_colour_that_a_png_cannot_have_is_refused_with_the_way_out(tmp_path, chunks, words):
    path = write_png(tmp_path / "a.png", *chunks)
    with pytest.raises(InputError, match=rf"a\.png: .*{words}.*pass --color-space"):
        light_of(path)


@pytest.mark.parametrize(
    "chunks, stated", [((), False), ((gamma(1 / 2.2),), False), ((chunk(b"sRGB", b"\0"),), True), ((gamma(1),), True)]
)
def test_only_what_a_png_states_is_called_stated(tmp_path, chunks, stated):
    plate = open_plate(write_png(tmp_path / "a.png", *chunks))
    assert (space_reason(None, plate) == "its files state it") == stated


@pytest.mark.parametrize(
    "exif, name, stated", [(None, "srgb", 0), (1, "srgb", 1), (2, "Gamma 2.2 Encoded AdobeRGB", 1)]
)
def test_a_jpegs_exif_states_its_colour(tmp_path, exif, name, stated):
    path, picture, data = tmp_path / "a.jpg", Image.new("RGB", (16, 16), CODES), Image.Exif()
    if exif:
        data.get_ifd(0x8769)[0xA001] = exif
    picture.save(path, exif=data)
    assert light_of(str(path))[0] == name
    assert (space_reason(None, open_plate(str(path))) == "its files state it") == bool(stated)


@pytest.mark.parametrize(
    "chunks", [(gamma(1 / 2.2), primaries(ADOBE_XY)), (gamma(1), primaries(ADOBE_XY)), (gamma(1 / 2.6),)]
)
def test_a_composite_states_the_colour_of_its_plate(tmp_path, chunks):
    """What OpenImageIO's writer has no chunk for is written as a profile."""
    path = write_png(tmp_path / "a.png", *chunks)
    plate = open_plate(path)
    shot = SimpleNamespace(plate=plate, formats=Formats(), origin=Origin())
    write_image(tmp_path / "b.png", plate.read(1), composite_header(shot, 1))
    np.testing.assert_allclose(light_of(str(tmp_path / "b.png"))[1], light_of(path)[1], atol=2e-4)


@pytest.mark.parametrize("mode, usual, code", [("RGB", 2, 8), ("L", 1, 32803), ("RGB", 2, 34892)])
def test_a_tiff_that_is_neither_rgb_nor_grey_is_refused(tmp_path, mode, usual, code):
    """CIELAB, a sensor's samples, linear raw: --color-space could not make them RGB."""
    Image.new(mode, (16, 16)).save(tmp_path / "a.tif")
    tag = struct.pack("<HHI", 262, 3, 1)  # PhotometricInterpretation
    data = (tmp_path / "a.tif").read_bytes()
    assert tag + struct.pack("<I", usual) in data
    (tmp_path / "a.tif").write_bytes(data.replace(tag + struct.pack("<I", usual), tag + struct.pack("<I", code)))
    with pytest.raises(InputError, match="not RGB; write it as R, G, B"):
        open_plate(str(tmp_path / "a.tif"))


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
