from types import SimpleNamespace

import numpy as np
import OpenImageIO as oiio
import PyOpenColorIO as ocio
import pytest

from tests.plate.media import grey_levels, write_image, write_movie
from vera.core.errors import InputError
from vera.core.plate.color_curve import decode_srgb
from vera.core.plate.color_space import LINEAR, SRGB, find_space, resolve_space, space_of_primaries
from vera.core.plate.source import open_plate

REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767)
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
ALEXA = (0.6840, 0.3130, 0.2210, 0.8480, 0.0861, -0.1020, 0.3127, 0.3290)
ODD = (0.7, 0.3, 0.2, 0.7, 0.1, 0.0, 0.31, 0.33)


@pytest.fixture(autouse=True)
def no_config(monkeypatch):
    monkeypatch.delenv("OCIO", raising=False)


def rgb(*values):
    return np.float32([values])


# ---- Names ---------------------------------------------------------------------------------------

OWN_SRGB = [
    "srgb",
    "sRGB",
    "SRGB",
    " sRGB ",
    "srgb_texture",
    "sRGB - Texture",
    "sRGB_Texture",
    "srgb_rec709_scene",
    "Utility - sRGB - Texture",
    "sRGB - Display",
]
OWN_LINEAR = [
    "linear",
    "Linear",
    "lin_rec709",
    "Linear Rec.709 (sRGB)",
    "linear rec.709 (srgb)",
    "lin_srgb",
    "lin_rec709_scene",
    "Utility - Linear - sRGB",
    "Utility - Linear - Rec.709",
]


@pytest.mark.parametrize("name, space", [(n, SRGB) for n in OWN_SRGB] + [(n, LINEAR) for n in OWN_LINEAR])
def test_our_own_two_spaces_in_many_spellings(name, space):
    assert find_space(name) is space


@pytest.mark.parametrize(
    "name, found, light, scene",
    [
        ("acescg", "ACEScg", "ACEScg", True),
        ("ACES - ACEScg", "ACEScg", "ACEScg", True),
        ("lin_ap0_scene", "ACES2065-1", "ACES2065-1", True),
        ("ACEScct", "ACEScct", "ACEScg", True),
        ("Input - ARRI - V3 LogC (EI800) - Wide Gamut", "ARRI LogC3 (EI800)", "Linear ARRI Wide Gamut 3", True),
        ("arri logc4", "ARRI LogC4", "Linear ARRI Wide Gamut 4", True),
        ("S-Log3 S-Gamut3.Cine", "S-Log3 S-Gamut3.Cine", "Linear S-Gamut3.Cine", True),
        ("Rec.2100-PQ - Display", "Rec.2100-PQ - Display", "Linear Rec.2020", True),
        ("cineon", "Cineon", "Linear Rec.709 (sRGB)", True),
        ("g24_rec709_display", "Rec.1886 Rec.709 - Display", "Linear Rec.709 (sRGB)", False),
        ("Camera Rec.709", "Camera Rec.709", "Linear Rec.709 (sRGB)", False),
        ("Display P3 - Display", "Display P3 - Display", "Linear P3-D65", False),
        ("sRGB Encoded Rec.2020", "sRGB Encoded Rec.2020", "Linear Rec.2020", False),
    ],
)
def test_spaces_are_measured(name, found, light, scene):
    """Their own linear light is found because channels do not mix on the way to it."""
    space = find_space(name)
    assert (space.name, space.light_name, space.is_scene) == (found, light, scene)
    assert space.is_linear == (found == light)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("ACES cg.", "ACEScg"),
        ("sRGBB", "srgb"),
        ("Raw", "holds data"),
        ("scene_linear", "$OCIO"),
        ("qwxyz", "check its name"),
    ],
)
def test_other_names_are_refused_by_name(name, expected):
    with pytest.raises(InputError) as error:
        find_space(name)
    message = str(error.value)
    assert repr(name) in message and expected in message and "\n" not in message


# ---- Values, against the formulas that the makers publish -------------------------------------------


def test_values_of_acescg():
    # Rec.709 to AP1 with Bradford's adaptation from D65 to ACES white, to six places.
    to_ap1 = [[0.613097, 0.339523, 0.047379], [0.070194, 0.916354, 0.013452], [0.020616, 0.109570, 0.869815]]
    light = np.random.default_rng(0).random((50, 3)).astype(np.float32)
    np.testing.assert_allclose(find_space("ACEScg").from_rec709(light), light @ np.transpose(to_ap1), atol=2e-6)


