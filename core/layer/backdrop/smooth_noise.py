"""Seeded, continuous noise at any position, without detail finer than the sampling.

Noise is a lattice of random numbers between which cubic polynomials are interpolated (value noise); a fractal sum of
it has a power spectrum like that of clouds, terrain and stone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PERIOD = 256  # lattice cells after which noise repeats. Raising it takes memory
SCALE = 1.7  # factor that gives the interpolated lattice a standard deviation of about 1
TURN = 0.66  # rotation in radians from octave to octave, so that their lattices do not align
LACUNARITY = 2.07  # frequency ratio of successive octaves
# An octave fades in while its cells grow from the first to the second multiple of a sample's footprint. Raising the
# first loses detail; lowering it aliases.
FADES_IN = (1.0, 2.5)


class Noise:
    """Noise of one seed: mean 0, standard deviation about 1, cells of size 1."""

    def __init__(self, *seed: int) -> None:
        values = np.random.default_rng([s % 2**32 for s in seed]).uniform(-1, 1, (PERIOD, PERIOD)).astype(np.float32)
        values = np.pad(values, ((2, 3), (2, 3)), mode="wrap") * SCALE
        self.lattice = torch.from_numpy(values)[None, None]

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Noise at positions (...)."""
        at = torch.stack([x.remainder(PERIOD), y.remainder(PERIOD)], -1)
        grid = ((at + 2) * (2 / (PERIOD + 4)) - 1).reshape(1, 1, -1, 2)
        return F.grid_sample(self.lattice, grid, mode="bicubic", align_corners=True).reshape(x.shape)

    def fractal(
        self, x: Tensor, y: Tensor, octaves: int, gain: float = 0.5, footprint: Tensor | float = 0.0, fold: str = ""
    ) -> Tensor:
        """A sum of octaves at positions (...), each `gain` times as strong as the last; standard deviation about 1.

        footprint: size of a sample; octaves with cells of about that size are left out
        fold: "" for plain noise, "ridge" for sharp crests, "billow" for round bulges with sharp creases; the last two
            are within about -1 to 1
        """
        total, power, amplitude, frequency, angle = torch.zeros_like(x), 0.0, 1.0, 1.0, 0.0
        for k in range(octaves):
            cos, sin = frequency * math.cos(angle), frequency * math.sin(angle)
            value = self(cos * x - sin * y + 17.3 * k, sin * x + cos * y + 43.7 * k)
            if fold:
                value = 1 - 1.3 * value.abs() if fold == "ridge" else 1.3 * value.abs() - 1
            share = there(1 / frequency, footprint)
            total = total + amplitude * share * value
            power += amplitude**2
            amplitude, frequency, angle = amplitude * gain, frequency * LACUNARITY, angle + TURN
        return total / math.sqrt(power)


def there(cell: float, footprint: Tensor | float) -> Tensor | float:
    """Share in [0, 1] of an octave with cells of a size that samples of this footprint resolve."""
    if isinstance(footprint, float):
        return (
            1.0
            if footprint == 0
            else min(1.0, max(0.0, (cell / footprint - FADES_IN[0]) / (FADES_IN[1] - FADES_IN[0])))
        )
    return ((cell / footprint.clamp_min(1e-9) - FADES_IN[0]) / (FADES_IN[1] - FADES_IN[0])).clamp(0, 1)


def rgb(*color: float) -> Tensor:
    """A colour (3, 1, 1) in linear light."""
    return torch.tensor(color).view(3, 1, 1)


def lerp(low: Tensor, high: Tensor, share: Tensor) -> Tensor:
    """Interpolate from low to high by a share (h, w); colours are (3, ...)."""
    return low + (high - low) * share
