"""Plates made by oiiotool, FFmpeg and Pillow: each is read as it was made, or refused in one line.

What is compared is the report of `vera inspect`, which is the plate's part of `vera render --dry-run`.
"""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from vera.core import cli

OIIOTOOL = Path(sys.executable).with_name("oiiotool")
WIDTH, HEIGHT = 64, 48
GREY = ["--pattern", "constant:color=0.5,0.25,0.125", f"{WIDTH}x{HEIGHT}", "3"]
GREY4 = ["--pattern", "constant:color=0.5,0.25,0.125,1", f"{WIDTH}x{HEIGHT}", "4"]
SMALL = [f"{WIDTH // 2}x{HEIGHT // 2}+8+4"]


def exr(name, *made, out=("-d", "half")):
    return [*made, *out, "-o", name]


# file -> (oiiotool's arguments, what the report has, or the words of the refusal)
BY_OIIOTOOL = {
    "half.exr": (exr("half.exr", *GREY), {"pixel_type": "half", "channels": ["R", "G", "B"], "display": [64, 48]}),
    "float.exr": (exr("float.exr", *GREY, out=("-d", "float")), {"pixel_type": "float"}),
    "alpha.exr": (exr("alpha.exr", *GREY4), {"channels": ["R", "G", "B", "A"]}),
    "dwaa.exr": (exr("dwaa.exr", *GREY, out=("-d", "half", "--compression", "dwaa")), {"pixel_type": "half"}),
    "tiled.exr": (exr("tiled.exr", *GREY, out=("-d", "half", "--tile", "16", "16")), {"width": 64}),
    "names.exr": (
        exr("names.exr", *GREY, "--chnames", "Red,Green,Blue"),
        {"channels": ["R", "G", "B"], "channels_left_out": []},
    ),
    "lower.exr": (exr("lower.exr", *GREY4, "--chnames", "r,g,b,a"), {"channels": ["R", "G", "B", "A"]}),
    "layer.exr": (
        exr("layer.exr", *GREY, "--chnames", "beauty.R,beauty.G,beauty.B"),
        {"picture": "layer beauty", "notes": ["layer beauty is the picture"]},
    ),
    "depth.exr": (exr("depth.exr", *GREY4, "--chnames", "R,G,B,depth.Z"), {"channels_left_out": ["depth.Z"]}),
    "luminance.exr": (
        exr("luminance.exr", "--pattern", "constant:color=0.5", "64x48", "1", "--chnames", "Y"),
        {"channels": ["R", "G", "B"], "notes": ["luminance alone: read as three equal channels"]},
    ),
    "z.exr": (exr("z.exr", "--pattern", "constant:color=0.5", "64x48", "1", "--chnames", "Z"), "no R, G and B"),
    "overscan.exr": (
        exr("overscan.exr", *GREY, "--fullsize", "48x32+8+8"),
        {"width": 64, "offset": [-8, -8], "display": [48, 32]},
    ),
    "window.exr": (
        exr("window.exr", *GREY, "--origin", "+10+6", "--fullsize", "128x96+0+0"),
        {"width": 64, "offset": [10, 6], "display": [128, 96]},
    ),
    "anamorphic.exr": (exr("anamorphic.exr", *GREY, "--attrib", "PixelAspectRatio", "2.0"), {"pixel_aspect": 2.0}),
    "rate.exr": (
        exr("rate.exr", *GREY, "--attrib:type=rational", "FramesPerSecond", "24000/1001"),
        {"rate": "24000/1001"},
    ),
    "timecode.exr": (
        exr("timecode.exr", *GREY, "--attrib:type=timecode", "smpte:TimeCode", "01:02:03:04"),
        {"timecode": "01:02:03:04"},
    ),
    "acescg.exr": (
        exr(
            "acescg.exr",
            *GREY,
            "--attrib:type=float[8]",
            "chromaticities",
            "0.713,0.293,0.165,0.83,0.128,0.044,0.32168,0.33767",
        ),
        {"color_space.name": "ACEScg", "color_space.why": "its files state the primaries"},
    ),
    "shot.1001.exr": (exr("shot.1001.exr", *GREY), {"frames": {"first": 1001, "last": 1001, "count": 1}}),
    "ten.dpx": (exr("ten.dpx", *GREY, out=("-d", "uint10")), {"pixel_type": "uint10", "color_space.name": "srgb"}),
    "twelve.dpx": (exr("twelve.dpx", *GREY, out=("-d", "uint12")), {"pixel_type": "uint12"}),
    "log.dpx": (
        exr("log.dpx", *GREY, "--attrib", "dpx:Transfer", "Logarithmic", out=("-d", "uint10")),
        {"color_space.name": "Cineon"},
    ),
    "deep16.tif": (exr("deep16.tif", *GREY, out=("-d", "uint16")), {"pixel_type": "uint16"}),
    "half.tif": (
        exr("half.tif", *GREY, "--attrib", "tiff:half", "1", out=("-d", "half")),
        {"pixel_type": "half", "color_space.name": "linear"},
    ),
    "double.tif": (exr("double.tif", *GREY, out=("-d", "double")), "pixels of type double are not supported"),
    "deep.png": (exr("deep.png", *GREY, out=("-d", "uint16")), {"pixel_type": "uint16", "color_space.name": "srgb"}),
    "two.exr": (
        [
            *GREY,
            "--attrib",
            "oiio:subimagename",
            "rgba",
            *GREY,
            "--attrib",
            "oiio:subimagename",
            "fg",
            "--siappend",
            "-d",
            "half",
            "-o",
            "two.exr",
        ],
        {"channels_left_out": ["fg.R", "fg.G", "fg.B"]},
    ),
}