def test_values_of_logc3():
    # ARRI LogC3, EI 800: t = (10^((code - d)/c) - b)/a, neutral in every space.
    code = np.linspace(0.15, 1, 50)
    light = (10 ** ((code - 0.385537) / 0.247190) - 0.052272) / 5.555556
    got = find_space("ARRI LogC3 (EI800)").to_rec709(np.float32(code)[:, None].repeat(3, 1))
    np.testing.assert_allclose(got, np.float32(light)[:, None].repeat(3, 1), rtol=2e-5, atol=1e-6)


def test_values_of_cineon():
    # Film scans: 95 is black, 685 white, 0.002 of density a code, 0.6 a decade.
    got = find_space("Cineon").to_rec709(np.float32([[95] * 3, [445] * 3, [685] * 3]) / 1023)[:, 0]
    black = 10 ** (-590 / 300)
    assert got == pytest.approx([0, (10 ** (-240 / 300) - black) / (1 - black), 1], abs=1e-6)


@pytest.mark.parametrize(
    "name", ["ACEScg", "ACEScct", "ARRI LogC4", "Cineon", "Rec.2100-HLG - Display", "Display P3 - Display"]
)
def test_spaces_come_back(name):
    space = find_space(name)
    numbers = np.random.default_rng(1).uniform(0.1, 0.9, (200, 3)).astype(np.float32)
    np.testing.assert_allclose(space.from_rec709(space.to_rec709(numbers)), numbers, atol=3e-4)


# ---- Metadata of files ---------------------------------------------------------------------------------


def still(folder, extension, dtype, **attributes):
    attributes = {k: (oiio.TypeDesc("float[8]"), v) if k == "chromaticities" else v for k, v in attributes.items()}
    return open_plate(str(write_image(folder / f"p.{extension}", np.zeros((4, 4, 3), dtype), **attributes)))


@pytest.mark.parametrize(
    "extension, dtype, attributes, space",
    [
        ("exr", np.float16, {}, "linear"),
        ("exr", np.float32, {}, "linear"),
        ("tif", np.float32, {}, "linear"),
        ("tif", np.uint16, {}, "srgb"),
        ("png", np.uint8, {}, "srgb"),
        ("jpg", np.uint8, {}, "srgb"),
        ("dpx", np.uint16, {"oiio__BitsPerSample": 10}, "srgb"),
        ("dpx", np.uint16, {"dpx__Transfer": "ITU-R 709-4"}, "srgb"),
        ("dpx", np.uint16, {"dpx__Transfer": "Linear"}, "linear"),
        ("dpx", np.uint16, {"dpx__Transfer": "Logarithmic", "oiio__BitsPerSample": 10}, "Cineon"),
        ("dpx", np.uint16, {"dpx__Transfer": "Printing density"}, "Cineon"),
        ("dpx", np.uint16, {"oiio__ColorSpace": "KodakLog"}, "Cineon"),
        ("exr", np.float16, {"chromaticities": REC709}, "linear"),
        ("exr", np.float16, {"chromaticities": AP0}, "ACES2065-1"),
        ("exr", np.float16, {"chromaticities": AP1}, "ACEScg"),
        ("exr", np.float16, {"chromaticities": REC2020}, "Linear Rec.2020"),
        ("exr", np.float16, {"chromaticities": P3}, "Linear P3-D65"),
        ("exr", np.float16, {"chromaticities": ALEXA}, "Linear ARRI Wide Gamut 3"),
        ("exr", np.float16, {"chromaticities": ODD}, "Linear 0.7 0.3 0.2 0.7 0.1 0 0.31 0.33"),
        ("exr", np.float16, {"acesImageContainerFlag": 1, "compression": "none"}, "ACES2065-1"),
        ("exr", np.float16, {"oiio__ColorSpace": "lin_rec709"}, "linear"),
        ("exr", np.float16, {"oiio__ColorSpace": "ACEScg"}, "ACEScg"),
        ("exr", np.float16, {"oiio__ColorSpace": "sRGB"}, "srgb"),
        ("exr", np.float16, {"oiio__ColorSpace": "g24_rec709_display"}, "Rec.1886 Rec.709 - Display"),
        ("png", np.uint8, {"oiio__ColorSpace": "g22_rec709_scene"}, "srgb"),
    ],
)
def test_space_from_the_file(tmp_path, extension, dtype, attributes, space):
    plate = still(tmp_path, extension, dtype, **attributes)
    assert resolve_space(None, plate).name == space
    assert resolve_space("ACEScct", plate).name == "ACEScct"  # a given name is taken at its word


