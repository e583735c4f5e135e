"""Estimate the light of a plate and shade surfaces with it, in closed form and in linear light, without training.

The plate serves as its own environment: the scene behind the camera is assumed to be like the scene before it. Three
things are estimated from a frame: its white (a white surface in the best light), the light from each direction (the
strongly blurred plate), and the direction of the brightest light. A mirror reflects the plate.

The light is scaled so that the lit half of a white ball has the plate's white, in brightness and in hue.
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
# Share of the frame, the brightest, that may be lamps and glints; raising it gives a darker white.
LAMPS = 0.02
# A bright area smaller than LAMPS is white, not a lamp, if it is not too bright for a surface. Scenes reflect about
# 0.2 of their light, so white is at most about WHITE_OVER_MEAN times the mean of the pixels below the brightest.
# GLINTS: share of the frame, the brightest, that is neither. Raising the first takes dim lamps for white; raising the
# second loses smaller whites.
WHITE_OVER_MEAN, GLINTS = 4.5, 0.005
# White is searched below that brightness. Share of it: a pixel's weight as white is 0 below the first value, 1 above
# the second.
WHITE = (0.6, 0.9)
# Light is warm or cool, hardly green or magenta. Gaussian deviations of a pixel's weight as white: of log(green) minus
# the mean of log(red) and log(blue), and of log(red) minus log(blue). Raising them accepts more colours as light.
GREEN_SPREAD, WARM_SPREAD = 0.2, 0.8
WHITE_ALBEDO = 0.871  # linear albedo of "white" in mini's world (code 0.94), about that of a white patch in a plate
# With a place given, white is searched around it too: light differs within a plate, and windows and skies are not the
# white of a room. NEAR_DEVIATION: Gaussian deviation of the weight of near pixels, in picture heights. NEAR_LAMPS: as
# LAMPS, near the place. Raising the first looks farther, raising the second makes the light darker where small bright
# things are near.
NEAR_DEVIATION, NEAR_LAMPS = 0.22, 0.05
# Weight of the brightness of the white near a place against the whole plate's. Raising it follows the place more.
LOCAL_WEIGHT = 0.9
# The hue near a place replaces the whole plate's as far as the bright pixels there have the colour of a light: all that
# is near may be grass. Their mean weight by colour, between which the local hue begins to count and counts wholly.
LIGHT_COLORED = (0.2, 0.6)
MIN_WHITE = 0.02  # smallest white of a plate, as a share of display white, so that added objects are not black
# Smallest and largest share of light that comes from all directions. Raising them gives flatter light.
AMBIENT = (0.16, 0.5)
TINT = 0.6  # saturation of the light from a direction; 0 gives all light the hue of the white
# Components of the key light's direction; the plate decides left or right.
KEY_SIDE, KEY_UP, KEY_FRONT = 0.6, 0.65, 0.45
# Sine of the key light's half angle. It has a size, so that light falls off softly towards the shadow; raising it gives
# a wider transition.
KEY_RADIUS = 0.3
SKY = 0.5  # loss of light on surfaces that face down against those that face up
HIGHLIGHT = 0.55  # strength of the key light's reflection on glossy surfaces, as a share of the white
SHARPNESS = (12.0, 90.0)  # exponent of the highlight on a matte and on a polished surface
FRESNEL = 0.04  # reflectance of non-metals at normal incidence
# (width, height) of the plate as metal and gloss reflect it; raising it gives sharper reflections.
MIRROR_SIZE = (64, 36)
SIDES = (12, 8)  # (width, height) of the plate as diffuse light; lowering it gives softer light
METAL_GAIN = 1.3  # factor on a metal's reflection
METAL_REFLECTANCE = 0.5  # share of a metal's light that is the reflected plate; raising it looks like glass
# EVEN: share of each row's mean in the reflected plate, because a sharp reflection looks like glass. HORIZON:
# darkening of the reflection at the horizon. METAL_HIGHLIGHT: key light's reflection on metal, relative to glossy
# surfaces. Raising them looks more like metal.
EVEN, HORIZON, METAL_HIGHLIGHT = 0.7, 0.5, 1.8
GLOW = 0.85  # least light that luminous surfaces emit, as a share of display white
COMPRESSION_KNEE = 0.75  # share of display white from which light is compressed for plates that clip at display white


@dataclass(frozen=True)
class PlateLight:
    """Linear Rec.709 light.

    white (3,): the plate's white
    sides (1, 3, h, w): light by the direction that a surface faces, relative to white
    mirror (1, 3, h, w): the picture that mirrors reflect
    key (3,): unit vector to the brightest light: right, down, towards the camera
    ambient: share of light from all directions
    scale (3,): factor with which the lit half of a white ball is white
    """

    white: Tensor
    sides: Tensor
    mirror: Tensor
    key: Tensor
    ambient: float
    scale: Tensor

    @classmethod
    def of(cls, light: np.ndarray, place: tuple[float, float] | None = None) -> PlateLight:
        """Estimate the light from a frame's linear light (H, W, 3), see `PlateColor.light`.

        place: x and y in -1 .. 1 of the frame, where something is lit; None for all of the frame.
        """
        planes = torch.from_numpy(np.ascontiguousarray(light, np.float32)).movedim(-1, 0)[None].clamp(0, 1e4)
        small = F.interpolate(planes, (MIRROR_SIZE[1], MIRROR_SIZE[0]), mode="area")
        white, _ = white_of(small[0].flatten(1).T)
        if place is not None:
            near = nearness(place, light.shape[1] / light.shape[0]).flatten()
            white = _between(white, *white_of(small[0].flatten(1).T, near, NEAR_LAMPS))
        relative = small / white.view(1, 3, 1, 1)
        bright = _luminance(relative[0].movedim(0, -1))
        ambient = float(bright.clamp(max=1.0).mean().clamp(*AMBIENT))
        sides = _blurred(F.interpolate(relative.clamp(max=3.0), (SIDES[1], SIDES[0]), mode="area"))
        grey = _luminance(sides.movedim(1, -1))[:, None]
        sides = torch.lerp(grey.expand_as(sides), sides, TINT)
        sides = sides / _luminance(sides.mean((2, 3))).clamp_min(0.05)
        made = cls(white, sides, small, key_of(bright), ambient, torch.ones(3))
        surroundings = torch.lerp(small, small.mean(3, keepdim=True).expand_as(small), EVEN)
        return cls(white, sides, surroundings, made.key, ambient, 1 / made._of_white_ball())

    def _of_white_ball(self) -> Tensor:
        """Mean light on the lit half of a ball, (3,)."""
        axis = (torch.arange(33) - 16) / 16.5
        down, right = torch.meshgrid(axis, axis, indexing="ij")
        facing = torch.stack([right, down], -1)[torch.hypot(right, down) < 1]
        light = self.on(facing, torch.ones(len(facing)))
        bright = _luminance(light)
        return light[bright >= bright.median()].mean(0).clamp_min(1e-3)

    def on(self, facing: Tensor, open_: Tensor) -> Tensor:
        """Light on white surfaces (..., 3), relative to the plate's white. facing (..., 2): see `SurfacePoints`."""
        around = F.grid_sample(self.sides, 0.8 * facing.view(1, 1, -1, 2), align_corners=False, padding_mode="border")
        around = around[0, :, 0].T.view(*facing.shape[:-1], 3)
        up = 1 - SKY * (0.5 + 0.5 * facing[..., 1])
        lambert = _softened(_normals(facing) @ self.key)
        ambient = self.ambient * (up * open_)[..., None] * around
        direct = (1 - self.ambient) * (lambert * (0.5 + 0.5 * open_))[..., None]
        return (ambient + direct) * self.scale

    def shade(self, points: SurfacePoints, gloss: float, metal: float, glow: float) -> Tensor:
        """Light from surface points to the camera, (..., 3), linear Rec.709. gloss 0.5 keeps the kind's own gloss."""
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
        mirror = (
            METAL_GAIN
            * tint
            * bright
            * (METAL_REFLECTANCE * seen + (1 - METAL_REFLECTANCE) * self.on(facing, points.open))
        )
        mirror = mirror + METAL_HIGHLIGHT * tint * self._highlight(facing, torch.ones_like(polish))
        relative = (1 - metal) * (body + coat) + metal * mirror
        return relative * self.white + self._sent(points, base, facing, glow)

    def _sent(self, points, base, facing, glow):
        """Emitted light of flames, of paper lit from inside, and of luminous materials."""
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
        """Reflected light relative to white, (..., 3): the plate around its middle, as a mirror ball shows it."""
        # Direction of what is reflected, right and down; 0 at the middle and the limb.
        way = 2 * facing * _normals(facing)[..., 2:]
        places = torch.stack([-way[..., 0], way[..., 1]], -1).view(1, 1, -1, 2)
        seen = F.grid_sample(self.mirror, places, align_corners=False, padding_mode="reflection")[0, :, 0].T
        dark = 1 - HORIZON * torch.exp(-(((way[..., 1:] - 0.12) / 0.16) ** 2))
        return dark * seen.view(*facing.shape[:-1], 3) / self.white


