"""Colour on the way to the model: which space a plate is in, and sRGB's curve.

Two spaces are known: `"srgb"`, encoded for an sRGB display, and `"linear"`, scene-linear light
with Rec.709 primaries. Any other is refused by name.
"""

from typing import TYPE_CHECKING

import numpy as np

from core.errors import InputError
from core.plate.pixel import is_float, to_unit

if TYPE_CHECKING:
    from core.plate.source import Plate

# Spellings in lower case without spaces; the *_rec709_scene names are those of the Color
# Interop Forum, which OpenImageIO reports.
_SPACES = {
    "srgb": "srgb",
    "srgb_texture": "srgb",
    "srgb-texture": "srgb",
    "srgb(texture)": "srgb",
    "srgb_tx": "srgb",
    "utility-srgb-texture": "srgb",
    "srgb_rec709_scene": "srgb",
    "srgb_rec709_display": "srgb",
    "srgb-display": "srgb",
    "linear": "linear",
    "scene_linear": "linear",
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

_COMMON_NAMES = {"lin_ap0_scene": "ACES2065-1 (lin_ap0_scene)", "lin_ap1_scene": "ACEScg (lin_ap1_scene)"}

# Red, green, blue and white, x and y each.
_REC709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
_PRIMARIES = {
    "ACES AP0 (ACES2065-1)": (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, 0.32168, 0.33767),
    "ACES AP1 (ACEScg)": (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767),
    "Rec.2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290),
    "P3-D65": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290),
}

# Codes of ITU-T H.273 that a movie encoded for a display may carry; 2 is "unspecified".
_DISPLAY_PRIMARIES = {1, 2, 5, 6, 7}
_DISPLAY_TRANSFERS = {1, 2, 4, 6, 7, 11, 13, 14, 15}
_NAMED_CODES = {9: "Rec.2020", 11: "DCI-P3", 12: "Display P3"}
_NAMED_TRANSFERS = {8: "linear", 9: "log", 10: "log", 16: "PQ (SMPTE ST 2084)", 18: "HLG"}


