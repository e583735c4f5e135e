"""Backdrops of land: mountains, a desert, a meadow, a forest."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import FOCAL, View, VisibleSurface, see, slopes
from vera.core.layer.backdrop.coast import faded, with_heaps
from vera.core.layer.backdrop.lens_blur import splat
from vera.core.layer.backdrop.painting import Painting, Picture
from vera.core.layer.backdrop.sky import NATURAL_FPS, Heaps, air, heaped, sun_glow
from vera.core.layer.backdrop.smooth_noise import Noise, lerp, rgb
from vera.kernels.planes import smoothstep

SHADOWS = 10  # samples from the ground towards the sun. Raising it gives finer shadows, and takes time

Heights = Callable[[Tensor, Tensor, Tensor], Tensor]


def lit_ground(
    view: View, heights: Heights, seen: VisibleSurface, sun: tuple[float, float, float], far: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the visible ground, (h, w) each in [0, 1]: sunlight, openness to the sky, steepness (0 is level).

    sun: unit vector (right, ahead, up) towards the sun. far: length of the longest shadow.
    """
    footprint = seen.ahead / FOCAL * view.sample
    right, ahead = slopes(heights, seen, footprint)
    up = 1 / (1 + right**2 + ahead**2).sqrt()
    facing = ((sun[2] - right * sun[0] - ahead * sun[1]) * up).clamp_min(0)
    base = heights(seen.right, seen.ahead, footprint)
    free = torch.ones_like(base)
    for k in range(SHADOWS):
        away = far * 0.55 ** (SHADOWS - 1 - k)
        at = heights(seen.right + sun[0] * away, seen.ahead + sun[1] * away, footprint + 0.1 * away)
        above = base + sun[2] * away - at
        free = torch.minimum(free, smoothstep(above, -0.06 * away, 0.06 * away))
    return facing * free, 0.55 + 0.45 * up, 1 - up


def _unit(right: float, ahead: float, up: float) -> tuple[float, float, float]:
    length = math.hypot(right, ahead, up)
    return right / length, ahead / length, up / length


def into_air(light: Tensor, seen: VisibleSurface, sky: Tensor, air_color: Tensor, metres: float) -> Tensor:
    """Ground (3, h, w) through haze; the sky where there is none. metres: distance at which contrast is 1/e."""
    through = (-seen.ahead / metres).exp()
    return torch.where(seen.there, lerp(air_color.expand_as(light), light, through), sky)


def nearness(seen: VisibleSurface, focus: float) -> Tensor:
    """Defocus of each point as a share of that at infinity, with the lens focused at a distance."""
    return torch.where(seen.there, (1 - focus / seen.ahead.clamp_min(focus)).clamp(0, 1), 1.0)


