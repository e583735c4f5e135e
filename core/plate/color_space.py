"""What a plate's numbers mean: its colour space, out of OpenColorIO's configs and the file's metadata.

Names are looked up in the config of `$OCIO`, where that is set, then in OpenColorIO's built-in ACES studio
config, which has ACES, the cameras' logs and the displays. Two spaces need neither: `srgb` and `linear`
(Rec.709), whose curves are ours and exact.
"""

import difflib
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import PyOpenColorIO as ocio

from vera.core.errors import InputError
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.plate.icc import Profile, ProfileError, read_profile
from vera.core.plate.pixel import is_float

if TYPE_CHECKING:
    from vera.core.plate.source import Plate

# Spellings in lower case without spaces; the *_rec709_scene names are those of the Color
# Interop Forum, which OpenImageIO reports.
_OWN = {
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
_PORTION = 10_000  # pixels
_FAILURES = (ocio.Exception, ocio.ExceptionMissingFile)
_REC709, _XYZ = "Linear Rec.709 (sRGB)", "CIE XYZ-D65 - Scene-referred"

# Red, green, blue and white, x and y each, of linear spaces; those made here are added.
_PRIMARIES: dict[str, tuple[float, ...]] = {
    "linear": (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290),
    "ACES2065-1": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "ACEScg": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "Linear Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "Linear P3-D65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}

# Pinned: a job must mean the same tomorrow. ACES 2.0, which hosts of the VFX Platform CY2026 (OCIO 2.5) have too.
_BUILTIN = "studio-config-v4.0.0_aces-v2.0_ocio-v2.5"

# Codes of ITU-T H.273 in a movie; 2 is "unspecified". A video transfer is read as sRGB's, as
# displays show it and as hosts do.
_VIDEO_TRANSFERS = {1, 2, 4, 6, 7, 11, 13, 14, 15}
_VIDEO_SPACES = {**dict.fromkeys((1, 2, 5, 6, 7), "srgb"), 9: "sRGB Encoded Rec.2020", 12: "sRGB Encoded P3-D65"}
_MOVIE_SPACES = {
    (9, 16): "Rec.2100-PQ - Display",
    (9, 18): "Rec.2100-HLG - Display",
    (12, 16): "ST2084-P3-D65 - Display",
}
_TRANSFERS = {8: "linear", 9: "log", 10: "log", 16: "PQ (SMPTE ST 2084)", 17: "DCI (SMPTE ST 428)", 18: "HLG"}


@dataclass(frozen=True)
class ColorSpace:
    """A colour space that is no data. Made by `find_space` and `resolve_space`.

    name: as its config has it. config: which config that is, and which edition of it.
    curve: "srgb" or "linear" where it is exactly that over Rec.709 primaries, else None.
    is_linear: whether its numbers are light. is_scene: whether they are linear or reach above
    display white, as logs and HDR videos do; else they are made for a display, with code 1 its white.
    light_name: the linear space of the same primaries, in the same config.
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
        """The inverse of `to_rec709`, as exact as OpenColorIO has it (1e-5 of a log's range)."""
        if self.curve:
            return encode_srgb(light) if self.curve == "srgb" else light
        assert self._from_rec709 is not None
        return self._from_rec709(light)

    @property
    def primaries(self) -> tuple[float, ...] | None:
        """x and y of red, green, blue and white of a linear space, where they are known."""
        return _PRIMARIES.get(self.name)

    def light(self) -> "ColorSpace":
        """The linear space of the same primaries."""
        return self if self.is_linear else find_space(self.light_name)


SRGB = ColorSpace("srgb", "own", "srgb", False, False, "linear")
LINEAR = ColorSpace("linear", "own", "linear", True, True, "linear")


def find_space(name: str) -> ColorSpace:
    """The space of this name, alias or role; case, and spaces within it, do not matter.

    Raises InputError, naming what is near, if no config has it, if it holds data, not colour, or if
    the config cannot say how it relates to Rec.709.
    """
    own = {"srgb": SRGB, "linear": LINEAR}.get(_OWN.get(_plain(name), ""))
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
    """The plate's colour space: as named, else as its files tell.

    Without a name, what the first frame states counts (ACES container flag, chromaticities, DPX
    transfer, colour space name; a movie's codes), then its type: half and float are the `scene_linear`
    role of `$OCIO`'s config, linear Rec.709 where there is none; integers are sRGB. Raises InputError.
    """
    if name is not None:
        return find_space(name)
    if plate.is_movie:
        return find_space(_movie_space(plate))
    spec = plate.spec(plate.frames[0])
    return _stated_primaries(spec) or _stated_name(spec, plate) or _usual_space(plate)


def space_reason(name: str | None, plate: "Plate") -> str:
    """Why `resolve_space` takes the space that it takes, in words. Raises InputError as it does."""
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
    """Names that `find_space` takes, without aliases: our own two, then those of each config."""
    spaces = [s for c in _configs() for s in c.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_ALL, ocio.COLORSPACE_ALL)]
    return list(dict.fromkeys(["srgb", "linear", *(space.getName() for space in spaces if not space.isData())]))


def _applied(processor, values):
    out = np.array(values, np.float32, order="C")
    if out.size:
        processor.applyRGB(out.reshape(1, -1, 3))
    return out


def _product(matrix, values):
    """values (..., 3) @ matrix. In portions for which BLAS wakes no threads: frames have threads already."""
    flat = np.ascontiguousarray(values, np.float32).reshape(-1, 3)
    out = np.empty_like(flat)
    with np.errstate(invalid="ignore"):  # infinities of a plate
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
    """OpenColorIO's ACES studio config, and what plates have and it lacks."""
    config = ocio.Config.CreateFromBuiltinConfig(_BUILTIN)
    config.setName("the built-in ACES studio config")
    step = lambda source, target: ocio.ColorSpaceTransform(src=source, dst=target)  # noqa: E731
    # Film density 1023 x code, 0.002 a step, 0.6 a decade: 95 is black and 685 white.
    black = 10 ** ((95 - 685) / 300)
    cineon = ocio.LogAffineTransform(
        logSideSlope=[300 / 1023] * 3,
        logSideOffset=[685 / 1023] * 3,
        linSideSlope=[1 - black] * 3,
        linSideOffset=[black] * 3,
        direction=ocio.TRANSFORM_DIR_INVERSE,
    )
    cineon.setBase(10)
    _add(config, "Cineon", cineon, step(_REC709, "ACES2065-1"))
    video = step("sRGB Encoded Rec.709 (sRGB)", _REC709)
    _add(config, "sRGB Encoded Rec.2020", video, step("Linear Rec.2020", "ACES2065-1"))
    return config


def _add(config, name, *transforms):
    space = ocio.ColorSpace(name=name)
    space.setTransform(ocio.GroupTransform(list(transforms)), ocio.COLORSPACE_DIR_TO_REFERENCE)
    config.addColorSpace(space)


def _names(config) -> list[str]:
    """All names and aliases, hidden ones too."""
    spaces = config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_ALL, ocio.COLORSPACE_ALL)
    return [n for space in spaces for n in (space.getName(), *space.getAliases())]


