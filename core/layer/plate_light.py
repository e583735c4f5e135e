"""The light of a plate, and what it makes of a surface: closed form, in linear light, no training.

The plate is taken for its own surroundings: what a camera sees is about what lies behind it. Of a frame are read the
white it shows (what a white surface in its best light looks like there), the light from each side (the plate, strongly
blurred, by the way that a surface faces), and where the brightest of it comes from. A mirror shows the plate itself.

Scaled so that the lit half of a white ball has the plate's own white, in brightness and in hue.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.model.interfaces import SurfacePoints
from vera.core.plate.color_curve import encode_srgb
from vera.kernels.planes import smoothstep

LUMINANCE = (0.2126, 0.7152, 0.0722)  # Rec.709
# White is sought where the plate is about as bright as the brightest but for this share: lamps and glints are smaller.
LAMPS = 0.02
WHITE = (0.6, 0.9)  # of that brightness, from which a place begins to count as white, and wholly does
WHITE_ALBEDO = 0.871  # of the world's "white", code 0.94: what a white patch of a plate is about
DARKEST = 0.02  # of display white: a plate's white is at least this, so that nothing that is added is black
# The share of light that comes from all sides, at least and at most. Higher: flatter. A sunny plate has little.
AMBIENT = (0.16, 0.5)
TINT = 0.6  # how far light from a side has its colour; 1: wholly, 0: all light is the white's
KEY_SIDE, KEY_UP, KEY_FRONT = 0.6, 0.65, 0.45  # of the brightest light's direction; the side is what the plate tells
SKY = 0.5  # how much less light meets what faces down than what faces up
HIGHLIGHT = 0.55  # of the white, a key light's reflection on what is glossy
SHARPNESS = (12.0, 90.0)  # exponents of a highlight, of a matte and of a polished surface
FRESNEL = 0.04  # of light that comes straight, reflected by what is no metal
MIRROR = (64, 36)  # width and height of the plate as metal and gloss reflect it; more: sharper
SIDES = (12, 8)  # of the plate as diffuse light; fewer: softer
METAL_GAIN = 1.3  # of what a metal mirrors
MIRRORED = 0.5  # of a metal's light that is the plate's picture; more: looks like glass
GLOW = 0.85  # of display white, at least, that what is luminous sends out by itself
KNEE = 0.75  # of display white, from which light is compressed where the plate is for a display


@dataclass(frozen=True)
class PlateLight:
    """Linear Rec.709 light. white (3,): the plate's white; sides (1, 3, h, w): light by the way that a surface
    faces, relative to white; mirror (1, 3, h, w): what it reflects; key (3,): where the brightest light is, to the
    right, down and towards the camera, a unit vector; ambient: the share of light from all sides; scale (3,): what
    makes a white ball's lit half white."""

    white: Tensor
    sides: Tensor
    mirror: Tensor
    key: Tensor
    ambient: float
    scale: Tensor

    @classmethod
    def of(cls, light: np.ndarray) -> PlateLight:
        """Of a frame's light (H, W, 3), see `PlateColor.light`."""
        planes = torch.from_numpy(np.ascontiguousarray(light, np.float32)).movedim(-1, 0)[None].clamp(0, 1e4)
        small = F.interpolate(planes, (MIRROR[1], MIRROR[0]), mode="area")
        white = white_of(small[0].flatten(1).T)
        relative = small / white.view(1, 3, 1, 1)
        bright = _luminance(relative[0].movedim(0, -1))
        ambient = float(bright.clamp(max=1.0).mean().clamp(*AMBIENT))
        sides = _blurred(F.interpolate(relative.clamp(max=3.0), (SIDES[1], SIDES[0]), mode="area"))
        grey = _luminance(sides.movedim(1, -1))[:, None]
        sides = torch.lerp(grey.expand_as(sides), sides, TINT)
        sides = sides / _luminance(sides.mean((2, 3))).clamp_min(0.05)
        made = cls(white, sides, small, key_of(bright), ambient, torch.ones(3))
        return cls(white, sides, small, made.key, ambient, 1 / made._of_white_ball())

    def _of_white_ball(self) -> Tensor:
        """Mean light on the lit half of a ball, (3,)."""
        axis = (torch.arange(33) - 16) / 16.5
        down, right = torch.meshgrid(axis, axis, indexing="ij")
        facing = torch.stack([right, down], -1)[torch.hypot(right, down) < 1]
        light = self.on(facing, torch.ones(len(facing)))
        bright = _luminance(light)
        return light[bright >= bright.median()].mean(0).clamp_min(1e-3)

    def on(self, facing: Tensor, open_: Tensor) -> Tensor:
        """Light on white surfaces (..., 3), relative to the plate's white; facing (..., 2), see `SurfacePoints`."""
        around = F.grid_sample(self.sides, 0.8 * facing.view(1, 1, -1, 2), align_corners=False, padding_mode="border")
        around = around[0, :, 0].T.view(*facing.shape[:-1], 3)
        up = 1 - SKY * (0.5 + 0.5 * facing[..., 1])
        lambert = (_normals(facing) @ self.key).clamp_min(0)
        ambient = self.ambient * (up * open_)[..., None] * around
        direct = (1 - self.ambient) * (lambert * (0.5 + 0.5 * open_))[..., None]
        return (ambient + direct) * self.scale

    def shade(self, points: SurfacePoints, gloss: float, metal: float, glow: float) -> Tensor:
        """The light that points send to the camera, (..., 3), linear Rec.709; gloss 0.5 leaves the kind's own."""
        base = _linear(points.color)
        facing = points.facing / points.facing.norm(dim=-1, keepdim=True).clamp_min(0.98) * 0.98
        front = (1 - facing.pow(2).sum(-1)).clamp_min(0).sqrt()
        polish = points.gloss * min(1.0, 2 * gloss)
        polish = polish + (1 - polish) * max(0.0, 2 * gloss - 1) * points.named
        metal = metal * points.named[..., None]
        body = base / WHITE_ALBEDO * self.on(facing, points.open)
        seen = self._mirrored(facing)
        fresnel = FRESNEL + (1 - FRESNEL) * (1 - front) ** 5
        coat = (polish * fresnel * points.open)[..., None] * seen
        coat = coat + self._highlight(facing, polish)
        tint = 0.14 + 0.86 * base / base.amax(-1, keepdim=True).clamp_min(0.05)
        bright = base.amax(-1, keepdim=True).clamp(0.25, 1) ** 0.5
        mirror = METAL_GAIN * tint * bright * (MIRRORED * seen + (1 - MIRRORED) * self.on(facing, points.open))
        mirror = mirror + tint * self._highlight(facing, torch.ones_like(polish))
        relative = (1 - metal) * (body + coat) + metal * mirror
        return relative * self.white + self._sent(points, base, facing, glow)

    def _sent(self, points, base, facing, glow):
        """Light of a surface's own: flames, paper with a lamp in it, and luminous materials."""
        level = float(_luminance(self.white).clamp(GLOW, 2.0))
        lamp = glow * points.named * (0.45 + 0.4 * (1 - facing.pow(2).sum(-1)).clamp_min(0))
        shine = torch.maximum(points.shine, lamp)
        hot = (shine - 0.5).clamp(0, 1)[..., None]
        return level * shine[..., None] * (base + 0.3 * hot * (1 - base))

    def _highlight(self, facing, polish):
        half = F.normalize(self.key + self.key.new_tensor([0.0, 0.0, 1.0]), dim=0)
        power = SHARPNESS[0] * (SHARPNESS[1] / SHARPNESS[0]) ** polish
        peak = (_normals(facing) @ half).clamp_min(0) ** power
        return (HIGHLIGHT * (1 - self.ambient) / 0.7 * polish * peak)[..., None].expand(*facing.shape[:-1], 3)

    def _mirrored(self, facing):
        """What is reflected, relative to white (..., 3): the plate about the middle, as a mirror ball would show it."""
        places = torch.stack([-facing[..., 0], facing[..., 1]], -1).view(1, 1, -1, 2)
        seen = F.grid_sample(self.mirror, places, align_corners=False, padding_mode="reflection")[0, :, 0].T
        return seen.view(*facing.shape[:-1], 3) / self.white