class MountainsPainting(Painting):
    """Ranges of rock and snow above dark woods; lengths in kilometres."""

    defocus = 0.0048

    @cached_property
    def parts(self) -> tuple[float, int, VisibleSurface, Tensor]:
        view, rng, noise = self.view, self.rng, self.noise(1)
        snowy = self.request.has("snowy")
        horizon, side = rng.uniform(0.22, 0.3), rng.choice((-1, 1))
        shift = rng.uniform(-40, 40)

        def heights(right: Tensor, ahead: Tensor, footprint: Tensor) -> Tensor:
            u, v = (right + shift) / 6.0, ahead / 6.0
            bend = 0.35 * noise.fractal(u * 0.6 + 3, v * 0.6, 2)
            crests = noise.fractal(u + bend, v - bend, 9, 0.5, footprint / 6.0, "ridge")
            broad = noise.fractal(u * 0.45 - 8, v * 0.45, 2)
            rise = 1.15 * smoothstep(ahead, 3.2, 9.5) + 1.1 * smoothstep(ahead, 11.0, 26.0)
            valley = (0.55 + 0.45 * (right / ahead).abs().clamp(max=1) * 2).clamp(max=1.15)
            return rise * valley * (1.15 * crests + 0.45 * broad + 0.75).clamp_min(0) + 0.03 * noise.fractal(
                right * 1.7, ahead * 1.7, 6, 0.55, footprint * 1.7
            )

        seen = see(view, heights, 0.16, horizon, (0.6, 70.0))
        sun = _unit(0.72 * side, -0.15, 0.42)
        lit, open_, steep = lit_ground(view, heights, seen, sun, 4.0)
        footprint = seen.ahead / FOCAL * view.sample
        height = heights(seen.right, seen.ahead, footprint)
        grain = noise.fractal(seen.right * 6, seen.ahead * 6, 5, 0.65, footprint * 6)
        light = lit * rgb(1.15, 1.02, 0.86) + open_ * rgb(0.16, 0.22, 0.34)
        rock = (1 + 0.22 * grain) * rgb(0.20, 0.185, 0.175)
        wood = (1 + 0.35 * grain) * rgb(0.026, 0.046, 0.022)
        line = (0.45 if snowy else 1.25) + 0.25 * grain
        snow = smoothstep(height - line, -0.05, 0.35) * (1 - smoothstep(steep + 0.05 * grain, 0.33, 0.50))
        tree = (1 - smoothstep(height - (0.25 if snowy else 0.5) + 0.15 * grain, -0.08, 0.16)) * (
            1 - smoothstep(steep, 0.3, 0.45)
        )
        ground = lerp(lerp(rock, wood, tree), rgb(0.86, 0.90, 0.96).expand_as(rock), snow)
        return horizon, side, seen, ground * light

    def at(self, time: float) -> Picture:
        horizon, side, seen, ground = self.parts
        view = self.view
        sky = air(view, horizon, rgb(0.60, 0.74, 0.90), rgb(0.075, 0.22, 0.56), 2.4)
        heaps = Heaps(-0.75, 0.42, horizon - 0.1, (0.8 * side, -0.6), 0.008)
        sky = with_heaps(sky, heaped(view, self.noise(2), time, heaps), rgb(1.05, 1.0, 0.94), rgb(0.52, 0.58, 0.68))
        return Picture(into_air(ground, seen, sky, rgb(0.50, 0.63, 0.82), 46.0), nearness(seen, 0.12))


class DesertPainting(Painting):
    """Dunes under a hazy sky; lengths in metres."""

    defocus = 0.0065

    @cached_property
    def parts(self) -> Picture:
        view, rng, noise = self.view, self.rng, self.noise(1)
        horizon, side, shift = rng.uniform(-0.02, 0.08), rng.choice((-1, 1)), rng.uniform(-900, 900)

        def heights(right: Tensor, ahead: Tensor, footprint: Tensor) -> Tensor:
            u, v = (right + shift) / 190.0, ahead / 190.0
            bend = noise.fractal(u * 0.5, v * 0.5, 3)
            wave = (0.75 * u * side + 0.9 * v + 0.55 * bend) % 1
            dune = torch.where(wave < 0.72, smoothstep(wave / 0.72, 0.0, 1.0), (1 - wave) / 0.28)
            big = noise.fractal(u * 0.33 + 5, v * 0.33, 3)
            ripple = 0.010 * noise.fractal(right / 0.9, ahead / 3.0, 3, 0.6, footprint / 0.9)
            near = 0.16 + 0.84 * smoothstep(ahead, 15.0, 130.0)
            return near * (34 * dune * (0.6 + 0.3 * big).clamp_min(0.1) + 9 * big) + ripple - 3

        seen = see(view, heights, 13.0, horizon, (8.0, 6000.0))
        sun = _unit(0.85 * side, 0.25, 0.30)
        lit, open_, _ = lit_ground(view, heights, seen, sun, 60.0)
        grain = noise.fractal(seen.right / 1.5, seen.ahead / 1.5, 4, 0.7, seen.ahead / FOCAL * view.sample / 1.5)
        sand = (1 + 0.05 * grain) * rgb(0.62, 0.40, 0.20)
        light = sand * (lit * rgb(1.55, 1.32, 1.02) + open_ * rgb(0.20, 0.24, 0.32))
        sky = air(view, horizon, rgb(0.88, 0.78, 0.62), rgb(0.20, 0.38, 0.66), 3.2)
        sky = sky + rgb(0.5, 0.4, 0.25) * sun_glow(view, (side * 0.75 * view.aspect, horizon - 0.3), (0.5,), (0.35,))
        return Picture(into_air(light, seen, sky, rgb(0.82, 0.70, 0.54), 2600.0), nearness(seen, 6.0))

    moves = False

    def at(self, time: float) -> Picture:
        return self.parts


