"""The objects an instruction can add, as signed distance functions with shading.

Each function takes local coordinates u (right) and v (down) in units of the
object's half height, both of one shape, the base colour as three floats, and
the time in frames. It returns (distance, rgb). The distance is negative inside,
in the same units. rgb is (..., 3), display-encoded, and may exceed [0, 1].
"""

import math
from collections.abc import Sequence

import torch

LIGHT = (-0.45, -0.65)  # direction towards the light (right, down): upper left, as for the subjects of plates


def circle(
    u: torch.Tensor, v: torch.Tensor, x: torch.Tensor | float = 0.0, y: torch.Tensor | float = 0.0, r: float = 1.0
) -> torch.Tensor:
    return torch.hypot(u - x, v - y) - r


def ellipse(
    u: torch.Tensor,
    v: torch.Tensor,
    x: torch.Tensor | float,
    y: torch.Tensor | float,
    a: torch.Tensor | float,
    b: torch.Tensor | float,
) -> torch.Tensor:
    """Approximate distance to an ellipse: accurate near the edge, exact for a circle."""
    p = torch.hypot((u - x) / a, (v - y) / b)
    g = torch.hypot((u - x) / a**2, (v - y) / b**2).clamp_min(1e-6)
    return p * (p - 1) / g


def box(
    u: torch.Tensor,
    v: torch.Tensor,
    x: torch.Tensor | float,
    y: torch.Tensor | float,
    a: torch.Tensor | float,
    b: torch.Tensor | float,
) -> torch.Tensor:
    dx, dy = (u - x).abs() - a, (v - y).abs() - b
    return torch.hypot(dx.clamp_min(0), dy.clamp_min(0)) + torch.maximum(dx, dy).clamp_max(0)


