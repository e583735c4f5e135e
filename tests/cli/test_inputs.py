"""Inputs that are read right, named, or refused in one line, through the command."""

import json

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.plate.media import grey_levels, noise, write_image, write_movie, write_noise
from tests.plate.test_fields import write as fields_movie
from vera.core import cli
from vera.core.layer.image_file import read_image
from vera.core.plate.choice import Choice
from vera.core.plate.source import open_plate


def render(tmp_path, plate, *more):
    given = ["render", "--plate", str(plate), "--out", str(tmp_path / "out"), "--prompt", "Add a red ball on the left"]
    return cli.main([*given, "--steps", "1", "--progress", "none", "--device", "cpu", *more])


def manifest(tmp_path):
    return json.loads((tmp_path / "out/manifest.json").read_text())


@pytest.mark.parametrize(
    "size, pixel_aspect", [((4000, 1), 1), ((1, 4000), 1), ((24, 32), 1e6), ((24, 32), 1e-6), ((10, 6000), 1)]
)
def test_shapes_that_no_model_can_see_are_refused_at_once(tmp_path, capsys, size, pixel_aspect):
    pixels = np.zeros((*size, 3), np.float16)
    plate = write_image(tmp_path / "p.exr", pixels, PixelAspectRatio=float(pixel_aspect))
    assert render(tmp_path, plate) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "strip" in line and "--region" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize("region", ["0,20,640,16", "0,20,640,24", "300,0,16,96"])
def test_thin_regions_that_the_page_allows_are_rendered(tmp_path, region):
    plate = write_noise(tmp_path / "in", (1, 2, 3), size=(96, 640))
    assert render(tmp_path, plate, "--region", region) == 0


def test_negative_frames_are_written_as_every_part_reads_them(tmp_path):
    for frame in (-2, -1, 0, 1):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / f"in/plate.{frame:04d}.exr", noise(frame + 5))
    assert render(tmp_path, tmp_path / "in/plate.####.exr", "--frames=-2-1") == 0
    assert open_plate(str(tmp_path / "out/composite/composite.####.exr")).frames == (-2, -1, 0, 1)
    assert open_plate(str(tmp_path / "out/edit/edit.####.exr")).frames == (-2, -1, 0, 1)


def test_frames_padded_otherwise_are_named(tmp_path, capsys):
    for name in ("998", "999", "1000", "1001"):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / f"in/plate.{name}.exr", noise(int(name)))
    assert render(tmp_path, tmp_path / "in/plate.####.exr") == 0
    warning = next(w for w in manifest(tmp_path)["extra"]["warnings"] if "padded" in w)
    assert "plate.998.exr" in warning and "1000-1001" in warning and warning in capsys.readouterr().err


@pytest.mark.parametrize("transfer", [16, 18])
def test_a_composite_of_an_hdr_movie_says_what_its_codes_are(tmp_path, transfer):
    def hdr(stream):
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, transfer
        stream.codec_context.colorspace, stream.codec_context.color_range = 9, 1

    movie = write_movie(tmp_path / "m.mkv", grey_levels(2), codec="ffv1", pix_fmt="yuv420p10le", tune=hdr)
    assert render(tmp_path, movie) == 0
    composite = tmp_path / "out/composite/composite.0001.png"
    assert oiio.ImageInput.open(str(composite)).spec().getattribute("CICP")[:2] == (9, transfer)
    assert manifest(tmp_path)["plate"]["space"] in ("Rec.2100-PQ - Display", "Rec.2100-HLG - Display")
    (tmp_path / "out").rename(tmp_path / "first")
    assert render(tmp_path, tmp_path / "first/composite/composite.####.png") == 0
    assert (
        manifest(tmp_path)["plate"]["space"]
        == json.loads((tmp_path / "first/manifest.json").read_text())["plate"]["space"]
    )


