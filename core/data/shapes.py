"""Objects as signed distances with shading: the things that can be added.

Each function takes local coordinates u (right) and v (down) in units of the
object's half height, tensors of one shape, the base colour as three floats and
the time in frames, and returns (distance, rgb): negative distance inside, in
the same units; rgb (..., 3), display-encoded, before lighting is clipped.
"""

import math

import torch

LIGHT = (-0.45, -0.65)  # from the upper left, as the plates' subjects are lit


def circle(u, v, x=0.0, y=0.0, r=1.0):
    return torch.hypot(u - x, v - y) - r


def ellipse(u, v, x, y, a, b):
    """Close to the true distance near the edge; exact on a circle."""
    p = torch.hypot((u - x) / a, (v - y) / b)
    g = torch.hypot((u - x) / a**2, (v - y) / b**2).clamp_min(1e-6)
    return p * (p - 1) / g


def box(u, v, x, y, a, b):
    dx, dy = (u - x).abs() - a, (v - y).abs() - b
    return torch.hypot(dx.clamp_min(0), dy.clamp_min(0)) + torch.maximum(dx, dy).clamp_max(0)


def polygon(u, v, points):
    """Signed distance to a closed polygon (winding by crossing count)."""
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


def flat(u, color):
    return torch.stack([torch.full_like(u, c) for c in color], dim=-1)


def lit(u, v, color, gloss=0.35):
    """A round body: sphere normals within the unit disc, Lambert and a soft highlight."""
    nz = (1 - (u * u + v * v).clamp(max=0.98)).sqrt()
    lambert = (u * LIGHT[0] + v * LIGHT[1] + nz * 0.62).clamp(0, 1)
    highlight = torch.exp(-((u - LIGHT[0] * 0.8) ** 2 + (v - LIGHT[1] * 0.8) ** 2) / 0.045)
    body = flat(u, color) * (0.45 + 0.65 * lambert)[..., None]
    return body + gloss * highlight[..., None]


def slope(u, v, color, depth=0.3):
    """A flat body, lit along the light's direction."""
    ramp = 0.9 + depth * (u * LIGHT[0] + v * LIGHT[1]).clamp(-1, 1)
    return flat(u, color) * ramp[..., None]


def paint(under, over, distance, width=0.04):
    """over where distance is negative, antialiased over about width."""
    return under + (over - under) * (0.5 - distance / width).clamp(0, 1)[..., None]


def ball(u, v, color, time):
    return circle(u, v), lit(u, v, color)


def balloon(u, v, color, time):
    body = ellipse(u, v, 0, -0.3, 0.56, 0.7)
    knot = polygon(u, v, [(0.0, 0.36), (0.11, 0.5), (-0.11, 0.5)])
    sway = 0.07 * torch.sin(v * 6 + time * 0.25)
    string = box(u - sway * (v - 0.5).clamp(0, 1), v, 0, 0.75, 0.018, 0.25)
    rgb = lit(u / 0.58, (v + 0.3) / 0.72, color, gloss=0.5)
    rgb = paint(rgb, flat(u, (0.75, 0.75, 0.72)), string)
    return torch.minimum(torch.minimum(body, knot), string), rgb


def cube(u, v, color, time):
    k = 0.5
    hexagon = [(0, -1), (0.87, -k), (0.87, k), (0, 1), (-0.87, k), (-0.87, -k)]
    top = polygon(u, v, [(0, -1), (0.87, -k), (0, 0), (-0.87, -k)])
    right = polygon(u, v, [(0, 0), (0.87, -k), (0.87, k), (0, 1)])
    rgb = flat(u, [c * 0.85 for c in color])
    rgb = paint(rgb, flat(u, [min(1.0, c * 1.15 + 0.08) for c in color]), top)
    return polygon(u, v, hexagon), paint(rgb, flat(u, [c * 0.5 for c in color]), right)


def star(u, v, color, time):
    points = []
    for i in range(10):
        r, a = (1.0 if i % 2 == 0 else 0.42), math.pi * i / 5
        points.append((r * math.sin(a), -r * math.cos(a)))
    return polygon(u, v, points), slope(u, v, color, 0.35)


def heart(u, v, color, time):
    points = []
    for i in range(28):
        a = 2 * math.pi * i / 28
        x = 16 * math.sin(a) ** 3
        y = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        points.append((x / 17, -(y + 2.5) / 15))
    return polygon(u, v, points), lit(u, v, color, gloss=0.25)