def picture(mode="RGB"):
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, : WIDTH // 2] = (200, 100, 50)
    return Image.fromarray(pixels).convert(mode)


def exif(orientation):
    values = Image.Exif()
    values[0x0112] = orientation
    return values


# file -> (Pillow's mode, how it is saved, what the report has or the words of the refusal)
BY_PILLOW = {
    "rgb.png": ("RGB", {}, {"pixel_type": "uint8", "kind": "still"}),
    "rgba.png": ("RGBA", {}, {"channels": ["R", "G", "B", "A"]}),
    "grey.png": ("L", {}, {"notes": ["luminance alone: read as three equal channels"]}),
    "palette.png": ("P", {}, {"channels": ["R", "G", "B"]}),
    "turned.jpg": ("RGB", {"exif": exif(6)}, {"width": 48, "height": 64}),
    "plain.jpg": ("RGB", {"quality": 95}, {"width": 64, "height": 48}),
    "rle.tga": ("RGB", {"compression": "tga_rle"}, {"pixel_type": "uint8"}),
    "plain.bmp": ("RGB", {}, {"pixel_type": "uint8"}),
    "lzw.tif": ("RGB", {"compression": "tiff_lzw"}, {"pixel_type": "uint8"}),
    "webp.webp": ("RGB", {}, "the extension 'webp' is not known"),
}


