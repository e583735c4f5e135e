"""The open sea: waves in perspective that reflect the sky, with foam, fading into haze towards the horizon."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import FOCAL, View, VisibleSurface, see
from vera.core.layer.backdrop.painting import Picture, evenly
from vera.core.layer.backdrop.sky import NATURAL_FPS
from vera.core.layer.backdrop.smooth_noise import Noise, lerp
from vera.core.layer.backdrop.water import Sea, Surface
from vera.kernels.planes import smoothstep

CREST_HEIGHT = 0.045  # picture heights above the horizon in which crests are searched, for waves as high as the eye
MIRRORED_SIZE = (32, 18)  # (columns, rows) of the sky that waves reflect. Raising it sharpens reflections
REFLECTANCE = 0.02  # reflectance of water at normal incidence


@dataclass(frozen=True)
class OpenSea:
    """Settings of a sea.

    horizon: vertical position in the picture, in picture heights from its centre
    eye: height of the camera above the water, in metres
    body, glow: (3, 1, 1), light scattered from the water's depth, and through its crests
    haze: distance in metres over which the water's contrast falls to 1/e
    foam: noise that gives the foam its structure
    """

    sea: Sea
    horizon: float
    eye: float
    body: Tensor
    glow: Tensor
    haze: float
    foam: Noise

    def before(self, sky: Tensor, view: View, time: float) -> Picture:
        """The sea in front of a sky (3, h, w), at a time in frames."""
        band = view.below(self.horizon - CREST_HEIGHT * self.sea.height / self.eye)
        # In perspective waves are wide and low, and alias vertically: the grid has twice the rows and half the columns.
        fine = View(2 * band.rows, -(-band.columns // 2), band.aspect, 2 * band.above)
        surface = self.sea.at(time / NATURAL_FPS)
        seen = see(fine, surface.height, self.eye, self.horizon, (1.6 * self.eye, 900 * self.eye))
        water = self._in_air(self._water(surface, seen, fine, sky), seen, sky)
        there = seen.there.float()[None]
        distant = 1 - 3 * self.eye / (seen.ahead + 3 * self.eye)
        planes = F.avg_pool2d(torch.cat([water * there, there, distant[None] * there])[None], (2, 1))
        planes = F.interpolate(planes, (band.rows, band.columns), mode="bilinear", align_corners=False)[0]
        light, blur, rest = sky.clone(), evenly(view), 1 - planes[3]
        light[:, band.above :] = planes[:3] + rest * sky[:, band.above :]
        blur[band.above :] = planes[4] + rest
        return Picture(light, blur)

    def _water(self, surface: Surface, seen: VisibleSurface, view: View, sky: Tensor) -> Tensor:
        """Light of the surface without haze, (3, h, w)."""
        footprint = torch.maximum(seen.ahead / FOCAL * view.sample, 0.6 * _apart(seen.ahead)).clamp_max(1e4)
        slope_x, slope_y, rough, fold = surface.details(seen.right, seen.ahead, footprint)
        height = surface.height(seen.right, seen.ahead, footprint)
        way = torch.stack([seen.right, seen.ahead, height - self.eye])
        way = way / way.norm(dim=0)
        normal = torch.stack([-slope_x, -slope_y, torch.ones_like(height)])
        normal = normal / normal.norm(dim=0)
        cos, spread = -(way * normal).sum(0), rough.sqrt()
        light = self._mirrored(way + 2 * cos * normal, spread, view, sky)
        # Fresnel's reflectance of a rough sea, after Bruneton et al., "Real-time realistic ocean lighting" (2010).
        grazing = (1 - cos.clamp_min(0.02)) ** 5 * (-2.2 * spread).exp() / (1 + 12 * spread**1.5)
        fresnel = REFLECTANCE + (1 - REFLECTANCE) * grazing
        crest = (height / max(self.sea.height, 0.05) + 0.25).clamp(0, 1.4) * (0.4 + 1.6 * slope_y.clamp(0, 0.6))
        under = self.body + self.glow * crest
        return self._with_foam(lerp(under.expand_as(light), light, fresnel), seen, fold, footprint, sky)

    def _mirrored(self, way: Tensor, spread: Tensor, view: View, sky: Tensor) -> Tensor:
        """The blurred sky (3, h, w) in reflected directions (3, h, w). spread (h, w): RMS slope of unresolved waves."""
        blurred = F.interpolate(sky[None], (MIRRORED_SIZE[1], MIRRORED_SIZE[0]), mode="area")
        blurred = F.avg_pool2d(F.pad(blurred, (2, 2, 1, 1), mode="replicate"), (3, 5), 1)
        up, along = way[2].abs() + 0.6 * spread, way[1].clamp_min(0.15)
        x, y = FOCAL * way[0] / along / view.aspect * 2, 2 * (self.horizon - 0.01 - FOCAL * up / along)
        return F.grid_sample(blurred, torch.stack([x, y], -1)[None], padding_mode="border", align_corners=False)[0]

    def _with_foam(self, water: Tensor, seen: VisibleSurface, fold: Tensor, footprint: Tensor, sky: Tensor) -> Tensor:
        if self.sea.foam == 0:
            return water
        lace = self.foam.fractal(seen.right * 1.1, seen.ahead * 1.1, 5, 0.65, footprint * 1.1)
        patches = self.foam.fractal(seen.right * 0.09 + 9, seen.ahead * 0.09, 3, 0.5, footprint * 0.09)
        share = self.sea.foam * smoothstep(-fold, -0.66, -0.2)
        share = share + 0.22 * self.sea.foam**2 * smoothstep(patches, 0.2, 1.7)
        white = smoothstep(share * 1.6 + 0.30 * lace, 0.34, 1.0)
        light = sky.mean((1, 2))[:, None, None] * 1.15
        return lerp(water, light.expand_as(water) * (0.85 + 0.1 * lace.clamp(-1, 1)), white.clamp(0, 1) * 0.92)

    def _in_air(self, water: Tensor, seen: VisibleSurface, sky: Tensor) -> Tensor:
        """The water with haze: with distance it takes the colour of the sky above the horizon."""
        row = min(sky.shape[1] - 1, max(0, int((self.horizon + 0.5) * sky.shape[1]) - 2))
        air = sky[:, row].mean(-1)[:, None, None]
        return lerp(water, air.expand_as(water), 0.9 * (1 - (-seen.ahead / self.haze).exp()))


def _apart(ahead: Tensor) -> Tensor:
    """Depth of the surface that a sample covers, (h, w); it grows at grazing angles."""
    change = F.pad(ahead, (0, 0, 1, 0))[:-1].sub(ahead).abs()
    change[0] = change[1]
    return torch.minimum(change, torch.cat([change[1:], change[-1:]]))
