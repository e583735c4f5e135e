"""Convert the model's layer to the host's blending space, and composite it there.

The model composites C = a E + (1 - a) S in its own encoded range. The same alpha in another space gives another
picture. So alpha and colour are computed again for the host's space, against the plate S below the layer.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from vera.core.errors import InputError
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY, decode_srgb, encode_srgb
from vera.core.plate.color_space import LINEAR, ColorSpace, find_space
from vera.kernels.halves import to_floats, to_halves
from vera.kernels.over import over, over_through
from vera.kernels.part import Part

# Smallest alpha that is kept. A smaller one changes at most 1/16 of an 8-bit step, and the plate keeps its bits there.
LEAST_ALPHA = 2.0**-12
_MOST_HALF = 65504.0
# (height, width) of a tile. Small enough that torch casts it on one thread: each frame has its own thread already.
_TILE = (32, 320)
# Linear light below which a relative change is taken as a difference from the plate, not as a ratio.
_DARK = np.float32(2.0**-9)
_VISIBLE_ERROR = 0.3 / 255  # rounding error in display codes, in [0, 1], from which the roundings are compared
_CODE_BITS = {"uint10": 10, "uint12": 12}  # bit depths of types that are 16 bits in memory


@dataclass(frozen=True)
class Blending:
    """The host's blending space.

    name: "linear" (light) or "encoded" (sRGB display values of Rec.709)
    space: colour space of the layer's RGB. Linear blending takes any linear space: a matrix commutes with an over.
    """

    name: str
    space: ColorSpace

    def from_light(self, light: np.ndarray) -> np.ndarray:
        """Linear Rec.709 (..., 3) float32 to values of the blending space."""
        return encode_srgb(light) if self.name == "encoded" else self.space.from_rec709(light)

    def to_light(self, values: np.ndarray) -> np.ndarray:
        return decode_srgb(values) if self.name == "encoded" else self.space.to_rec709(values)


def find_blending(name: str, layer_space: str | None, plate_space: ColorSpace) -> Blending:
    """The blending of a name, "linear" or "encoded".

    layer_space: colour space of a linear layer; by default linear light with the plate's primaries. Raises InputError
    for a space that is unknown or not linear.
    """
    if name == "encoded":
        if layer_space is not None:
            raise InputError(
                "layer space: an encoded layer is sRGB as the host's sequencer adds it up; leave --layer-space out"
            )
        return Blending(name, LINEAR)
    space = plate_space.light() if layer_space is None else find_space(layer_space)
    if not space.is_linear:
        raise InputError(f"layer space {layer_space!r}: not linear; name its light, such as {space.light_name!r}")
    return Blending(name, space)


@dataclass(frozen=True)
class Change:
    """Inputs for colour relative to the plate: the edit's change is applied to the plate's own pixels.

    pixels: (H, W, 3 or 4), the plate
    reconstruction: (H, W, 3) float32 in the model's range, the plate after the model's codec, resampled like the edit
    share: (H, W) float32 in [0, 1]; 1 takes the relative colour, 0 the decoded colour
    """

    pixels: np.ndarray
    reconstruction: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class ModelLayer:
    """One frame as the model composes it.

    edit: (H, W, 3) float32, straight colour E, in the model's range [0, 1]
    alpha: (H, W) float32, a in [0, 1]
    source: (H, W, 3) float32, the plate S in the model's range (`PlateColor.to_model`)
    change: inputs for colour relative to the plate, or None
    """

    edit: np.ndarray
    alpha: np.ndarray
    source: np.ndarray
    change: Change | None = None

    def each(self, convert: Callable[[np.ndarray], np.ndarray]) -> "ModelLayer":
        """The same with every picture converted."""
        change = self.change and Change(*(convert(picture) for picture in vars(self.change).values()))
        return ModelLayer(convert(self.edit), convert(self.alpha), convert(self.source), change)


def layer_for_blending(
    layer: ModelLayer, color: PlateColor, blending: Blending, dtype: DTypeLike = np.float16
) -> np.ndarray:
    """The premultiplied layer (H, W, 4) of `dtype`, float16 or float32, that makes the model's composite.

    Let f decode the model's range to light, let B be the blending space, and clip S at display white. The layer's alpha
    a' depends on a alone: 1 - a' is the share of white that remains under black with alpha a. A darker plate keeps a
    larger share, so the colour B(f(C)) - (1 - a') B(f(S)) is never negative. Over the plate, the layer gives C. Above
    white, where codes carry no information, the plate is multiplied by 1 - a'. With sRGB's curve and linear blending,
    1 - a' is (1 - a)^2.4. With encoded blending and no exposure, the layer is a E and a, unchanged.

    With `change`, the colour is relative to the plate as far as `share` says: E_r = plate x f(E) / f(R), where R is the
    reconstruction. Grain and detail that the codec lost then come from the plate, and the result is scaled by the
    plate's level above white.

    All channels are exactly 0 where alpha is below 2^-12, and alpha is exactly 1 where it was 1. For float16 layers in
    linear light, a' is rounded *up* and the colour is computed with the rounded a', so that half's coarse steps near 1
    (2^-11) stay invisible. Over highlights above 1, the rounding loses at most 2^-11 of the highlight's light.

    Raises ValueError on a NaN or an infinity in edit or alpha.
    """
    if not (np.isfinite(layer.alpha).all() and np.isfinite(layer.edit).all()):
        raise ValueError("the edit or its alpha holds a NaN or an infinity")
    blended = np.zeros((*layer.alpha.shape, 4), dtype)
    for tile in _tiles(*layer.alpha.shape):
        touched = (layer.alpha[tile] >= LEAST_ALPHA).reshape(-1)
        places = np.flatnonzero(touched)
        if not len(places):
            continue
        here = layer.each(lambda picture: picture[tile].reshape(len(touched), -1))  # noqa: B023 - used at once
        if 2 * len(places) < len(touched):
            pixels = np.zeros((len(touched), 4), dtype)
            at_places = here.each(lambda picture: picture.take(places, 0))  # noqa: B023 - used at once
            pixels[places] = _blended_pixels(at_places, color, blending, blended.dtype)
        else:  # gathering most pixels is slower than computing all
            pixels = _blended_pixels(here, color, blending, blended.dtype)
            pixels[np.flatnonzero(~touched)] = 0
        blended[tile] = pixels.reshape(blended[tile].shape)
    return blended


def tiled(part: Part, size: tuple[int, int]) -> Part:
    """The part of a picture enlarged to whole tiles of `layer_for_blending`, which then gives the whole picture's bits
    there."""
    (rows, columns), (height, width) = _TILE, size
    return Part(
        part.top // rows * rows,
        min(height, -(-part.bottom // rows) * rows),
        part.left // columns * columns,
        min(width, -(-part.right // columns) * columns),
    )


def _tiles(height, width):
    """Tiles of a picture, small enough that the arrays of one tile stay in the processor's cache."""
    for top in range(0, height, _TILE[0]):
        for left in range(0, width, _TILE[1]):
            yield slice(top, top + _TILE[0]), slice(left, left + _TILE[1])


def _blended_pixels(layer: ModelLayer, color: PlateColor, blending: Blending, dtype: np.dtype) -> np.ndarray:
    """`layer_for_blending` of pixels (n, channels): (n, 4)."""
    e, a, s, change = layer.edit, layer.alpha, layer.source, layer.change
    s = s if np.isfinite(s).all() else np.nan_to_num(s)
    if blending.name == "encoded" and color.curve is DISPLAY and color.exposure == 0 and change is None:
        return np.concatenate([a * e, a], axis=1).astype(dtype)
    curve, gain = color.curve, np.float32(color.gain)
    half, opaque = dtype == np.float16, a.min() == 1  # opaque: the plate contributes nothing
    s = np.minimum(s, np.float32(curve.white))
    alpha = a if opaque else 1 - _passes(1 - a, curve, gain, blending)
    alpha = _half_not_below(alpha) if half else alpha
    rest = 1 - to_floats(alpha)

    def composed(code):
        return code if opaque else a * code + (1 - a) * s

    def shown(light, behind):
        """The light of the composite, and the layer colour that gives it over the light behind; both are exposed."""
        light = light / gain
        return light, blending.from_light(light) if opaque else _difference(light, rest, behind / gain, blending)

    if change is None or change.share.max() == 0:
        seen, made = shown(curve.decode(composed(e)), None if opaque else curve.decode(s))
    else:
        light = color.light(np.ascontiguousarray(change.pixels[..., :3]))
        behind, above = np.clip(light, 0, 1), np.maximum(light, 1)
        ratio = (curve.decode(e) + _DARK) / (curve.decode(change.reconstruction) + _DARK)
        relative = np.clip((behind + _DARK) * ratio - _DARK, 0, np.float32(curve.top))
        relative = relative if opaque else curve.decode(composed(curve.encode(relative)))
        seen, made = shown(relative * above, behind * above)
        if change.share.min() < 1:
            decoded = shown(curve.decode(composed(e)), behind)
            seen, made = (one + change.share * (other - one) for one, other in zip(decoded, (seen, made)))
    made = np.clip(made, 0, _MOST_HALF if half else None)
    if half and blending.name == "linear" and blending.space.curve is None:
        made = _halves_least_seen(made, seen, gain, blending)
    return np.concatenate([to_halves(made) if half else made, alpha], axis=1)


def _passes(rest, curve, gain, blending):
    """`curve.passes` in the blending space: the smallest share that remains of any plate up to white."""
    if blending.name == "linear":
        return curve.passes(rest)
    shares, passing = _encoded_passes(curve, float(gain))
    return np.interp(rest, shares, passing).astype(np.float32)


@functools.lru_cache(maxsize=16)
def _encoded_passes(curve, gain):
    """A table of the remaining share in sRGB encoding. With an exposure, its minimum need not be at white, so it is
    searched."""
    shares, codes = np.linspace(0, 1, 1025), np.linspace(0, curve.white, 257)[1:]
    black_over = encode_srgb(curve.decode(shares[:, None] * codes) / gain)
    return shares, (black_over / encode_srgb(curve.decode(codes) / gain)).min(1)


def _difference(composed, rest, behind, blending):
    """B(composed) - rest B(behind)."""
    if blending.name == "linear":  # one conversion is enough
        return blending.from_light(composed - rest * behind)
    return blending.from_light(composed) - rest * blending.from_light(behind)


def _halves_least_seen(made, seen, gain, blending):
    """Values rounded to float16 in a space with other primaries than the display's, such that `seen` (light, Rec.709)
    is met best.

    In such a space, a dark component of a saturated colour is the difference of large numbers, which float16 holds
    coarsely: the error reaches 3 steps of an 8-bit display in ACES2065-1. Where rounding to nearest is visible, the
    best of the eight combinations of rounding up and down is taken.
    """

    def shown(values):
        return encode_srgb(np.clip((blending.to_light(to_floats(values)) + beneath) * gain, 0, 1))

    halves = to_halves(made)
    places = np.flatnonzero(_may_show(made, halves, seen, gain, blending))
    if not len(places):
        return halves
    beneath = seen[places] - blending.to_light(made[places])
    wanted = shown(made[places])
    error = np.abs(shown(halves[places]) - wanted).max(1)
    shows = error > _VISIBLE_ERROR
    places, beneath, wanted, error = places[shows], beneath[shows], wanted[shows], error[shows]
    low = halves[places]
    low = np.where(low > made[places], np.nextafter(low, np.float16(0)), low)
    high = np.nextafter(low, np.float16(_MOST_HALF))
    for way in np.ndindex(2, 2, 2):
        tried = np.where(np.array(way, bool), high, low)
        off = np.abs(shown(tried) - wanted).max(1)
        better = off < error
        halves[places[better]], error[better] = tried[better], off[better]
    return halves


def _may_show(made, halves, seen, gain, blending):
    """Where rounding may change the display by more than _VISIBLE_ERROR: a cheap upper bound, true for few pixels.

    The slope of sRGB's curve is at most 0.73 / sqrt(light), and the slope of its linear part, 12.92, is below that.
    """
    off = np.abs(blending.to_light(to_floats(halves) - made)) * gain
    shows = off * off * np.float32((0.73 / _VISIBLE_ERROR) ** 2) > np.maximum(seen * gain - off, np.float32(0.0031308))
    return shows[:, 0] | shows[:, 1] | shows[:, 2]  # numpy is slow at any() of three


def _half_not_below(values):
    """Values in [0, 1] rounded up to float16."""
    halves = to_halves(values)
    low = to_floats(halves) < values
    return np.where(low, np.nextafter(halves, np.float16(2)), halves)


def composite(
    pixels: np.ndarray, layer: np.ndarray, color: PlateColor, blending: Blending, part: Part | None = None
) -> np.ndarray:
    """The layer over the plate, in the plate's own values; the plate keeps its bits where alpha is 0. See
    kernels/over.py.

    part: outside of which alpha is 0, if known
    """
    if part is not None and part.size != layer.shape[:2]:
        laid = np.array(pixels, order="C")
        if min(part.size):
            laid[part.slices] = composite(pixels[part.slices], layer[part.slices], color, blending)
        return laid
    bits = _CODE_BITS.get(color.pixel_type)
    own = color.space.curve
    if blending.name == "linear" and color.space == blending.space:
        return over(pixels, layer, "linear", "linear", bits)
    if own and (blending.name == "encoded" or blending.space.curve == "linear"):
        return over(pixels, layer, own, blending.name, bits)
    return over_through(
        pixels,
        layer,
        lambda numbers: blending.from_light(color.space.to_rec709(numbers)),
        lambda values: color.space.from_rec709(blending.to_light(values)),
        bits,
    )