@dataclass(frozen=True)
class Scene:
    """What something is drawn into: size (height, width) in pixels, how wide it is shown over its height, its light,
    and whether white is all that its numbers hold."""

    size: tuple[int, int]
    aspect: float
    light: PlateLight
    clips: bool


def white_of(light: Tensor) -> Tensor:
    """The colour that a white patch has in a plate, (3,), from its pixels (n, 3): of about the brightest, but for
    lamps, the least colourful."""
    bright = _luminance(light)
    top = torch.quantile(bright, 1 - LAMPS).clamp_min(DARKEST)
    grey = (light.amin(1) + 1e-3) / (light.amax(1) + 1e-3)
    weight = smoothstep(bright / top, *WHITE) * (top / bright.clamp_min(1e-4)).clamp(max=1) ** 2 * grey**2 + 1e-9
    color = (weight[:, None] * light).sum(0) / weight.sum()
    return (color * (top / _luminance(color).clamp_min(1e-4))).clamp_min(DARKEST / 4)


def key_of(bright: Tensor) -> Tensor:
    """Where the brightest light comes from, (3,), from how bright the plate is, (h, w): its side, always from above."""
    height, width = bright.shape
    upper = bright[: height * 2 // 3].clamp(max=4) ** 2
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    side = float((upper.mean(0) * x).sum() / upper.mean(0).sum().clamp_min(1e-6))
    side = math.copysign(min(1.0, 3 * abs(side) + 0.35), side if side else -1.0)  # never straight from above: flat
    return F.normalize(torch.tensor([KEY_SIDE * side, -KEY_UP, KEY_FRONT]), dim=0)


def display_codes(light: Tensor, clips: bool) -> Tensor:
    """Linear light (..., 3) in sRGB's encoding; clips: the plate is for a display, and white is all there is."""
    if clips:
        light = light.clamp(max=KNEE) + (1 - KNEE) * ((light - KNEE).clamp_min(0) / (1 - KNEE)).tanh()
    return torch.from_numpy(encode_srgb(np.ascontiguousarray(light.numpy())))


def _blurred(planes):
    return F.avg_pool2d(F.pad(planes, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _luminance(color: Tensor) -> Tensor:
    return color @ color.new_tensor(LUMINANCE)


def _linear(codes: Tensor) -> Tensor:
    return torch.where(codes <= 0.04045, codes / 12.92, ((codes.clamp_min(0) + 0.055) / 1.055) ** 2.4)


def _normals(facing):
    front = (1 - facing.pow(2).sum(-1, keepdim=True)).clamp_min(0).sqrt()
    return torch.cat([facing, front], -1)
