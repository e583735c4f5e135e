"""Find a plate's colour space: by name in an OpenColorIO config, or from the metadata of its files.

Names are looked up in the config of `$OCIO` if that is set, then in OpenColorIO's built-in ACES studio config, which
has ACES, camera log and display spaces. Two spaces need no config: `srgb` and `linear` (Rec.709). Their curves are
our own code and exact.
"""

import difflib
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PyOpenColorIO as ocio

from vera.core.errors import InputError
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.plate.icc import SAMPLES, Profile, ProfileError, read_profile, write_profile
from vera.core.plate.pixel import is_float
from vera.core.plate.png_chunks import chunks_of, stated_codes, stated_curve

if TYPE_CHECKING:
    from vera.core.plate.source import Plate

# Spellings of `srgb` and `linear`, in lower case without spaces. The *_rec709_scene names are those of the Color
# Interop Forum, which OpenImageIO reports.
_OWN_SPELLINGS = {
    "srgb": "srgb",
    "srgb_texture": "srgb",
    "srgb-texture": "srgb",
    "srgb(texture)": "srgb",
    "srgb_tx": "srgb",
    "utility-srgb-texture": "srgb",
    "srgb_rec709_scene": "srgb",
    "srgb_rec709_display": "srgb",
    "srgb-display": "srgb",
    "srgbencodedrec.709(srgb)": "srgb",
    "linear": "linear",
    "lin_rec709": "linear",
    "lin_rec709_srgb": "linear",
    "lin_rec709_scene": "linear",
    "lin_srgb": "linear",
    "linear_rec709": "linear",
    "linearrec.709": "linear",
    "linearrec.709(srgb)": "linear",
    "utility-linear-rec.709": "linear",
    "utility-linear-srgb": "linear",
}
_PORTION = 10_000  # pixels in one matrix product; raising it makes BLAS start threads of its own
_SAME_SPACE = 6e-3  # largest difference of two RGB-to-XYZ matrices that are one space; raising it merges more spaces
_FAILURES = (ocio.Exception, ocio.ExceptionMissingFile)  # what OpenColorIO raises for configs and files
_REC709, _XYZ = "Linear Rec.709 (sRGB)", "CIE XYZ-D65 - Scene-referred"

# Chromaticities of linear spaces: x and y of red, green, blue and white. `space_of_primaries` adds those it makes.
_PRIMARIES: dict[str, tuple[float, ...]] = {
    "linear": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Linear P3-D65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}

# Pinned, so that the same job gives the same pixels later. ACES 2.0, as in hosts of the VFX Platform CY2026 (OCIO 2.5).
_BUILTIN = "studio-config-v4.0.0_aces-v2.0_ocio-v2.5"

# Codes of ITU-T H.273 that a movie states; 2 is "unspecified". The curves of video cameras are read as sRGB's curve, as
# displays and hosts do.
_VIDEO_TRANSFERS = {1, 2, 4, 6, 7, 11, 13, 14, 15}
_VIDEO_SPACES = {**dict.fromkeys((1, 2, 5, 6, 7), "srgb"), 9: "sRGB Encoded Rec.2020", 12: "sRGB Encoded P3-D65"}
_MOVIE_SPACES = {
    (1, 8): "linear",
    (9, 8): "Linear Rec.2020",
    (12, 8): "Linear P3-D65",
    (9, 16): "Rec.2100-PQ - Display",
    (9, 18): "Rec.2100-HLG - Display",
    (12, 16): "ST2084-P3-D65 - Display",
}
_ALWAYS_SRGB = ("jpg", "jpeg", "bmp")  # of these, OpenImageIO says sRGB whatever the file states
_EXIF_SPACES = {1: "srgb", 2: "Gamma 2.2 Encoded AdobeRGB"}
_TRANSFERS = {8: "linear", 9: "log", 10: "log", 16: "PQ (SMPTE ST 2084)", 17: "DCI (SMPTE ST 428)", 18: "HLG"}


