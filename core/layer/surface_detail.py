"""Fine detail of drawn objects: relief and variation of brightness that the field of shapes is too coarse for.

Each kind has a pattern that is fixed to the object: scales, feathers, veins, weave, brushed metal. A pattern gives a
height, whose slope tilts the normals, and a factor on the colour. The factor is about 1 on average, so that the named
colour stays. The patterns are procedural, from fixed seeds, not learned. Detail that is finer than a sample is left
out.

Positions are u (right) and v (down) from the object's centre in half heights, as in `ShotObject.points`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vera.core.layer.backdrop.smooth_noise import Noise, there
from vera.core.model.interfaces import SurfacePoints
from vera.kernels.planes import smoothstep

NOISE = Noise(1729)  # of any seed; another one moves all dots, streaks and spots
DIFFERENCE_STEP = 0.004  # step in half heights of the differences that give a height's slope; raising it smooths relief
MAX_SLOPE = 0.5  # steepest rise over run, right and down; raising it gives the edges of scales and seams harder glints
DARKEST, BRIGHTEST = 0.5, 1.35  # limits of the factor on the colour; raising the second bleaches dots and edges more


@dataclass(frozen=True)
class Pattern:
    """Height in half heights and factor on the colour, (...)."""

    height: Tensor
    shade: Tensor


@dataclass(frozen=True)
class Place:
    """Points of an object's surface: positions u, v (...), the size of a sample in half heights, time in frames."""

    u: Tensor
    v: Tensor
    sample: float
    time: int = 0

    def noise(self, x: Tensor, y: Tensor, cells: float, octaves: int = 3, gain: float = 0.5, fold: str = "") -> Tensor:
        """Fractal noise of x and y, with `cells` cells per half height; see `Noise.fractal`."""
        return NOISE.fractal(x * cells, y * cells, octaves, gain, self.sample * cells, fold)

    def shown(self, cell: float) -> float:
        """Share in [0, 1] to which samples resolve a pattern with cells of this size in half heights."""
        return float(there(cell, self.sample))

    def line(self, x: Tensor, width: float) -> Tensor:
        """1 on the line x = 0 and 0 beside it. x: distance from the line, width: to each side, in half heights.

        A line thinner than a sample is drawn wider and fainter.
        """
        drawn = max(width, self.sample)
        return width / drawn * smoothstep(-x.abs(), -drawn, -0.3 * drawn)


def detailed(points: SurfacePoints, kind: str, place: Place, strength: float = 1.0) -> SurfacePoints:
    """Add the kind's detail to surface points, `strength` times. Kinds without a pattern are returned unchanged."""
    pattern_of = PATTERNS.get(kind)
    if pattern_of is None or not len(place.u):
        return points
    step = max(DIFFERENCE_STEP, place.sample / 2)
    here = pattern_of(place)
    right = pattern_of(replace(place, u=place.u + step)).height - here.height
    down = pattern_of(replace(place, v=place.v + step)).height - here.height
    slope = strength * (torch.stack([right, down], dim=-1) / step).clamp(-MAX_SLOPE, MAX_SLOPE)
    shade = 1 + strength * (here.shade.clamp(DARKEST, BRIGHTEST)[..., None] - 1)
    return replace(points, color=(points.color * shade).clamp(0, 1), facing=points.facing - slope)


def dots(place: Place, x: Tensor, y: Tensor, cells: float, radius: float) -> Tensor:
    """Round dots, 1 in the middle and 0 outside, one per cell at a random place; radius: in cells."""
    x, y = x * cells, y * cells
    column, row = x.floor(), y.floor()
    off_x, off_y = NOISE(column, row) * 0.2, NOISE(column + 31, row + 57) * 0.2
    away = torch.hypot(x - column - 0.5 - off_x, y - row - 0.5 - off_y)
    return place.shown(2 * radius / cells) * smoothstep(-away, -radius, -0.5 * radius)


def shingles(x: Tensor, y: Tensor, size: float) -> Tensor:
    """Overlapping rounded shingles, such as scales: 0 where one begins, rising to 1 at its round end towards larger x.

    size: length and height of a shingle, in half heights. Rows are half a shingle high, every other is shifted by half.
    """
    x, y = x / size, y / (0.5 * size)
    row = (y - 0.5).floor()
    nearest = torch.full_like(x, torch.inf)
    for step in (0.0, 1.0):  # the rows above and below whose shingles can cover a point
        line = row + step
        along = x + 0.5 * torch.remainder(line, 2)
        end = 0.5 * (1 - (0.95 * (y - 0.5 - line)) ** 2).clamp_min(0).sqrt()  # a half circle's end
        nearest = torch.minimum(nearest, torch.remainder(end - along, 1.0))
    return 1 - nearest