class Flowers(NamedTuple):
    """Flower heads: columns and rows (N,) in samples, flux (3, N), see `splat`."""

    columns: Tensor
    rows: Tensor
    flux: Tensor


class Meadow(NamedTuple):
    """The constant parts of a meadow. side: of the sun, -1 left or 1 right. ground: (3, h, w), light."""

    horizon: float
    side: int
    seen: VisibleSurface
    ground: Tensor
    flowers: Flowers


class MeadowPainting(Painting):
    """Grass and flowers in front of a wood, under a fair sky; lengths in metres."""

    defocus = 0.009

    @cached_property
    def parts(self) -> Meadow:
        view, rng, noise = self.view, self.rng, self.noise(1)
        horizon, side = rng.uniform(-0.06, 0.04), rng.choice((-1, 1))

        def heights(right: Tensor, ahead: Tensor, footprint: Tensor) -> Tensor:
            hills = noise.fractal(right / 160 + 3, ahead / 160, 3) * (7 * smoothstep(ahead, 25.0, 220.0))
            wood = smoothstep(ahead + 20 * noise.fractal(right / 60, ahead * 0 + 2, 3), 250.0, 300.0)
            crowns = 12 + 3.2 * noise.fractal(right / 9, ahead / 9, 5, 0.6, footprint / 9)
            tufts = 0.10 * noise.fractal(right / 0.55, ahead / 0.55, 4, 0.65, footprint / 0.55)
            return hills + wood * crowns + tufts * smoothstep(-ahead, -40.0, -4.0)

        seen = see(view, heights, 1.5, horizon, (1.5, 900.0))
        sun = (0.62 * side, 0.25, 0.74)
        footprint = seen.ahead / FOCAL * view.sample
        lit, open_, _ = lit_ground(view, heights, seen, sun, 12.0)
        wood = smoothstep(seen.ahead, 235.0, 275.0)
        fine = noise.fractal(seen.right / 0.16, seen.ahead / 0.30, 4, 0.75, footprint / 0.16)
        patch = noise.fractal(seen.right / 7, seen.ahead / 9, 4, 0.6, footprint / 7)
        grass = lerp(
            rgb(0.085, 0.150, 0.026).expand(3, *fine.shape),
            rgb(0.235, 0.235, 0.070),
            (0.4 + 0.3 * patch + 0.16 * fine).clamp(0, 1),
        )
        leaves = (1 + 0.3 * patch) * rgb(0.040, 0.078, 0.022)
        ground = lerp(grass, leaves, wood) * (1 + 0.10 * fine)
        through = 0.22 * (1 - wood)  # share of sunlight that grass transmits
        light = ground * ((lit * (1 - through) + through) * rgb(1.45, 1.32, 1.05) + open_ * rgb(0.20, 0.26, 0.34))
        return Meadow(horizon, side, seen, light, self._flowers(horizon))

    def _flowers(self, horizon: float) -> Flowers:
        """Flower heads on the ground; far ones are smaller."""
        rng = np.random.default_rng([self.request.seed % 2**32, 11])
        count = round(900 * self.view.aspect)
        ahead = 3.0 * (40 / 3.0) ** rng.random(count) ** 0.8
        right = (rng.random(count) - 0.5) * self.view.aspect * 1.1 * ahead / FOCAL
        kept = np.sin(right * 1.3 + 2.1 * np.sin(ahead * 0.7)) + 0.8 * rng.standard_normal(count) > 0.3
        ahead, right = ahead[kept], right[kept]
        x, y = FOCAL * right / ahead, horizon + FOCAL * (1.5 - 0.28) / ahead
        colors = np.array([(0.95, 0.92, 0.82), (0.95, 0.72, 0.08), (0.62, 0.30, 0.75), (0.85, 0.12, 0.08)])
        color = colors[rng.choice(4, len(x), p=(0.5, 0.28, 0.13, 0.09))]
        size = (0.018 * FOCAL / ahead * self.view.rows) ** 2 * 3.1  # area in samples
        flux = torch.from_numpy((color * size[:, None]).astype(np.float32).T)
        columns, rows = self.view.in_samples(*(torch.from_numpy(v.astype(np.float32)) for v in (x, y)))
        return Flowers(columns, rows, flux)

    def at(self, time: float) -> Picture:
        horizon, side, seen, ground, flowers = self.parts
        view = self.view
        sky = air(view, horizon, rgb(0.60, 0.76, 0.92), rgb(0.09, 0.26, 0.62), 2.4)
        heaps = Heaps(-0.45, 0.45, horizon, (0.7 * side, -0.7), 0.008)
        sky = with_heaps(sky, heaped(view, self.noise(2), time, heaps), rgb(1.08, 1.04, 0.98), rgb(0.46, 0.53, 0.65))
        sky = faded(sky, view, horizon, rgb(0.66, 0.78, 0.88), 9.0)
        gust = 0.09 * self.noise(3).fractal(seen.right / 5 - 1.6 * time / NATURAL_FPS, seen.ahead / 9, 3)
        moved = ground * (1 + gust * (1 - smoothstep(seen.ahead, 60.0, 200.0)))
        light = into_air(moved, seen, sky, rgb(0.55, 0.68, 0.80), 1500.0)
        phase = 1.9 * time / NATURAL_FPS + flowers.columns * 0.05 + flowers.rows * 0.09
        sway = 0.0022 * view.rows * torch.sin(phase)
        light = light.contiguous()
        splat(light, flowers.columns + sway, flowers.rows, flowers.flux)
        return Picture(light, nearness(seen, 1.4))