@dataclass(frozen=True)
class ColorSpace:
    """A colour space, made by `find_space` and `resolve_space`. Spaces for data (normals, depth) are refused there.

    name: its name in the config. config: the config and its edition.
    curve: "srgb" or "linear" if the space is exactly that curve over Rec.709 primaries, else None.
    is_linear: whether values are proportional to light.
    is_scene: whether values can exceed display white, as in linear, log and HDR video spaces. Otherwise the space is
    display-referred, and code 1 is display white.
    light_name: name of the linear space with the same primaries, in the same config.
    """

    name: str
    config: str
    curve: str | None
    is_linear: bool
    is_scene: bool
    light_name: str
    _to_rec709: Callable | None = field(default=None, repr=False, compare=False)
    _from_rec709: Callable | None = field(default=None, repr=False, compare=False)

    def to_rec709(self, numbers: np.ndarray) -> np.ndarray:
        """This space's numbers (..., 3) to linear light with Rec.709 primaries, both float32."""
        if self.curve:
            return decode_srgb(numbers) if self.curve == "srgb" else numbers
        assert self._to_rec709 is not None
        return self._to_rec709(numbers)

    def from_rec709(self, light: np.ndarray) -> np.ndarray:
        """The inverse of `to_rec709`, with the precision of OpenColorIO (1e-5 of the range of a log space)."""
        if self.curve:
            return encode_srgb(light) if self.curve == "srgb" else light
        assert self._from_rec709 is not None
        return self._from_rec709(light)

    @property
    def primaries(self) -> tuple[float, ...] | None:
        """x and y of red, green, blue and white; None if the space is not linear or its primaries are not known."""
        return _PRIMARIES.get(self.name)

    def light(self) -> "ColorSpace":
        """The linear space of the same primaries."""
        return self if self.is_linear else find_space(self.light_name)


SRGB = ColorSpace("srgb", "own", "srgb", False, False, "linear")
LINEAR = ColorSpace("linear", "own", "linear", True, True, "linear")


def find_space(name: str) -> ColorSpace:
    """The space with this name, alias or role. Case and blanks in the name do not matter.

    Raises InputError if no config has the name (similar names are suggested), if the space holds data instead of
    colour, or if the config cannot convert it to Rec.709.
    """
    own = {"srgb": SRGB, "linear": LINEAR}.get(_OWN_SPELLINGS.get(_plain(name), ""))
    if own:
        return own
    for config in _configs():
        found = _lookup(config, name)
        if found:
            return _measured(config, found)
    if _plain(name) in ("scene_linear", "scenelinear"):
        raise InputError(
            f"color space {name!r}: a role, and $OCIO names no config that says which; name ACEScg or linear"
        )
    known = {_plain(n): n for config in _configs() for n in _names(config)}
    near = [known[n] for n in difflib.get_close_matches(_plain(name), known, 3, 0.5)]
    looked = " nor in ".join(_title(config) for config in _configs())
    raise InputError(
        f"color space {name!r}: not in {looked}; " + (f"is it {' or '.join(near)}?" if near else "check its name")
    )


def resolve_space(name: str | None, plate: "Plate") -> ColorSpace:
    """The plate's colour space: the named one, else the one that the metadata of its files states, else a default.

    Metadata is that of the first frame: ACES container flag, chromaticities, DPX transfer, ICC profile, colour space
    name; of a movie its H.273 codes. The default is `_default_space`. Raises InputError.
    """
    if name is not None:
        return find_space(name)
    if plate.is_movie:
        return find_space(_movie_space(plate))
    spec = plate.spec(plate.frames[0])
    return _stated_primaries(spec) or _stated_name(spec, plate) or _default_space(plate)


def space_reason(name: str | None, plate: "Plate") -> str:
    """The reason for the choice of `resolve_space`, in words. Raises the same InputErrors."""
    if name is not None:
        return "as asked for"
    if plate.is_movie:
        assert plate.color_codes is not None  # of a movie
        primaries, transfer = plate.color_codes
        return f"the movie states primaries {primaries} and transfer {transfer} of ITU-T H.273; 2 is unspecified"
    spec = plate.spec(plate.frames[0])
    if _stated_primaries(spec):
        return "its files state the primaries"
    if _stated_name(spec, plate):
        profile = _profile_of(spec)
        return f"by the primaries and curves of {_profile_title(spec)}" if profile else "its files state it"
    return f"its files state none, and their numbers are {'float' if is_float(plate.pixel_type) else 'integers'}"