def polar(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Angle in radians, 0 downwards, and radius of points."""
    return torch.atan2(x, y), torch.hypot(x, y)


def ball(at: Place) -> Pattern:
    return Pattern(0.0003 * at.noise(at.u, at.v, 34, 2), 1 + 0.02 * at.noise(at.u, at.v, 2.5))


def balloon(at: Place) -> Pattern:
    angle, _ = polar(at.u, 0.5 - at.v)
    neck = smoothstep(at.v, 0.18, 0.34)
    rim = torch.hypot(at.u / 0.56, (at.v + 0.3) / 0.7)
    return Pattern(0.006 * neck * torch.cos(22 * angle), 1.03 - 0.2 * smoothstep(rim, 0.72, 1.02))


def cube(at: Place) -> Pattern:
    pits = dots(at, at.u, at.v, 7, 0.14) * smoothstep(at.noise(at.u, at.v, 2, 1), 0.2, 0.7)
    rough = at.noise(at.u, at.v, 6, 4)
    return Pattern(0.003 * rough - 0.004 * pits, 1 + 0.05 * at.noise(at.u, at.v, 2.5) - 0.1 * pits)


def star(at: Place) -> Pattern:
    grain = at.noise(at.u + 0.25 * at.v, 0.1 * at.v, 40, 2)
    return Pattern(0.0004 * grain, 1 + 0.012 * grain + 0.04 * at.noise(at.u, at.v, 3))


def heart(at: Place) -> Pattern:
    return Pattern(0.0004 * at.noise(at.u, at.v, 24, 2), 1 + 0.03 * at.noise(at.u, at.v, 3))


def ring(at: Place) -> Pattern:
    angle, radius = polar(at.u, at.v)
    brushed = at.noise(radius, 0.02 * angle.abs(), 45, 2)  # no jump where the angle begins again
    return Pattern(0.0003 * brushed, 1 + 0.015 * brushed)


def kite(at: Place) -> Pattern:
    angle, radius = polar(at.u, at.v + 0.3)
    folds = at.noise(1.2 * angle, 0.3 * radius, 4, 2) * smoothstep(radius, 0.05, 0.5)
    across = (torch.remainder(way, 0.1) - 0.05 for way in (at.u + at.v, at.u - at.v))
    threads = sum(at.line(x, 0.008) for x in across)
    hem = at.line(at.u.abs() + 0.75 * (at.v + 0.3).abs() - 0.52, 0.02)
    return Pattern(0.005 * folds + 0.001 * threads, 1 + 0.03 * folds - 0.1 * threads - 0.12 * hem)


def lantern(at: Place) -> Pattern:
    fibres = at.noise(0.6 * at.u, at.v, 16, 4) + 0.7 * at.noise(at.u + 40, 0.6 * at.v, 13, 3)
    return Pattern(0.0008 * fibres, 1 + 0.035 * fibres)


def mushroom(at: Place) -> Pattern:
    cap = smoothstep(-at.v, -0.13, -0.07)
    angle, radius = polar(at.u, 0.1 - at.v)  # upwards, so that the angle's jump is not on the cap
    streaks = at.noise(2 * angle, 0.4 * radius, 9, 3) * smoothstep(radius, 0.5, 1.0)
    mottled = at.noise(at.u, at.v, 5, 4)
    fibres = at.noise(at.u, 0.08 * at.v, 26, 3)
    soil = smoothstep(at.v + 0.12 * at.noise(at.u, at.v, 7), 0.78, 1.0)
    skin = 1 + 0.06 * mottled + 0.06 * streaks - 0.15 * smoothstep(radius, 0.82, 1.0)
    stem = 1 + 0.07 * fibres - 0.35 * soil - 0.08 * at.line(at.v - 0.22, 0.03)
    height = cap * (0.002 * streaks + 0.003 * mottled) + (1 - cap) * 0.004 * fibres
    return Pattern(height, torch.lerp(stem, skin, cap))


def fish(at: Place) -> Pattern:
    body = torch.hypot((at.u - 0.2) / 0.85, at.v / 0.55)
    scaled = smoothstep(-body, -0.97, -0.8) * smoothstep(-at.u, -0.5, -0.1)
    scale = shingles(-at.u, at.v, 0.13)
    back = smoothstep(-at.v, 0.05, 0.5) * smoothstep(-body, -1.05, -0.9)
    side = at.line(at.v + 0.04 - 0.05 * (at.u - 0.2) ** 2, 0.02) * scaled
    shown = at.shown(0.06)
    shade = 1.03 - 0.3 * back + 0.07 * at.noise(at.u, at.v, 4)
    shade = shade + scaled * shown * (0.06 - 0.3 * smoothstep(scale, 0.82, 0.97)) - 0.12 * side
    return Pattern(scaled * shown * 0.004 * smoothstep(scale, 0.4, 0.85), shade)


def umbrella(at: Place) -> Pattern:
    across = at.u / (1.02 - at.v.clamp(-1, 0) ** 2).clamp_min(0.05).sqrt()
    cloth = smoothstep(-at.v, -0.12, -0.02)
    threads = at.noise(across, at.v, 40, 2)
    folds = at.noise(across, 0.35 * at.v, 5, 2)
    seams = at.line((torch.remainder(across * 9.4 - math.pi + 0.3, 2 * math.pi) - 0.3) / 9.4, 0.008)
    hem = at.line(at.v - 0.1 * torch.cos(at.u * 9.4) - 0.02, 0.015)
    shade = 0.05 * folds + 0.02 * threads - 0.2 * seams - 0.15 * hem
    return Pattern(cloth * (0.01 * folds + 0.0002 * threads), 1 + cloth * shade)


def butterfly(at: Place) -> Pattern:
    x = at.u.abs() / (0.65 + 0.35 * math.cos(0.55 * at.time))  # wings beat as in data/engine/solids.py
    angle, radius = polar(x, at.v)
    streaks = at.noise(1.5 * angle, 0.12 * radius, 12, 3)
    dust = at.noise(x, at.v, 30, 2)
    veins = at.line((torch.remainder(angle * 3.6, 1.0) - 0.5) * radius / 3.6, 0.013) * smoothstep(radius, 0.1, 0.3)
    wing = smoothstep(x, 0.08, 0.14)
    shade = 1.04 + 0.1 * streaks + 0.05 * dust - 0.35 * veins + 0.16 * smoothstep(radius, 0.2, 0.6)
    shade = shade - 0.3 * smoothstep(radius, 0.65, 1.05)
    return Pattern(wing * (0.003 * veins + 0.002 * streaks), torch.lerp(0.9 + 0.1 * dust, shade, wing))


def bird(at: Place) -> Pattern:
    beat = 0.75 + 0.2 * math.sin(0.5 * at.time)  # as in data/engine/solids.py
    wing_down = (at.u + 0.12).abs() * 0.15 + (at.v - 0.02) / beat
    torso = torch.hypot((at.u - 0.1) / 0.8, (at.v + 0.12 * at.u - 0.06) / 0.36)
    body = smoothstep(-torso, -1.05, -0.9)
    plumes = shingles(-at.u, at.v + 0.12 * at.u, 0.1)
    barbs = torch.remainder((at.u * 0.9 - wing_down * 0.45) * 4.15, 1.0)
    vanes = at.noise(at.u * 0.3, wing_down, 30, 2)
    shown = at.shown(0.05)
    on_body = 1.02 - 0.22 * shown * smoothstep(plumes, 0.8, 0.97) + 0.07 * at.noise(at.u, at.v, 6)
    on_wing = 1.05 - 0.32 * at.shown(0.1) * smoothstep(barbs, 0.75, 1.0) + 0.05 * vanes
    on_body_height = 0.004 * shown * smoothstep(plumes, 0.5, 0.85)
    on_wing_height = 0.02 * at.shown(0.1) * barbs + 0.001 * vanes
    return Pattern(torch.lerp(on_wing_height, on_body_height, body), torch.lerp(on_wing, on_body, body))


def leaf(at: Place) -> Pattern:
    cos, sin = math.cos(0.6), math.sin(0.6)
    x, y = at.u * cos + at.v * sin, at.v * cos - at.u * sin  # along y, as in data/engine/solids.py
    net = at.noise(x, y, 9, 3, 0.6, "ridge")
    ribs = at.line(torch.remainder(y + 0.75 * x.abs(), 0.3) - 0.15, 0.022) * smoothstep(-x.abs(), -0.5, -0.2)
    veins = torch.maximum(ribs, at.line(x, 0.035)) * smoothstep(-y, -0.5, -0.4)
    rim = torch.hypot(x.abs() + 0.55, y + 0.12) / 1.04
    tip = smoothstep(-y + 0.25 * at.noise(x, y, 3), 0.62, 1.0)
    shade = 1.02 + 0.04 * net + 0.09 * at.noise(x, y, 3) + 0.22 * veins
    return Pattern(0.0015 * net + 0.01 * veins, shade - 0.18 * smoothstep(rim, 0.93, 1.0) - 0.12 * tip)


def paper_plane(at: Place) -> Pattern:
    crumpled = at.noise(at.u, at.v, 1.8)
    fibres = at.noise(at.u, at.v, 26, 2)
    fold = at.line((at.u - 1.25) * 0.9 + (at.v + 0.6) * 1.55, 0.07)
    return Pattern(0.015 * crumpled + 0.0003 * fibres, 1 + 0.012 * fibres + 0.02 * crumpled - 0.1 * fold)


def rocket(at: Place) -> Pattern:
    half = 0.36 * (1 - ((at.v + 0.1) / 0.92) ** 2).clamp_min(0.02).sqrt()
    around = torch.asin((at.u / half).clamp(-0.99, 0.99))  # radians around the hull
    seams = at.line(at.v + 0.5, 0.014) + at.line(at.v - 0.08, 0.014) + at.line(at.v - 0.24, 0.014)
    hull = smoothstep(half - at.u.abs(), 0.0, 0.03) * smoothstep(-at.v, -0.48, -0.4)
    beside = torch.minimum(torch.minimum((at.v + 0.46).abs(), (at.v - 0.04).abs()), (at.v - 0.2).abs())
    from_rivet = torch.hypot((torch.remainder(around, 0.2) - 0.1) * 0.3, beside)
    rivets = at.shown(0.02) * smoothstep(-from_rivet, -0.015, -0.006)
    soot = at.noise(2.5 * around, 0.25 * at.v, 4, 4) * smoothstep(at.v, -0.6, 0.5)
    height = hull * (0.005 * rivets - 0.008 * seams)
    return Pattern(height, 1 + hull * (0.03 + 0.09 * soot - 0.35 * seams + 0.12 * rivets))


def apple(at: Place) -> Pattern:
    angle, radius = polar(at.u, at.v + 0.75)
    streaks = at.noise(2.2 * angle, 0.25 * radius, 7, 4)
    specks = dots(at, at.u * (1 + 0.25 * at.u**2) + 0.3 * at.v, at.v - 0.3 * at.u, 11, 0.11)
    mottled = at.noise(at.u, at.v, 2.2)
    shade = 0.99 + 0.09 * streaks + 0.05 * mottled + 0.2 * specks
    return Pattern(0.003 * at.noise(at.u, at.v, 5, 3) - 0.001 * specks, shade)


def flower(at: Place) -> Pattern:
    y, sector = at.v + 0.33, math.pi / 3
    radius, angle = torch.hypot(at.u, y), torch.atan2(at.u, -y)
    off = torch.remainder(angle + sector / 2, sector) - sector / 2
    petal = smoothstep(radius, 0.2, 0.26) * smoothstep(-radius, -0.72, -0.66)
    veins = at.noise(2.4 * off + 9 * (angle - off), 0.25 * radius, 10, 3)
    seeds = dots(at, at.u, y, 17, 0.36) * smoothstep(-radius, -0.21, -0.18)
    dark = 0.28 * smoothstep(-radius, -0.38, -0.22) * petal
    shade = 1 + petal * (0.03 + 0.06 * veins) - dark + seeds * 0.25
    shade = shade - 0.2 * at.line(radius - 0.205, 0.03) + (1 - petal) * 0.05 * at.noise(at.u, at.v, 12, 2)
    return Pattern(petal * 0.002 * veins + 0.012 * seeds, shade)


PATTERNS: dict[str, Callable[[Place], Pattern]] = {
    f.__name__.replace("_", " "): f
    for f in (
        *(ball, balloon, cube, star, heart, ring, kite, lantern, mushroom, fish, umbrella, butterfly),
        *(bird, leaf, paper_plane, rocket, apple, flower),
    )
}