@dataclass(frozen=True)
class Scene:
    """The picture that objects are drawn into: size (height, width) in pixels, displayed aspect (width over height),
    light, and whether its values clip at display white."""

    size: tuple[int, int]
    aspect: float
    light: PlateLight
    clips: bool


def white_of(light: Tensor, near: Tensor | None = None, lamps: float = LAMPS) -> tuple[Tensor, float]:
    """The colour that a white patch has in a plate, (3,), from its pixels (n, 3), and how far that is a light's colour.

    Of the pixels of about the brightness of white, those count most whose colour is that of a light. near (n,): weight
    of each pixel, 1 without it. lamps: the share that may be brighter than white.
    """
    bright = _luminance(light)
    near = torch.ones_like(bright) if near is None else near
    top = _brightness_of_white(bright, near, lamps)
    weight = near * smoothstep(bright / top, *WHITE) * (top / bright.clamp_min(1e-4)).clamp(max=1) ** 2
    plausible = _like_a_light(light)
    share = float((weight * plausible).sum() / weight.sum().clamp_min(1e-9))
    weight = weight * plausible + 1e-9
    color = (weight[:, None] * light).sum(0) / weight.sum()
    return (color * (top / _luminance(color).clamp_min(1e-4))).clamp_min(MIN_WHITE / 4), share