@pytest.mark.parametrize(
    "attributes, named",
    [({"oiio:ColorSpace": "House Log 7"}, "House Log 7"), ({"chromaticities": (0.3,) * 8}, "no set of primaries")],
)
def test_a_space_in_no_config_is_refused_with_the_fix(attributes, named):
    spec = oiio.ImageSpec(4, 4, 3, "half")
    for name, value in attributes.items():
        spec.attribute(name, *([value] if isinstance(value, str) else [oiio.TypeDesc("float[8]"), value]))
    plate = SimpleNamespace(
        path="p.exr", is_movie=False, frames=(1,), spec=lambda frame: spec, extension="exr", pixel_type="half"
    )
    with pytest.raises(InputError) as error:
        resolve_space(None, plate)
    assert named in str(error.value) and "--color-space" in str(error.value) and "\n" not in str(error.value)


def test_odd_primaries_are_light_with_their_white_kept():
    """Against SMPTE RP 177, white adapted: white stays neutral, and a space's own primaries come out right."""
    assert space_of_primaries(ODD).to_rec709(rgb(1, 1, 1)) == pytest.approx(np.ones((1, 3)), abs=1e-5)
    wide = space_of_primaries((0.70, 0.30, 0.20, 0.75, 0.14, 0.05, 0.3127, 0.3290))  # D65: nothing to adapt
    red = wide.to_rec709(rgb(1, 0, 0))[0].astype(np.float64)
    xyz = (
        np.array(
            [[0.4123908, 0.3575843, 0.1804808], [0.2126390, 0.7151687, 0.0721923], [0.0193308, 0.1191948, 0.9505322]]
        )
        @ red
    )
    assert xyz[:2] / xyz.sum() == pytest.approx([0.70, 0.30], abs=1e-4)


# ---- Movies ----------------------------------------------------------------------------------------------


def mark(primaries, transfer):
    def tune(stream):
        stream.codec_context.color_primaries = primaries
        stream.codec_context.color_trc = transfer

    return tune


@pytest.mark.parametrize(
    "primaries, transfer, space",
    [
        (1, 1, "srgb"),
        (2, 2, "srgb"),
        (9, 1, "sRGB Encoded Rec.2020"),
        (12, 13, "sRGB Encoded P3-D65"),
        (9, 16, "Rec.2100-PQ - Display"),
        (9, 18, "Rec.2100-HLG - Display"),
        (1, 9, None),
        (1, 16, None),
    ],
)
def test_movie_spaces(tmp_path, primaries, transfer, space):
    plate = open_plate(str(write_movie(tmp_path / "m.mp4", grey_levels(2), tune=mark(primaries, transfer))))
    assert plate.color_codes == (primaries, transfer)
    if space is not None:
        assert resolve_space(None, plate).name == space
        return
    with pytest.raises(InputError, match="--color-space"):
        resolve_space(None, plate)