def space_names() -> list[str]:
    """Names that `find_space` accepts, without aliases: `srgb`, `linear`, then those of each config."""
    spaces = [s for c in _configs() for s in c.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_ALL, ocio.COLORSPACE_ALL)]
    return list(dict.fromkeys(["srgb", "linear", *(space.getName() for space in spaces if not space.isData())]))


def _applied(processor, values):
    """Values (..., 3) converted by an OpenColorIO processor; a new float32 array."""
    out = np.array(values, np.float32, order="C")
    if out.size:
        processor.applyRGB(out.reshape(1, -1, 3))
    return out


def _product(matrix, values):
    """values (..., 3) @ matrix, float32.

    Computed in portions so small that BLAS starts no threads: several frames are already processed in parallel.
    """
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, 3)
    out = np.empty_like(flat)
    with np.errstate(invalid="ignore"):  # a plate may hold infinities
        for at in range(0, len(flat), _PORTION):
            np.matmul(flat[at : at + _PORTION], matrix, out=out[at : at + _PORTION])
    return out.reshape(np.shape(values))


# ---- Configs ----------------------------------------------------------------------------------


def _configs() -> tuple[ocio.Config, ...]:
    named = os.environ.get("OCIO")
    return (_user_config(named), _builtin_config()) if named else (_builtin_config(),)


@functools.lru_cache(maxsize=8)
def _user_config(path: str) -> ocio.Config:
    try:
        return ocio.Config.CreateFromFile(path)
    except _FAILURES as error:
        raise InputError(f"$OCIO {path}: cannot be read ({_line(error)}); name a config.ocio, or unset it") from None


@functools.lru_cache(maxsize=1)
def _builtin_config() -> ocio.Config:
    """OpenColorIO's ACES studio config, plus two spaces that it lacks: Cineon, and sRGB's curve over Rec.2020."""
    config = ocio.Config.CreateFromBuiltinConfig(_BUILTIN)
    config.setName("the built-in ACES studio config")
    # Cineon holds printing density in 10 bits: 0.002 density a code, 0.6 density a decade of light, hence 300 codes a
    # decade. Code 95 is black, code 685 is white.
    black = 10 ** ((95 - 685) / 300)
    cineon = ocio.LogAffineTransform(
        logSideSlope=[300 / 1023] * 3,
        logSideOffset=[685 / 1023] * 3,
        linSideSlope=[1 - black] * 3,
        linSideOffset=[black] * 3,
        direction=ocio.TRANSFORM_DIR_INVERSE,
    )
    cineon.setBase(10)
    _add(config, "Cineon", cineon, _conversion(_REC709, "ACES2065-1"))
    srgb_curve = _conversion("sRGB Encoded Rec.709 (sRGB)", _REC709)
    _add(config, "sRGB Encoded Rec.2020", srgb_curve, _conversion("Linear Rec.2020", "ACES2065-1"))
    return config


def _conversion(source: str, target: str) -> ocio.ColorSpaceTransform:
    return ocio.ColorSpaceTransform(src=source, dst=target)


def _add(config, name, *transforms):
    """Add a space to the config; the transforms, in order, lead from it to the reference space ACES2065-1."""
    space = ocio.ColorSpace(name=name)
    space.setTransform(ocio.GroupTransform(list(transforms)), ocio.COLORSPACE_DIR_TO_REFERENCE)
    config.addColorSpace(space)


def _names(config) -> list[str]:
    """All names and aliases, hidden ones too."""
    spaces = config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_ALL, ocio.COLORSPACE_ALL)
    return [n for space in spaces for n in (space.getName(), *space.getAliases())]


def _lookup(config, name: str) -> str | None:
    """The canonical name of the space with this name or alias; None if the config lacks it.

    The built-in config's roles are not accepted: they are our choice, not the user's.
    """
    role = config is _builtin_config() and config.hasRole(name)
    if config.getColorSpace(name) and not role:
        return config.getColorSpace(name).getName()
    alike = next((n for n in _names(config) if _plain(n) == _plain(name)), None)
    return alike and config.getColorSpace(alike).getName()


def _title(config) -> str:
    """How messages name the config."""
    return config.getName() if config is _builtin_config() else f"$OCIO {os.environ.get('OCIO')}"


