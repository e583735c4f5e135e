"""Backgrounds that replace what is behind a subject, (T, 3, H, W), display-encoded."""

import random

import torch

from vera.core.data.engine.random_fields import mix, noise, plane, smoothstep, tiling, view


def sunset(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    sun_x, horizon = rng.uniform(-0.5, 0.5), rng.uniform(0.1, 0.3)
    up = ((horizon - y) / (horizon + 0.5)).clamp(0, 1)
    sky = mix((0.98, 0.62, 0.22), (0.32, 0.18, 0.42), up**0.8)
    glow = torch.exp(-((x - sun_x) ** 2 + (y - horizon + 0.08) ** 2) / 0.05)
    sky = sky + glow * torch.tensor([0.3, 0.25, 0.1])[:, None, None]
    hills = smoothstep(0, 0.02, y - horizon - 0.04 * noise(gen, x.shape, 2, 3))
    return mix(sky, torch.tensor([0.16, 0.08, 0.12])[:, None, None], hills)[None].expand(len(t), -1, -1, -1)


def night(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    sky = mix((0.01, 0.02, 0.09), (0.06, 0.09, 0.24), (y + 0.5).clamp(0, 1))
    stars = (torch.rand(x.shape, generator=gen) > 0.985) * torch.rand(x.shape, generator=gen)
    milky = torch.exp(-((y - 0.4 * x + rng.uniform(-0.2, 0.2)) ** 2) / 0.02) * (0.5 + 0.3 * noise(gen, x.shape, 3, 4))
    land = smoothstep(0, 0.02, y - rng.uniform(0.3, 0.42) - 0.05 * noise(gen, x.shape, 2, 4))
    sky = sky + 0.9 * stars + 0.12 * milky.clamp_min(0) * torch.tensor([0.8, 0.8, 1.0])[:, None, None]
    return mix(sky, torch.tensor([0.01, 0.01, 0.02])[:, None, None], land)[None].expand(len(t), -1, -1, -1)


def sea(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    horizon = rng.uniform(-0.15, 0.1)
    sky = mix((0.75, 0.86, 0.95), (0.35, 0.6, 0.88), ((horizon - y) / 0.5).clamp(0, 1))
    depth = (y - horizon).clamp_min(0.004)
    phase = t[:, None, None] * rng.uniform(0.1, 0.2)
    waves = torch.sin(5 / depth + 3 * x / depth.sqrt() + phase) + torch.sin(9 / depth - 7 * x - 1.3 * phase)
    calm = smoothstep(0.01, 0.2, depth)
    water = (
        mix((0.45, 0.68, 0.78), (0.05, 0.28, 0.42), (depth * 2.2).clamp(0, 1))[None] + 0.05 * (calm * waves)[:, None]
    )
    return mix(sky[None], water, smoothstep(-0.004, 0.004, y - horizon))


def desert(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    horizon = rng.uniform(-0.1, 0.1)
    sky = mix((0.93, 0.88, 0.76), (0.45, 0.66, 0.9), ((horizon - y) / 0.5).clamp(0, 1))
    picture = sky
    for i, shade in enumerate((0.95, 0.85, 0.72)):
        crest = horizon + 0.13 * i + 0.09 * torch.sin(x * rng.uniform(2, 4) + rng.uniform(0, 6))
        sand = mix((0.93, 0.75, 0.46), (0.70, 0.47, 0.24), ((y - crest) * 2.5).clamp(0, 1)) * shade
        picture = mix(picture, sand, smoothstep(-0.004, 0.004, y - crest))
    return picture[None].expand(len(t), -1, -1, -1)


def mountains(
    rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor
) -> torch.Tensor:
    """Two ranges, the farther one paler; snow cover increases with height."""
    picture = mix((0.84, 0.89, 0.94), (0.30, 0.50, 0.80), (0.2 - y).clamp(0, 0.7) / 0.7)
    for i, haze in enumerate((0.35, 0.0)):
        peaks = 1 - noise(gen, x.shape, 2, 6, 0.42).abs()  # sharp where noise crosses zero
        ridge = 0.12 + 0.18 * i - 0.24 * peaks[x.shape[0] // 2]
        below = y - ridge
        rough = noise(gen, x.shape, 4, 6, 0.7)
        lit = (0.55 + 0.9 * (rough - rough.roll((2, 3), (0, 1)))).clamp(0, 1)  # light from the upper left
        snow = smoothstep(0.2, 0.08, below + 0.07 * rough)
        face = mix(
            mix((0.16, 0.18, 0.22), (0.40, 0.40, 0.42), lit), mix((0.60, 0.68, 0.82), (0.98, 0.98, 0.99), lit), snow
        )
        picture = mix(
            picture, mix(face, (0.66, 0.75, 0.87), torch.full_like(x, haze)), smoothstep(-0.004, 0.004, below)
        )
    return picture[None].expand(len(t), -1, -1, -1)


def studio(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    grey = rng.uniform(0.3, 0.7)
    spot = torch.exp(-(x**2 + (y - rng.uniform(-0.2, 0.1)) ** 2) / rng.uniform(0.25, 0.6))
    level = grey * (0.45 + 0.65 * spot)
    return level.clamp(0, 1)[None, None].expand(len(t), 3, -1, -1)


def forest(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Trunks under leaves; the mist thins towards the viewer."""
    green = rng.uniform(-0.04, 0.04)
    sun = torch.exp(-((x - rng.uniform(-0.4, 0.4)) ** 2 + (y + 0.25) ** 2) / 0.12)
    picture = mix((0.52, 0.62 + green, 0.5), (0.8, 0.85, 0.66), (sun + 0.2 * noise(gen, x.shape, 3, 4)).clamp(0, 1))
    bark = noise(gen, (x.shape[0], x.shape[1] * 3), 3, 5, 0.7)[:, ::3]
    for near, shade in ((0.0, (0.42, 0.52, 0.40)), (0.5, (0.24, 0.31, 0.21)), (1.0, (0.12, 0.12, 0.08))):
        ground = 0.16 + 0.14 * near + 0.02 * noise(gen, x.shape, 3, 4)
        tone = torch.tensor(shade)[:, None, None]
        moss = tone * torch.tensor([0.95, 1.15, 0.65])[:, None, None] * (1 + 0.2 * noise(gen, x.shape, 14, 3, 0.8))
        picture = mix(picture, moss.clamp(0, 1), smoothstep(-0.015, 0.02, y - ground))
        for _ in range(7 - round(4 * near)):
            foot, lean, wide = (
                rng.uniform(-1, 1),
                rng.uniform(-0.08, 0.08),
                (0.014 + 0.04 * near) * rng.uniform(0.7, 1.3),
            )
            across = (x - foot - lean * y) / (wide * (1 + 0.5 * (y + 0.5) ** 2))
            trunk = smoothstep(1.15, 0.85, across.abs()) * (y < ground + 0.02)
            picture = mix(picture, (tone * (1.05 - 0.35 * across + 0.12 * bark)).clamp(0, 1), trunk)
        leaves = smoothstep(0.1, 0.35, noise(gen, x.shape, 5, 4, 0.75) - 3.2 * (y + 0.36 + 0.04 * near))
        picture = mix(
            picture,
            (tone * torch.tensor([0.9, 1.15, 0.62])[:, None, None] * (1 + 0.2 * bark.clamp(-2, 2))).clamp(0, 1),
            leaves,
        )
    return picture[None].expand(len(t), -1, -1, -1)


def city(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Three rows of towers with lit windows under a glowing sky."""
    line = rng.uniform(0.2, 0.3)
    picture = mix((0.36, 0.22, 0.30), (0.03, 0.04, 0.12), ((line - y) / 0.6).clamp(0, 1) ** 0.7)
    for near in (0.0, 0.5, 1.0):
        wide = 0.10 + 0.08 * near
        lots = (x + rng.uniform(2, 3)) / wide
        lot = lots.floor().long()
        inside = (lots - lots.floor() - 0.5).abs()
        tall = torch.rand(64, generator=gen)[lot % 64]
        roof = line + 0.1 * near - (0.08 + (0.34 - 0.1 * near) * tall)
        tower = smoothstep(0.5, 0.47, inside) * smoothstep(-0.004, 0.004, y - roof)
        wall = mix((0.13, 0.11, 0.19), (0.03, 0.03, 0.06), torch.full_like(x, near)) * (0.8 + 0.4 * tall)
        pitch = 0.014 + 0.01 * near
        col, row = ((p / pitch).floor().long() for p in (x + 3, y + 1))
        lamp = torch.rand(4096, generator=gen)[(col * 131 + row * 17 + lot * 29) % 4096]
        pane = ((x + 3) / pitch % 1 - 0.5).abs().lt(0.28) & ((y + 1) / pitch % 1 - 0.5).abs().lt(0.3)
        lit = (lamp - 0.55).clamp_min(0) * 2.2 * pane * (inside < 0.42) * (y - roof > pitch)
        glass = mix((0.95, 0.72, 0.36), (0.75, 0.85, 0.95), (lamp * 37 % 1 > 0.75).float())
        picture = mix(picture, mix(wall, glass, lit.clamp(0, 1)), tower)
    street = torch.exp(-(((y - line - 0.2) / 0.1) ** 2)) * (0.6 + 0.4 * noise(gen, x.shape, 6, 3).clamp(-1, 1))
    picture = picture + 0.35 * street * torch.tensor([0.9, 0.6, 0.3])[:, None, None]
    return picture[None].expand(len(t), -1, -1, -1)


def bricks(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    high = rng.uniform(0.07, 0.1)
    rows = (y + 1) / high
    row = rows.floor()
    cols = (x + 3) / (high * 2.4) + 0.5 * (row % 2)
    col = cols.floor()
    edge = torch.minimum((0.5 - (rows - row - 0.5).abs()) * high, (0.5 - (cols - col - 0.5).abs()) * high * 2.4)
    rough = noise(gen, x.shape, 8, 4, 0.8)
    tone = torch.rand(997, generator=gen)[(row * 31 + col * 17).long() % 997]
    clay = mix((0.48, 0.20, 0.14), (0.72, 0.38, 0.28), tone) * (1 + 0.13 * rough) * (0.92 + edge.clamp(0, 0.02) * 6)
    picture = mix((0.62, 0.58, 0.54), clay.clamp(0, 1), smoothstep(0.003, 0.009, edge + 0.002 * rough))
    light = 1.05 - 0.25 * ((x - rng.uniform(-0.5, 0.5)) ** 2 + (y + 0.2) ** 2) + 0.06 * noise(gen, x.shape, 2, 2)
    return (picture * light)[None].expand(len(t), -1, -1, -1)


def storm(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Dark clouds moving over a rough sea."""
    horizon = rng.uniform(-0.02, 0.12)
    height, width = x.shape
    cover = tiling(noise(gen, (height, width * 2), 2, 5, 0.6), 1)[None]
    way = torch.stack([t * rng.choice((-1, 1)) * 0.002, torch.zeros_like(t)], -1)
    cloud = view(cover, way, torch.ones_like(t), height, width, wrap=True)
    up = ((horizon - y) / 0.6).clamp(0, 1)
    sky = mix((0.50, 0.53, 0.55), (0.14, 0.16, 0.20), up**0.6)[None] * (1 + 0.3 * cloud * (0.3 + up))
    depth = (y - horizon).clamp_min(0.004)
    phase = t[:, None, None] * 0.12
    rough = 0.6 * noise(gen, x.shape, 3, 4)
    swell = torch.sin(3.2 / depth + 2 * x / depth.sqrt() + rough + phase) + torch.sin(
        6 / depth - 5 * x + 2 * rough - 1.3 * phase
    )
    crest = smoothstep(1.1, 1.9, swell + 0.3 * rough) * smoothstep(0.01, 0.15, depth)
    sea = mix((0.36, 0.41, 0.43), (0.06, 0.12, 0.15), (depth * 2.5).clamp(0, 1))[None]
    sea = sea + (0.05 * swell * smoothstep(0.01, 0.2, depth) + 0.45 * crest)[:, None]
    return mix(sky, sea, smoothstep(-0.006, 0.006, y - horizon - 0.008 * rough))


def meadow(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    line = rng.uniform(-0.08, 0.1)
    picture = _cloudy(gen, x, y, line + 0.05)
    far = line - 0.05 + 0.05 * noise(gen, x.shape, 2, 3)
    wood = mix((0.25, 0.40, 0.30), (0.14, 0.26, 0.14), (0.5 + 0.4 * noise(gen, x.shape, 16, 3, 0.8)).clamp(0, 1))
    picture = mix(picture, wood, smoothstep(-0.006, 0.006, y - far))
    near = ((y - line) / 0.5).clamp(0, 1)
    blades = noise(gen, (x.shape[0], x.shape[1] * 2), 12, 4, 0.85)[:, ::2] * (0.3 + near)
    grass = mix((0.62, 0.68, 0.34), (0.24, 0.38, 0.12), near**0.6) * (
        1 + 0.16 * blades + 0.1 * noise(gen, x.shape, 2, 3)
    )
    bloom = (torch.rand(x.shape, generator=gen) > 0.992) * near
    grass = mix(grass.clamp(0, 1), (0.98, 0.92, 0.75), bloom.clamp(0, 0.9))
    picture = mix(picture, grass, smoothstep(-0.01, 0.01, y - line - 0.015 * noise(gen, x.shape, 2, 3)))
    return picture[None].expand(len(t), -1, -1, -1)


def clouds(rng: random.Random, gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    big = _cloudy(gen, *plane(x.shape[0], round(x.shape[1] * 1.2)), horizon=0.6)
    way = torch.stack([(t - 24) * rng.choice((-1, 1)) * 0.0015, torch.zeros_like(t)], -1)
    return view(big, way, torch.ones_like(t), *x.shape)


def _cloudy(gen: torch.Generator, x: torch.Tensor, y: torch.Tensor, horizon: float) -> torch.Tensor:
    """A blue sky with heaped clouds, lit from above."""
    up = ((horizon - y) / (horizon + 0.5)).clamp(0, 1)
    body = noise(gen, x.shape, 3, 6, 0.55) - 0.3 + 0.5 * (0.5 - up)
    lower = torch.roll(body, max(1, x.shape[0] // 24), 0)  # the body one step up shades this one
    white = mix((0.72, 0.76, 0.83), (1.0, 1.0, 1.0), (0.75 + 0.5 * (body - lower)).clamp(0, 1))
    return mix(mix((0.72, 0.84, 0.95), (0.18, 0.42, 0.80), up), white, smoothstep(-0.05, 0.75, body))


SCENES = {
    f.__name__: f for f in (sunset, night, sea, desert, mountains, studio, forest, city, bricks, storm, meadow, clouds)
}


def background(
    name: str, rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int
) -> torch.Tensor:
    """The named scene at the given frames, (T, 3, H, W) in [0, 1]."""
    x, y = plane(height, width)
    return SCENES[name](rng, gen, x, y, times).clamp(0, 1)