def resolve_space(name: str | None, plate: "Plate") -> str:
    """The plate's colour space, `"srgb"` or `"linear"`: as named, else as its files tell.

    A given name is taken at its word, in many spellings (`sRGB - Texture`, `lin_rec709`,
    `Linear Rec.709 (sRGB)`; case and spaces do not matter). Without one, what the first frame's
    metadata states counts, then its type: half and float are linear, integers and movies sRGB.
    Raises InputError, naming it, for any other space.
    """
    if name is not None:
        space = _SPACES.get(_plain(name))
        if space is None:
            raise InputError(
                f"color space {name!r}: not supported yet; convert the plate to linear Rec.709 or sRGB,"
                " or name srgb or linear"
            )
        return space
    if plate.is_movie:
        return _movie_space(plate)
    spec = plate.spec(plate.frames[0])
    _refuse_primaries(spec, plate)
    return _stated_space(spec, plate) or ("linear" if is_float(plate.pixel_type) else "srgb")


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB's encoding (IEC 61966-2-1), float32 or float64 in and out.

    Odd about zero; above 1 the power curve goes on; NaN and infinities pass.
    """
    x, edge = np.abs(_floating(linear)), linear.dtype.type(0.0031308)
    # In place, for speed. The power of the toe's values is unused, but must not be of denormals: that is slow.
    code = np.asarray(np.maximum(x, edge))
    code **= 1 / 2.4
    code *= 1.055
    code -= 0.055
    low = x <= edge
    np.multiply(x, linear.dtype.type(12.92), out=code, where=low)
    return np.copysign(code, linear, out=code)


def decode_srgb(encoded: np.ndarray) -> np.ndarray:
    """The inverse of `encode_srgb`."""
    x, edge = np.abs(_floating(encoded)), encoded.dtype.type(0.04045)
    light = np.asarray(np.maximum(x, edge))
    light += 0.055
    light /= 1.055
    light **= 2.4
    low = x <= edge
    np.divide(x, encoded.dtype.type(12.92), out=light, where=low)
    return np.copysign(light, encoded, out=light)


def to_model(pixels: np.ndarray, space: str, pixel_type: str) -> np.ndarray:
    """A plate's pixels (H, W, 3 or 4) as the model sees them: sRGB-encoded (H, W, 3) float32.

    Clipped to [0, 1]; NaN becomes 0, infinities 0 and 1; alpha is dropped, and integers are
    divided by their type's maximum. `space` is what `resolve_space` returned.
    """
    if space not in ("srgb", "linear"):
        raise ValueError(f"space is srgb or linear, not {space!r}")
    rgb = np.ascontiguousarray(pixels[..., :3])
    if rgb.dtype.itemsize > 2:
        return _to_encoded(rgb, space, pixel_type)
    # Up to 16 bits a table of all values gives the same numbers, at 4K many times as fast.
    code = np.dtype(f"u{rgb.dtype.itemsize}")
    every = np.arange(256**code.itemsize).astype(code)
    return _to_encoded(every.view(rgb.dtype), space, pixel_type)[rgb.view(code)]


def _to_encoded(values: np.ndarray, space: str, pixel_type: str) -> np.ndarray:
    unit = to_unit(values, pixel_type)
    unit = np.clip(np.where(np.isnan(unit), np.float32(0), unit), 0, 1)
    return np.clip(encode_srgb(unit), 0, 1) if space == "linear" else unit


def _floating(values: np.ndarray) -> np.ndarray:
    if values.dtype not in (np.float32, np.float64):
        raise TypeError(f"the sRGB curve takes float32 or float64, not {values.dtype}")
    return values


def _plain(name: str) -> str:
    return "".join(name.lower().split())


def _refuse(space: str, plate: "Plate") -> None:
    raise InputError(
        f"{plate.path}: its files state color space {space}, not supported yet; convert to linear"
        " Rec.709, or pass --color-space linear (or srgb) if they state it wrongly"
    )


def _movie_space(plate: "Plate") -> str:
    primaries, transfer = plate.color_codes
    if transfer not in _DISPLAY_TRANSFERS:
        _refuse(_NAMED_TRANSFERS.get(transfer, f"transfer {transfer} of H.273"), plate)
    if primaries not in _DISPLAY_PRIMARIES:
        _refuse(_NAMED_CODES.get(primaries, f"primaries {primaries} of H.273"), plate)
    return "srgb"


def _refuse_primaries(spec, plate: "Plate") -> None:
    if spec.get_int_attribute("acesImageContainerFlag"):
        _refuse("ACES AP0 (ACES2065-1)", plate)
    stated = spec.getattribute("chromaticities")
    if stated is None or _alike(stated, _REC709):
        return
    for name, primaries in _PRIMARIES.items():
        if _alike(stated, primaries):
            _refuse(name, plate)
    _refuse("with chromaticities " + " ".join(f"{v:.4g}" for v in stated), plate)


def _alike(a, b) -> bool:
    return len(a) == len(b) and np.allclose(a, b, rtol=0, atol=1e-3)


def _stated_space(spec, plate: "Plate") -> str | None:
    """The space that metadata names, None if it names none."""
    transfer = spec.get_string_attribute("dpx:Transfer")
    if transfer in ("Printing density", "Logarithmic"):
        _refuse(f"DPX {transfer}", plate)
    profile = spec.get_string_attribute("ICCProfile:profile_description")
    if profile and "srgb" not in _plain(profile):
        _refuse(f"of the ICC profile {profile}", plate)
    name = spec.get_string_attribute("oiio:ColorSpace")
    # A PNG gamma of 1/2.2 is how the PNG specification has sRGB files marked for old readers.
    if _plain(name) in ("", "unknown", "data", "raw") or (
        plate.extension == "png" and name.startswith("g22_rec709")
    ):
        return None
    return _SPACES.get(_plain(name)) or _refuse(_COMMON_NAMES.get(name, name), plate)
