"""Which channels are the picture: spellings, layers, parts, views, luminance, alpha that only some frames have."""

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.plate.media import write_image
from vera.core.errors import InputError
from vera.core.plate.channels import Part, Picture, choose_mask, choose_picture
from vera.core.plate.choice import Choice
from vera.core.plate.source import open_mask, open_plate

SIZE = (6, 8)


def planes(*values: float, kind=np.float16) -> np.ndarray:
    """(H, W, C): channel i holds values[i] and, in its first pixel, twice that."""
    pixels = np.ascontiguousarray(np.broadcast_to(np.array(values), (*SIZE, len(values))), kind)
    pixels[0, 0] *= 2
    return pixels


def write_parts(path, *parts, view=None):
    """An EXR of several parts: (name, channel names, values) each, half."""
    specs = []
    for name, channels, _ in parts:
        spec = oiio.ImageSpec(SIZE[1], SIZE[0], len(channels), "half")
        spec.channelnames = channels
        spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    out = oiio.ImageOutput.create(str(path))
    assert out.open(str(path), specs if len(specs) > 1 else specs[0])
    for i, (_, _, values) in enumerate(parts):
        assert i == 0 or out.open(str(path), specs[i], "AppendSubimage")
        assert out.write_image(planes(*values))
    assert out.close()
    return str(path)


@pytest.mark.parametrize(
    "names",
    [
        ("R", "G", "B"),
        ("r", "g", "b"),
        ("red", "green", "blue"),
        ("Red", "Green", "Blue"),
        ("rgba.R", "rgba.G", "rgba.B"),
        ("Color.R", "Color.G", "Color.B"),
        ("beauty.R", "beauty.G", "beauty.B"),
        ("left.R", "left.G", "left.B"),
        ("ViewLayer.Combined.R", "ViewLayer.Combined.G", "ViewLayer.Combined.B"),
    ],
)
def test_every_usual_spelling_is_read(tmp_path, names):
    file = write_image(tmp_path / "p.exr", planes(0.25, 0.5, 0.75), names=names)
    plate = open_plate(str(file))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ()
    np.testing.assert_array_equal(plate.read(1), planes(0.25, 0.5, 0.75))


def test_channels_in_any_order_come_as_r_g_b(tmp_path):
    file = write_image(tmp_path / "p.exr", planes(1, 2, 3, 4), names=("c.B", "Z", "c.R", "c.G"))
    plate = open_plate(str(file))
    np.testing.assert_array_equal(plate.read(1), planes(3, 4, 1))
    assert plate.ignored_channels == ("Z",)


LAYERS = ("diffuse.R", "diffuse.G", "diffuse.B", "R", "G", "B", "A")


def test_the_plain_layer_is_taken_before_others_and_the_others_are_named(tmp_path):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 2, 3, 4, 5, 6, 1), names=LAYERS)))
    assert plate.channels == ("R", "G", "B", "A") and plate.read(1)[1, 1].tolist() == [4, 5, 6, 1]
    assert plate.notes == ("left out of the plate and its composite: diffuse.R, diffuse.G, diffuse.B",)


def colors_of(*layers: str) -> tuple[str, ...]:
    return tuple(f"{layer}.{letter}".lstrip(".") for layer in layers for letter in "RGB")


@pytest.mark.parametrize(
    "names, taken",
    [
        (colors_of("fog", "beauty"), "beauty"),  # a usual layer before others
        (colors_of("beauty", "rgba"), "rgba"),  # the more usual of two
        (colors_of("fog", "dust"), "fog"),  # of equal ones the first
        (("Y", *colors_of("beauty")), "beauty"),  # colour before luminance, in the plain layer
        (("Y", *colors_of("fog")), "fog"),
        (("rgba.Y", *colors_of("fog")), "fog"),
        (("fog.Y", "beauty.Y"), "beauty"),
    ],
)
def test_of_several_pictures_colour_is_taken_first_then_the_usual_layer(names, taken):
    assert choose_picture([Part(0, "", "", names)]).layer == taken


def test_a_layer_is_taken_where_it_is_asked_for_and_is_another_job(tmp_path):
    file = str(write_image(tmp_path / "p.exr", planes(1, 2, 3, 4, 5, 6, 1), names=LAYERS))
    plate = open_plate(file, choice=Choice(layer="diffuse"))
    assert plate.channels == ("R", "G", "B") and plate.read(1)[1, 1].tolist() == [1, 2, 3]
    assert plate.fingerprint(1) != open_plate(file).fingerprint(1)


