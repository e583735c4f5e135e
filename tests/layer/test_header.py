from fractions import Fraction

import OpenImageIO as oiio
import pytest

from tests.layer.stand_in import BLENDINGS, StandInPlate, color_of, make_frame
from vera.core.layer.blend_space import find_blending
from vera.core.layer.delivery import Delivery
from vera.core.layer.outputs.header import plate_header
from vera.core.layer.outputs.output import FramePixels, Shot
from vera.core.plate.color_space import LINEAR, resolve_space
from vera.core.plate.source import open_plate

REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)


def rich_spec(frame):
    """A plate's header with what must be carried and what would lie."""
    spec = oiio.ImageSpec(30, 20, 5, "half")
    spec.channelnames, spec.alpha_channel, spec.z_channel = ("R", "G", "B", "A", "Z"), 3, 4
    spec.x, spec.y, spec.full_x, spec.full_y = -4, 7, -4, 7
    spec.full_width, spec.full_height = 30, 20
    spec.tile_width = spec.tile_height = 16
    spec.attribute("smpte:TimeCode", oiio.TypeTimeCode, (0x01020300 + frame % 24, 0))
    spec.attribute("FramesPerSecond", oiio.TypeRational, (24000, 1001))
    spec.attribute("chromaticities", oiio.TypeDesc("float[8]"), REC709)
    spec.attribute("PixelAspectRatio", 2.0)
    spec.attribute("camera/reel", "A003")
    spec.attribute("Exif:FNumber", 2.8)
    lies = {
        "compression": "dwaa",
        "openexr:lineOrder": "decreasingY",
        "oiio:SHA-1": "0000",
        "Exif:PixelXDimension": 7,
        "acesImageContainerFlag": 1,
        "textureformat": "Plain Texture",
        "view": "left",
        "oiio:ColorSpace": "g22_rec709_scene",
        "thumbnail_width": 3,
    }
    for name, value in lies.items():
        spec.attribute(name, value)
    return spec


def deliver(tmp_path, plate, blend_space="linear", plate_space="linear", blending=None):
    blending = blending or BLENDINGS[blend_space]
    delivery = Delivery(Shot(tmp_path / "out", plate, "abc", blending), color_of(plate, plate_space), {})
    delivery.start()
    for frame in plate.frames:
        delivery.write(frame, FramePixels(*make_frame(plate, frame)), {})
    return delivery


def read_spec(path):
    return oiio.ImageInput.open(str(path)).spec()


@pytest.fixture
def rich(tmp_path):
    plate = StandInPlate(spec=rich_spec, frames=(-5, -4), channels=4, pixel_aspect=2.0)
    return deliver(tmp_path, plate)


def test_the_layer_carries_what_is_true_of_the_shot(rich):
    for frame in (-5, -4):
        spec = read_spec(rich.edit_path(frame))
        assert (spec.x, spec.y, spec.full_x, spec.full_y) == (-4, 7, -4, 7)
        assert (spec.full_width, spec.full_height) == (30, 20)
        assert spec.getattribute("smpte:TimeCode") == (0x01020300 + frame % 24, 0)
        assert spec.getattribute("FramesPerSecond") == (24000, 1001)
        assert spec.getattribute("PixelAspectRatio") == 2.0
        assert spec.getattribute("chromaticities") == pytest.approx(REC709)
        assert spec.getattribute("camera/reel") == "A003"


def test_the_layer_says_what_it_is(rich):
    spec = read_spec(rich.edit_path(-5))
    assert spec.channelnames == ("R", "G", "B", "A") and spec.alpha_channel == 3
    assert spec.format == oiio.HALF and spec.tile_width == 0
    assert spec.getattribute("compression") == "zip"
    assert spec.getattribute("vera/recipe") == "abc"
    assert spec.getattribute("vera/blendSpace") == "linear"
    assert spec.getattribute("oiio:ColorSpace") == "lin_rec709_scene"


def test_nothing_that_would_lie_is_carried(rich):
    for path in (rich.edit_path(-5), rich.composite_path(-5)):
        spec = read_spec(path)
        names = {attribute.name for attribute in spec.extra_attribs}
        lies = {
            "oiio:SHA-1",
            "Exif:PixelXDimension",
            "acesImageContainerFlag",
            "textureformat",
            "view",
            "thumbnail_width",
        }
        assert not names & lies
        assert spec.getattribute("openexr:lineOrder") == "increasingY"
        assert spec.getattribute("compression") == "zip"