# ---- Properties of a space, measured with probe colours instead of read from its name ------------


def _measured(config, name: str) -> ColorSpace:
    return _measure(config, _BUILTIN if config is _builtin_config() else config.getCacheID(), name)


@functools.lru_cache(maxsize=256)
def _measure(config, edition: str, name: str) -> ColorSpace:
    title = f"color space {name!r} of {_title(config)}"
    if config.getColorSpace(name).isData():
        raise InputError(f"{title}: holds data, not colour; name the space that the plate is in")
    try:
        to_rec709, from_rec709 = (functools.partial(_applied, _processor(config, name, to)) for to in (True, False))
    except _FAILURES as error:
        raise InputError(
            f"{title}: cannot be related to Rec.709 ({_line(error)}); name another with --color-space, such as linear"
        ) from None
    is_linear = _is_linear(to_rec709)
    if is_linear:  # the conversion is a matrix then, and numpy's product is thirty times as fast as OpenColorIO
        to_rec709, from_rec709 = (
            functools.partial(_product, f(np.eye(3, dtype=np.float32))) for f in (to_rec709, from_rec709)
        )
    return ColorSpace(
        name=name,
        config=edition,
        curve=_own_curve(to_rec709),
        is_linear=is_linear,
        is_scene=is_linear or float(to_rec709(np.ones((1, 3), np.float32)).max()) > 1.01,
        light_name=name if is_linear else _light_name(config, name),
        _to_rec709=to_rec709,
        _from_rec709=from_rec709,
    )


def _processor(config, name, to_rec709) -> ocio.CPUProcessor:
    if config is _builtin_config():
        processor = config.getProcessor(name, _REC709) if to_rec709 else config.getProcessor(_REC709, name)
    elif to_rec709:
        processor = ocio.Config.GetProcessorToBuiltinColorSpace(config, name, _REC709)
    else:
        processor = ocio.Config.GetProcessorFromBuiltinColorSpace(_REC709, config, name)
    # OpenColorIO's default optimisation uses a fast power function with an error of 2e-5.
    return processor.getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS)


_PROBE = np.array([[0.18, 0.18, 0.18], [0.5, 0.3, 0.1], [0.02, 0.6, 0.9], [1.0, 0.0, 0.0]], np.float32)


def _is_linear(convert) -> bool:
    """Whether doubled values give doubled light."""
    return bool(np.abs(convert(2 * _PROBE) - 2 * convert(_PROBE)).max() < 1e-5)


def _own_curve(convert) -> str | None:
    """ "linear" or "srgb" if the conversion to linear Rec.709 is that curve alone, else None."""
    for name, curve in (("linear", lambda x: x), ("srgb", decode_srgb)):
        if np.abs(convert(_PROBE) - curve(_PROBE)).max() < 2e-5:
            return name
    return None


def _light_name(config, name: str) -> str:
    """Name of the linear space with the same primaries.

    A conversion to it changes each channel separately. The search converts small changes of one channel and takes the
    linear space in which the other two change least. Without such a space: the role scene_linear, else `linear`.
    """
    codes = np.array([[0.4, 0.4, 0.4], [0.5, 0.4, 0.4], [0.4, 0.5, 0.4], [0.4, 0.4, 0.5]], np.float32)
    mixing = {}  # by linear space: change of the other channels, relative to that of the channel itself
    for linear in _linear_names(config):
        try:
            light = _applied(config.getProcessor(name, linear).getDefaultCPUProcessor(), codes)
        except _FAILURES:  # the config names a lookup table whose file is missing
            continue
        change = np.abs(light[1:] - light[0])
        own = np.diagonal(change)
        if own.min() > 0:
            mixing[linear] = float((change - np.diag(own)).max() / own.min())
    nearest = min(mixing, key=lambda name: mixing[name], default=None)
    if nearest is not None and mixing[nearest] < 2e-3:
        return nearest
    role = config.getColorSpace("scene_linear")
    return role.getName() if role else "linear"


def _linear_names(config) -> list[str]:
    spaces = config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_SCENE, ocio.COLORSPACE_ALL)
    names = [space.getName() for space in spaces if not space.isData()]
    return [name for name in names if _says_linear(config, name)]