@pytest.mark.parametrize(
    "choice, value", [(Choice(), 2), (Choice(part="left"), 2), (Choice(part="2"), 3), (Choice(view="right"), 3)]
)
def test_parts_are_chosen_by_name_number_or_view(tmp_path, choice, value):
    parts = [
        ("depth", ("Z",), (1,)),
        ("left", ("left.R", "left.G", "left.B"), (2, 2, 2)),
        ("right", ("right.R", "right.G", "right.B"), (3, 3, 3)),
    ]
    plate = open_plate(write_parts(tmp_path / "p.exr", *parts), choice=choice)
    assert (plate.read(1)[1:] == value).all()


@pytest.mark.parametrize("layer", ["N", "Normal", "P", "motion", "uv", "Z", "ViewLayer.CryptoObject00", "cryptoAsset"])
def test_a_pass_of_data_is_no_picture_unless_it_is_asked_for(tmp_path, layer):
    data = tuple(f"{layer}.{c}" for c in "RGB")
    file = str(
        write_image(
            tmp_path / "p.exr", planes(1, 2, 3, 4, 5, 6), names=(*data, "zdiffuse.R", "zdiffuse.G", "zdiffuse.B")
        )
    )
    assert open_plate(file).picture == "layer zdiffuse"
    assert open_plate(file, choice=Choice(layer=layer)).picture == f"layer {layer}"
    alone = str(write_image(tmp_path / "a.exr", planes(1, 2, 3), names=data))
    with pytest.raises(InputError, match=f"passes of data .{layer}.; --layer {layer} "):
        open_plate(alone)


RGB, DIFFUSE = ("R", "G", "B"), ("diffuse.R", "diffuse.G", "diffuse.B")


@pytest.mark.parametrize(
    "first, second",
    [
        ({"names": RGB}, {"names": DIFFUSE}),
        ({"names": ("beauty.R", "beauty.G", "beauty.B")}, {"names": DIFFUSE}),
        ({"names": RGB, "view": "left"}, {"names": RGB, "view": "right"}),
        ({"names": RGB, "PixelAspectRatio": 1.0}, {"names": RGB, "PixelAspectRatio": 2.0}),
    ],
)
def test_frames_of_different_pictures_are_refused(tmp_path, first, second):
    for frame, how in enumerate((first, second)):
        write_image(tmp_path / f"p.{frame}.exr", planes(1, 2, 3), **how)
    with pytest.raises(InputError, match=r"frame 1: .*p.1.exr: .*; write all frames alike"):
        open_plate(str(tmp_path / "p.#.exr"))


def test_spellings_and_the_place_of_a_part_may_differ_from_frame_to_frame(tmp_path):
    write_image(tmp_path / "p.0.exr", planes(1, 2, 3), names=RGB)
    write_image(tmp_path / "p.1.exr", planes(1, 2, 3), names=("red", "green", "blue"))
    assert open_plate(str(tmp_path / "p.#.exr")).frames == (0, 1)
    rgba, depth = ("rgba", RGB, (1, 2, 3)), ("depth", ("Z",), (1,))
    write_parts(tmp_path / "q.0.exr", rgba, depth)
    write_parts(tmp_path / "q.1.exr", depth, rgba)
    assert open_plate(str(tmp_path / "q.#.exr")).frames == (0, 1)


def test_channels_that_a_later_frame_has_more_are_named(tmp_path):
    write_image(tmp_path / "p.0.exr", planes(1, 2, 3), names=RGB)
    write_image(tmp_path / "p.1.exr", planes(1, 2, 3, 4), names=(*RGB, "depth.Z"))
    assert open_plate(str(tmp_path / "p.#.exr")).ignored_channels == ("depth.Z",)


def test_frame_rates_that_differ_are_named(tmp_path):
    for frame, rate in enumerate((24.0, 30.0)):
        write_image(tmp_path / f"p.{frame}.exr", planes(1, 2, 3), FramesPerSecond=rate)
    plate = open_plate(str(tmp_path / "p.#.exr"))
    assert plate.fps == 24 and "frame 1 states 30 frames a second, frame 0 24: that of the first is used" in plate.notes


def test_what_is_not_there_is_refused_with_what_is(tmp_path):
    file = str(write_image(tmp_path / "p.exr", planes(1, 2, 3, 4, 5, 6, 1), names=LAYERS))
    with pytest.raises(InputError, match="no picture for --layer beauty; there are the plain picture; layer diffuse"):
        open_plate(file, choice=Choice(layer="beauty"))