def _brightness_of_white(bright: Tensor, near: Tensor, lamps: float) -> Tensor:
    """Luminance of white, (), from pixels' luminance and weight (n,): that of all but the lamps, or more where what is
    brighter can be a surface in the same light."""
    least = _quantile(bright, near, 1 - lamps).clamp_min(MIN_WHITE)
    rest = near * (bright <= least)
    most = WHITE_OVER_MEAN * (rest * bright).sum() / rest.sum().clamp_min(1e-9)
    surfaces = near * smoothstep(most / bright.clamp_min(1e-6), 0.95, 1.15) + 1e-9
    return torch.maximum(least, torch.minimum(_quantile(bright, surfaces, 1 - GLINTS), most))


def _like_a_light(color: Tensor) -> Tensor:
    """Weight (n,), at most 1, of colours (n, 3) by their distance from those of daylight and of lamps."""
    red, green, blue = color.clamp_min(1e-4).log().unbind(-1)
    off = ((green - (red + blue) / 2) / GREEN_SPREAD) ** 2 + ((red - blue) / WARM_SPREAD) ** 2
    return torch.exp(-off / 2)


def _between(whole: Tensor, local: Tensor, light_colored: float) -> Tensor:
    """The white of a place, (3,), from that of the whole plate and that of what is near.

    light_colored: mean weight by colour of the bright pixels near, see `LIGHT_COLORED`."""
    trust = smoothstep(torch.tensor(light_colored), *LIGHT_COLORED)
    hue = torch.lerp(whole.log(), local.log(), trust).exp()
    bright = torch.lerp(_luminance(whole).log(), _luminance(local).log(), LOCAL_WEIGHT).exp()
    return hue * (bright / _luminance(hue))


def nearness(place: tuple[float, float], aspect: float) -> Tensor:
    """Weights on the grid of `MIRROR_SIZE`, (h, w), that fall off about a place (x, y) in -1 .. 1 of a frame."""
    x = ((torch.arange(MIRROR_SIZE[0]) + 0.5) / MIRROR_SIZE[0] - (min(max(place[0], -1), 1) + 1) / 2) * aspect
    y = (torch.arange(MIRROR_SIZE[1]) + 0.5) / MIRROR_SIZE[1] - (min(max(place[1], -1), 1) + 1) / 2
    return torch.exp(-(x[None] ** 2 + y[:, None] ** 2) / (2 * NEAR_DEVIATION**2))


def _quantile(values: Tensor, weights: Tensor, share: float) -> Tensor:
    """Weighted quantile, (), of values (n,) with weights (n,); linear between neighbours."""
    ordered, order = values.sort()
    below = weights[order].cumsum(0) - weights[order] / 2
    wanted = share * weights.sum()
    upper = int(torch.searchsorted(below, wanted).clamp(1, len(values) - 1))
    part = (wanted - below[upper - 1]) / (below[upper] - below[upper - 1]).clamp_min(1e-12)
    return torch.lerp(ordered[upper - 1], ordered[upper], part.clamp(0, 1))


def key_of(bright: Tensor) -> Tensor:
    """Direction of the brightest light, (3,), from the plate's luminance (h, w). It always comes from above."""
    height, width = bright.shape
    upper = bright[: height * 2 // 3].clamp(max=4) ** 2
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    side = float((upper.mean(0) * x).sum() / upper.mean(0).sum().clamp_min(1e-6))
    side = math.copysign(min(1.0, 3 * abs(side) + 0.35), side or -1.0)  # light straight from above would look flat
    return F.normalize(torch.tensor([KEY_SIDE * side, -KEY_UP, KEY_FRONT]), dim=0)


def _softened(cosine: Tensor) -> Tensor:
    """Lambert's law for a light with a size: the mean of max(0, c) over c within KEY_RADIUS of `cosine`.

    cosine (...): between the surface's normal and the light's middle. Without a size, the border of the shadow would
    show as a line.
    """
    across = (cosine + KEY_RADIUS) ** 2 / (4 * KEY_RADIUS)
    return torch.where(cosine.abs() < KEY_RADIUS, across, cosine.clamp_min(0))


def display_codes(light: Tensor, clips: bool) -> Tensor:
    """Linear light (..., 3) in sRGB's encoding. clips: whether the plate's values end at display white."""
    if clips:
        light = (
            light.clamp(max=COMPRESSION_KNEE)
            + (1 - COMPRESSION_KNEE) * ((light - COMPRESSION_KNEE).clamp_min(0) / (1 - COMPRESSION_KNEE)).tanh()
        )
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
