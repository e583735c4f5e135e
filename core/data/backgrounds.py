"""Backgrounds that can be put behind a kept subject, (T, 3, H, W), display-encoded."""

import torch

from core.data.fields import mix, noise, plane, smoothstep


def sunset(rng, gen, x, y, t):
    sun_x, horizon = rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.3)
    up = ((horizon - y) / (horizon + 0.5)).clamp(0, 1)
    sky = mix((0.98, 0.62, 0.22), (0.32, 0.18, 0.42), up**0.8)
    glow = torch.exp(-((x - sun_x) ** 2 + (y - horizon + 0.08) ** 2) / 0.05)
    sky = sky + glow * torch.tensor([0.3, 0.25, 0.1])[:, None, None]
    hills = smoothstep(0, 0.02, y - horizon - 0.04 * noise(gen, *x.shape, 2, 3))
    return mix(sky, torch.tensor([0.16, 0.08, 0.12])[:, None, None], hills)[None].expand(len(t), -1, -1, -1)


def night(rng, gen, x, y, t):
    sky = mix((0.01, 0.02, 0.09), (0.06, 0.09, 0.24), (y + 0.5).clamp(0, 1))
    stars = (torch.rand(x.shape, generator=gen) > 0.985) * torch.rand(x.shape, generator=gen)
    milky = torch.exp(-((y - 0.4 * x + rng.uniform(-0.2, 0.2)) ** 2) / 0.02) * (0.5 + 0.3 * noise(gen, *x.shape, 3, 4))
    land = smoothstep(0, 0.02, y - rng.uniform(0.3, 0.42) - 0.05 * noise(gen, *x.shape, 2, 4))
    sky = sky + 0.9 * stars + 0.12 * milky.clamp_min(0) * torch.tensor([0.8, 0.8, 1.0])[:, None, None]
    return mix(sky, torch.tensor([0.01, 0.01, 0.02])[:, None, None], land)[None].expand(len(t), -1, -1, -1)


def sea(rng, gen, x, y, t):
    horizon = rng.uniform(-0.15, 0.1)
    sky = mix((0.75, 0.86, 0.95), (0.35, 0.6, 0.88), ((horizon - y) / 0.5).clamp(0, 1))
    depth = (y - horizon).clamp_min(0.004)
    phase = t[:, None, None] * rng.uniform(0.1, 0.2)
    waves = torch.sin(5 / depth + 3 * x / depth.sqrt() + phase) + torch.sin(9 / depth - 7 * x - 1.3 * phase)
    calm = smoothstep(0.01, 0.2, depth)
    water = mix((0.45, 0.68, 0.78), (0.05, 0.28, 0.42), (depth * 2.2).clamp(0, 1))[None] + 0.05 * (calm * waves)[:, None]
    return mix(sky[None], water, smoothstep(-0.004, 0.004, y - horizon))


def desert(rng, gen, x, y, t):
    horizon = rng.uniform(-0.1, 0.1)
    sky = mix((0.93, 0.88, 0.76), (0.45, 0.66, 0.9), ((horizon - y) / 0.5).clamp(0, 1))
    picture = sky
    for i, shade in enumerate((0.95, 0.85, 0.72)):
        crest = horizon + 0.13 * i + 0.09 * torch.sin(x * rng.uniform(2, 4) + rng.uniform(0, 6))
        sand = mix((0.93, 0.75, 0.46), (0.70, 0.47, 0.24), ((y - crest) * 2.5).clamp(0, 1)) * shade
        picture = mix(picture, sand, smoothstep(-0.004, 0.004, y - crest))
    return picture[None].expand(len(t), -1, -1, -1)


def mountains(rng, gen, x, y, t):
    picture = mix((0.82, 0.88, 0.94), (0.36, 0.56, 0.82), (0.2 - y).clamp(0, 0.7) / 0.7)
    for i in range(2):
        ridge = 0.05 + 0.22 * i + 0.12 * noise(gen, *x.shape, 3, 4, 0.5)[0]
        below = y - ridge
        snow = smoothstep(0.16, 0.02, below + 0.05 * noise(gen, *x.shape, 5, 3))
        face = 0.75 + 0.2 * noise(gen, *x.shape, 5, 4).clamp(-1, 1)
        rock = mix((0.28, 0.32, 0.38), (0.95, 0.96, 0.98), snow) * face
        picture = mix(picture, rock, smoothstep(-0.006, 0.006, below))
    return picture[None].expand(len(t), -1, -1, -1)


def studio(rng, gen, x, y, t):
    grey = rng.uniform(0.3, 0.7)
    spot = torch.exp(-(x**2 + (y - rng.uniform(-0.2, 0.1)) ** 2) / rng.uniform(0.25, 0.6))
    level = grey * (0.45 + 0.65 * spot)
    return level.clamp(0, 1)[None, None].expand(len(t), 3, -1, -1)


SCENES = {f.__name__: f for f in (sunset, night, sea, desert, mountains, studio)}


def background(name, rng, gen, times, height, width):
    """The named scene at the given frames, (T, 3, H, W) in [0, 1]."""
    x, y = plane(height, width)
    return SCENES[name](rng, gen, x, y, times).clamp(0, 1)