def encoded(file, codec, pix_fmt, frames=3, rate=24, stamps=None, size=(WIDTH, HEIGHT), metadata=None, **stream_values):
    """A movie of flat frames; stamps: of frames, in ticks of the rate; stream_values: of the codec's context."""
    with av.open(str(file), "w") as out:
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = 1 / Fraction(rate)
        for name, value in stream_values.items():
            setattr(stream.codec_context, name, value)
        for number in range(frames):
            pixels = np.full((size[1], size[0], 3), 40 + 30 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamps[number] if stamps else number, 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


NTSC = Fraction(30000, 1001)
# file -> (how FFmpeg's libraries make it, what the report has or the words of the refusal)
BY_FFMPEG = {
    "h264.mp4": (("libx264", "yuv420p"), {"rate": "24", "frames": {"first": 1, "last": 3, "count": 3}}),
    "h264.mkv": (("libx264", "yuv444p"), {"kind": "movie", "pixel_type": "uint8"}),
    "h264.avi": (("libx264", "yuv420p"), {"frames": {"first": 1, "last": 3, "count": 3}}),
    "mpeg2.mpg": (("mpeg2video", "yuv420p"), {"matrix.value": "bt601"}),
    "prores.mov": (("prores_ks", "yuv422p10le"), {"pixel_type": "uint16", "matrix.value": "bt601"}),
    "prores4444.mov": (("prores_ks", "yuva444p10le"), {"channels_left_out": ["A"]}),
    "ffv1.mkv": (("ffv1", "yuv422p10le"), {"pixel_type": "uint16"}),
    "rgb.mkv": (("ffv1", "bgr0"), {"matrix.value": "rgb", "range.value": "full"}),
    "grey.mkv": (("ffv1", "gray"), {"range.value": "full"}),
    "png.mov": (("png", "rgb24"), {"matrix.value": "rgb"}),
    "mjpeg.avi": (("mjpeg", "yuvj422p"), {"range.value": "full"}),
    "vp9.webm": (("libvpx-vp9", "yuv420p"), {"rate": "24"}),
    "ntsc.mp4": (("libx264", "yuv420p", {"rate": NTSC}), {"rate": "30000/1001"}),
    "uneven.mp4": (
        ("libx264", "yuv420p", {"stamps": [0, 1, 4, 5], "frames": 4}),
        {"frames": {"first": 1, "last": 6, "count": 6}},
    ),
    "tall.mkv": (
        ("ffv1", "yuv420p", {"size": (64, 720)}),
        {"matrix.value": "bt709", "matrix.why": "not stated; usual for 720 lines and more"},
    ),
    "tagged.mkv": (
        ("ffv1", "yuv420p", {"colorspace": 9, "color_range": 2}),
        {"matrix.value": "bt2020", "matrix.why": "stated", "range.value": "full"},
    ),
    "pq.mkv": (
        ("ffv1", "yuv420p10le", {"color_primaries": 9, "color_trc": 16, "colorspace": 9}),
        {"color_space.name": "Rec.2100-PQ - Display"},
    ),
    "hlg.mkv": (
        ("ffv1", "yuv420p10le", {"color_primaries": 9, "color_trc": 18, "colorspace": 9}),
        {"color_space.name": "Rec.2100-HLG - Display"},
    ),
    "timecode.mov": (("mpeg4", "yuv420p", {"metadata": {"timecode": "10:00:00:00"}}), {"timecode": "10:00:00:00"}),
    "squeezed.mp4": (("mpeg4", "yuv420p", {"sample_aspect_ratio": Fraction(2)}), {"pixel_aspect": 2.0}),
    "fields.mkv": (("ffv1", "yuv420p", {"field_order": 3}), "interlaced, lower field first"),
    "ycgco.mkv": (("ffv1", "yuv420p", {"colorspace": 8}), "YUV matrix 8"),
}
EXPECTED = {
    **{name: row[1] for name, row in BY_OIIOTOOL.items()},
    **{name: row[2] for name, row in BY_PILLOW.items()},
    **{name: row[1] for name, row in BY_FFMPEG.items()},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("fifty")
    if OIIOTOOL.is_file():  # one process makes them all
        arguments = [word for made, _ in BY_OIIOTOOL.values() for word in made]
        subprocess.run([str(OIIOTOOL), *arguments], cwd=place, check=True, capture_output=True)
    for name, (mode, how, _) in BY_PILLOW.items():
        picture(mode).save(place / name, **how)
    for name, ((codec, pix_fmt, *more), _) in BY_FFMPEG.items():
        encoded(place / name, codec, pix_fmt, **(more[0] if more else {}))
    return place


def test_there_are_fifty():
    assert len(EXPECTED) >= 50


@pytest.mark.parametrize("name", EXPECTED)
def test_a_plate_is_read_as_it_was_made_or_refused_in_one_line(folder, name, capsys):
    if name in BY_OIIOTOOL and not OIIOTOOL.is_file():
        pytest.skip("no oiiotool beside this Python")
    code, said, expected = cli.main(["inspect", str(folder / name), "--json"]), capsys.readouterr(), EXPECTED[name]
    if isinstance(expected, str):
        (line,) = said.err.splitlines()
        assert code == 2 and expected in line and len(line) <= 300
        return
    assert code == 0, said.err
    told = json.loads(said.out)["plate"]
    for key, value in expected.items():
        found = told
        for part in key.split("."):
            found = found[part]
        assert found == value, (key, found)
