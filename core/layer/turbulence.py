"""Fire, smoke, fog and rays of light at the plate's size: procedural structure for the model's soft layer.

The diffusion model's smoothed alpha gives an effect's position and density. Moving noise gives it the tongues, billows
and shafts that are too fine for 144x80 pixels. Nothing here is learned. Lengths are in picture heights, times in frames
of the shot.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.plate_light import Scene, display_codes
from vera.kernels.planes import smoothstep

# Rows of the picture in which the noise is computed before it is enlarged. Raising it gives finer noise, and takes
# time.
ROWS = 360
TABLE = 64  # random values per side of the noise, after which it repeats
# Radius in model pixels of the two box filters over the model's layer. Raising it hides more of its grid.
BOX_RADIUS = 2
# Factors on the density of smoke and fog; in faint ones no structure is visible. Raising them makes them denser.
DENSER_SMOKE, DENSER_FOG = 3.2, 1.8
SMOKE = 0.2  # albedo of smoke, so that it shows over bright and dark; raising it makes whiter smoke
RAMP = (  # colours of a flame from its rim to its core, display-encoded
    (0.55, 0.07, 0.01), (0.95, 0.30, 0.03), (1.0, 0.62, 0.10), (1.0, 0.90, 0.45), (1.0, 0.98, 0.86),
)  # fmt: skip
SOURCE = (-0.55, -0.85)  # source of the rays from the picture's centre: right in widths, down in heights
RAY_LENGTH = 2.1  # picture heights from the source at which rays end; raising it lengthens them


@dataclass(frozen=True)
class Turbulence:
    """An effect in one frame of its shot. time: in frames."""

    kind: str
    seed: int
    time: int


@dataclass(frozen=True)
class Soft:
    """The model's layer, smoothed, at the size of the noise: alpha (h, w), straight colour (h, w, 3)."""

    alpha: Tensor
    color: Tensor


@dataclass(frozen=True)
class Noise:
    """Noise of a seed for a picture of (rows, columns) with a displayed aspect ratio."""

    size: tuple[int, int]
    aspect: float
    seed: int

    def places(self) -> tuple[Tensor, Tensor]:
        """Positions to the right (1, w) of and below (h, 1) the centre, in picture heights."""
        height, width = self.size
        right = ((torch.arange(width) + 0.5) / width - 0.5) * self.aspect
        return right[None], ((torch.arange(height) + 0.5) / height - 0.5)[:, None]

    def at(self, x: Tensor, y: Tensor, octaves: int = 4) -> Tensor:
        """Fractal value noise in [0, 1] with mean 0.5, at positions in units of its coarsest cells."""
        table = torch.from_numpy(np.random.default_rng([self.seed, 7]).random((TABLE, TABLE), np.float32))
        x, y = torch.broadcast_tensors(x, y)
        total, weight, whole = torch.zeros_like(x), 1.0, 0.0
        for octave in range(octaves):
            total += weight * _value_noise(table, x + 17.3 * octave, y + 9.1 * octave)
            whole, weight = whole + weight, weight * 0.55
            x, y = 2.03 * x, 2.03 * y
        return total / whole


Structure = Callable[[Soft, Noise, int, Scene], tuple[Tensor, Tensor]]


def _fire(soft: Soft, noise: Noise, time: int, scene: Scene) -> tuple[Tensor, Tensor]:
    """Flames: the parts where the model's density, lowered by rising noise, exceeds a threshold.

    They are hotter inside.
    """
    x, y = noise.places()
    sway = 0.5 * (noise.at(3 * x + 5, 3 * y + 0.06 * time, 2) - 0.5)
    rising = noise.at(9 * x + 3 * sway, 3.6 * y + 0.13 * time, 5)
    heat = 1.35 * soft.alpha + 2.4 * (rising - 0.5) - 0.1
    level = smoothstep(heat, 0.35, 2.0) * (len(RAMP) - 1)
    ramp = torch.tensor(RAMP)
    below = level.floor().long().clamp(max=len(RAMP) - 2)
    color = torch.lerp(ramp[below], ramp[below + 1], (level - below)[..., None])
    return color, 0.96 * smoothstep(heat, 0.25, 0.7) * smoothstep(soft.alpha, 0.03, 0.2)


