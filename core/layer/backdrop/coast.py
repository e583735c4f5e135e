"""Painted backgrounds of water and sky: the sea, a storm at sea, clouds, a sunset, a starry night."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import View
from vera.core.layer.backdrop.open_sea import OpenSea
from vera.core.layer.backdrop.painting import Painting, Picture, evenly
from vera.core.layer.backdrop.sky import Clouds, Heaps, Stars, air, ceiling, heaped, sun_glow
from vera.core.layer.backdrop.smooth_noise import lerp, rgb
from vera.core.layer.backdrop.water import Sea
from vera.kernels.planes import smoothstep


class SeaPainting(Painting):
    """A calm sea under a fair sky."""

    defocus = 0.0075

    @cached_property
    def parts(self) -> tuple[float, Heaps, Sea]:
        rng = self.rng
        calm = self.request.has("calm")
        horizon = rng.uniform(-0.12, 0.0)
        heaps = Heaps(
            rng.uniform(-0.75, -0.5), 0.30, horizon, (rng.choice((-0.6, 0.6)), -0.8), rng.uniform(0.004, 0.012)
        )
        wind = rng.uniform(4.0, 5.0) if calm else rng.uniform(6.0, 8.0)
        return horizon, heaps, Sea.of(wind, 0.22 if calm else 0.55, 0.0 if calm else 0.35, self.request.seed)

    def at(self, time: float) -> Picture:
        horizon, heaps, sea = self.parts
        view = self.view
        sky = air(view, horizon, rgb(0.62, 0.76, 0.90), rgb(0.10, 0.26, 0.60), 2.6)
        sky = with_heaps(sky, heaped(view, self.noise(1), time, heaps), rgb(1.05, 1.02, 0.97), rgb(0.50, 0.58, 0.70))
        sky = faded(sky, view, horizon, rgb(0.66, 0.77, 0.88), 14.0)
        water = OpenSea(sea, horizon, 2.4, rgb(0.010, 0.060, 0.085), rgb(0.02, 0.12, 0.12), 1500.0, self.noise(2))
        return water.before(sky, view, time)


class StormPainting(Painting):
    """Heavy clouds over a rough sea."""

    defocus = 0.006

    @cached_property
    def parts(self) -> tuple[float, Sea]:
        rng = self.rng
        return rng.uniform(-0.10, 0.04), Sea.of(rng.uniform(12.5, 14.5), rng.uniform(4.2, 5.2), 1.0, self.request.seed)

    def at(self, time: float) -> Picture:
        horizon, sea = self.parts
        view = self.view
        thick, _ = ceiling(view, self.noise(1), time, horizon, 2.2, 0.10)
        heaps = Heaps(0.95, 0.62, horizon, (0.25, -0.95), 0.020)
        rolls = heaped(view, self.noise(4), time, heaps)
        up = (horizon - view.y).clamp_min(0)
        near = (-4.0 * up).exp()
        base = lerp(rgb(0.062, 0.074, 0.095).expand(3, *thick.shape), rgb(0.42, 0.44, 0.44), near)
        through = (0.95 + 0.35 * torch.tanh(-0.8 * thick)) * (0.30 + 1.05 * rolls.lit**1.5)
        sky = base * torch.lerp(torch.full_like(through, 1.25), through, rolls.alpha)
        sky = faded(sky, view, horizon, rgb(0.36, 0.38, 0.38), 26.0)
        water = OpenSea(sea, horizon, 4.2, rgb(0.010, 0.022, 0.026), rgb(0.016, 0.050, 0.050), 420.0, self.noise(2))
        return water.before(sky, view, time)


class CloudsPainting(Painting):
    """A blue sky with cumulus clouds."""

    defocus = 0.0045

    @cached_property
    def parts(self) -> Heaps:
        rng = self.rng
        return Heaps(
            rng.uniform(-0.35, -0.1),
            rng.uniform(0.42, 0.55),
            0.62,
            (rng.choice((-0.55, 0.55)), -0.83),
            rng.choice((-1, 1)) * 0.012,
        )

    def at(self, time: float) -> Picture:
        view = self.view
        sky = air(view, 0.62, rgb(0.52, 0.70, 0.90), rgb(0.055, 0.19, 0.55), 2.0)
        sky = with_heaps(
            sky, heaped(view, self.noise(1), time, self.parts), rgb(1.10, 1.06, 1.0), rgb(0.36, 0.43, 0.55)
        )
        return Picture(faded(sky, view, 0.62, rgb(0.62, 0.75, 0.88), 9.0), evenly(view))


class SunsetPainting(Painting):
    """A sunset behind hills, under clouds lit from below."""

    defocus = 0.006

    @cached_property
    def parts(self) -> tuple[float, tuple[float, float], Tensor]:
        rng = self.rng
        horizon = rng.uniform(0.12, 0.2)
        sun = (rng.uniform(-0.45, 0.45) * self.view.aspect, horizon - rng.uniform(0.02, 0.05))
        return horizon, sun, self._hills(horizon)

    def _hills(self, horizon: float) -> Tensor:
        """Ridges from far to near: vertical position in each column, (4, w)."""
        noise, x = self.noise(3), self.view.x[:1]
        ridges = []
        for k in range(4):
            wave = noise.fractal(x * (1.3 + 0.5 * k) + 9 * k, torch.full_like(x, 5.0 * k), 7, 0.45)
            ridges.append(horizon + 0.012 + 0.055 * k + (0.022 + 0.012 * k) * wave)
        return torch.cat(ridges)

    def at(self, time: float) -> Picture:
        horizon, sun, hills = self.parts
        view = self.view
        up = (horizon - view.y).clamp_min(0)
        sky = lerp(rgb(0.10, 0.13, 0.30).expand(3, view.rows, view.columns), rgb(0.62, 0.24, 0.16), (-3.4 * up).exp())
        sky = lerp(sky, rgb(1.25, 0.52, 0.10).expand_as(sky), (-9 * up).exp() * 0.9)
        sky = sky + rgb(1.3, 0.62, 0.2) * sun_glow(view, sun, (0.035, 0.16, 0.5), (1.6, 0.55, 0.18))
        thick, relief = ceiling(view, self.noise(1), time, horizon + 0.015, 3.4, 0.06)
        cover = smoothstep(thick, 0.05, 1.5) * smoothstep(up, 0.015, 0.12)
        near_sun = sun_glow(view, sun, (0.45,), (1.0,))
        rim = (1.1 - 0.8 * smoothstep(thick, 0.2, 1.7) + 3.0 * relief).clamp(0, 1.8)
        lit = lerp(
            rgb(0.16, 0.075, 0.11).expand_as(sky), rgb(1.25, 0.42, 0.16), (rim * (0.25 + 0.9 * near_sun)).clamp(0, 1.3)
        )
        sky = lerp(sky, lit, cover * 0.92)
        disc = smoothstep(0.021 - torch.hypot(view.x - sun[0], view.y - sun[1]), -0.001, 0.001)
        sky = sky + disc * rgb(5.0, 3.2, 1.4)
        light, edge = sky, 1.5 * view.sample
        for k, ridge in enumerate(hills):
            share = k / (len(hills) - 1)
            haze = lerp(rgb(0.42, 0.16, 0.12), rgb(0.012, 0.008, 0.012), torch.tensor(share**0.55))
            haze = haze * (1 + (1 - share) * 1.2 * sun_glow(view, sun, (0.3,), (1.0,)))
            light = lerp(light, haze.expand_as(light), smoothstep(view.y - ridge, -edge, edge))
        return Picture(light, evenly(view))


class NightPainting(Painting):
    """Stars and the Milky Way over dark land."""

    defocus = 0.0020

    @cached_property
    def parts(self) -> tuple[Tensor, Stars, Tensor]:
        rng, view = self.rng, self.view
        band = rng.choice((-1, 1)) * rng.uniform(0.35, 0.7)
        stars = Stars.of(
            np.random.default_rng([self.request.seed % 2**32, 5]), round(5200 * view.aspect), view.aspect, band
        )
        horizon = rng.uniform(0.30, 0.38)
        x, y = view.x, view.y
        sky = lerp(
            rgb(0.0040, 0.0058, 0.0125).expand(3, view.rows, view.columns),
            rgb(0.020, 0.030, 0.040),
            (-4.5 * (horizon - y).clamp_min(0)).exp(),
        )
        across = (y + 0.12 + band * x) / math.hypot(1, band)
        along = (x - band * y) / math.hypot(1, band)
        noise = self.noise(1)
        wobble = 0.03 * noise.fractal(along * 2, across * 2, 4)
        soft = noise.fractal(along * 3, across * 5, 6, 0.6)
        dust = noise.fractal(along * 4 + 7, across * 9, 6, 0.6)
        milk = (-(((across + wobble) / 0.11) ** 2)).exp() * (0.75 + 0.35 * soft).clamp_min(0)
        lane = (-(((across - 0.6 * wobble) / 0.035) ** 2)).exp() * smoothstep(dust, -0.6, 0.8)
        core = (-((along / 0.6) ** 2)).exp()
        milk = milk * (1 - 0.85 * lane) * (0.55 + 0.6 * core)
        sky = sky + 0.055 * milk * lerp(rgb(0.85, 0.92, 1.1).expand_as(sky), rgb(1.15, 0.95, 0.78), core)
        wave = noise.fractal(x[:1] * 1.6, torch.full_like(x[:1], 3.0), 8, 0.5)
        trees = noise.fractal(x[:1] * 22, torch.full_like(x[:1], 9.0), 4, 0.6, 0.0, "ridge").clamp_min(-1)
        land = smoothstep(y - (horizon + 0.03 * wave - 0.010 * (1 + trees)), -view.sample, view.sample)
        return sky, stars, land

    def at(self, time: float) -> Picture:
        sky, stars, land = self.parts
        light = sky.clone()
        stars.add(light, self.view, time)
        light = lerp(light, rgb(0.0012, 0.0014, 0.0020).expand_as(light), land)
        return Picture(light, evenly(self.view), follows_plate=0.35)


def with_heaps(sky: Tensor, clouds: Clouds, bright: Tensor, dark: Tensor) -> Tensor:
    """Clouds over a sky (3, h, w). dark, bright: their colours in the shade and in the sun."""
    shade = lerp(dark.expand_as(sky), bright.expand_as(sky), clouds.lit)
    return lerp(sky, shade, clouds.alpha)


def faded(sky: Tensor, view: View, horizon: float, color: Tensor, fall: float) -> Tensor:
    """A sky (3, h, w) that fades into haze of a colour near the horizon. fall: rate of the transition."""
    return lerp(sky, color.expand_as(sky), 0.85 * (-fall * (horizon - view.y).clamp_min(0)).exp())
