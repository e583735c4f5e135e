"""The objects of shapes.py as solids: the same silhouettes with the surface properties that light needs.

Each function takes local coordinates u (right) and v (down) in units of the object's half height, tensors of one
shape, and the time in frames. It returns a `Surface`: colour, orientation and reflectance, without any light. Distances
come from shapes.py, corrected to first order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, dataclass, replace

import torch
from torch import Tensor

from vera.core.data.engine import shapes
from vera.core.data.engine.random_fields import smoothstep
from vera.core.data.engine.shapes import box, circle, ellipse, polygon

# Channels of a surface, in order: share of the named colour; the object's own colour for the rest (display-encoded);
# components of the unit normal to the right and down (the third one faces the camera); gloss; openness to ambient
# light; emission. All but the normal are in [0, 1].
CHANNELS = ("share", "red", "green", "blue", "right", "down", "gloss", "open", "shine")

Field = Callable[[Tensor, Tensor], Tensor]  # (u, v) -> signed distance

DIFFERENCE_STEP = 1e-3  # step of finite differences, in half heights
SEAM_WIDTH = 0.02  # width in half heights of the transition between two parts' colours; raising it softens the drawing
MIN_SLOPE = 0.3  # least slope of a distance field; lowering it gives noisier distances where the field is flat


@dataclass(frozen=True)
class Surface:
    """The surface at points of any shape: for each of CHANNELS a tensor of that shape."""

    share: Tensor
    red: Tensor
    green: Tensor
    blue: Tensor
    right: Tensor
    down: Tensor
    gloss: Tensor
    open: Tensor
    shine: Tensor

    def stack(self) -> Tensor:
        """(..., 9)."""
        return torch.stack(astuple(self), dim=-1)

    def shining(self, shine: Tensor | float) -> Surface:
        """This surface with an emission of its own, in [0, 1]."""
        return replace(self, shine=torch.as_tensor(shine, dtype=self.gloss.dtype).expand_as(self.gloss))

    def under(self, other: Surface, distance: Tensor, width: float = SEAM_WIDTH) -> Surface:
        """This surface with `other` over it where `distance` is negative."""
        weight = (0.5 - distance / width).clamp(0, 1)
        return Surface(*(a + (b - a) * weight for a, b in zip(astuple(self), astuple(other))))


def named(
    u: Tensor,
    facing: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
    share: Tensor | float = 1.0,
    own: tuple[Tensor | float, ...] = (0.0, 0.0, 0.0),
    gloss: Tensor | float = 0.1,
    open: Tensor | float = 1.0,
) -> Surface:
    """The surface of a part in the colour that a prompt names (share 1) or a mixture with `own`.

    u: local coordinates; only their shape and dtype are used. facing: the normal's components to the right and down.
    """
    right, down = (torch.as_tensor(x, dtype=u.dtype) for x in facing)
    long = torch.hypot(right, down).clamp_min(0.97) / 0.97
    values = (share, *own, right / long, down / long, gloss, open, 0.0)
    return Surface(*(torch.as_tensor(x, dtype=u.dtype).expand_as(u) for x in values))


def painted(
    u: Tensor,
    own: tuple[Tensor | float, ...],
    facing: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
    gloss: Tensor | float = 0.1,
    open: Tensor | float = 1.0,
) -> Surface:
    """The surface of a part whose colour `own` does not depend on the prompt."""
    return named(u, facing, 0.0, own, gloss, open)


def slopes(field: Field, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of a field to the right and down, by central differences."""
    return (
        (field(u + DIFFERENCE_STEP, v) - field(u - DIFFERENCE_STEP, v)) / (2 * DIFFERENCE_STEP),
        (field(u, v + DIFFERENCE_STEP) - field(u, v - DIFFERENCE_STEP)) / (2 * DIFFERENCE_STEP),
    )


def puffed(field: Field, u: Tensor, v: Tensor, roundness: float) -> tuple[Tensor, Tensor]:
    """The normals of a cushion with this outline: rounded within `roundness` of its edge, flat inside."""
    right, down = slopes(field, u, v)
    tilt = (1 + field(u, v) / roundness).clamp(0, 1)
    return right * tilt, down * tilt