def _billows(soft: Soft, noise: Noise, time: int, rise: float, contrast: float, denser: float) -> tuple[Tensor, Tensor]:
    x, y = noise.places()
    warp = noise.at(2.2 * x + 11, 2.2 * y + rise * time / 2, 3) - 0.5
    thick = noise.at(4.2 * x + 1.6 * warp + 0.2 * rise * time, 4.2 * y + 1.6 * warp + rise * time)
    swing = (2.6 * (thick - 0.5)).clamp(-1, 1)
    alpha = 1 - (1 - soft.alpha.clamp(max=0.97)) ** (denser * (1 + contrast * swing))
    lit = 1 + 0.22 * contrast * (noise.at(4.2 * x + 1.6 * warp, 4.2 * y + 1.6 * warp + rise * time - 0.12) - thick) * 4
    return (soft.color * lit[..., None]).clamp(0, 1), alpha


def _smoke(soft: Soft, noise: Noise, time: int, scene: Scene) -> tuple[Tensor, Tensor]:
    grey = display_codes(scene.light.white * SMOKE, scene.clips)
    soft = Soft(soft.alpha, torch.lerp(soft.color, grey, 0.7))
    return _billows(soft, noise, time, 0.035, 0.9, DENSER_SMOKE)


def _fog(soft: Soft, noise: Noise, time: int, scene: Scene) -> tuple[Tensor, Tensor]:
    return _billows(soft, noise, time, 0.006, 0.5, DENSER_FOG)


def _rays(soft: Soft, noise: Noise, time: int, scene: Scene) -> tuple[Tensor, Tensor]:
    """Wide and narrow shafts of light from the upper left, in the plate's white, which drift slowly."""
    x, y = noise.places()
    dx, dy = x - SOURCE[0] * noise.aspect, y - SOURCE[1]
    angle, far = torch.atan2(dy, dx), torch.hypot(dx, dy)
    still = torch.zeros_like(angle)
    wide = noise.at(6 * angle, still + 0.008 * time, 2)
    narrow = noise.at(19 * angle + 3, still + 0.012 * time, 2)
    shaft = smoothstep(0.6 * wide + 0.4 * narrow, 0.38, 0.72)
    alpha = 0.6 * (0.12 + 0.88 * shaft) * smoothstep(-far, -RAY_LENGTH, -0.35)
    white = display_codes(scene.light.white / scene.light.white.max().clamp_min(1e-4), clips=False)
    color = torch.lerp(white, torch.tensor([1.0, 0.97, 0.88]), 0.6).clamp(0, 1)
    there = (soft.alpha / soft.alpha.mean().clamp_min(1e-3)).clamp(0, 1) ** 0.5
    return color.expand(*alpha.shape, 3), alpha * there


STRUCTURES: dict[str, Structure] = {"fire": _fire, "smoke": _smoke, "fog": _fog, "light rays": _rays}


def with_structure(effect: Turbulence, alpha: Tensor, color: Tensor, scene: Scene) -> tuple[Tensor, Tensor]:
    """An effect at the size of the scene: straight colour (H, W, 3) and alpha (H, W).

    alpha (h, w), color (3, h, w): the model's, at its size.
    """
    step = max(1, scene.size[0] // ROWS)
    size = (math.ceil(scene.size[0] / step), math.ceil(scene.size[1] / step))
    layer = torch.cat([color * alpha, alpha[None]])[None]
    for _ in range(2):
        layer = F.avg_pool2d(F.pad(layer, (BOX_RADIUS,) * 4, mode="replicate"), 2 * BOX_RADIUS + 1, 1)
    layer = F.interpolate(layer, size, mode="bicubic", align_corners=False)[0].clamp_min(0)
    soft = Soft(layer[3].clamp(0, 1), (layer[:3] / layer[3].clamp_min(1e-4)).clamp(0, 1).movedim(0, -1))
    noise = Noise(size, scene.aspect, effect.seed)
    drawn, matte = STRUCTURES[effect.kind](soft, noise, effect.time, scene)
    matte = torch.where(soft.alpha > 1e-3, matte, torch.zeros(()))
    planes = torch.cat([drawn.movedim(-1, 0), matte[None]])[None]
    *drawn_, matte = F.interpolate(planes, scene.size, mode="bilinear", align_corners=False)[0]
    return torch.stack(drawn_, -1).clamp(0, 1), matte.clamp(0, 1)


def _value_noise(table: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Random values on a lattice, interpolated smoothly."""
    left, top = x.floor(), y.floor()
    u, v = (smoothstep(f, 0.0, 1.0) for f in (x - left, y - top))
    i, j = left.long() % TABLE, top.long() % TABLE
    k, m = (i + 1) % TABLE, (j + 1) % TABLE
    flat = table.flatten()
    upper = torch.lerp(flat[j * TABLE + i], flat[j * TABLE + k], u)
    lower = torch.lerp(flat[m * TABLE + i], flat[m * TABLE + k], u)
    return torch.lerp(upper, lower, v)