def _says_linear(config, name) -> bool:
    try:
        return config.isColorSpaceLinear(name, ocio.REFERENCE_SPACE_SCENE)
    except _FAILURES:
        return False


# ---- Metadata of files ------------------------------------------------------------------------------


def _stated_primaries(spec) -> ColorSpace | None:
    """The linear space that an ACES container or an EXR's chromaticities state."""
    if spec.get_int_attribute("acesImageContainerFlag"):
        return find_space("ACES2065-1")
    stated = spec.getattribute("chromaticities")
    if stated is None:
        return None
    if isinstance(stated, str) or len(stated) != 8:
        raise InputError(
            f"chromaticities {str(stated)[:80]!r}: no eight numbers; pass --color-space with the space's name"
        )
    return space_of_primaries(tuple(float(v) for v in stated))


def space_of_primaries(xy: tuple[float, ...]) -> ColorSpace:
    """The linear space with these chromaticities: x and y of red, green, blue and white, eight numbers.

    The built-in config's space if it has one within _SAME_SPACE, else a new one, added to that config. White is adapted
    to D65 by Bradford's matrix. Raises InputError if the numbers are not valid primaries.
    """
    try:
        matrix = _primaries_to_xyz_d65(np.array(xy, np.float64).reshape(4, 2))
    except (ValueError, np.linalg.LinAlgError):
        raise InputError(
            f"chromaticities {_numbers(xy)}: no set of primaries; pass --color-space if the file states them wrongly"
        ) from None
    config = _builtin_config()
    identity = np.eye(3, dtype=np.float32)
    apart = {}
    for name in _linear_names(config):
        theirs = _applied(config.getProcessor(name, _XYZ).getDefaultCPUProcessor(), identity).T
        apart[name] = np.abs(theirs - matrix).max()
    nearest = min(apart, key=lambda name: apart[name])
    # ARRI's space differs by 5e-3, because its white is adapted by another matrix. Different primaries differ by 25e-3.
    if apart[nearest] < _SAME_SPACE:
        return find_space(nearest)
    name = f"Linear {_numbers(xy)}"
    if not config.getColorSpace(name):
        _PRIMARIES[name] = tuple(xy)
        full = np.eye(4)
        full[:3, :3] = matrix
        _add(
            config,
            name,
            ocio.MatrixTransform(full.ravel().tolist()),
            ocio.ColorSpaceTransform(src=_XYZ, dst="ACES2065-1"),
        )
    return find_space(name)


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


_D50_WHITE, _D65_WHITE = np.array([0.9642, 1.0, 0.8249]), np.array([0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290])
# Probe colours (64, 3) for ICC profiles: each channel alone, mixtures, and dark ones.
_CODES = np.array([(r, g, b) for r in (0, 0.1, 0.5, 1) for g in (0, 0.1, 0.5, 1) for b in (0, 0.1, 0.5, 1)])