class ForestPainting(Painting):
    """Trunks and leaves against the light."""

    defocus = 0.011

    @cached_property
    def parts(self) -> tuple[list[tuple[Tensor, Tensor]], tuple[float, float]]:
        """(light (3, h, w), alpha (h, w)) of each layer of trees, far to near; and the sun's position."""
        view, rng, noise = self.view, self.rng, self.noise(1)
        mist = 1.0 if self.request.has("misty") else 0.45
        x, y, edge = view.x, view.y, 1.2 * view.sample
        sun = (rng.uniform(-0.35, 0.35) * view.aspect, -0.22)
        haze = lerp(rgb(0.30, 0.38, 0.24), rgb(0.52, 0.58, 0.52), torch.tensor(mist - 0.2))
        back = haze.expand(3, *x.shape) * (0.45 + 0.55 * (-(((y + 0.02) / 0.30) ** 2)).exp())
        back = back + rgb(1.5, 1.45, 0.85) * sun_glow(view, sun, (0.16, 0.5), (0.7, 0.3))
        gaps = noise.fractal(x * 7, y * 7, 5, 0.65)
        far_leaves = smoothstep(gaps, -0.6, 0.7)
        back = (
            back
            * (1 - 0.62 * far_leaves * (1 - mist * 0.5))
            * lerp(rgb(1, 1, 1), rgb(0.75, 1.0, 0.45), far_leaves * 0.8)
        )
        layers = [(back, torch.ones_like(x))]
        for k in range(5):
            near = k / 4
            layers.append(self._trees(near, mist, haze, sun, edge))
        return layers, sun

    def _trees(
        self, near: float, mist: float, haze: Tensor, sun: tuple[float, float], edge: float
    ) -> tuple[Tensor, Tensor]:
        """Light (3, h, w) and alpha (h, w) of one layer of trees. near: 0 for the farthest, 1 for the nearest."""
        view, noise = self.view, self.noise(2 + round(near * 8))
        x, y = view.x, view.y
        ground = 0.10 + 0.24 * near + 0.02 * noise.fractal(x * 2, y * 0 + near, 4)
        alpha = smoothstep(y - ground, -edge, 3 * edge)
        moss = noise.fractal(x * (16 - 9 * near), y * (34 - 16 * near), 5, 0.7)
        share = (0.35 + 0.3 * moss).clamp(0, 1)
        floor = lerp(rgb(0.030, 0.055, 0.012).expand(3, *x.shape), rgb(0.115, 0.150, 0.030), share)
        color = floor * (0.7 + 0.9 * sun_glow(view, (sun[0], ground.mean().item()), (0.5,), (1.0,)))
        for _ in range(round((11 - 8 * near) * view.aspect / 1.78)):
            tone, there = self._trunk(near, noise, ground, sun, edge)
            color, alpha = lerp(color, tone, there), torch.maximum(alpha, there)
        green, cover = self._leaves(near, noise, sun)
        color, alpha = lerp(color, green, cover), torch.maximum(alpha, cover)
        lost = torch.tensor((1 - near) ** 1.1 * (0.35 + 0.55 * mist))
        lit_haze = haze.expand_as(color) * (0.7 + 0.8 * sun_glow(view, sun, (0.45,), (1.0,)))
        return lerp(color, lit_haze, lost), alpha

    def _trunk(
        self, near: float, noise: Noise, ground: Tensor, sun: tuple[float, float], edge: float
    ) -> tuple[Tensor, Tensor]:
        """Light and alpha of a trunk at a random position, brighter on the side of the sun."""
        view, rng = self.view, self.rng
        x, y = view.x, view.y
        foot, lean = rng.uniform(-0.55, 0.55) * view.aspect, rng.uniform(-0.06, 0.06)
        wide = (0.010 + 0.032 * near**1.3) * rng.uniform(0.65, 1.35)
        wobble = 0.15 * wide * noise.fractal(y * 3 + foot * 9, y * 0 + foot, 3)
        across = (x - foot - lean * (y - 0.2) - wobble) / (wide * (1 + 0.9 * (y + 0.45).clamp_min(0) ** 6 * 3))
        there = smoothstep(1 - across.abs(), -edge / wide, edge / wide) * smoothstep(ground + 0.02 - y, -edge, edge)
        bark = noise.fractal((x - foot) * 40 / (0.5 + near), y * 7 / (0.5 + near) + foot * 50, 4, 0.7)
        rim = smoothstep(across * math.copysign(1.0, sun[0] - foot), 0.35, 1.0)
        tone = (0.75 + 0.3 * bark) * rgb(0.040, 0.032, 0.024) + rim * rgb(0.12, 0.115, 0.06) * (1.1 - 0.5 * near)
        return tone, there

    def _leaves(self, near: float, noise: Noise, sun: tuple[float, float]) -> tuple[Tensor, Tensor]:
        """Light and alpha of the leaves above, some of them sunlit."""
        view = self.view
        x, y = view.x, view.y
        leaf = noise.fractal(x * (9 - 3 * near), y * (9 - 3 * near), 6, 0.68)
        hang = -0.30 + 0.05 * (1 - near) - 0.16 * (near < 0.3)
        cover = smoothstep(leaf * 0.14 - (y - hang), -0.015, 0.03) * smoothstep(leaf + 0.5, 0.0, 0.35)
        lit = smoothstep(noise.fractal(x * 22 + 3, y * 22, 4, 0.7), -0.3, 1.8)
        green = lerp(rgb(0.020, 0.045, 0.010).expand(3, *x.shape), rgb(0.30, 0.42, 0.06), lit)
        return green * (0.55 + 0.9 * sun_glow(view, sun, (0.5,), (1.0,))), cover

    def at(self, time: float) -> Picture:
        layers, sun = self.parts
        view, light = self.view, None
        for number, (color, alpha) in enumerate(layers):
            light = color if light is None else lerp(light, color, alpha)
            if number == 2:
                light = light + self._beams(time, sun)
        blur = torch.ones_like(view.x)
        return Picture(light, blur)

    def _beams(self, time: float, sun: tuple[float, float]) -> Tensor:
        """Shafts of sunlight in the mist."""
        view = self.view
        angle = torch.atan2(view.y - sun[1] + 0.25, view.x - sun[0])
        away = torch.hypot(view.x - sun[0], view.y - sun[1] + 0.25)
        shafts = self.noise(9).fractal(angle * 3.5, away * 0.15 + 0.015 * time / NATURAL_FPS, 3).clamp_min(0)
        return rgb(0.30, 0.30, 0.18) * shafts * (-2.2 * away).exp() * (1.0 if self.request.has("misty") else 0.6)
