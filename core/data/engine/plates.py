"""Procedural plates: scenery seen by still and moving cameras, and the subjects in front of it."""

import math
import random

import torch

from vera.core.data.engine import shapes
from vera.core.data.engine.footage import footage
from vera.core.data.engine.random_fields import mix, noise, plane, smoothstep, turn, view


def color(rng: random.Random, low: float = 0.05, high: float = 0.95) -> tuple[float, ...]:
    return tuple(rng.uniform(low, high) for _ in range(3))


def natural(rng: random.Random) -> tuple[float, ...]:
    """A random colour of moderate saturation, as scenery has."""
    grey, spread = rng.uniform(0.1, 0.85), rng.uniform(0.02, 0.25)
    return tuple(min(1.0, max(0.0, grey + rng.uniform(-spread, spread))) for _ in range(3))


def scenery(rng: random.Random, gen: torch.Generator, height: int, width: int) -> torch.Tensor:
    """One still picture (3, height, width), display-encoded: sky and ground, a wall, or many overlapping leaves."""
    x, y = plane(height, width)
    rough = noise(gen, (height, width), rng.choice((2, 3, 4)), 5, rng.uniform(0.4, 0.75))
    picture = mix(natural(rng), natural(rng), (0.5 + 0.35 * rough).clamp(0, 1))
    if rng.random() < 0.6:
        picture = _horizon(rng, gen, picture, x, y)
    for _ in range(rng.choice((0, 3, 8, 20))):
        picture = _leaf(rng, picture, x, y)
    grain = torch.randn(height, width, generator=gen) * rng.choice((0.0, 0.01, 0.03))
    light = 1 + rng.uniform(-0.25, 0.25) * x + rng.uniform(-0.25, 0.25) * y
    return (picture * light + grain).clamp(0, 1)