def _bradford(white: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The matrix that adapts XYZ from one white to another."""
    return np.linalg.solve(_BRADFORD, np.diag((_BRADFORD @ wanted) / (_BRADFORD @ white)) @ _BRADFORD)


def _primaries_to_xyz_d65(xy):
    """RGB to XYZ (SMPTE RP 177), white adapted to D65 (Bradford)."""
    if not np.isfinite(xy).all() or xy[3, 1] <= 0:
        raise ValueError("no chromaticities")
    xyz = np.stack([xy[:, 0], xy[:, 1], 1 - xy.sum(1)])
    colors, white = xyz[:, :3], xyz[:, 3] / xyz[1, 3]
    if np.linalg.cond(colors) > 1e6:
        raise ValueError("primaries on a line")
    return _bradford(white, _D65_WHITE) @ colors @ np.diag(np.linalg.solve(colors, white))


def _stated_name(spec, plate: "Plate") -> ColorSpace | None:
    """The space that metadata names, None if it names none."""
    if spec.get_string_attribute("dpx:Transfer") in ("Printing density", "Logarithmic"):
        return find_space("Cineon")
    if plate.extension == "png":
        return _png_stated(plate, _profile_of(spec))
    profile = _profile_of(spec)
    if profile:
        return _profile_space(profile, f"{plate.path}: {_profile_title(spec)}")
    if plate.extension in _ALWAYS_SRGB:
        named = _EXIF_SPACES.get(spec.get_int_attribute("Exif:ColorSpace"))
        return find_space(named) if named else None
    name = spec.get_string_attribute("oiio:ColorSpace")
    if _plain(name) in ("", "unknown", "data", "raw"):
        return None
    return _found_in_file("Cineon" if _plain(name) == "kodaklog" else name, plate, "color space")


def _png_stated(plate: "Plate", profile: bytes | None) -> ColorSpace | None:
    """The space that a PNG's chunks state, by their precedence: cICP, iCCP, sRGB, then gAMA and cHRM.

    OpenImageIO names only some of the spaces that cICP can state, and takes sRGB for the others. Raises InputError.
    """
    chunks = chunks_of(plate.file(plate.frames[0]))
    codes, curve = stated_codes(chunks), stated_curve(chunks)
    if codes:
        if codes[2:] != (0, 1):
            raise InputError(
                f"{plate.path}: its cICP chunk states matrix {codes[2]} and range {codes[3]}, which a PNG cannot have;"
                " pass --color-space with the space's name"
            )
        return find_space(_space_of_codes((codes[0], codes[1]), plate.path))
    if profile:
        return _profile_space(profile, f"{plate.path}: {_profile_title(plate.spec(plate.frames[0]))}")
    if b"iCCP" in chunks:
        raise InputError(f"{plate.path}: its ICC profile is damaged; pass --color-space with the space's name")
    return (SRGB if b"sRGB" in chunks else None) if curve is None else _png_space(*curve, plate.path)


def profile_of_chunks(file: Path) -> bytes | None:
    """An ICC profile of the space that a PNG's gAMA and cHRM state; None if they state none.

    For files whose writer cannot state primaries in another way.
    """
    curve = stated_curve(chunks_of(file))
    if curve is None:
        return None
    to_d65 = _primaries_to_xyz_d65(np.array(curve[0], np.float64).reshape(4, 2))
    return write_profile(_bradford(_D65_WHITE, _D50_WHITE) @ to_d65, 1 / curve[1])


# ---- ICC profiles ----------------------------------------------------------------------------------

# Largest difference in light, of [0, 1], between a profile and a space of the config that count as the same. Raising it
# replaces more profiles by spaces of the config.
PROFILE_TOLERANCE = 1e-3
_PROFILE_CANDIDATES = ("sRGB Encoded", "Gamma", "Camera", "Linear")  # first words of names that are compared; no log


def _profile_of(spec: Any) -> bytes | None:
    data = spec.getattribute("ICCProfile")
    return None if data is None else bytes(np.asarray(data, np.uint8))


def _profile_title(spec: Any) -> str:
    return f"its ICC profile {spec.get_string_attribute('ICCProfile:profile_description')[:60]!r}"


@functools.lru_cache(maxsize=64)
def _profile_space(data: bytes, where: str) -> ColorSpace:
    """The space with the profile's primaries and curves.

    The built-in config's space if it has one within PROFILE_TOLERANCE, else a new one, added to that config.
    where: the file and its profile, for messages. Raises InputError.
    """
    try:
        profile = read_profile(data)
    except ProfileError as error:
        raise InputError(f"{where} cannot be used: {error}; pass --color-space with the space's name") from None
    return _space_of(profile, _bradford(_D50_WHITE, _D65_WHITE) @ profile.rgb_to_xyz)


@functools.lru_cache(maxsize=64)
def _png_space(xy: tuple[float, ...], gamma: float, where: str) -> ColorSpace:
    """The space of a PNG file's cHRM and gAMA chunks; xy as of `space_of_primaries`. where: the file. Raises
    InputError."""
    try:
        space_of_primaries(xy)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    curve = np.linspace(0, 1, SAMPLES) ** (1 / gamma)
    to_d65 = _primaries_to_xyz_d65(np.array(xy, np.float64).reshape(4, 2))
    return _space_of(Profile(to_d65, np.stack([curve] * 3, -1)), to_d65)


def _space_of(profile: Profile, to_d65: np.ndarray) -> ColorSpace:
    """The config's space that is within PROFILE_TOLERANCE, else a new one. to_d65: as of `_made_of_profile`."""
    numbers = np.concatenate([_CODES, np.repeat(np.linspace(0, 1, 33)[:, None], 3, 1)]).astype(np.float32)
    grid = np.linspace(0, 1, len(profile.curves))
    light = np.stack([np.interp(numbers[:, i], grid, profile.curves[:, i]) for i in range(3)], -1)
    xyz = light @ to_d65.T
    config = _builtin_config()
    apart = {}
    spaces = config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_SCENE, ocio.COLORSPACE_ALL)
    for name in (space.getName() for space in spaces if space.getName().startswith(_PROFILE_CANDIDATES)):
        theirs = _applied(config.getProcessor(name, _XYZ).getDefaultCPUProcessor(), numbers)
        apart[name] = float(np.abs(theirs - xyz).max())
    nearest = min(apart, key=lambda name: apart[name])
    if apart[nearest] < PROFILE_TOLERANCE:
        return find_space(nearest)
    return _made_of_profile(config, profile, to_d65)


