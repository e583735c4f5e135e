"""Painted backgrounds of buildings: a city at night, a brick wall, a studio."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import View
from vera.core.layer.backdrop.lens_blur import glow, splat
from vera.core.layer.backdrop.painting import Painting, Picture, evenly
from vera.core.layer.backdrop.sky import NATURAL_FPS
from vera.core.layer.backdrop.smooth_noise import lerp, rgb
from vera.kernels.planes import smoothstep

SUPERSAMPLING = 2  # supersampling factor for straight edges. Raising it smooths them; time grows with its square

# Colours of the light of windows and lamps, linear Rec.709.
WINDOWS = np.array([(1.0, 0.66, 0.32), (1.0, 0.52, 0.20), (0.74, 0.88, 1.0), (1.0, 0.86, 0.66)])
LAMPS = np.array(
    [(1.0, 0.55, 0.18), (1.0, 0.86, 0.62), (0.85, 0.95, 1.0), (1.0, 0.10, 0.06), (0.2, 0.8, 1.0), (1.0, 0.2, 0.5)]
)


class CityPainting(Painting):
    """Towers with lit windows across a harbour, at night."""

    defocus = 0.0095

    @cached_property
    def parts(self) -> tuple[float, Tensor]:
        view = self.view
        rng = np.random.default_rng([self.request.seed % 2**32, 21])
        fine = view.scaled(SUPERSAMPLING)
        shore = float(rng.uniform(0.20, 0.27))
        up = (shore - fine.y).clamp_min(0)
        sky = lerp(
            rgb(0.0055, 0.0075, 0.0190).expand(3, fine.rows, fine.columns), rgb(0.085, 0.050, 0.040), (-4.2 * up).exp()
        )
        cloud = self.noise(1).fractal(fine.x * 1.6, fine.y * 4.5, 5)
        light = (sky * (1 + 0.28 * cloud * (-2 * up).exp())).clone()
        for near in (0.0, 0.34, 0.67, 1.0):
            self._row(light, fine, rng, near, shore)
        light = F.avg_pool2d(light[None], SUPERSAMPLING)[0]
        light = light[:, : view.rows, : view.columns].contiguous()
        self._lamps(light, rng, shore)
        light = glow(light, 0.02 * view.rows, 0.35, 0.35)
        light = glow(light, 0.10 * view.rows, 0.22, 0.25)
        return shore, light

    def _row(self, light: Tensor, fine: View, rng: np.random.Generator, near: float, shore: float) -> None:
        """Draw one row of towers, in place. Nearer rows are darker and larger, with larger windows."""
        x, aspect = -0.55 * fine.aspect, fine.aspect
        while x < 0.55 * aspect:
            wide = (0.035 + 0.045 * near) * rng.uniform(0.6, 1.7)
            middle = float(np.exp(-((x / aspect / 0.33) ** 2)))
            tall = 0.05 + 0.10 * rng.random() + (0.40 - 0.16 * near) * rng.random() ** 2.2 * (0.35 + 0.65 * middle)
            self._tower(light, fine, rng, near, (x, shore - tall, x + wide, shore + 0.01))
            x += wide * rng.uniform(0.55, 1.25)

    def _tower(self, light, fine, rng, near, box) -> None:
        left, top = fine.in_samples(*(torch.tensor(v) for v in box[:2]))
        right, bottom = fine.in_samples(*(torch.tensor(v) for v in box[2:]))
        c0, r0, c1, r1 = (int(round(float(v))) for v in (left, top, right, bottom))
        c0, c1, r0 = max(0, c0), min(fine.columns, c1), max(0, r0)
        if c1 - c0 < 4 or r1 - r0 < 4:
            return
        haze = lerp(rgb(0.030, 0.021, 0.024), rgb(0.0045, 0.0045, 0.0065), torch.tensor(near**0.7))
        wall = haze * float(rng.uniform(0.7, 1.35))
        light[:, r0:r1, c0:c1] = wall * torch.linspace(0.8, 1.5, r1 - r0).view(1, -1, 1)
        pitch_y = max(4.0, (0.0080 + 0.0045 * near) * fine.rows)
        pitch_x = pitch_y * float(rng.choice((0.62, 0.8, 1.3)))
        rows, columns = np.arange(r1 - r0), np.arange(c1 - c0)
        row, column = (rows / pitch_y).astype(int), (columns / pitch_x).astype(int)
        pane = ((rows / pitch_y % 1 > 0.28) & (rows / pitch_y % 1 < 0.86))[:, None] & (
            (columns / pitch_x % 1 > 0.16) & (columns / pitch_x % 1 < 0.84)
        )[None]
        shape = (row.max() + 1, column.max() + 1)
        lit = rng.random(shape) < rng.uniform(0.12, 0.5)
        lit |= (rng.random((shape[0], 1)) < 0.06) & (rng.random(shape) < 0.9)
        level = lit * np.exp(rng.normal(-0.75, 0.65, shape))
        main = rng.choice(4, p=(0.45, 0.15, 0.15, 0.25))
        color = WINDOWS[np.where(rng.random(shape) < 0.75, main, rng.integers(0, 4, shape))]
        panes = (level[..., None] * color)[row][:, column] * pane[..., None] * (0.42 + 0.5 * near)
        light[:, r0:r1, c0:c1] += torch.from_numpy(panes.astype(np.float32)).movedim(-1, 0)
        if rng.random() < 0.12 and r0 > 3:  # a mast with a red lamp
            light[:, r0 - 3 : r0, (c0 + c1) // 2] += rgb(2.5, 0.12, 0.06)[..., 0]

    def _lamps(self, light: Tensor, rng: np.random.Generator, shore: float) -> None:
        """Draw lamps along the shore, in place."""
        count = round(46 * self.view.aspect)
        x = (rng.random(count) - 0.5) * self.view.aspect * 1.05
        y = shore - 0.003 - 0.022 * rng.random(count) ** 2
        color = LAMPS[rng.choice(6, count, p=(0.42, 0.26, 0.12, 0.10, 0.05, 0.05))]
        flux = color * np.exp(rng.normal(1.9, 0.8, count))[:, None] * (self.view.rows / 432) ** 2 * 3
        columns, rows = self.view.in_samples(*(torch.from_numpy(v.astype(np.float32)) for v in (x, y)))
        splat(light, columns, rows, torch.from_numpy(flux.astype(np.float32).T))

    def at(self, time: float) -> Picture:
        shore, light = self.parts
        view = self.view
        below = (view.y - shore).clamp_min(0)
        seconds = time / NATURAL_FPS
        depth = 1 / (below + 0.02)
        waves = self.noise(2)
        ripple = waves.fractal(view.x * depth * 0.10 + 0.25 * seconds, depth * 1.1 + 0.9 * seconds, 4, 0.6)
        stretch = 0.55 + 0.10 * ripple * smoothstep(below, 0.0, 0.05)
        source = (shore - 0.004 - below * stretch * 1.25 - 0.012 * ripple * smoothstep(below, 0.0, 0.06)) * 2
        sideways = (view.x + 0.004 * ripple * below / 0.2) / view.aspect * 2
        smear = self._smeared()
        mirrored = F.grid_sample(
            smear[None], torch.stack([sideways, source], -1)[None], padding_mode="border", align_corners=False
        )[0]
        water = rgb(0.0030, 0.0042, 0.0070) + mirrored * (0.62 + 0.16 * ripple).clamp(0.1, 1.0) * rgb(0.80, 0.86, 0.95)
        made = torch.where(view.y > shore, water, light)
        return Picture(made, evenly(view), follows_plate=0.4)

    def _smeared(self) -> Tensor:
        """The towers, blurred vertically as rough water reflects them."""
        light = self.parts[1]
        reach = max(1, round(0.055 * self.view.rows))
        weights = torch.ones(2 * reach + 1) / (2 * reach + 1)
        padded = F.pad(light[:, None], (0, 0, reach, reach), mode="replicate")
        return F.conv2d(padded, weights.view(1, 1, -1, 1))[:, 0]


class BricksPainting(Painting):
    """A brick wall in soft light from one side."""

    defocus = 0.0038
    moves = False

    @cached_property
    def parts(self) -> Picture:
        rng = np.random.default_rng([self.request.seed % 2**32, 31])
        fine = self.view.scaled(SUPERSAMPLING)
        noise = self.noise(1)
        high, joint = float(rng.uniform(0.052, 0.062)), 0.0060
        x, y = (
            fine.x + 0.0016 * noise.fractal(fine.x * 14, fine.y * 14, 3),
            fine.y + 0.0016 * noise.fractal(fine.x * 14 + 50, fine.y * 14, 3),
        )
        rows = (y + 1.013) / high
        row = rows.floor()
        columns = (x + 4) / (high * 3.1) + 0.5 * (row % 2)
        column = columns.floor()
        to_edge = torch.minimum(0.5 - (rows - row - 0.5).abs(), (0.5 - (columns - column - 0.5).abs()) * 3.1) * high
        number = ((row * 131 + column * 17) % 4093).long()
        tone, hue, sink = (torch.from_numpy(rng.random(4093).astype(np.float32))[number] for _ in range(3))
        rough = noise.fractal(fine.x * 34, fine.y * 34, 5, 0.7)
        stain = noise.fractal(fine.x * 2.4, fine.y * 3.6, 5, 0.6)
        clay = lerp(rgb(0.20, 0.060, 0.034).expand(3, *x.shape), rgb(0.42, 0.155, 0.085), tone)
        clay = lerp(clay, rgb(0.13, 0.075, 0.062).expand_as(clay), (hue > 0.86) * 0.75)
        face = (to_edge - 0.5 * joint + 0.0016 * rough) / joint
        height = smoothstep(face, 0.0, 0.9) * (0.75 + 0.25 * sink) + 0.05 * rough
        side = float(rng.choice((-1, 1)))
        slope_x, slope_y = (torch.gradient(height, dim=d)[0] * fine.rows / 432 for d in (1, 0))
        relief = (1 - 1.1 * (side * slope_x * -1 - 0.9 * slope_y)).clamp(0.35, 1.7)
        mortar = (1 + 0.12 * rough) * rgb(0.36, 0.33, 0.29)
        wall = lerp(mortar, clay * (1 + 0.17 * rough), smoothstep(face, -0.1, 0.25)) * (1 + 0.16 * stain).clamp_min(0.3)
        away = torch.hypot(fine.x - side * 0.45 * fine.aspect, (fine.y + 0.35) * 1.2)
        light = wall * relief * (0.30 + 1.25 / (1 + (away / 0.75) ** 2)) * rgb(1.06, 1.0, 0.92)
        small = F.avg_pool2d(light[None], SUPERSAMPLING)[0][:, : self.view.rows, : self.view.columns]
        return Picture(small, evenly(self.view))

    def at(self, time: float) -> Picture:
        return self.parts


class StudioPainting(Painting):
    """A lit studio background of mottled cloth."""

    defocus = 0.012
    moves = False

    @cached_property
    def parts(self) -> Picture:
        view, rng, noise = self.view, self.rng, self.noise(1)
        grey = rng.uniform(0.10, 0.24)
        x, y = view.x - rng.uniform(-0.12, 0.12) * view.aspect, view.y + rng.uniform(0.0, 0.12)
        away = torch.hypot(x / (0.5 + 0.12 * view.aspect), y / 0.62)
        fold = 0.06 * noise.fractal(view.x * 1.6, view.y * 1.3, 5, 0.55)
        floor = smoothstep(view.y, 0.22, 0.5)
        light = grey * (0.34 + 1.35 / (1 + away**2) ** 1.5) * (1 + fold) * (1 - 0.22 * floor)
        tint = lerp(rgb(1.0, 0.985, 0.965), rgb(0.93, 0.97, 1.05), torch.tensor(rng.random()))
        return Picture(tint * light, evenly(view))

    def at(self, time: float) -> Picture:
        return self.parts