def _lookup(config, name: str) -> str | None:
    role = config is _builtin_config() and config.hasRole(name)
    if config.getColorSpace(name) and not role:
        return config.getColorSpace(name).getName()
    alike = next((n for n in _names(config) if _plain(n) == _plain(name)), None)
    return alike and config.getColorSpace(alike).getName()


def _title(config) -> str:
    return config.getName() if config is _builtin_config() else f"$OCIO {os.environ.get('OCIO')}"


# ---- What a space is, measured rather than read out of its name ----------------------------------


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
    if is_linear:  # a matrix then, and numpy's product is thirty times as fast
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
    # The default's fast powers are off by 2e-5.
    return processor.getOptimizedCPUProcessor(ocio.OPTIMIZATION_LOSSLESS)


_PROBE = np.array([[0.18, 0.18, 0.18], [0.5, 0.3, 0.1], [0.02, 0.6, 0.9], [1.0, 0.0, 0.0]], np.float32)


def _is_linear(convert) -> bool:
    return bool(np.abs(convert(2 * _PROBE) - 2 * convert(_PROBE)).max() < 1e-5)


def _own_curve(convert) -> str | None:
    for name, curve in (("linear", lambda x: x), ("srgb", decode_srgb)):
        if np.abs(convert(_PROBE) - curve(_PROBE)).max() < 2e-5:
            return name
    return None


def _light_name(config, name: str) -> str:
    """The linear space into which this one's channels go without mixing: that of its own primaries."""
    codes = np.array([[0.4, 0.4, 0.4], [0.5, 0.4, 0.4], [0.4, 0.5, 0.4], [0.4, 0.4, 0.5]], np.float32)
    mixing = {}
    for linear in _linear_names(config):
        try:
            light = _applied(config.getProcessor(name, linear).getDefaultCPUProcessor(), codes)
        except _FAILURES:  # a file that the config names and lacks
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


# ---- What files state ------------------------------------------------------------------------------