def _made_of_profile(config: Any, profile: Profile, to_d65: np.ndarray) -> ColorSpace:
    """A new space of the profile's curves over its primaries. to_d65: (3, 3), linear RGB to XYZ with white at D65."""
    xy = [(column / column.sum())[:2] for column in to_d65.T]
    linear = space_of_primaries((*np.concatenate(xy).tolist(), 0.3127, 0.3290))
    digest = hashlib.sha256(np.round(profile.curves * 65535).astype(np.uint16).tobytes()).hexdigest()
    name = f"ICC curves {digest[:8]} over {linear.name}"
    if not config.getColorSpace(name):
        curves = ocio.Lut1DTransform(len(profile.curves), False)
        curves.setInterpolation(ocio.INTERP_LINEAR)
        curves.setData(profile.curves.astype(np.float32).ravel())
        source = _REC709 if linear.name == "linear" else linear.name
        _add(config, name, curves, ocio.ColorSpaceTransform(src=source, dst="ACES2065-1"))
    return find_space(name)


def _found_in_file(name, plate, what) -> ColorSpace:
    """The space that a file names. Raises InputError, which names the plate."""
    try:
        return find_space(name)
    except InputError:
        raise InputError(
            f"{plate.path}: its files state {what} {name!r}, which no config has;"
            " pass --color-space with the space's name"
        ) from None


def _default_space(plate: "Plate") -> ColorSpace:
    """The space of a plate without metadata.

    Integers are sRGB. Half and float are the role scene_linear of `$OCIO`'s config, else linear Rec.709.
    """
    if not is_float(plate.pixel_type):
        return SRGB
    user = _configs()[0]
    role = None if user is _builtin_config() else user.getColorSpace("scene_linear")
    if role is None and user is not _builtin_config() and user.hasRole("scene_linear"):
        raise InputError(
            f"{_title(user)}: its role scene_linear names a space that the config lacks; name the plate's space with"
            " --color-space, such as linear"
        )
    return _measured(user, role.getName()) if role else LINEAR


def _movie_space(plate: "Plate") -> str:
    """Name of the space that a movie's H.273 codes mean. Raises InputError for codes without a space."""
    assert plate.color_codes is not None  # of a movie
    return _space_of_codes(plate.color_codes, plate.path)


def _space_of_codes(codes: tuple[int, int], where: str) -> str:
    """Name of the space that primaries and transfer (H.273) mean. where: the file. Raises InputError."""
    primaries, transfer = codes
    if transfer in _VIDEO_TRANSFERS and primaries in _VIDEO_SPACES:
        return _VIDEO_SPACES[primaries]
    if (primaries, transfer) in _MOVIE_SPACES:
        return _MOVIE_SPACES[primaries, transfer]
    stated = _TRANSFERS.get(transfer, f"transfer {transfer}")
    raise InputError(
        f"{where}: it states {stated} with primaries {primaries} (ITU-T H.273), which no config has;"
        " pass --color-space with the space's name"
    )


def _numbers(values) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _plain(name: str) -> str:
    """The name in lower case without blanks, for comparison."""
    return "".join(name.lower().split())


def _line(error) -> str:
    """The error's message on one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