def test_the_layer_of_a_movie_with_timecode_has_it(tmp_path):
    import av

    movie = tmp_path / "m.mov"
    with av.open(str(movie), "w") as out:
        out.metadata["timecode"] = "01:00:00:00"
        stream = out.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for picture in grey_levels(3):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")))
        out.mux(stream.encode())
    assert render(tmp_path, movie) == 0
    spec = oiio.ImageInput.open(str(tmp_path / "out/edit/edit.0003.exr")).spec()
    assert spec.getattribute("smpte:TimeCode")[0] == 0x01000002


def test_what_is_left_out_of_a_plate_is_in_the_manifest(tmp_path, capsys):
    file = write_image(
        tmp_path / "p.exr", np.zeros((48, 64, 5), np.float16), names=("R", "G", "B", "depth.Z", "hero.matte")
    )
    assert render(tmp_path, file) == 0
    words = "left out of the plate and its composite: depth.Z, hero.matte"
    assert words in manifest(tmp_path)["extra"]["warnings"] and words in capsys.readouterr().err


def test_a_varying_data_window_keeps_the_plates_bits(tmp_path):
    """The composite's data window holds all of them; where alpha is 0 the pixels are the plate's."""
    (tmp_path / "in").mkdir()
    for frame, inset in ((1, 0), (2, 4)):

        def window(spec, inset=inset):
            spec.x = spec.y = inset
            spec.full_x = spec.full_y = 0
            spec.full_width, spec.full_height = 64, 48

        size = (48 - 2 * inset, 64 - 2 * inset)
        write_image(tmp_path / f"in/p.{frame}.exr", noise(frame, size=size), spec_hook=window)
    mask = np.zeros((48, 64, 1), np.uint8)
    mask[:, :16] = 255
    assert render(tmp_path, tmp_path / "in/p.#.exr", "--mask", str(write_image(tmp_path / "m.png", mask))) == 0
    composite = read_image(tmp_path / "out/composite/composite.0002.exr")
    assert composite.shape[:2] == (48, 64)
    np.testing.assert_array_equal(composite[4:44, 16:60], noise(2, size=(40, 56))[:, 12:])


@pytest.mark.parametrize(
    "name, words",
    [
        ("plate.$F4.exr", "####"),
        ("plate.[1001-1003].exr", "####"),
        ("plate.<frame>.exr", "####"),
        ("plate.%V.exr", "view"),
        ("plate.####.exr 1001-1003", "--frames"),
    ],
)
def test_names_as_other_programs_write_them_get_a_hint(tmp_path, capsys, name, words):
    assert render(tmp_path, tmp_path / name) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_inspect_tells_what_is_chosen_and_left_out(tmp_path, capsys):
    names = ("diffuse.R", "diffuse.G", "diffuse.B", "R", "G", "B", "depth.Z")
    file = write_image(tmp_path / "p.exr", np.zeros((8, 9, 7), np.float16), names=names)
    assert cli.main(["inspect", str(file), "--layer", "diffuse", "--json"]) == 0
    plate = json.loads(capsys.readouterr().out)["plate"]
    assert (
        plate["channels_left_out"] == ["R", "G", "B", "depth.Z"] and plate["notes"][0] == "layer diffuse is the picture"
    )
    assert cli.main(["inspect", str(file)]) == 0
    assert "diffuse.R" in capsys.readouterr().out


def test_a_deinterlaced_plate_is_what_its_composite_holds(tmp_path, capsys):
    movie = fields_movie(tmp_path / "m.mkv", count=2)
    assert render(tmp_path, movie) == 2 and "--fields upper or lower" in capsys.readouterr().err
    assert render(tmp_path, movie, "--fields", "upper") == 0
    plate = open_plate(movie, None, Choice(fields="upper"))
    for frame in plate.frames:
        alpha = read_image(tmp_path / f"out/edit/edit.{frame:04d}.exr")[..., 3]
        composite = read_image(tmp_path / f"out/composite/composite.{frame:04d}.png")
        assert (alpha == 0).any()
        np.testing.assert_array_equal(composite[alpha == 0], plate.read(frame)[alpha == 0])
    assert any("deinterlaced with the upper field first" in w for w in manifest(tmp_path)["extra"]["warnings"])
    assert json.loads((tmp_path / "out/recipe.json").read_text())["fields"] == "upper"