def _stated_primaries(spec) -> ColorSpace | None:
    """The linear space that an ACES container or an EXR's chromaticities state."""
    if spec.get_int_attribute("acesImageContainerFlag"):
        return find_space("ACES2065-1")
    stated = spec.getattribute("chromaticities")
    return None if stated is None else space_of_primaries(tuple(float(v) for v in stated))


def space_of_primaries(xy: tuple[float, ...]) -> ColorSpace:
    """The linear space with these chromaticities: x and y of red, green, blue and white, eight numbers.

    One of the built-in config's if it has it, else made here. White is adapted to D65 by Bradford's
    matrix. Raises InputError for numbers that are no primaries.
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
    if apart[nearest] < 6e-3:  # ARRI's is adapted by another matrix, 5e-3 off; the next primaries are 25e-3
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
# Codes of colours: each channel alone, mixtures, and dark ones.
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
    profile = _profile_of(spec)
    if profile:
        return _profile_space(profile, f"{plate.path}: {_profile_title(spec)}")
    name = spec.get_string_attribute("oiio:ColorSpace")
    # A PNG gamma of 1/2.2 is how the PNG specification has sRGB files marked for old readers.
    if _plain(name) in ("", "unknown", "data", "raw") or (plate.extension == "png" and name.startswith("g22_rec709")):
        return None
    return _found_in_file("Cineon" if _plain(name) == "kodaklog" else name, plate, "color space")


# ---- ICC profiles ----------------------------------------------------------------------------------

PROFILE_TOLERANCE = 1e-3  # of light between 0 and 1: a profile that is as near to a space of the config is that space
_ENCODED = ("sRGB Encoded", "Gamma", "Camera", "Linear")  # how the names of such spaces begin; logs are not among them


def _profile_of(spec: Any) -> bytes | None:
    data = spec.getattribute("ICCProfile")
    return None if data is None else bytes(np.asarray(data, np.uint8))


def _profile_title(spec: Any) -> str:
    return f"its ICC profile {spec.get_string_attribute('ICCProfile:profile_description')[:60]!r}"


@functools.lru_cache(maxsize=64)
def _profile_space(data: bytes, where: str) -> ColorSpace:
    """The space of a profile's primaries and curves: one of the built-in config's if it has it, else made here."""
    try:
        profile = read_profile(data)
    except ProfileError as error:
        raise InputError(f"{where} cannot be used: {error}; pass --color-space with the space's name") from None
    to_d65 = _bradford(_D50_WHITE, _D65_WHITE) @ profile.rgb_to_xyz
    numbers = np.concatenate([_CODES, np.repeat(np.linspace(0, 1, 33)[:, None], 3, 1)]).astype(np.float32)
    grid = np.linspace(0, 1, len(profile.curves))
    light = np.stack([np.interp(numbers[:, i], grid, profile.curves[:, i]) for i in range(3)], -1)
    xyz = light @ to_d65.T
    config = _builtin_config()
    apart = {}
    spaces = config.getColorSpaces(ocio.SEARCH_REFERENCE_SPACE_SCENE, ocio.COLORSPACE_ALL)
    for name in (space.getName() for space in spaces if space.getName().startswith(_ENCODED)):
        theirs = _applied(config.getProcessor(name, _XYZ).getDefaultCPUProcessor(), numbers)
        apart[name] = float(np.abs(theirs - xyz).max())
    nearest = min(apart, key=lambda name: apart[name])
    if apart[nearest] < PROFILE_TOLERANCE:
        return find_space(nearest)
    return _made_of_profile(config, profile, to_d65)


def _made_of_profile(config: Any, profile: Profile, to_d65: np.ndarray) -> ColorSpace:
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
    try:
        return find_space(name)
    except InputError:
        raise InputError(
            f"{plate.path}: its files state {what} {name!r}, which no config has;"
            " pass --color-space with the space's name"
        ) from None


def _usual_space(plate: "Plate") -> ColorSpace:
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
    assert plate.color_codes is not None  # of a movie
    primaries, transfer = plate.color_codes
    if transfer in _VIDEO_TRANSFERS and primaries in _VIDEO_SPACES:
        return _VIDEO_SPACES[primaries]
    if (primaries, transfer) in _MOVIE_SPACES:
        return _MOVIE_SPACES[primaries, transfer]
    stated = _TRANSFERS.get(transfer, f"transfer {transfer}")
    raise InputError(
        f"{plate.path}: it states {stated} with primaries {primaries} (ITU-T H.273), which no config has;"
        " pass --color-space with the space's name"
    )


def _numbers(values) -> str:
    return " ".join(f"{v:.4g}" for v in values)


def _plain(name: str) -> str:
    return "".join(name.lower().split())


def _line(error) -> str:
    return " ".join(str(error).split())[:200]
