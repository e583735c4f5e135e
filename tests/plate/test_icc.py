"""ICC profiles are read by their primaries and curves; their descriptions say nothing."""

import io

import numpy as np
import OpenImageIO as oiio
import pytest
from PIL import Image, ImageCms

from tests.plate import profiles
from tests.plate.media import write_image
from vera.core.errors import InputError
from vera.core.plate.color_space import find_space, resolve_space, space_reason
from vera.core.plate.icc import ProfileError, read_profile
from vera.core.plate.source import open_plate

CODES = np.random.default_rng(0).integers(40, 216, (6, 8, 3)).astype(np.uint8)


def plate_with(tmp_path, data: bytes, extension="png", pixels=CODES):
    def attach(spec):
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(data)}]"), np.frombuffer(data, np.uint8))

    return open_plate(str(write_image(tmp_path / f"p.{extension}", pixels, spec_hook=attach)))


REAL = {  # (profile, the space that it is)
    "sRGB, parametric of type 4": (
        profiles.profile(
            profiles.SRGB, profiles.parametric(4, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045, 0, 0)
        ),
        "srgb",
    ),
    "sRGB, parametric": (profiles.profile(profiles.SRGB, profiles.srgb_curve(), "house"), "srgb"),
    "sRGB, a table": (
        profiles.profile(
            profiles.SRGB, profiles.table(lambda x: np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92))
        ),
        "srgb",
    ),
    "Display P3": (profiles.profile(profiles.P3, profiles.srgb_curve(), "sRGB"), "sRGB Encoded P3-D65"),
    "Adobe RGB": (
        profiles.profile(profiles.ADOBE, profiles.gamma(2.19921875), "Compatible with Adobe RGB (1998)"),
        "Gamma 2.2 Encoded AdobeRGB",
    ),
    "gamma 2.2": (profiles.profile(profiles.SRGB, profiles.gamma(2.2), "sP3"), "Gamma 2.2 Encoded Rec.709"),
    "gamma 1.8": (profiles.profile(profiles.SRGB, profiles.gamma(1.8)), "Gamma 1.8 Encoded Rec.709"),
    "linear": (profiles.profile(profiles.SRGB, profiles.linear(), "sRGB IEC61966-2.1"), "linear"),
    "linear Rec.2020": (profiles.profile(profiles.REC2020, profiles.gamma(1.0)), "Linear Rec.2020"),
    "Rec.2020 as displays show it": (
        profiles.profile(profiles.REC2020, profiles.srgb_curve()),
        "sRGB Encoded Rec.2020",
    ),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("extension", ["png", "tif", "jpg"])
def test_a_profile_of_a_known_space_is_that_space(tmp_path, name, extension):
    data, space = REAL[name]
    plate = plate_with(tmp_path, data, extension)
    assert resolve_space(None, plate).name == space
    assert "primaries and curves of its ICC profile" in space_reason(None, plate)


OWN = {
    "ProPhoto": profiles.profile(profiles.PROPHOTO, profiles.gamma(1.8), "ProPhoto RGB"),
    "P3 with gamma 2.2": profiles.profile(profiles.P3, profiles.gamma(2.2)),
    "odd primaries": profiles.profile((0.65, 0.33, 0.28, 0.63, 0.15, 0.07, 0.3127, 0.3290), profiles.gamma(2.0)),
    "three curves": profiles.profile(
        profiles.SRGB, (profiles.gamma(2.0), profiles.gamma(2.2), profiles.gamma(2.4)), "sRGB"
    ),
    "a calibrated screen": profiles.profile(profiles.SRGB, profiles.table(lambda x: 0.9 * x**2.3 + 0.1 * x, 256)),
}


@pytest.mark.parametrize("name", {**{n: d for n, (d, _) in REAL.items()}, **OWN})
def test_light_is_what_littlecms_makes_of_the_profile(tmp_path, name):
    """Relative colorimetric, to sRGB's codes; colours that sRGB holds."""
    data = OWN[name] if name in OWN else REAL[name][0]
    space = resolve_space(None, plate_with(tmp_path, data))
    ours = find_space("srgb").from_rec709(space.to_rec709(CODES.astype(np.float32) / 255))
    source = ImageCms.ImageCmsProfile(io.BytesIO(data))
    theirs = np.asarray(
        ImageCms.profileToProfile(Image.fromarray(CODES), source, ImageCms.createProfile("sRGB"), 1, "RGB")
    )
    inside = ((ours > 0) & (ours < 1)).all(-1)
    assert inside.sum() > 12
    assert np.abs(ours * 255 - theirs)[inside].max() < 1.2


@pytest.mark.parametrize("name", OWN)
def test_a_space_of_a_profiles_own_comes_back_and_has_a_name_of_its_content(tmp_path, name):
    space = resolve_space(None, plate_with(tmp_path, OWN[name]))
    numbers = CODES.astype(np.float32) / 255
    np.testing.assert_allclose(space.from_rec709(space.to_rec709(numbers)), numbers, atol=2e-4)
    assert space.name.startswith("ICC curves ") and not space.is_scene
    assert find_space(space.name) is space


def test_grey_profiles_are_read_by_their_curve(tmp_path):
    data = profiles.profile(profiles.SRGB, profiles.gamma(2.2), "Gray Gamma 2.2", space=b"GRAY")
    plate = plate_with(tmp_path, data, pixels=CODES[..., :1].copy())
    assert resolve_space(None, plate).name == "Gamma 2.2 Encoded Rec.709"


REFUSED = {
    "damaged": (b"\0" * 200, "it is damaged"),
    "cut short": (REAL["Display P3"][0][:300], "it is damaged"),
    "of CMYK": (profiles.profile(profiles.SRGB, profiles.gamma(2.2), space=b"CMYK"), "it is of CMYK, not of RGB"),
    "tables": (profiles.profile(profiles.SRGB, profiles.gamma(2.2), A2B0=bytes(32)), "it holds tables"),
    "Lab": (profiles.profile(profiles.SRGB, profiles.gamma(2.2), connection=b"Lab "), "it holds tables"),
    "a falling curve": (profiles.profile(profiles.SRGB, profiles.table(lambda x: 1 - x)), "curves do not rise"),
    "a flat curve": (profiles.profile(profiles.SRGB, profiles.gamma(0)), "curves do not rise"),
    "a huge table": (
        profiles.profile(profiles.SRGB, b"curv\0\0\0\0\xff\xff\xff\xff"),
        "it is damaged",
    ),
    "one primary thrice": (
        profiles.profile(profiles.SRGB, profiles.gamma(2.2), gXYZ=profiles.xyz_tag((0.3, 0.3, 0.3))),
        "do not add up to white",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_one_line_with_the_fix(tmp_path, name):
    data, words = REFUSED[name]
    with pytest.raises(ProfileError, match=words):
        read_profile(data)
    if name not in ("damaged", "cut short"):  # which the writer of the test's file does not take
        with pytest.raises(InputError, match=f"its ICC profile .*{words}.*; pass --color-space"):
            resolve_space(None, plate_with(tmp_path, data, "tif"))


def test_damage_anywhere_is_read_or_refused():
    """A byte changed or a part cut away: never another error, never a wait."""
    rng, good = np.random.default_rng(1), bytearray(REAL["sRGB, a table"][0])
    for _ in range(500):
        data = bytearray(good[: rng.integers(1, len(good) + 1)]) if rng.random() < 0.3 else bytearray(good)
        for at in rng.integers(0, min(len(data), 400), 3):
            data[at] = rng.integers(0, 256)
        try:
            assert np.isfinite(read_profile(bytes(data)).curves).all()
        except ProfileError:
            pass