def ring(u, v, color, time):
    radius = torch.hypot(u, v)
    across = (radius - 0.72) / 0.28
    facing = (u * LIGHT[0] + v * LIGHT[1]) / radius.clamp_min(1e-3) * across
    shade = 0.65 + 0.3 * (1 - across**2).clamp_min(0).sqrt() + 0.25 * facing.clamp(-1, 1)
    return (radius - 0.72).abs() - 0.28, flat(u, color) * shade[..., None]


def kite(u, v, color, time):
    body = polygon(u, v, [(0, -1), (0.6, -0.3), (0, 0.5), (-0.6, -0.3)])
    wave = 0.12 * torch.sin(v * 9 - time * 0.4)
    tail = box(u - wave * (v - 0.5).clamp(0, 1) * 2, v, 0, 0.75, 0.05, 0.25)
    rgb = slope(u, v, color)
    rgb = paint(rgb, flat(u, [c * 0.6 for c in color]), (u * v.add(0.3)).sign() * 0.5)  # two opposite quarters darker
    rgb = paint(rgb, flat(u, (0.85, 0.8, 0.6)), tail)
    return torch.minimum(body, tail), rgb


def lantern(u, v, color, time):
    body = ellipse(u, v, 0, 0, 0.74, 0.78)
    caps = torch.minimum(box(u, v, 0, -0.82, 0.3, 0.1), box(u, v, 0, 0.82, 0.3, 0.1))
    glow = torch.exp(-(u * u + v * v) / 0.35)
    ribs = 0.9 + 0.1 * torch.cos(u / (1 - 0.7 * v * v).clamp_min(0.2).sqrt() * 14)
    rgb = flat(u, color) * (0.7 * ribs)[..., None] + glow[..., None] * flat(u, [0.35 * c + 0.12 for c in color])
    rgb = paint(rgb, flat(u, (0.25, 0.16, 0.08)), caps)
    return torch.minimum(body, caps), rgb


def mushroom(u, v, color, time):
    cap = torch.maximum(ellipse(u, v, 0, 0.1, 1.0, 1.0), v - 0.1)
    stem = box(u, v, 0, 0.5, 0.26, 0.5)
    rgb = paint(slope(u, v, (0.9, 0.86, 0.76), 0.4), lit(u, v - 0.1, color, 0.1), cap)
    spot = (0.95, 0.95, 0.92) if color[0] < 0.9 or color[1] < 0.9 else (0.7, 0.6, 0.5)
    for x, y, r in ((-0.45, -0.3, 0.15), (0.1, -0.6, 0.17), (0.5, -0.2, 0.13), (0.0, -0.12, 0.1)):
        rgb = paint(rgb, flat(u, spot), circle(u, v, x, y, r))
    return torch.minimum(cap, stem), rgb


def fish(u, v, color, time):
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


def umbrella(u, v, color, time):
    dome = torch.maximum(circle(u, v, 0, 0.05, 1.0), v - 0.05 - 0.1 * torch.cos(u * 9.4))
    pole = box(u, v, 0, 0.45, 0.045, 0.5)
    hook = torch.maximum(circle(u, v, 0.14, 0.9, 0.14).abs() - 0.045, 0.9 - v)
    ribs = 0.82 + 0.18 * torch.cos(u / (1.02 - v.clamp(-1, 0) ** 2).clamp_min(0.05).sqrt() * 9.4)
    rgb = paint(flat(u, (0.3, 0.2, 0.12)), slope(u, v, color, 0.35) * ribs[..., None], dome)
    return torch.minimum(torch.minimum(dome, pole), hook), rgb


def butterfly(u, v, color, time):
    flap = 0.65 + 0.35 * (torch.cos(time * 0.55) if torch.is_tensor(time) else math.cos(time * 0.55))
    x = u.abs() / flap
    upper = ellipse(x * 0.86 + v * 0.5, v * 0.86 - x * 0.5, 0.28, -0.72, 0.52, 0.42)
    lower = ellipse(x, v, 0.42, 0.42, 0.38, 0.4)
    body = ellipse(u, v, 0, 0, 0.09, 0.55)
    wings = torch.minimum(upper, lower)
    rgb = slope(u, v, color, 0.2)
    rgb = paint(flat(u, [c * 0.35 for c in color]), rgb, wings + 0.1)
    rgb = paint(rgb, flat(u, (0.95, 0.93, 0.8)), circle(x, v, 0.55, -0.5, 0.1))
    return torch.minimum(wings, body), paint(rgb, flat(u, (0.08, 0.06, 0.05)), body)


SHAPES = {
    f.__name__: f
    for f in (ball, balloon, cube, star, heart, ring, kite, lantern, mushroom, fish, umbrella, butterfly)
}