def polygon(u: torch.Tensor, v: torch.Tensor, points: list[tuple[float, float]]) -> torch.Tensor:
    """Signed distance to a closed polygon; a point is inside by the even-odd rule."""
    distance = torch.full_like(u, 1e9)
    inside = torch.zeros_like(u, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(points, points[1:] + points[:1]):
        ex, ey = bx - ax, by - ay
        wx, wy = u - ax, v - ay
        t = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        distance = torch.minimum(distance, (wx - t * ex) ** 2 + (wy - t * ey) ** 2)
        if ay != by:
            inside ^= ((ay > v) != (by > v)) & (u < ex * (v - ay) / ey + ax)
    return torch.where(inside, -1.0, 1.0) * distance.sqrt()


def flat(u: torch.Tensor, color: Sequence[float]) -> torch.Tensor:
    return torch.stack([torch.full_like(u, c) for c in color], dim=-1)


def lit(u: torch.Tensor, v: torch.Tensor, color: Sequence[float], gloss: float = 0.35) -> torch.Tensor:
    """Shading of a sphere over the unit disc: Lambert plus a soft highlight of strength `gloss`."""
    nz = (1 - (u * u + v * v).clamp(max=0.98)).sqrt()
    lambert = (u * LIGHT[0] + v * LIGHT[1] + nz * 0.62).clamp(0, 1)
    highlight = torch.exp(-((u - LIGHT[0] * 0.8) ** 2 + (v - LIGHT[1] * 0.8) ** 2) / 0.045)
    body = flat(u, color) * (0.45 + 0.65 * lambert)[..., None]
    return body + gloss * highlight[..., None]


def slope(u: torch.Tensor, v: torch.Tensor, color: Sequence[float], depth: float = 0.3) -> torch.Tensor:
    """Shading of a flat body: a ramp of the colour along the light's direction."""
    ramp = 0.9 + depth * (u * LIGHT[0] + v * LIGHT[1]).clamp(-1, 1)
    return flat(u, color) * ramp[..., None]


def paint(under: torch.Tensor, over: torch.Tensor | float, distance: torch.Tensor, width: float = 0.04) -> torch.Tensor:
    """Blend `over` onto `under` where the distance is negative, antialiased over about `width`."""
    return under + (over - under) * (0.5 - distance / width).clamp(0, 1)[..., None]


def ball(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    return circle(u, v), lit(u, v, color)


def balloon(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    body = ellipse(u, v, 0, -0.3, 0.56, 0.7)
    knot = polygon(u, v, [(0.0, 0.36), (0.11, 0.5), (-0.11, 0.5)])
    sway = 0.07 * torch.sin(v * 6 + time * 0.25)
    string = box(u - sway * (v - 0.5).clamp(0, 1), v, 0, 0.75, 0.018, 0.25)
    rgb = lit(u / 0.58, (v + 0.3) / 0.72, color, gloss=0.5)
    rgb = paint(rgb, flat(u, (0.75, 0.75, 0.72)), string)
    return torch.minimum(torch.minimum(body, knot), string), rgb


def cube(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    k = 0.5
    hexagon = [(0, -1), (0.87, -k), (0.87, k), (0, 1), (-0.87, k), (-0.87, -k)]
    top = polygon(u, v, [(0, -1), (0.87, -k), (0, 0), (-0.87, -k)])
    right = polygon(u, v, [(0, 0), (0.87, -k), (0.87, k), (0, 1)])
    rgb = flat(u, [c * 0.85 for c in color])
    rgb = paint(rgb, flat(u, [min(1.0, c * 1.15 + 0.08) for c in color]), top)
    return polygon(u, v, hexagon), paint(rgb, flat(u, [c * 0.5 for c in color]), right)


def star(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    sector = 2 * math.pi / 5
    angle, radius = torch.atan2(u, -v), torch.hypot(u, v)
    off = torch.remainder(angle + sector / 2, sector) - sector / 2
    x, y = radius * off.abs().sin(), radius * off.cos()  # one tip, folded onto (0, 1)
    nx, ny = 0.42 * math.sin(sector / 2), 0.42 * math.cos(sector / 2)
    ex, ey = nx, ny - 1
    t = ((x * ex + (y - 1) * ey) / (ex * ex + ey * ey)).clamp(0, 1)
    distance = torch.hypot(x - t * ex, y - 1 - t * ey) * (x * ey - (y - 1) * ex).sign()
    facing = angle - off + off.sign() * 1.2  # ten facets around a raised centre
    light = 0.95 + 0.17 * (facing.sin() * LIGHT[0] - facing.cos() * LIGHT[1]) / 0.79
    return -distance, flat(u, color) * light[..., None]


def heart(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A square on its tip and two discs on its upper sides."""
    h = 0.64
    x, y, k = u.abs(), v - 0.095, h / math.sqrt(2)
    square = box((u + y) / math.sqrt(2), (u - y) / math.sqrt(2), 0, 0, h, h)
    return torch.minimum(square, circle(x, y, k, -k, h)), lit(u * 0.9, v * 0.9, color, gloss=0.3)


def ring(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    radius = torch.hypot(u, v)
    across = (radius - 0.72) / 0.28
    facing = (u * LIGHT[0] + v * LIGHT[1]) / radius.clamp_min(1e-3) * across
    shade = 0.65 + 0.3 * (1 - across**2).clamp_min(0).sqrt() + 0.25 * facing.clamp(-1, 1)
    return (radius - 0.72).abs() - 0.28, flat(u, color) * shade[..., None]


def kite(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    body = polygon(u, v, [(0, -1), (0.6, -0.3), (0, 0.5), (-0.6, -0.3)])
    wave = 0.12 * torch.sin(v * 9 - time * 0.4)
    tail = box(u - wave * (v - 0.5).clamp(0, 1) * 2, v, 0, 0.75, 0.05, 0.25)
    rgb = slope(u, v, color)
    rgb = paint(rgb, flat(u, [c * 0.6 for c in color]), (u * v.add(0.3)).sign() * 0.5)  # two opposite quarters darker
    rgb = paint(rgb, flat(u, (0.85, 0.8, 0.6)), tail)
    return torch.minimum(body, tail), rgb


def lantern(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    body = ellipse(u, v, 0, 0, 0.74, 0.78)
    caps = torch.minimum(box(u, v, 0, -0.82, 0.3, 0.1), box(u, v, 0, 0.82, 0.3, 0.1))
    glow = torch.exp(-(u * u + v * v) / 0.35)
    ribs = 0.9 + 0.1 * torch.cos(u / (1 - 0.7 * v * v).clamp_min(0.2).sqrt() * 14)
    rgb = flat(u, color) * (0.7 * ribs)[..., None] + glow[..., None] * flat(u, [0.35 * c + 0.12 for c in color])
    rgb = paint(rgb, flat(u, (0.25, 0.16, 0.08)), caps)
    return torch.minimum(body, caps), rgb


def mushroom(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    cap = torch.maximum(ellipse(u, v, 0, 0.1, 1.0, 1.0), v - 0.1)
    stem = box(u, v, 0, 0.5, 0.26, 0.5)
    rgb = paint(slope(u, v, (0.9, 0.86, 0.76), 0.4), lit(u, v - 0.1, color, 0.1), cap)
    spot = (0.95, 0.95, 0.92) if color[0] < 0.9 or color[1] < 0.9 else (0.7, 0.6, 0.5)
    for x, y, r in ((-0.45, -0.3, 0.15), (0.1, -0.6, 0.17), (0.5, -0.2, 0.13), (0.0, -0.12, 0.1)):
        rgb = paint(rgb, flat(u, spot), circle(u, v, x, y, r))
    return torch.minimum(cap, stem), rgb


def fish(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    wag = 0.12 * math.sin(time * 0.5) if not torch.is_tensor(time) else 0.12 * torch.sin(time * 0.5)
    body = ellipse(u, v, 0.2, 0, 0.85, 0.55)
    w = v - wag * (-u - 0.4).clamp_min(0)
    tail = polygon(u, w, [(-0.45, 0.0), (-1.15, -0.55), (-0.95, 0.0), (-1.15, 0.55)])
    fin = polygon(u, v, [(-0.2, -0.4), (0.45, -0.45), (0.0, -0.85)])
    rgb = lit((u - 0.2) / 0.9, v / 0.62, color, 0.2)
    rgb = paint(rgb, slope(u, v, [c * 0.75 for c in color]), torch.minimum(tail, fin))
    rgb = paint(rgb, flat(u, (0.97, 0.97, 0.97)), circle(u, v, 0.68, -0.12, 0.13))
    rgb = paint(rgb, flat(u, (0.03, 0.03, 0.03)), circle(u, v, 0.71, -0.12, 0.07))
    return torch.minimum(torch.minimum(body, tail), fin), rgb


def umbrella(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    dome = torch.maximum(circle(u, v, 0, 0.05, 1.0), v - 0.05 - 0.1 * torch.cos(u * 9.4))
    pole = box(u, v, 0, 0.45, 0.045, 0.5)
    hook = torch.maximum(circle(u, v, 0.14, 0.9, 0.14).abs() - 0.045, 0.9 - v)
    ribs = 0.82 + 0.18 * torch.cos(u / (1.02 - v.clamp(-1, 0) ** 2).clamp_min(0.05).sqrt() * 9.4)
    rgb = paint(flat(u, (0.3, 0.2, 0.12)), slope(u, v, color, 0.35) * ribs[..., None], dome)
    return torch.minimum(torch.minimum(dome, pole), hook), rgb


def butterfly(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    flap = 0.65 + 0.35 * (torch.cos(time * 0.55) if torch.is_tensor(time) else math.cos(time * 0.55))
    x = u.abs() / flap
    upper = ellipse(x * 0.75 + v * 0.66, v * 0.75 - x * 0.66, 0.06, -0.68, 0.42, 0.66)
    lower = ellipse(x * 0.8 - v * 0.6, v * 0.8 + x * 0.6, 0.04, 0.52, 0.36, 0.48)
    body = ellipse(u, v, 0, 0, 0.09, 0.55)
    wings = torch.minimum(upper, lower)
    rgb = slope(u, v, color, 0.2)
    rgb = paint(flat(u, [c * 0.35 for c in color]), rgb, wings + 0.09)
    rgb = paint(rgb, flat(u, (0.95, 0.93, 0.8)), circle(x, v, 0.62, -0.66, 0.09))
    return torch.minimum(wings, body), paint(rgb, flat(u, (0.08, 0.06, 0.05)), body)


def bird(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    flap = torch.sin(torch.as_tensor(time) * 0.5)
    body = ellipse(u, v + 0.12 * u, 0.05, 0.1, 0.72, 0.32)
    head = circle(u, v, 0.68, -0.14, 0.26)
    beak = polygon(u, v, [(0.88, -0.26), (1.25, -0.1), (0.88, -0.02)])
    tail = polygon(u, v, [(-0.5, 0.0), (-1.2, 0.02), (-1.1, 0.42), (-0.45, 0.3)])
    x = u + 0.12
    w = x.abs() * 0.15 + (v - 0.02) / (0.75 + 0.2 * flap)  # the wing is raised and flaps
    wing = polygon(x, w, [(0.34, 0.1), (-0.42, -1.25), (-0.62, -0.75), (-0.4, 0.1)])
    dark = [c * 0.62 for c in color]
    rgb = lit(u / 0.9, v * 1.3, color, 0.15)
    rgb = paint(rgb, slope(u, v, dark), torch.minimum(tail, wing))
    rgb = paint(rgb, flat(u, (0.95, 0.6, 0.1) if color[0] < 0.8 or color[1] > 0.7 else (0.25, 0.2, 0.15)), beak)
    rgb = paint(rgb, flat(u, (0.97, 0.97, 0.97)), circle(u, v, 0.76, -0.2, 0.1))
    rgb = paint(rgb, flat(u, (0.03, 0.03, 0.03)), circle(u, v, 0.78, -0.2, 0.055))
    return torch.stack(torch.broadcast_tensors(body, head, beak, tail, wing)).amin(0), rgb


def leaf(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    c, s = math.cos(0.6), math.sin(0.6)
    x, y = u * c + v * s, v * c - u * s  # rotated so that the leaf runs along y, stem down
    blade = torch.maximum(circle(x, y, 0.55, -0.12, 1.04), circle(x, y, -0.55, -0.12, 1.04))
    stem = box(x, y, 0, 0.9, 0.04, 0.22)
    veins = torch.minimum(x.abs() - 0.02, (torch.remainder(y + 0.75 * x.abs(), 0.3) - 0.15).abs() - 0.012)
    rgb = flat(u, color) * (0.92 - 0.16 * x.sign() * (x.abs() / 0.1).clamp(0, 1))[..., None]
    rgb = paint(rgb, flat(u, [c * 0.55 + 0.03 for c in color]), torch.maximum(veins, blade))
    return torch.minimum(blade, stem), paint(rgb, flat(u, (0.35, 0.25, 0.12)), torch.maximum(stem, -blade))


def paper_plane(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    far = polygon(u, v, [(1.25, -0.6), (-0.75, -0.85), (-0.3, -0.2)])
    near = polygon(u, v, [(1.25, -0.6), (-1.25, 0.1), (-0.3, 0.3)])
    keel = polygon(u, v, [(1.25, -0.6), (-0.3, -0.2), (-0.6, 0.85), (-0.1, 0.35)])
    rgb = flat(u, color)
    rgb = paint(rgb, flat(u, [c * 0.5 for c in color]), keel)
    rgb = paint(rgb, slope(u, v, [c * 0.78 for c in color], 0.2), far)
    rgb = paint(rgb, slope(u, v, [min(1.0, c * 1.05 + 0.05) for c in color], 0.2), near)
    return torch.minimum(torch.minimum(far, near), keel), rgb


def rocket(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    half = 0.36 * (1 - ((v + 0.1) / 0.92) ** 2).clamp_min(0).sqrt()
    body = torch.maximum(torch.maximum((u.abs() - half) * 0.9, v - 0.5), -1.02 - v)
    fins = polygon(u.abs(), v, [(0.2, 0.05), (0.62, 0.5), (0.6, 0.78), (0.2, 0.5)])
    flicker = 0.9 + 0.1 * torch.sin(torch.as_tensor(time) * 0.9)
    flame = ellipse(u, v, 0, 0.5, 0.2, 0.5 * flicker)
    across = u / 0.38
    rgb = (
        flat(u, color) * (1.02 - 0.35 * (across + 0.4).abs())[..., None]
        + 0.3 * torch.exp(-((across + 0.4) ** 2) / 0.02)[..., None]
    )
    rgb = paint(rgb, flat(u, [c * 0.55 for c in color]), v + 0.62)
    rgb = paint(rgb, flat(u, [c * 0.6 for c in color]), torch.maximum(fins, -body))
    rgb = paint(rgb, flat(u, (0.85, 0.87, 0.9)), circle(u, v, 0, -0.25, 0.2))
    rgb = paint(rgb, flat(u, (0.12, 0.25, 0.4)), circle(u, v, 0, -0.25, 0.13))
    fire = paint(flat(u, (0.98, 0.55, 0.1)), flat(u, (1.0, 0.92, 0.5)), ellipse(u, v, 0, 0.5, 0.1, 0.3))
    rgb = paint(rgb, fire, torch.maximum(flame, -torch.minimum(body, fins)))
    return torch.minimum(torch.minimum(body, fins), flame), rgb


def apple(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    x = u.abs()
    body = torch.minimum(ellipse(x, v, 0.36, 0.12, 0.6, 0.74), ellipse(u, v, 0, 0.42, 0.62, 0.58))
    stem = box(u - 0.15 * (v + 0.6), v, 0, -0.68, 0.05, 0.27)
    blade = torch.maximum(circle(u, v, 0.32, -0.42, 0.42), circle(u, v, 0.36, -1.06, 0.42))
    rgb = lit(u * 0.95, (v - 0.15) * 1.05, color, 0.5)
    rgb = rgb * (1 - 0.45 * torch.exp(-(u * u * 6 + (v + 0.52) ** 2 * 18)))[..., None]  # the hollow around the stem
    rgb = paint(rgb, flat(u, (0.30, 0.19, 0.09)), stem)
    rgb = paint(rgb, flat(u, (0.22, 0.55, 0.15) if color[1] < 0.6 or color[0] > 0.5 else (0.5, 0.4, 0.1)), blade)
    return torch.minimum(torch.minimum(body, stem), blade), rgb


def flower(
    u: torch.Tensor, v: torch.Tensor, color: Sequence[float], time: torch.Tensor | float
) -> tuple[torch.Tensor, torch.Tensor]:
    y, sector = v + 0.33, math.pi / 3
    radius, angle = torch.hypot(u, y), torch.atan2(u, -y)
    off = torch.remainder(angle + sector / 2, sector) - sector / 2
    petal = ellipse(radius * off.sin(), radius * off.cos(), 0, 0.4, 0.2, 0.27)
    stem = box(u - 0.08 * torch.sin(v * 3), v, 0, 0.5, 0.045, 0.5)
    blade = torch.maximum(circle(u, v, 0.12, 0.9, 0.42), circle(u, v, 0.42, 0.4, 0.42))
    green = torch.minimum(stem, blade)
    rgb = flat(u, color) * (0.72 + 0.42 * radius.clamp(0, 0.67) + 0.08 * y * LIGHT[1])[..., None]
    rgb = paint(flat(u, (0.2, 0.5, 0.15)), rgb, torch.minimum(petal, radius - 0.25))
    middle = (0.98, 0.8, 0.15) if color[2] > 0.15 or color[0] < 0.8 else (0.4, 0.22, 0.1)
    rgb = paint(rgb, lit(u / 0.25, y / 0.25, middle, 0.1), radius - 0.2)
    return torch.minimum(torch.minimum(petal, radius - 0.25), green), rgb


def finish(
    material: str | None, u: torch.Tensor, v: torch.Tensor, color: Sequence[float], rgb: torch.Tensor
) -> torch.Tensor:
    """Apply a material to a shape's own shading: rgb (..., 3) -> (..., 3)."""
    if material == "matte":
        return 0.4 * rgb + 0.6 * flat(u, color) * (0.88 - 0.12 * v)[..., None]
    if material == "glossy":  # reflections: a window, and the ground along the lower edge
        window = (torch.maximum((u + 0.3).abs() / 0.2, (v + 0.32 + 0.3 * u).abs() / 0.16) - 1) * 0.2
        rgb = (
            rgb * 0.95
            + 0.15 * torch.exp(-(((u * u + v * v).sqrt() - 0.85) ** 2) / 0.01)[..., None] * (v > 0)[..., None]
        )
        return paint(rgb, 0.15 * rgb + 0.85, window, 0.06)
    if material == "metallic":  # sky above, a dark horizon, bright ground
        wave = torch.cos((v + 0.3 * u * u) * 6.5 + 0.8)
        return rgb * (0.85 + 0.3 * wave)[..., None] + 0.45 * wave.clamp_min(0)[..., None] ** 4
    if material == "glowing":
        heart = torch.exp(-(u * u + v * v) / 0.3)[..., None]
        return flat(u, color) * 0.8 + 0.2 * rgb + (0.04 + 0.25 * heart) * (1 - flat(u, color))
    return rgb


SHAPES = {
    f.__name__.replace("_", " "): f
    for f in (
        *(ball, balloon, cube, star, heart, ring, kite, lantern, mushroom, fish, umbrella, butterfly),
        *(bird, leaf, paper_plane, rocket, apple, flower),
    )
}