def ball(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    return named(u, (u, v), gloss=0.3)


def balloon(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    body = ellipse(u, v, 0, -0.3, 0.56, 0.7)
    knot = polygon(u, v, [(0.0, 0.36), (0.11, 0.5), (-0.11, 0.5)])
    skin = named(u, (u / 0.57, (v + 0.3) / 0.71), gloss=0.75, open=1 - 0.3 * smoothstep(0.15, 0.4, v))
    skin = skin.under(named(u, (u / 0.11, 0.2), share=0.8, gloss=0.3, open=0.75), torch.maximum(knot, -body))
    return skin.under(painted(u, (0.78, 0.76, 0.7)), torch.maximum(0.5 - v, -knot))


def cube(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    k = 0.5
    top = polygon(u, v, [(0, -1), (0.87, -k), (0, 0), (-0.87, -k)])
    right = polygon(u, v, [(0, 0), (0.87, -k), (0.87, k), (0, 1)])
    left = polygon(u, v, [(0, 0), (-0.87, -k), (-0.87, k), (0, 1)])
    down = 1 - 0.3 * smoothstep(-0.3, 1.0, v)
    faces = named(u, (-0.62, 0.28), open=down)
    faces = faces.under(named(u, (0.62, 0.28), open=down), right)
    faces = faces.under(named(u, (0.0, -0.72)), top)
    ridge = torch.minimum(torch.minimum(top.abs(), right.abs()), left.abs()) - 0.018  # worn edges
    inside = shapes.cube(u, v, (0.5, 0.5, 0.5), time)[0] + 0.03
    return faces.under(named(u, (0.0, -0.3), own=(0.06, 0.06, 0.06), gloss=0.3), torch.maximum(ridge, inside))


def star(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    sector = 2 * math.pi / 5
    angle = torch.atan2(u, -v)
    off = torch.remainder(angle + sector / 2, sector) - sector / 2
    facing = angle - off + off.sign() * 1.2  # ten facets around a raised centre
    edge = (1 + shapes.star(u, v, (0.5, 0.5, 0.5), time)[0] / 0.1).clamp(0, 1)
    steep = 0.5 + 0.3 * edge
    return named(u, (steep * facing.sin(), -steep * facing.cos()), gloss=0.3)


def heart(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    def outline(x: Tensor, y: Tensor) -> Tensor:
        return shapes.heart(x, y, (0.5, 0.5, 0.5), time)[0]

    right, down = puffed(outline, u, v, 0.18)
    lobe = torch.exp(-((v + 0.5) ** 2) / 0.25) * torch.exp(-((u / 0.35) ** 2)) * 0.5 * (u / 0.12).tanh()
    crease = 1 - 0.35 * torch.exp(-((u / 0.12) ** 2) - ((v + 0.45) / 0.28) ** 2)
    return named(u, (0.4 * right + 0.65 * u - lobe, 0.4 * down + 0.65 * v), gloss=0.5, open=crease)


def ring(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    radius = torch.hypot(u, v).clamp_min(1e-3)
    across = (radius - 0.72) / 0.28
    return named(u, (u / radius * across, v / radius * across), gloss=0.45)


def kite(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    quarter = (u * (v + 0.3)).sign()
    bulge = 0.3 * (1 - smoothstep(0, 0.6, u.abs()))
    cloth = named(u, (u.sign() * 0.28 + 0.2 * u, bulge * (v + 0.3)), share=0.82 - 0.18 * quarter, gloss=0.15)
    spars = torch.minimum(u.abs(), (v + 0.3).abs()) - 0.016
    cloth = cloth.under(painted(u, (0.32, 0.22, 0.12)), spars)
    return cloth.under(painted(u, (0.88, 0.82, 0.6), (0.3 * torch.sin(v * 18 - time * 0.4), 0.0)), 0.5 - v)


def lantern(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    caps = torch.minimum(box(u, v, 0, -0.82, 0.3, 0.1), box(u, v, 0, 0.82, 0.3, 0.1))
    wires = torch.cos(v * 26)
    light = torch.exp(-(u * u + v * v * 0.7) / 0.5)
    paper = named(u, (u / 0.75, v / 0.8 + 0.18 * torch.sin(v * 26)), share=0.93 + 0.07 * wires, gloss=0.05).shining(
        0.55 * light
    )
    return paper.under(painted(u, (0.28, 0.17, 0.08), (u / 0.32, 0.0), gloss=0.4), caps)


def mushroom(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    cap = torch.maximum(ellipse(u, v, 0, 0.1, 1.0, 1.0), v - 0.1)
    fibres = 0.03 * torch.sin(u * 55 + 2 * torch.sin(v * 7))
    below = smoothstep(0.1, 0.42, v)
    stem = painted(
        u,
        tuple(c + fibres for c in (0.9, 0.85, 0.74)),
        (u / 0.27, 0.0),
        open=(0.35 + 0.65 * below) * (1 - 0.25 * smoothstep(0.75, 1.0, v)),
    )
    skin = named(u, (u, (v - 0.1) * 0.95), gloss=0.35, open=1 - 0.3 * smoothstep(-0.1, 0.1, v))
    for x, y, r in ((-0.45, -0.3, 0.15), (0.1, -0.6, 0.17), (0.5, -0.2, 0.13), (0.0, -0.12, 0.1), (-0.75, -0.1, 0.08)):
        wart = circle(u, v, x, y, r)
        tilt = (1 + wart / 0.06).clamp(0, 1) * 0.4
        away = torch.hypot(u - x, v - y).clamp_min(1e-3)
        bump = (u * 0.8 + tilt * (u - x) / away, (v - 0.1) * 0.8 + tilt * (v - y) / away)
        skin = skin.under(painted(u, (0.95, 0.94, 0.88), bump), wart)
    return stem.under(skin, cap)


def fish(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    wag = 0.12 * torch.sin(time * 0.5)
    body = ellipse(u, v, 0.2, 0, 0.85, 0.55)
    w = v - wag * (-u - 0.4).clamp_min(0)
    rays = 0.1 * torch.cos(torch.atan2(w, u + 0.2) * 40) * smoothstep(-0.4, -0.6, u)
    rays = rays + 0.1 * torch.cos((u + 0.4 * v) * 45) * smoothstep(-0.4, -0.55, v)
    scales = torch.sin(u * 21 + 10.5 * v) * torch.sin(u * 21 - 10.5 * v) * smoothstep(0.5, 0.3, u)
    belly = 0.3 * smoothstep(0.05, 0.5, v)
    fins = named(u, (0.1, 0.2), share=0.72 + rays, gloss=0.3)
    skin = named(
        u,
        ((u - 0.2) / 0.87, v / 0.57),
        share=(1 - belly) * (0.96 + 0.07 * scales),
        own=(0.9 * belly, 0.88 * belly, 0.85 * belly),
        gloss=0.6,
    )
    skin = fins.under(skin, body)
    gill = (torch.hypot(u - 0.92, v) - 0.52).abs() - 0.014
    skin = skin.under(named(u, share=0.5, open=0.6), torch.maximum(gill, v.abs() - 0.3))
    skin = skin.under(painted(u, (0.96, 0.95, 0.92), gloss=0.8), circle(u, v, 0.68, -0.12, 0.13))
    return skin.under(painted(u, (0.02, 0.02, 0.03), gloss=1.0), circle(u, v, 0.71, -0.12, 0.08))


def umbrella(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    dome = torch.maximum(circle(u, v, 0, 0.05, 1.0), v - 0.05 - 0.1 * torch.cos(u * 9.4))
    across = u / (1.02 - v.clamp(-1, 0) ** 2).clamp_min(0.05).sqrt()
    wave = torch.cos(across * 9.4)
    panel = torch.sin(across * 9.4)
    cloth = named(u, (u * 0.85 + 0.25 * panel, (v - 0.05) * 0.95), share=0.93 + 0.07 * wave, gloss=0.25)
    cloth = cloth.under(named(u, (u, v), share=0.72, open=0.85), -wave - 0.985, 0.03)
    stick = painted(u, (0.34, 0.22, 0.12), (u / 0.05, 0.0), gloss=0.5, open=0.5 + 0.5 * smoothstep(0.1, 0.5, v))
    return stick.under(cloth, dome)


def butterfly(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    flap = 0.65 + 0.35 * torch.cos(time * 0.55)
    x = u.abs() / flap
    upper = ellipse(x * 0.75 + v * 0.66, v * 0.75 - x * 0.66, 0.06, -0.68, 0.42, 0.66)
    lower = ellipse(x * 0.8 - v * 0.6, v * 0.8 + x * 0.6, 0.04, 0.52, 0.36, 0.48)
    body = ellipse(u, v, 0, 0, 0.09, 0.55)
    wings = torch.minimum(upper, lower)
    veins = (torch.sin(torch.atan2(v + 0.02, x + 0.02) * 13)).abs() * torch.hypot(x, v)
    fold = (1 - flap).expand_as(u)
    skin = named(
        u, (u.sign() * (0.15 + 0.6 * fold), -0.1), share=1 - 0.3 * smoothstep(0.5, 0.0, torch.hypot(x, v)), gloss=0.2
    )
    skin = skin.under(named(u, (u.sign() * 0.3, 0.0), share=0.35), veins - 0.05, 0.03)
    skin = painted(u, (0.06, 0.045, 0.04), (u.sign() * 0.3, 0.0), gloss=0.3).under(skin, wings + 0.09)
    for px, py, r in ((0.62, -0.66, 0.09), (0.86, -0.42, 0.05), (0.5, 0.5, 0.07)):
        skin = skin.under(painted(u, (0.95, 0.92, 0.78), (u.sign() * 0.2, 0.0)), circle(x, v, px, py, r))
    return skin.under(painted(u, (0.09, 0.065, 0.05), (u / 0.09, v * 0.4), gloss=0.4), body)


def bird(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    flap = torch.sin(time * 0.5)
    head = circle(u, v, 0.68, -0.14, 0.26)
    beak = polygon(u, v, [(0.88, -0.26), (1.25, -0.1), (0.88, -0.02)])
    tail = polygon(u, v, [(-0.5, 0.0), (-1.2, 0.02), (-1.1, 0.42), (-0.45, 0.3)])
    x = u + 0.12
    w = x.abs() * 0.15 + (v - 0.02) / (0.75 + 0.2 * flap)
    wing = polygon(x, w, [(0.34, 0.1), (-0.42, -1.25), (-0.62, -0.75), (-0.4, 0.1)])
    belly = 0.35 * smoothstep(0.05, 0.38, v + 0.12 * u)
    torso = named(
        u,
        ((u - 0.05) / 0.76, (v + 0.12 * u - 0.08) / 0.36),
        share=1 - belly,
        own=(0.85 * belly, 0.82 * belly, 0.78 * belly),
        gloss=0.15,
    )
    torso = torso.under(named(u, ((u - 0.68) / 0.27, (v + 0.14) / 0.27), gloss=0.15), head, 0.12)
    barbs = torch.cos((u * 0.9 - w * 0.45) * 26)
    feathers = named(
        u, (-0.25 + 0.12 * barbs, -0.2), share=0.62 + 0.08 * barbs - 0.2 * smoothstep(-0.5, -1.1, w), gloss=0.2
    )
    barbs = torch.cos((v - 0.12 * u) * 40)
    torso = torso.under(named(u, (-0.1, -0.15 + 0.12 * barbs), share=0.6 + 0.08 * barbs), tail)
    torso = torso.under(feathers, wing)
    torso = torso.under(painted(u, (0.93, 0.6, 0.14), (0.0, (v + 0.13) / 0.14), gloss=0.5), beak)
    torso = torso.under(painted(u, (0.95, 0.94, 0.9), gloss=0.6), circle(u, v, 0.76, -0.2, 0.085))
    return torso.under(painted(u, (0.02, 0.02, 0.02), gloss=1.0), circle(u, v, 0.775, -0.2, 0.062))


def leaf(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    c, s = math.cos(0.6), math.sin(0.6)
    x, y = u * c + v * s, v * c - u * s  # along y, from the stem below to the tip above
    blade = torch.maximum(circle(x, y, 0.55, -0.12, 1.04), circle(x, y, -0.55, -0.12, 1.04))
    ribs = torch.remainder(y + 0.75 * x.abs(), 0.3) - 0.15
    veins = torch.minimum(x.abs() - 0.022, ribs.abs() - 0.012)
    roll = torch.sin(ribs * math.pi / 0.15) * 0.15
    right, down = x.sign() * (0.32 - 0.5 * x.abs()), roll
    facing = (right * c - down * s, right * s + down * c)
    flesh = named(u, facing, share=0.95 - 0.12 * x.sign() * (x.abs() / 0.1).clamp(0, 1), gloss=0.4)
    flesh = flesh.under(named(u, share=0.62, own=(0.06, 0.06, 0.03)), torch.maximum(veins, blade))
    return flesh.under(painted(u, (0.36, 0.26, 0.13), (x / 0.04 * c, x / 0.04 * s)), torch.maximum(-blade, 0.5 - y))


def paper_plane(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    far = polygon(u, v, [(1.25, -0.6), (-0.75, -0.85), (-0.3, -0.2)])
    near = polygon(u, v, [(1.25, -0.6), (-1.25, 0.1), (-0.3, 0.3)])
    keel = polygon(u, v, [(1.25, -0.6), (-0.3, -0.2), (-0.6, 0.85), (-0.1, 0.35)])
    paper = named(u, (0.0, 0.0))
    paper = paper.under(named(u, (0.2, 0.68), open=0.7), keel)
    paper = paper.under(named(u, (-0.25, 0.3), share=0.97), far)
    crease = ((u - 1.25) * (0.3 + 0.6) - (v + 0.6) * (-0.3 - 1.25)).abs() / 1.8 - 0.012
    paper = paper.under(named(u, (0.12, -0.35)), near)
    return paper.under(named(u, (0.0, 0.3), share=0.85, open=0.85), torch.maximum(crease, near))


def rocket(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    half = 0.36 * (1 - ((v + 0.1) / 0.92) ** 2).clamp_min(0).sqrt()
    body = torch.maximum(torch.maximum((u.abs() - half) * 0.9, v - 0.5), -1.02 - v)
    fins = polygon(u.abs(), v, [(0.2, 0.05), (0.62, 0.5), (0.6, 0.78), (0.2, 0.5)])
    hot = torch.exp(-((u / 0.1) ** 2) - ((v - 0.55) / 0.28) ** 2)
    flame = painted(u, (1.0, 0.5 + 0.45 * hot, 0.1 + 0.55 * hot)).shining(1.0)
    hull = named(u, (u / (half + 0.01), -0.55 * smoothstep(-0.3, -1.0, v)), gloss=0.6)
    hull = hull.under(named(u, (u / (half + 0.01), -0.6), share=0.5, gloss=0.6), v + 0.62)
    hull = hull.under(named(u, (u / 0.36, 0.0), share=0.55), (v - 0.32).abs() - 0.03)
    away = torch.hypot(u, v + 0.25).clamp_min(1e-3)
    rim, glass = circle(u, v, 0, -0.25, 0.2), circle(u, v, 0, -0.25, 0.13)
    hull = hull.under(painted(u, (0.85, 0.87, 0.9), (u / away * 0.6, (v + 0.25) / away * 0.6), gloss=0.8), rim)
    hull = hull.under(painted(u, (0.1, 0.22, 0.36), (u / 0.16, (v + 0.25) / 0.16), gloss=1.0), glass)
    wing = named(u, (u.sign() * 0.4, 0.1), share=0.6, gloss=0.4)
    return flame.under(wing, torch.maximum(fins, -body)).under(hull, body)


def apple(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    stem = box(u - 0.15 * (v + 0.6), v, 0, -0.68, 0.05, 0.27)
    blade = torch.maximum(circle(u, v, 0.32, -0.42, 0.42), circle(u, v, 0.36, -1.06, 0.42))
    hollow = torch.exp(-(u * u * 7 + (v + 0.5) ** 2 * 22))
    streaks = (0.5 + 0.5 * torch.sin(torch.atan2(u, v + 1.3) * 60)) * smoothstep(0.5, -0.5, v)
    pale = (0.1 * streaks + 0.35 * hollow).clamp(0, 1)
    skin = named(
        u,
        (u * 0.98, (v - 0.15) * 1.05 - 0.9 * hollow),
        share=1 - pale,
        own=(0.8 * pale, 0.75 * pale, 0.25 * pale),
        gloss=0.6,
        open=(1 - 0.55 * hollow) * (1 - 0.25 * smoothstep(0.5, 1.0, v)),
    )
    rib = ((v + 0.74) - 0.05 * (u - 0.34)).abs() - 0.012
    green = painted(u, (0.25, 0.52, 0.16), (0.2 * (v + 0.74).sign(), 0.5 * (v + 0.74).sign() * -0.6), gloss=0.4)
    green = green.under(painted(u, (0.45, 0.65, 0.3)), rib)
    bark = painted(u, (0.33, 0.22, 0.11), ((u - 0.15 * (v + 0.6)) / 0.055, 0.0), gloss=0.2)
    return skin.under(bark, stem).under(green, blade)


def flower(u: Tensor, v: Tensor, time: Tensor) -> Surface:
    y, sector = v + 0.33, math.pi / 3
    radius, angle = torch.hypot(u, y), torch.atan2(u, -y)
    off = torch.remainder(angle + sector / 2, sector) - sector / 2
    across, along = radius * off.sin(), radius * off.cos()
    petal = ellipse(across, along, 0, 0.4, 0.2, 0.27)
    stem = box(u - 0.08 * torch.sin(v * 3), v, 0, 0.5, 0.045, 0.5)
    blade = torch.maximum(circle(u, v, 0.12, 0.9, 0.42), circle(u, v, 0.42, 0.4, 0.42))
    ridge = torch.cos(across * 70) * 0.12
    cup = (along - 0.3) * 1.2
    way = angle - off
    side = across / 0.24 + ridge * across.sign()
    facing = (side * way.cos() + cup * way.sin(), side * way.sin() - cup * way.cos())
    leafage = painted(u, (0.2, 0.48, 0.15), ((u - 0.08 * torch.sin(v * 3)) / 0.06, 0.0), gloss=0.25)
    leafage = leafage.under(painted(u, (0.24, 0.54, 0.17), (0.35, -0.15), gloss=0.2), torch.maximum(blade, -stem))
    face = named(
        u, facing, share=0.72 + 0.28 * smoothstep(0.15, 0.5, radius), gloss=0.15, open=smoothstep(0.05, 0.35, radius)
    )
    grains = torch.sin(u * 60) * torch.sin(y * 60)
    middle = painted(u, (0.95, 0.76 + 0.08 * grains, 0.15), (u / 0.24 + 0.2 * grains, y / 0.24), gloss=0.1)
    return leafage.under(face, torch.minimum(petal, radius - 0.25)).under(middle, radius - 0.2)


SOLIDS: dict[str, Callable[[Tensor, Tensor, Tensor], Surface]] = {
    f.__name__.replace("_", " "): f
    for f in (
        *(ball, balloon, cube, star, heart, ring, kite, lantern, mushroom, fish, umbrella, butterfly),
        *(bird, leaf, paper_plane, rocket, apple, flower),
    )
}


def solid(kind: str, u: Tensor, v: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    """Signed distance (N,) in half heights, and surface (N, 9), of a kind at points (N,) and times (N,) in frames."""

    def outline(x: Tensor, y: Tensor) -> Tensor:
        return shapes.SHAPES[kind](x, y, (0.5, 0.5, 0.5), time)[0]

    distance = outline(u, v)
    slope = torch.hypot(*slopes(outline, u, v))
    return distance / slope.clamp(MIN_SLOPE, 3), SOLIDS[kind](u, v, time).stack()
