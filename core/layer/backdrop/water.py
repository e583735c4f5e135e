"""The surface of water: waves of a wind's spectrum.

The surface is the sum of four square tiles of waves, each with its own range of wavelengths, computed by Fourier
transforms (Tessendorf, "Simulating ocean water", SIGGRAPH courses 2001). At a distance, waves that are too short for
the sampling fade out, and their slopes count as roughness. Foam lies where the horizontal motion of the crests folds
the surface.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from scipy import fft
from torch import Tensor

from vera.core.layer.backdrop.smooth_noise import there

GRID = 128  # samples per side of a tile. Raising it allows shorter waves, and takes time
GRAVITY = 9.81  # metres per second squared
# Of each tile: side in metres; shortest wavelength in metres (the longest is the shortest one of the tile before);
# horizontal motion as a factor on that of first-order wave theory. Raising the last sharpens crests, then folds them.
TILES = ((331.0, 30.0, 1.2), (83.0, 8.0, 0.9), (23.0, 2.2, 0.45), (6.7, 0.55, 0.2))
# Ages in seconds at which earlier foam is looked up, and the fade of its folding per second. Raising the second makes
# foam shorter-lived.
FOAM_LASTS, FOAM_FADES = (0.0, 0.5, 1.1, 1.9), 0.16


@dataclass(frozen=True)
class Sea:
    """A state of the sea. wind: metres per second. height: significant wave height in metres. foam: 0 (none) to 1."""

    wind: float
    height: float
    foam: float
    seed: int
    spectra: tuple = field(default=(), compare=False)

    @classmethod
    def of(cls, wind: float, height: float, foam: float, seed: int) -> Sea:
        rng = np.random.default_rng([seed % 2**32, 77])
        made, longest, variance = [], math.inf, 0.0
        for side, shortest, _ in TILES:
            k = 2 * math.pi * np.fft.fftfreq(GRID, side / GRID)
            kx, ky = k[None], k[:, None]
            size = np.hypot(kx, ky)
            size[0, 0] = 1
            wave = 2 * math.pi / size
            inside = (wave >= shortest) & (wave < longest)
            peak = wind**2 / GRAVITY
            along = (0.8 * ky + 0.6 * kx) / size
            power = np.exp(-1 / (size * peak) ** 2) / size**4 * (0.15 + 0.85 * along**2) * inside
            power *= (2 * math.pi / side) ** 2
            noise = rng.standard_normal((2, GRID, GRID))
            made.append(((noise[0] + 1j * noise[1]) * np.sqrt(power / 2), np.sqrt(GRAVITY * size), kx, ky, size))
            variance += 2 * float(power.sum())
            longest = shortest
        scale = height / 4 / math.sqrt(variance)
        return cls(wind, height, foam, seed, tuple((a * scale, *rest) for a, *rest in made))

    def at(self, seconds: float) -> Surface:
        """The surface at a time."""
        now, *before = (self._tiles(seconds - ago) for ago in (FOAM_LASTS if self.foam else FOAM_LASTS[:1]))
        for ago, tiles in zip(FOAM_LASTS[1:], before, strict=False):
            for tile, old in zip(now, tiles, strict=True):
                tile.planes[3] = torch.minimum(tile.planes[3], old.planes[3] + FOAM_FADES * ago)
        return Surface(tuple(now))

    def _tiles(self, seconds: float) -> list[Tile]:
        tiles = []
        for (amplitude, rate, kx, ky, size), kind in zip(self.spectra, TILES, strict=True):
            turned = amplitude * np.exp(1j * rate * seconds)
            waves = turned + np.conj(np.roll(np.flip(turned), (1, 1), (0, 1)))
            real = fft.ifft2(np.stack([waves, -1j * kx / size * waves, -1j * ky / size * waves])).real * GRID**2
            tiles.append(_tile(real.astype(np.float32), *kind))
        return tiles


def _tile(planes: np.ndarray, side: float, shortest: float, chop: float) -> Tile:
    """A tile from height and horizontal motion (3, n, n) at rest positions, resampled to displaced positions."""
    height, right, ahead = torch.from_numpy(planes)
    step = side / GRID
    (rr, ra), (_, aa) = ((_rolled(p, 1) / step, _rolled(p, 0) / step) for p in (right, ahead))
    fold = (1 + chop * rr) * (1 + chop * aa) - (chop * ra) ** 2
    # A point at rest position q moves to q + d(q). So the point now at x came from about x - d(x).
    index = torch.arange(GRID, dtype=torch.float32)
    came = torch.stack([index[None] - chop * right / step, index[:, None] - chop * ahead / step], -1)
    moved = _wrapped(torch.stack([height, fold]), came[..., 0], came[..., 1])
    rise = (_rolled(moved[0], 1) / step, _rolled(moved[0], 0) / step)
    planes_ = torch.stack([moved[0], rise[0], rise[1], moved[1]])
    return Tile(planes_, side, shortest, float((rise[0] ** 2 + rise[1] ** 2).mean()))


def _rolled(plane: Tensor, axis: int) -> Tensor:
    """Central difference along an axis of a periodic plane, per sample."""
    return (plane.roll(-1, axis) - plane.roll(1, axis)) / 2


def _wrapped(planes: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Bilinear samples (C, ...) of periodic planes (C, n, n) at positions in samples."""
    padded = F.pad(planes[None], (0, 1, 0, 1), mode="circular")
    grid = torch.stack([columns.remainder(GRID), rows.remainder(GRID)], -1) * (2 / GRID) - 1
    found = F.grid_sample(padded, grid.reshape(1, 1, -1, 2), align_corners=True)
    return found.reshape(len(planes), *columns.shape)


@dataclass(frozen=True)
class Tile:
    """A periodic tile of the surface.

    planes: (4, n, n), height, slope to the right, slope ahead, fold (below 0 where the surface turns over)
    side, shortest: length and shortest wavelength in metres
    steep: mean square slope
    """

    planes: Tensor
    side: float
    shortest: float
    steep: float

    def sample(self, right: Tensor, ahead: Tensor, which: slice) -> Tensor:
        scale = GRID / self.side
        return _wrapped(self.planes[which], right * scale, ahead * scale)


@dataclass(frozen=True)
class Surface:
    tiles: tuple[Tile, ...]

    def height(self, right: Tensor, ahead: Tensor, footprint: Tensor) -> Tensor:
        """Height (...) in metres at positions in metres. footprint: size of a sample."""
        made = torch.zeros_like(right)
        for tile in self.tiles[:3]:
            share = there(tile.shortest, footprint)
            made = made + share * tile.sample(right, ahead, slice(0, 1))[0]
        return made

    def details(self, right: Tensor, ahead: Tensor, footprint: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """At positions in metres: slope to the right, slope ahead, mean square slope of unresolved waves, fold."""
        slope_x, slope_y, rough, fold = (torch.zeros_like(right) for _ in range(4))
        fold = fold + 1
        for number, tile in enumerate(self.tiles):
            share = there(tile.shortest, footprint)
            found = tile.sample(right, ahead, slice(1, 4))
            slope_x, slope_y = slope_x + share * found[0], slope_y + share * found[1]
            rough = rough + (1 - share) * tile.steep
            if number < 3:
                fold = fold + share * (found[2] - 1)
        return slope_x, slope_y, rough, fold