def _horizon(
    rng: random.Random, gen: torch.Generator, picture: torch.Tensor, x: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    height, width = x.shape
    line = rng.uniform(-0.2, 0.3) + 0.05 * rng.random() * noise(gen, (height, width), 2, 3)
    ground = smoothstep(-0.01, 0.01, y - line)
    blades = noise(gen, (height, width), rng.choice((6, 10)), 3, 0.8)
    floor = mix(natural(rng), natural(rng), (0.5 + 0.3 * blades + 0.6 * (y - 0.2)).clamp(0, 1))
    return picture + (floor - picture) * ground


def _leaf(rng: random.Random, picture: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """An occluding patch. Its distribution of sizes (dead leaves model) gives pictures natural statistics."""
    cx, cy, size = rng.uniform(-1.3, 1.3), rng.uniform(-0.7, 0.7), 0.04 + 0.3 * rng.random() ** 2
    c, s = turn(rng.uniform(0, math.pi))
    u, v = ((x - cx) * c + (y - cy) * s) / size, ((y - cy) * c - (x - cx) * s) / size
    if rng.random() < 0.5:
        d = shapes.ellipse(u, v, 0, 0, 1.0, rng.uniform(0.4, 1))
    else:
        d = shapes.box(u, v, 0, 0, 1.0, rng.uniform(0.2, 1))
    ramp = (0.5 + 0.3 * u + 0.3 * v).clamp(0, 1)
    return picture + (mix(natural(rng), natural(rng), ramp) - picture) * smoothstep(0.03, -0.03, d * size)


def camera(rng: random.Random, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets (T, 2) and zoom (T,) at the given frames: still, pan, zoom or hand-held."""
    t = times / 48.0
    offsets, zoom = camera_at_rest(times)
    move = rng.random()
    if move > 0.85:
        for axis in (0, 1):
            for speed in (3.0, 7.0):
                offsets[:, axis] += 0.012 * torch.sin(speed * t + rng.uniform(0, 6.3)) * rng.random()
    elif move > 0.65:
        offsets[:, 0] = rng.uniform(-0.25, 0.25) * (t - 0.5)
        offsets[:, 1] = rng.uniform(-0.08, 0.08) * (t - 0.5)
    elif move > 0.55:
        zoom = 1 + rng.uniform(-0.15, 0.15) * (t - 0.5)
    return offsets, zoom


def camera_at_rest(times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(len(times), 2), torch.ones(len(times))


def plate(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, held_out: bool = False
) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Frames (T, 3, H, W) and their camera (offsets, zoom); the scenery is larger than the frame.

    One plate in five is real footage. Held-out plates: two in five, from footage that training never uses.
    """
    cam = camera(rng, times)
    tall, wide = round(height * 1.4), round(width * 1.4)
    if rng.random() >= (0.4 if held_out else 0.2):
        return view(scenery(rng, gen, tall, wide), *cam, height, width), cam
    big = footage(rng, times, tall, wide, held_out)
    if big.ndim == 4:  # a film already has camera motion
        return big[:, :, tall - height :, wide - width :], camera_at_rest(times)
    if (big[0] - big[2]).abs().max() < 0.02:  # a grey texture: colourise it
        low, high = natural(rng), natural(rng)
        big = mix(low, high, big[0])
    return view(big, *cam, height, width), cam


def place_of_subject(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(-0.45, 0.45), rng.uniform(-0.02, 0.2)


def subject(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor, tuple[float, float]]:
    """A figure in the foreground: soft matte (T, 1, H, W), colour (T, 3, H, W), and its position (x, y) at mid-clip."""
    x, y = (p[None] for p in plane(height, width))
    t = times[:, None, None]
    scale = rng.uniform(0.22, 0.36)
    middle = place_of_subject(rng)
    cx = middle[0] + rng.uniform(-0.15, 0.15) * (t / 48 - 0.5)
    sway = rng.uniform(0, 0.35) * torch.sin(t * rng.uniform(0.1, 0.3) + rng.uniform(0, 6))
    u = (x - cx) / scale
    v = (y - middle[1]) / scale
    u = u - sway * (0.9 - v) * 0.3
    parts = [
        shapes.ellipse(u, v, 0, -1.0, 0.3, 0.36),
        shapes.ellipse(u, v, 0, 0.1, rng.uniform(0.38, 0.75), 0.85),
        _limb(u, v, (0.3, -0.4), (1.0, -0.4 + 0.5 * sway * 3), 0.13),
        _limb(u, v, (-0.3, -0.4), (-1.0, -0.4 - 0.5 * sway * 3), 0.13),
        _limb(u, v, (0.2, 0.6), (0.3 + 0.2 * sway, 2.0), 0.17),
        _limb(u, v, (-0.2, 0.6), (-0.3 + 0.2 * sway, 2.0), 0.17),
    ]
    if rng.random() < 0.3:
        parts += [shapes.ellipse(u, v, 0.16, -1.5, 0.09, 0.35), shapes.ellipse(u, v, -0.16, -1.5, 0.09, 0.35)]
    body = torch.stack([p.expand(len(times), height, width) for p in parts]).amin(0)
    soft = rng.uniform(0.5, 1.5) / height / scale
    matte = smoothstep(soft, -soft, body)[:, None]
    skin, cloth = natural(rng), color(rng)
    texture = noise(gen, (height, width), 4, 4)[None]
    shade = (0.85 - 0.25 * u + 0.12 * texture).clamp(0.2, 1.3)
    head = smoothstep(-0.55, -0.65, v).expand_as(matte[:, 0])
    rgb = mix(cloth, skin, head).transpose(0, 1) * shade[:, None]
    return matte, rgb.clamp(0, 1), middle


def _limb(
    u: torch.Tensor,
    v: torch.Tensor,
    start: tuple[torch.Tensor | float, torch.Tensor | float],
    end: tuple[torch.Tensor | float, torch.Tensor | float],
    radius: float,
) -> torch.Tensor:
    """Distance to a capsule between two ends (x, y); an end given as tensors moves in time."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    t = (((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
    return torch.hypot(u - x0 - t * dx, v - y0 - t * dy) - radius