@pytest.mark.parametrize("plate_space", ["linear", "srgb"])
def test_an_encoded_layer_says_so(tmp_path, plate_space):
    delivery = deliver(tmp_path, StandInPlate(frames=(1,)), "encoded", plate_space)
    spec = read_spec(delivery.edit_path(1))
    assert spec.getattribute("oiio:ColorSpace") == "srgb_rec709_scene"
    assert spec.getattribute("vera/blendSpace") == "encoded"


@pytest.mark.parametrize(
    "name, interop, primaries",
    [
        ("ACEScg", "lin_ap1_scene", (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)),
        ("ACES2065-1", "lin_ap0_scene", (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)),
        ("Linear ARRI Wide Gamut 3", None, None),
    ],
)
def test_a_layer_in_other_primaries_says_which(tmp_path, name, interop, primaries):
    """And a reader of it, ours too, finds the same space."""
    plate = StandInPlate(spec=rich_spec, frames=(-5,), channels=4)
    delivery = deliver(tmp_path, plate, blending=find_blending("linear", name, LINEAR))
    spec = read_spec(delivery.edit_path(-5))
    assert spec.getattribute("vera/colorSpace") == name
    if primaries:
        assert spec.getattribute("oiio:ColorSpace") == interop
        assert spec.getattribute("chromaticities") == pytest.approx(primaries)
        assert resolve_space(None, open_plate(str(delivery.edit_path(-5)))).name == name
    else:
        assert spec.getattribute("chromaticities") is None  # the plate's Rec.709 would be a lie


def test_a_movies_layer_has_its_rate_and_aspect(tmp_path):
    plate = StandInPlate("uint8", "mov", (1, 2), is_movie=True, fps=Fraction(25), pixel_aspect=1.5)
    delivery = deliver(tmp_path, plate, plate_space="srgb")
    spec = read_spec(delivery.edit_path(2))
    assert spec.getattribute("FramesPerSecond") == (25, 1)
    assert spec.getattribute("PixelAspectRatio") == 1.5


@pytest.mark.parametrize(
    "timecode, rate, frame, words",
    [
        ("01:00:00:00", 25, 1, 0x01000000),
        ("01:00:00:00", 25, 100, 0x01000324),  # the 100th of the movie, whichever frame a job begins with
        ("00:59:59:24", 25, 2, 0x01000000),
        ("01:00:00;00", Fraction(30000, 1001), 1801, 0x01010042),  # drop-frame: 00 and 01 are no numbers
        ("10:00:00:00", 24, 25, 0x10000100),
    ],
)
def test_a_movies_frame_has_its_own_timecode(tmp_path, timecode, rate, frame, words):
    plate = StandInPlate("uint8", "mov", (frame, frame + 1), is_movie=True, fps=Fraction(rate))
    plate.timecode = timecode
    assert plate_header(plate, frame, ()).getattribute("smpte:TimeCode")[0] == words


def test_dpx_keeps_its_timecode_and_transfer(tmp_path):
    def dpx_spec(frame):
        spec = oiio.ImageSpec(30, 20, 3, "uint16")
        spec.attribute("oiio:BitsPerSample", 10)
        spec.attribute("smpte:TimeCode", oiio.TypeTimeCode, (0x01020304, 0))
        spec.attribute("dpx:Transfer", "Printing density")
        file = oiio.ImageOutput.create("a.dpx")
        path = str(tmp_path / "plate.dpx")
        plain = StandInPlate("uint10").read(frame)
        assert file.open(path, spec) and file.write_image(plain) and file.close()
        return read_spec(path)

    delivery = deliver(tmp_path, StandInPlate("uint10", "dpx", (7,), spec=dpx_spec), plate_space="srgb")
    composite, layer = read_spec(delivery.composite_path(7)), read_spec(delivery.edit_path(7))
    assert composite.getattribute("oiio:BitsPerSample") == 10
    assert composite.getattribute("dpx:Transfer") == "Printing density"
    assert layer.getattribute("dpx:Transfer") is None
    plate_code = dpx_spec(7).getattribute("smpte:TimeCode")
    assert plate_code[0] == 0x01020304
    assert composite.getattribute("smpte:TimeCode")[0] == layer.getattribute("smpte:TimeCode")[0] == plate_code[0]
