"""The two curves between light and the model's range [0, 1], both based on sRGB's.

`DISPLAY` is sRGB's curve: code 1 is display white. `SCENE` is for scene-referred light: sRGB's curve up to a knee at
mid-grey, then a log shoulder that puts 64 times white at code 1.
"""

import numpy as np


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Linear light to sRGB's encoding (IEC 61966-2-1), float32 or float64 in and out.

    The curve is odd about zero, and the power law continues above 1. NaN and infinities stay.
    """
    x, edge = np.abs(_floating(linear)), linear.dtype.type(0.0031308)
    # In place, for speed. Toe values are raised before the power, whose result is unused there: denormals are slow.
    code = np.asarray(np.maximum(x, edge))
    code **= 1 / 2.4
    code *= 1.055
    code -= 0.055
    return _signed(_chosen(x <= edge, lambda: x * linear.dtype.type(12.92), code), linear)


def decode_srgb(encoded: np.ndarray) -> np.ndarray:
    """The inverse of `encode_srgb`."""
    x, edge = np.abs(_floating(encoded)), encoded.dtype.type(0.04045)
    light = np.asarray(np.maximum(x, edge))
    light += 0.055
    light /= 1.055
    light **= 2.4
    return _signed(_chosen(x <= edge, lambda: x / encoded.dtype.type(12.92), light), encoded)


class DisplayCurve:
    """sRGB's. `top` is the light at code 1, `white` the code of display white (light 1)."""

    name, top, white = "srgb", 1.0, 1.0

    def encode(self, light: np.ndarray) -> np.ndarray:
        """Light to codes, cut to [0, 1]; float32 or float64 in and out."""
        return np.clip(encode_srgb(np.clip(light, 0, 1)), 0, 1)

    def decode(self, code: np.ndarray) -> np.ndarray:
        return decode_srgb(code)

    def passes(self, rest: np.ndarray) -> np.ndarray:
        """The transmission in light of a black layer that leaves the share `rest` of every code.

        Black over a code s leaves the light f(rest s) of f(s), so that the transmission depends on s. The result is a
        lower bound for all s up to white. Then f(a e + rest s) - passes f(s), the colour of a layer with this
        transmission, is never negative. The bound is rest^2.4, which is below f(rest s) / f(s) for every s.
        """
        return rest ** rest.dtype.type(2.4)


class RangeCurve:
    """sRGB's curve up to the knee, then white + b ln((x + c) / (1 + c)): smooth (C1) at the knee, 1 at `top`."""

    name, top, knee = "range", 64.0, 0.18

    def __init__(self) -> None:
        x = np.array([self.knee], np.float64)
        self._code = float(encode_srgb(x)[0])
        slope = 1.055 / 2.4 * self.knee ** (1 / 2.4 - 1)
        # b = slope u with u = knee + c, from the slopes; u by bisection, from the value at the top.
        low, high = 1e-6, 1.0
        for _ in range(200):
            u = (low + high) / 2
            short = self._code + slope * u * np.log1p((self.top - self.knee) / u) < 1
            low, high = (u, high) if short else (low, u)
        self._b, self._c = slope * u, u - self.knee
        self.white = float(self._code + self._b * np.log((1 + self._c) / u))

    def encode(self, light: np.ndarray) -> np.ndarray:
        """Light to codes, cut to [0, 1]; float32 or float64 in and out."""
        light, knee = np.clip(_floating(light), 0, self.top), light.dtype.type(self.knee)

        def shoulder():
            code = np.maximum(light, knee).astype(np.float64)  # reduces the error ten times
            code += self._c
            code /= 1 + self._c
            np.log(code, out=code)
            code *= self._b
            code += self.white
            return code.astype(light.dtype)

        return np.minimum(_chosen(light > knee, shoulder, encode_srgb(np.minimum(light, knee))), 1)

    def decode(self, code: np.ndarray) -> np.ndarray:
        """The inverse of `encode`: exact to 1e-14 of the light in float64, to 1e-6 in float32."""
        knee = _floating(code).dtype.type(self._code)

        def shoulder():
            light = code.astype(np.float64)
            light -= self.white
            light /= self._b
            np.exp(light, out=light)
            light *= 1 + self._c
            light -= self._c
            return light.astype(code.dtype)

        return _chosen(code > knee, shoulder, decode_srgb(np.minimum(code, knee)))

    def passes(self, rest: np.ndarray) -> np.ndarray:
        """See `DisplayCurve.passes`. Here f(rest s) / f(s) falls with s, so that the bound is its value at white."""
        return np.minimum(self.decode(rest * rest.dtype.type(self.white)), rest)


def _floating(values: np.ndarray) -> np.ndarray:
    if values.dtype not in (np.float32, np.float64):
        raise TypeError(f"the sRGB curve takes float32 or float64, not {values.dtype}")
    return values


def _chosen(where, values, others):
    """values() where the mask is true, else others. All values are computed: gathering some of them takes longer."""
    return np.where(where, values(), others) if where.any() else others


def _signed(values, signs):
    return np.copysign(values, signs) if np.signbit(signs).any() else values


DISPLAY, SCENE = DisplayCurve(), RangeCurve()
CURVES = {curve.name: curve for curve in (DISPLAY, SCENE)}
