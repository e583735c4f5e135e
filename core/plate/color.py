"""Colour on the way to the model and back.

    plate's numbers -> linear Rec.709 -> one exposure for the shot -> curve -> the model's range [0, 1]

Display-referred plates get sRGB's curve, so that an sRGB plate's codes are the model's. Scene-referred plates, linear
or log, get the curve of their model (`Limits.light_curve`). The range curve holds up to 64 times white and is for
models that were trained with it: to a model trained on display-referred pictures, code 1 is white, and the range curve
would make its white fog 64 times as bright as white. Only generated pixels are converted back; the plate's own pixels
reach the delivery unconverted.
"""

import functools
from dataclasses import dataclass

import numpy as np

from vera.core.plate.color_curve import DISPLAY, SCENE, DisplayCurve, RangeCurve
from vera.core.plate.color_space import ColorSpace
from vera.core.plate.pixel import to_unit

_PORTION = 10_000  # pixels converted at a time, so that they stay in the processor's cache
_INFINITY_STAND_IN = np.float32(1e30)  # replaces infinity in sums


@dataclass(frozen=True)
class PlateColor:
    """Conversion between one plate's pixels and the model's range.

    space: of the plate
    pixel_type: one of PIXEL_TYPES in core/plate/pixel.py
    exposure: stops added on the way in
    light_curve: curve of scene-referred plates
    """

    space: ColorSpace
    pixel_type: str
    exposure: float = 0.0
    light_curve: DisplayCurve | RangeCurve = SCENE

    @property
    def curve(self) -> DisplayCurve | RangeCurve:
        return self.light_curve if self.space.is_scene else DISPLAY

    @property
    def gain(self) -> float:
        return 2.0**self.exposure

    def light(self, pixels: np.ndarray) -> np.ndarray:
        """A plate's pixels (..., 3 or 4) as exposed linear light, Rec.709, (..., 3) float32.

        White is 1; nothing is cut, so colours beyond Rec.709 have negative parts. NaN becomes 0,
        infinities 1e30. Integers are divided by their type's maximum; alpha is dropped.
        """
        numbers = _finite(to_unit(np.ascontiguousarray(pixels[..., :3]), self.pixel_type))
        return _finite(self.space.to_rec709(numbers)) * np.float32(self.gain)

    def to_model(self, pixels: np.ndarray) -> np.ndarray:
        """A plate's pixels (H, W, 3 or 4) in the model's range: (H, W, 3) float32 in [0, 1]."""
        rgb = np.ascontiguousarray(pixels[..., :3])
        table = self.model_table(rgb.dtype)
        if table is None:
            codes, flat = np.empty(rgb.shape, np.float32), rgb.reshape(-1, 3)
            for at in range(0, len(flat), _PORTION):
                portion = slice(at, at + _PORTION)
                codes.reshape(-1, 3)[portion] = self._codes(flat[portion])
            return codes
        return _of_each(table, rgb)

    def model_table(self, dtype: np.dtype) -> np.ndarray | None:
        """`to_model` of all values of a type, by their bits; None if channels are not converted one by one, or if there
        are too many values."""
        return _model_codes(self, dtype) if self._has_table(dtype) else None

    def from_model(self, codes: np.ndarray) -> np.ndarray:
        """The inverse of `to_model`: (..., 3) float32 in [0, 1] to the plate's numbers, integers' in [0, 1]."""
        if self._is_plain():
            return codes
        return self.space.from_rec709(self.curve.decode(codes) / np.float32(self.gain))

    def clipped(self, pixels: np.ndarray) -> dict[str, float]:
        """The shares of pixels outside of the model's range: `above` it, and `below` black.

        A pixel counts if any of its channels is outside. Below black are noise under a log curve's black and colours
        outside of Rec.709's gamut, from a thousandth of white on. Large frames are subsampled, to at least 270 rows or
        columns of the shorter side.
        """
        step = max(1, min(pixels.shape[:2]) // 270)
        rgb = np.ascontiguousarray(pixels[::step, ::step, :3])
        if not self._has_table(rgb.dtype):
            light = self.light(rgb)
            outside = [self._above(light), self._below(light)]
        else:
            outside = [_of_each(table, rgb) for table in _outside(self, rgb.dtype)]
        above, below = ((x[..., 0] | x[..., 1] | x[..., 2]).mean() for x in outside)  # numpy is slow at any() of three
        return {"above": float(above), "below": float(below)}

    def for_display(self, pixels: np.ndarray) -> np.ndarray:
        """The pixels for viewing: sRGB display values (H, W, 3) float32 in [0, 1], exposed and clipped at white."""
        return self.to_model(pixels) if self.curve is DISPLAY else DISPLAY.encode(self.light(pixels))

    def _has_table(self, dtype: np.dtype) -> bool:
        """Whether there is a table of all values of the type."""
        return dtype.itemsize <= 2 and bool(self.space.curve)

    def _codes(self, rgb: np.ndarray) -> np.ndarray:
        if self._is_plain():
            unit = to_unit(rgb, self.pixel_type)
            return np.clip(np.where(np.isnan(unit), np.float32(0), unit), 0, 1)
        return self.curve.encode(self.light(rgb))

    def _above(self, light: np.ndarray) -> np.ndarray:
        return light > self.curve.top * (1 + 1e-6)

    def _below(self, light: np.ndarray) -> np.ndarray:
        return light < -1e-3

    def _is_plain(self) -> bool:
        """Whether the plate's codes are the model's."""
        return self.space.curve == "srgb" and self.exposure == 0


# Of spaces that are one curve a channel, and types of up to 16 bits, a table of all values gives the same numbers, at
# 4K many times as fast. They are kept: to make one takes as long as a small frame.


def _every(dtype: np.dtype) -> np.ndarray:
    """All values of a type, (n, 3), by their bits as a number."""
    code = np.dtype(f"u{dtype.itemsize}")
    return np.repeat(np.arange(256**code.itemsize).astype(code).view(dtype)[:, None], 3, 1)


def _of_each(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    return table.take(values.view(f"u{values.itemsize}"))


@functools.lru_cache(maxsize=8)
def _model_codes(color: PlateColor, dtype: np.dtype) -> np.ndarray:
    """`PlateColor.to_model` of all values of a type."""
    return np.ascontiguousarray(color._codes(_every(dtype))[:, 0])


@functools.lru_cache(maxsize=8)
def _outside(color: PlateColor, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Which values of a type are above the model's range, and which below."""
    light = color.light(_every(dtype))[:, 0]
    return color._above(light), color._below(light)


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        values = np.where(np.isnan(values), np.float32(0), values)
    return np.clip(values, -_INFINITY_STAND_IN, _INFINITY_STAND_IN)