# ---- A studio's own config ---------------------------------------------------------------------------------


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A config with its own names, as studios have them, and with ACEScg as scene_linear."""
    config = ocio.Config.CreateFromBuiltinConfig("cg-config-v1.0.0_aces-v1.3_ocio-v2.1")
    log = ocio.ColorSpace(name="House Log 7")
    log.setTransform(
        ocio.GroupTransform(
            [
                ocio.LogAffineTransform(
                    linSideSlope=[10] * 3,
                    linSideOffset=[1] * 3,
                    logSideSlope=[0.1] * 3,
                    direction=ocio.TRANSFORM_DIR_INVERSE,
                ),
                ocio.ColorSpaceTransform(src="ACEScg", dst="ACES2065-1"),
            ]
        ),
        ocio.COLORSPACE_DIR_TO_REFERENCE,
    )
    config.addColorSpace(log)
    video = ocio.ColorSpace(name="House Video")
    video.setTransform(
        ocio.GroupTransform(
            [
                ocio.ExponentWithLinearTransform(gamma=[2.4, 2.4, 2.4, 1], offset=[0.055, 0.055, 0.055, 0]),
                ocio.ColorSpaceTransform(src="Linear Rec.709 (sRGB)", dst="ACES2065-1"),
            ]
        ),
        ocio.COLORSPACE_DIR_TO_REFERENCE,
    )
    config.addColorSpace(video)
    (tmp_path / "config.ocio").write_text(config.serialize())
    monkeypatch.setenv("OCIO", str(tmp_path / "config.ocio"))
    return tmp_path


def test_the_studios_config_comes_first(studio):
    house = find_space("house log 7")
    assert (house.name, house.light_name, house.is_scene, house.is_linear) == ("House Log 7", "ACEScg", True, False)
    light = (2 ** (0.5 / 0.1) - 1) / 10
    assert house.to_rec709(rgb(0.5, 0.5, 0.5)) == pytest.approx(np.full((1, 3), light), rel=1e-4)
    assert find_space("scene_linear").name == "ACEScg"  # its role
    assert find_space("ARRI LogC4").name == "ARRI LogC4"  # a CG config has no cameras: the built-in one has


def test_where_nothing_is_stated_floats_are_the_studios_scene_linear(studio):
    assert resolve_space(None, still(studio, "exr", np.float16)).name == "ACEScg"
    assert resolve_space(None, still(studio, "png", np.uint8)).name == "srgb"
    assert resolve_space(None, still(studio, "exr", np.float32, chromaticities=REC709)).name == "linear"


@pytest.mark.parametrize("text", [None, "not a config"])
def test_a_config_that_cannot_be_read_is_refused(tmp_path, monkeypatch, text):
    file = tmp_path / "broken.ocio"
    if text:
        file.write_text(text)
    monkeypatch.setenv("OCIO", str(file))
    with pytest.raises(InputError, match="broken.ocio.*unset it"):
        find_space("ACEScg")


def test_names_do_not_matter_values_do(studio):
    """sRGB's curve under a studio's own name gets our exact arithmetic, and its linear light."""
    space = find_space("House Video")
    assert space.curve == "srgb" and not space.is_scene and space.light() is LINEAR
    x = np.linspace(0, 1, 9, dtype=np.float32)[:, None].repeat(3, 1)
    np.testing.assert_array_equal(space.to_rec709(x), decode_srgb(x))


V1 = """ocio_profile_version: 1
roles:
  default: raw
  scene_linear: {linear}
displays:
  default:
    - !<View> {{name: Raw, colorspace: raw}}
colorspaces:
  - !<ColorSpace>
    name: raw
    isdata: true
  - !<ColorSpace>
    name: lnf
    isdata: false
"""


@pytest.mark.parametrize(
    "linear, words",
    [
        ("lnf", "'lnf' of .*OCIO.*cannot be related to Rec.709.*name another with --color-space, such as linear"),
        ("gone", "its role scene_linear names a space that the config lacks; .*--color-space, such as linear"),
    ],
)
def test_an_old_config_that_says_too_little_is_one_line_with_the_fix(tmp_path, monkeypatch, linear, words):
    """Of version 1, without interchange roles; and one whose scene_linear names nothing."""
    (tmp_path / "config.ocio").write_text(V1.format(linear=linear))
    monkeypatch.setenv("OCIO", str(tmp_path / "config.ocio"))
    plate = still(tmp_path, "exr", np.float16)
    with pytest.raises(InputError, match=words) as error:
        resolve_space(None, plate)
    assert "\n" not in str(error.value)
    assert resolve_space("linear", plate).name == "linear"
    assert resolve_space(None, still(tmp_path, "png", np.uint8)).name == "srgb"  # which asks nothing of the config


def test_the_built_in_config_is_one_that_hosts_of_cy2026_can_name():
    """OpenColorIO 2.5 is what the VFX Platform of 2026 has: a config for 2.6 could not be loaded there."""
    config = find_space("ACEScg").config
    assert config == "studio-config-v4.0.0_aces-v2.0_ocio-v2.5"
    assert config in [entry[0] for entry in ocio.BuiltinConfigRegistry().getBuiltinConfigs()]


def test_another_built_in_config_is_taken_where_ocio_names_it(monkeypatch):
    monkeypatch.setenv("OCIO", "ocio://studio-config-v5.0.0_aces-v2.1_ocio-v2.6")
    assert find_space("Apple Log 2").is_scene