@pytest.mark.parametrize(
    "names, extension, kind",
    [
        (("Y",), "exr", np.float16),
        (("Y", "A"), "exr", np.float16),
        (("L",), "exr", np.float32),
        (None, "png", np.uint8),
        (None, "tif", np.uint16),
        (None, "jpg", np.uint8),
    ],
)
def test_luminance_is_read_as_three_equal_channels_and_said(tmp_path, names, extension, kind):
    count = len(names) if names else 1
    pixels = planes(*(0.5, 1)[:count], kind=np.float32)
    pixels = pixels.astype(kind) if names else np.full((*SIZE, 1), 100, kind)
    plate = open_plate(str(write_image(tmp_path / f"p.{extension}", pixels, names=names)))
    read = plate.read(1)
    assert plate.channels[:3] == ("R", "G", "B")
    assert (read[..., :1] == read[..., :3]).all() and plate.notes[0] == "luminance alone: read as three equal channels"


@pytest.mark.parametrize(
    "names", ["Y RY BY", "Y U V", "Y Cb Cr", "y pb pr", "Y I Q", "Y Co Cg", "C M Y K", "main.Y main.U main.V"]
)
def test_luminance_with_chroma_is_refused_in_words(tmp_path, names):
    file = write_image(tmp_path / "p.exr", planes(*[1] * len(names.split())), names=tuple(names.split()))
    with pytest.raises(InputError, match="luminance and chroma"):
        open_plate(str(file))


@pytest.mark.parametrize(
    "names, choice, indices, kind",
    [
        (("Z", "matte.A"), Choice(), (1,), ("A",)),  # a lone alpha before other channels
        (("id.X", "A"), Choice(), (1,), ("A",)),
        (("Z", "id.X"), Choice(), (0,), ("Y",)),  # neither: the first channel
        (("Z", "id.X"), Choice(layer="id"), (1,), ("Y",)),
        (("a.A", "b.A"), Choice(layer="b"), (1,), ("A",)),
    ],
)
def test_a_mask_without_a_picture_is_a_lone_alpha_or_the_first_channel(names, choice, indices, kind):
    found = choose_mask([Part(0, "", "", names)], choice)
    assert (found.indices, found.names) == (indices, kind)


def test_a_layer_that_no_mask_has_is_not_replaced_by_another():
    assert choose_mask([Part(0, "", "", ("Z", "A"))], Choice(layer="none")) is None


@pytest.mark.parametrize(
    "part, layer, title",
    [
        (Part(0, "main", "", ()), "", ""),  # the plain picture of the first part has no title
        (Part(0, "main", "left", ()), "diffuse", "layer diffuse, view left"),
        (Part(1, "beauty", "", ()), "", "part beauty"),
        (Part(2, "", "", ()), "rgba", "part 2, layer rgba"),
    ],
)
def test_a_picture_is_named_as_a_user_would(part, layer, title):
    assert Picture(part, layer, ("Y",), (0,)).title == title


@pytest.mark.parametrize("odd", [1, 2, 3])
def test_a_grey_frame_in_a_coloured_sequence_is_read(tmp_path, odd):
    for frame in (1, 2, 3):
        write_image(tmp_path / f"p.{frame}.png", np.full((*SIZE, 1 if frame == odd else 3), 10 * frame, np.uint8))
    plate = open_plate(str(tmp_path / "p.#.png"))
    assert plate.read(odd).shape == (*SIZE, 3) and (plate.read(odd) == 10 * odd).all()
    assert f"frame {odd} has luminance alone" in plate.notes[0]


def test_alpha_that_one_frame_lacks_is_left_out(tmp_path):
    for frame in (1, 2):
        write_image(tmp_path / f"p.{frame}.png", np.full((*SIZE, 5 - frame), 200, np.uint8))
    plate = open_plate(str(tmp_path / "p.#.png"))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ("A",)


