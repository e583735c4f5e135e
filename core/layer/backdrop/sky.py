"""Skies: clear air, the sun, drifting cumulus and stratus clouds, stars."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import FOCAL, View
from vera.core.layer.backdrop.lens_blur import splat
from vera.core.layer.backdrop.smooth_noise import Noise, lerp
from vera.kernels.planes import smoothstep

CLOUD_SHARE = 0.5  # resolution of clouds as a share of the picture's; time grows with its square
SHADOW_STEPS = 6  # samples through a cloud towards the sun. Raising it smooths shadows and takes time
NATURAL_FPS = 24.0  # frames per second at which clouds and waves have their natural speed; raising it slows them


@dataclass(frozen=True)
class Heaps:
    """Settings of cumulus clouds.

    cover: from -1 (hardly any) to 1 (overcast)
    size: of the clouds, in picture heights
    horizon: vertical position in the picture
    sun: (x, y), unit vector towards the sun in the picture
    speed: picture heights per second at the top of the picture
    octaves: of the noise; raising it adds finer detail
    """

    cover: float
    size: float
    horizon: float
    sun: tuple[float, float]
    speed: float
    octaves: int = 7


@dataclass(frozen=True)
class Clouds:
    """Clouds, (h, w) each: alpha, share of sunlight that reaches the visible surface, thickness."""

    alpha: Tensor
    lit: Tensor
    thick: Tensor


def heaped(view: View, noise: Noise, time: float, heaps: Heaps) -> Clouds:
    """Cumulus clouds at a time in frames. They become smaller towards the horizon."""
    small = view.scaled(CLOUD_SHARE)
    scale = (heaps.horizon - small.y).clamp_min(0) + 0.22
    drift = heaps.speed * time / NATURAL_FPS
    u, v = (small.x + drift * scale) / scale**0.3 / heaps.size, -scale.log() / heaps.size
    swell = 0.008 * time / NATURAL_FPS
    body = noise.fractal(u * 0.62, v * 0.95 + swell, 3, 0.42)
    bulges = noise.fractal(u * 1.7, v * 1.7 - swell, heaps.octaves - 1, 0.58, 0.0, "billow")
    density = body + 0.85 * bulges + heaps.cover
    inside = density.clamp_min(0)
    dome = (inside + 1e-4).sqrt()
    away = 0.018 * heaps.size * scale
    facing = (dome - _moved(dome, small, heaps.sun[0] * away, heaps.sun[1] * away)) * 1.5
    shade = torch.zeros_like(inside)
    for k in range(1, SHADOW_STEPS + 1):
        away = 0.02 * 1.55**k * heaps.size * scale
        shade += _moved(inside, small, heaps.sun[0] * away, heaps.sun[1] * away) * 1.55**k / 20
    lit = (0.42 + facing).clamp(0, 1.2) * 0.5 + 0.75 / (1 + 2.2 * shade) - 0.06
    alpha = smoothstep(density, -0.05, 0.42)
    planes = F.interpolate(torch.stack([alpha, lit, inside])[None], (view.rows, view.columns), mode="bicubic")[0]
    return Clouds(planes[0].clamp(0, 1), planes[1].clamp(0, 1), planes[2].clamp_min(0))


def ceiling(view: View, noise: Noise, time: float, horizon: float, size: float, speed: float) -> tuple[Tensor, Tensor]:
    """A closed layer of cloud from below, (h, w) each: thickness (about -2 to 2), and slope away from the light.

    size: of its swellings, in heights of the layer above the camera. speed: drift in the same unit per second.
    """
    small = view.scaled(CLOUD_SHARE)
    up = ((horizon - small.y) / FOCAL).clamp_min(0.035)
    ahead, right = 1 / up, small.x / FOCAL / up
    drift, swell = speed * time / NATURAL_FPS, 0.01 * time / NATURAL_FPS
    u, v = (right + drift) / size, ahead / size
    footprint = (ahead**2 / size * small.sample / FOCAL).clamp_min(1e-6)
    warp = noise.fractal(u * 0.7 + 11, v * 0.7 + swell, 3, 0.5, footprint)
    u, v = u + 0.45 * warp, v + 0.35 * noise.fractal(u * 0.7 - 5, v * 0.7 - swell, 3, 0.5, footprint)
    thick = noise.fractal(u, v + swell, 6, 0.52, footprint) + 0.35 * noise.fractal(
        u * 2.3, v * 2.3 - swell, 5, 0.55, footprint, "billow"
    )
    relief = thick - _moved(thick, small, 0.0, 2.5 * small.sample)
    planes = F.interpolate(torch.stack([thick, relief])[None], (view.rows, view.columns), mode="bicubic")[0]
    return planes[0], planes[1]


def _moved(plane: Tensor, view: View, right: Tensor | float, down: Tensor | float) -> Tensor:
    """A plane (h, w) sampled at an offset to the right and down, in picture heights."""
    x, y = (view.x + right) / view.aspect * 2, (view.y + down) * 2
    grid = torch.stack(torch.broadcast_tensors(x, y), -1)[None]
    return F.grid_sample(plane[None, None], grid, padding_mode="border", align_corners=False)[0, 0]


def air(view: View, horizon: float, low: Tensor, high: Tensor, fall: float = 3.2) -> Tensor:
    """A clear sky (3, h, w): colour `low` at the horizon, `high` overhead. fall: rate of the transition."""
    up = (horizon - view.y).clamp_min(0)
    return lerp(high, low, (-fall * up).exp())


def sun_glow(view: View, at: tuple[float, float], sizes: tuple[float, ...], strengths: tuple[float, ...]) -> Tensor:
    """The glow around the sun (h, w): a sum of halos of these sizes (picture heights) and strengths."""
    away = torch.hypot(view.x - at[0], view.y - at[1])
    return sum(
        (s / (1 + (away / d) ** 2) ** 1.5 for d, s in zip(sizes, strengths, strict=True)), torch.zeros_like(away)
    )


@dataclass(frozen=True)
class Stars:
    """N stars: position (N,) in picture heights, flux (3, N), rate (radians per second) and phase of twinkling."""

    x: Tensor
    y: Tensor
    flux: Tensor
    rate: Tensor
    phase: Tensor

    @classmethod
    def of(cls, rng: np.random.Generator, count: int, aspect: float, band: float) -> Stars:
        """Random stars. As in the sky, their number grows by 10^0.45 per magnitude; their colours are of black bodies.

        A third of them lie around a line that rises by `band` to the right (the Milky Way).
        """
        x, y = (rng.random(count) - 0.5) * aspect, rng.random(count) - 0.5
        crowded = rng.random(count) < 0.33
        y = np.where(crowded, -0.12 - band * x + 0.10 * rng.standard_normal(count), y)
        flux = (1 - rng.random(count)) ** (-0.4 / 0.45)  # N(>f) falls with f to the 0.45 / 0.4
        flux = np.minimum(flux * 0.012, 6.0)
        heat = np.clip(rng.normal(0.0, 0.5, count), -1, 1)  # cool to hot
        color = np.stack([1 - 0.25 * heat.clip(0), 0.92 - 0.1 * np.abs(heat), 1 + 0.35 * heat.clip(-1, 0.6)])
        tensors = (torch.from_numpy(np.ascontiguousarray(a, np.float32)) for a in (
            x, y, flux * color, rng.uniform(4, 11, count), rng.uniform(0, 2 * math.pi, count)
        ))  # fmt: skip
        return cls(*tensors)

    def add(self, light: Tensor, view: View, time: float) -> None:
        """Add the stars to light (3, h, w), in place. Near the horizon they twinkle by up to a third."""
        depth = 0.1 + 0.22 * (self.y + 0.5).clamp(0, 1)
        flux = self.flux * (1 + depth * torch.sin(self.rate * time / NATURAL_FPS + self.phase))
        columns, rows = view.in_samples(self.x, self.y)
        splat(light, columns, rows, flux * (view.rows / 432) ** 2)