@pytest.mark.parametrize("odd", [1, 2, 3])
def test_alpha_that_one_frame_alone_has_is_left_out_and_said(tmp_path, odd):
    for frame in (1, 2, 3):
        write_image(tmp_path / f"p.{frame}.png", np.full((*SIZE, 4 if frame == odd else 3), 200, np.uint8))
    plate = open_plate(str(tmp_path / "p.#.png"))
    assert plate.channels == ("R", "G", "B") and plate.ignored_channels == ("A",) and plate.read(odd).shape[2] == 3
    assert plate.notes == ("left out of the plate and its composite: A",)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_is_applied_as_viewers_do(tmp_path, orientation):
    """Against OpenImageIO's own reorient."""
    pixels = np.arange(SIZE[0] * SIZE[1] * 3, dtype=np.uint8).reshape(*SIZE, 3)
    file = write_image(tmp_path / "p.tif", pixels, Orientation=orientation)
    plate = open_plate(str(file))
    upright = oiio.ImageBufAlgo.reorient(oiio.ImageBuf(str(file))).get_pixels(oiio.UINT8)
    np.testing.assert_array_equal(plate.read(1), upright)
    assert (plate.height, plate.width) == upright.shape[:2] and "Orientation is applied" in plate.notes[0]


@pytest.mark.parametrize(
    "names, values, expected",
    [
        (("r", "g", "b", "a"), (0, 0, 0, 0.5), 0.5),
        (("A",), (0.5,), 0.5),
        (("matte.A",), (0.5,), 0.5),
        (("Y",), (0.5,), 0.5),
        (("rgba.R", "rgba.G", "rgba.B", "rgba.A"), (1, 1, 1, 0.25), 0.25),
        (("R", "G", "B"), (0.5, 0.5, 0.5), 0.5),
        (("roto.x",), (0.5,), 0.5),
        (("Red", "Green", "Blue", "Alpha"), (1, 0, 0, 0.5), 0.5),
    ],
)
def test_a_mask_is_found_whatever_its_channels_are_called(tmp_path, names, values, expected):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    mask = open_mask(str(write_image(tmp_path / "m.exr", planes(*values), names=names)), plate)
    assert mask.read(1)[1, 1] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "value, kind, words",
    [
        (0, np.uint8, "black throughout"),
        (1, np.uint8, "labels of 0 and 1"),
        (120, np.uint8, "largest value is 0.471"),
        (255, np.uint8, "white throughout"),
        (1, np.uint16, "labels of 0 and 1"),
        (0, np.float16, "black throughout"),
    ],
)
def test_a_mask_that_can_hardly_be_meant_is_questioned(tmp_path, value, kind, words):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    pixels = np.full((*SIZE, 1), value, kind)
    extension = "exr" if kind is np.float16 else "png"
    mask = open_mask(
        str(write_image(tmp_path / f"m.{extension}", pixels, names=("Y",) if extension == "exr" else None)), plate
    )
    assert len(mask.notes) == 1 and words in mask.notes[0]


@pytest.mark.parametrize(
    "value, words",
    [
        (0, "the hold-out mask is black throughout: it keeps nothing out"),
        (1, "the hold-out mask's largest value is 0.00392: it keeps out at most that"),
        (255, "the hold-out mask is white throughout: nothing may be edited"),
    ],
)
def test_a_hold_out_mask_is_questioned_by_what_it_means(tmp_path, value, words):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    file = write_image(tmp_path / "m.png", np.full((*SIZE, 1), value, np.uint8))
    (note,) = open_mask(str(file), plate, holds_out=True).notes
    assert note.startswith(words)
    with pytest.raises(InputError, match="^hold-out: .*no such file"):
        open_mask(str(tmp_path / "no.png"), plate, holds_out=True)


@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 100)])
def test_a_coloured_mask_is_questioned(tmp_path, color):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[2:4] = color
    (note,) = open_mask(str(write_image(tmp_path / "m.png", pixels)), plate).notes
    assert note.startswith("the mask is coloured, and its luminance is used")


@pytest.mark.parametrize("alpha, uses_alpha", [(255, False), (254, False), (253, False), (200, True), (0, True)])
def test_alpha_that_is_nearly_one_everywhere_is_no_mask(tmp_path, alpha, uses_alpha):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    pixels = np.full((*SIZE, 4), alpha, np.uint8)
    pixels[..., :3] = 0
    pixels[2:4, :, :3] = 255
    mask = open_mask(str(write_image(tmp_path / "m.png", pixels, oiio__UnassociatedAlpha=1)), plate)
    assert mask.uses_alpha == uses_alpha and mask.read(1)[2, 0] == (alpha / np.float32(255) if uses_alpha else 1)


def test_an_ordinary_mask_raises_no_question(tmp_path):
    plate = open_plate(str(write_image(tmp_path / "p.exr", planes(1, 1, 1))))
    pixels = np.zeros((*SIZE, 1), np.uint8)
    pixels[2:4] = 255
    assert open_mask(str(write_image(tmp_path / "m.png", pixels)), plate).notes == ()
