"""Translucent effects: straight colour (T, 3, H, W) and alpha (T, 1, H, W)."""

import math
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F

from vera.core.data.engine.random_fields import extend_color, noise, plane, smoothstep, tiling, view
from vera.core.model.mini import words

AMOUNTS = {"light": 0.6, "medium": 1.0, "heavy": 1.5}  # strength factor of each word; more is denser


def _flakes(
    gen: torch.Generator, height: int, width: int, count: int, spread: float, stretch: float = 1
) -> torch.Tensor:
    """A seamlessly repeating tile of soft dots (1, height, width)."""
    tile = torch.zeros(height * width)
    at = torch.randint(height * width, (count,), generator=gen)
    tile[at] = 0.6 + 0.4 * torch.rand(count, generator=gen)
    tile = tile.reshape(1, 1, height, width)
    for size, dim in ((spread * stretch, 2), (spread, 3)):
        radius = max(1, round(size * 2))
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / max(size, 0.3)) ** 2)
        kernel = kernel / kernel.max()
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        pad = (0, 0, radius, radius) if dim == 2 else (radius, radius, 0, 0)
        tile = F.conv2d(F.pad(tile, pad, mode="circular"), kernel.reshape(shape))
    return tile[0].clamp(0, 1)


def _scroll(tile: torch.Tensor, times: torch.Tensor, dx: float, dy: float, height: int, width: int) -> torch.Tensor:
    offsets = torch.stack([-dx * times, -dy * times], dim=-1)
    return view(tile, offsets, torch.ones(len(times)), height, width, wrap=True)


def snow(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    clear = torch.full((len(times), 1, height, width), 1 - 0.075 * strength**0.5)  # distant flakes: a uniform veil
    for near in (0.6, 1.0):
        tile = _flakes(gen, height, width, round(strength * 26 / near), 0.02 * near * height)
        drift = rng.uniform(-0.004, 0.004)
        clear = clear * (1 - 0.9 * _scroll(tile, times, drift, 0.009 * near, height, width))
    return torch.ones(len(times), 3, height, width) * 0.96, 1 - clear


def rain(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    clear = torch.ones(len(times), 1, height, width)
    slant = rng.uniform(-0.006, 0.006)
    for near in (0.6, 1.0):
        tile = _flakes(gen, height, width, round(strength * 28 / near), 0.007 * height, stretch=16)
        clear = clear * (1 - 0.6 * _scroll(tile, times, slant, 0.055 * near, height, width))
    veil = 0.08 * strength
    return torch.full((len(times), 3, height, width), 0.78), 1 - clear * (1 - veil)


def fog(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    _, y = plane(height, width)
    low = tiling(noise(gen, (height, width * 2), 2, 4, 0.5), 1)[None]
    drift = _scroll(low, times, rng.choice((-1, 1)) * rng.uniform(0.002, 0.006), 0.0, height, width)
    level = 0.38 * strength + 0.25 * y * rng.uniform(0, 1) + 0.14 * drift
    return torch.full((len(times), 3, height, width), rng.uniform(0.75, 0.9)), level.clamp(0.02, 0.85)


def smoke(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = plane(height, width)
    foot = rng.uniform(-0.15, 0.15)
    rise = (0.5 - y).clamp_min(0.01)
    lean = rng.uniform(-0.2, 0.2)
    across = (x - foot - lean * rise**1.5) / (0.09 + 0.3 * rise)
    puffs = _scroll(tiling(noise(gen, (height, width), 4, 5, 0.65), 0)[None], times, 0.0, -0.012, height, width)
    curl = _scroll(tiling(noise(gen, (height, width), 3, 3), 0)[None], times, 0.0, -0.008, height, width)
    body = smoothstep(1.3, 0.1, (across + 0.35 * curl).abs()) * smoothstep(1.05, 0.5, rise)
    alpha = (0.65 * strength**0.7 * body * (1 + 0.4 * puffs)).clamp(0, 0.9)
    shade = (0.6 + 0.1 * puffs + 0.1 * rng.random()).clamp(0, 1)
    return shade.expand(-1, 3, -1, -1), alpha


def fire(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flames along the ground with embers; the flames are hottest and most opaque at the bottom."""
    x, y = plane(height, width)
    wide, tall = 0.42 * width / height, 0.5 + 0.12 * strength
    rise = (0.5 - y) / tall
    coarse, fine = (noise(gen, (height, width * 2), cells, 3)[:, ::2] for cells in (2, 5))  # taller than wide
    coarse = _scroll(tiling(coarse, 0)[None], times, 0.0, -0.016, height, width)
    fine = _scroll(tiling(fine, 0)[None], times, 0.0, -0.026, height, width)
    tongues = (0.26 * coarse + 0.12 * fine) * (0.4 + rise)
    heat = 1.05 - rise - 0.8 * ((x - rng.uniform(-0.08, 0.08)) / wide).abs() ** 3 + tongues
    alpha = 0.92 * smoothstep(0.05, 0.75, heat)
    heat = heat.clamp(0, 1.3)
    color = torch.cat([0.55 + 1.1 * heat, 1.05 * heat**1.3 - 0.05, 0.75 * (heat - 0.55)], dim=1).clamp(0, 1)

    count = round(28 * strength * width / height)
    t = times[:, None]
    start, rate, sway = torch.rand(3, count, generator=gen) * torch.tensor([[1.0], [0.01], [6.3]])
    ex = (torch.rand(count, generator=gen) - 0.5) * 1.6 * wide + 0.05 * torch.sin(t * 0.15 + sway)
    ey = 0.6 - 1.2 * torch.remainder(start + (0.006 + rate) * t, 1)
    dim = (0.35 + ey.add(0.5)).clamp(0.15, 1)[..., None, None]

    def spot(dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        return dim * torch.exp(-(dx * dx + dy * dy) / 0.0003)

    ember, glow = _splat(
        torch.stack([ex, ey], -1), 0.04, spot, torch.tensor([1.0, 0.62, 0.15]).expand(count, 3), height, width
    )
    return _over(ember, glow, color, alpha)


def confetti(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    count = round(48 * strength * width / height)
    t = times[:, None]
    px, py, pace, turn, sway, size = torch.rand(6, count, generator=gen)
    x = (px - 0.5) * 1.1 * width / height + 0.03 * torch.sin(t * 0.12 + 6.3 * sway)
    y = torch.remainder(py + (0.006 + 0.005 * pace) * t, 1) * 1.1 - 0.55
    angle = (6.3 * turn + (turn - 0.5) * 0.15 * t)[..., None, None]
    facing = (0.35 + 0.65 * torch.cos(6.3 * pace + 0.2 * t).abs())[..., None, None]
    size = 0.8 + 0.5 * size[:, None, None]

    def piece(dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        u, v = dx * angle.cos() + dy * angle.sin(), (dy * angle.cos() - dx * angle.sin()) / facing
        inside = torch.minimum(0.034 * size - u.abs(), (0.024 * size - v.abs()) * facing)
        return (0.5 + inside * height).clamp(0, 1)

    palette = torch.tensor([c for n, c in words.COLORS.items() if n not in ("black", "white")])
    colors = palette[torch.randint(len(palette), (count,), generator=gen)]
    return _splat(torch.stack([x, y], -1), 0.058, piece, colors * (0.75 + 0.25 * facing[..., 0]), height, width)


def bubbles(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    count = round(20 * strength**0.8 * width / height)
    t = times[:, None]
    px, py, pace, sway, size = torch.rand(5, count, generator=gen)
    radius = (0.05 + 0.075 * size**2)[:, None, None]
    x = (px - 0.5) * 1.1 * width / height + 0.025 * torch.sin(t * 0.1 + 6.3 * sway)
    y = 0.6 - 1.2 * torch.remainder(py + (0.003 + 0.004 * pace) * t, 1)

    def film(dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        u, v = dx / radius, dy / radius
        r = torch.hypot(u, v)
        rim = 0.6 * torch.exp(-(((r - 0.88) / 0.18) ** 2))
        spot = 0.8 * torch.exp(-((u + 0.4) ** 2 + (v + 0.45) ** 2) / 0.03)
        return (0.16 + rim + spot).clamp(0, 0.9) * (0.5 + (1 - r) * radius * height).clamp(0, 1)

    colors = 0.78 + 0.22 * torch.rand(count, 3, generator=gen)
    return _splat(torch.stack([x, y], -1), 0.128, film, colors, height, width)


def sparks(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """A fountain of glowing streaks, as from a grinding wheel, with a glow around its source."""
    foot = torch.tensor([rng.uniform(-0.1, 0.1), 0.28])
    count = round(64 * strength)
    heading, speed, start, life = torch.rand(4, count, generator=gen)
    age = torch.remainder(start + times[:, None] / (34 + 20 * life), 1)
    angle = (heading - 0.5) * 2.4
    velocity = torch.stack([angle.sin(), -angle.cos()], -1) * (0.35 + 0.65 * speed)[:, None]
    at = foot + velocity * age[..., None]
    at[..., 1] += 0.45 * age**2
    way = velocity + torch.stack([torch.zeros_like(age), 0.9 * age], -1)
    way = (way / way.norm(dim=-1, keepdim=True))[..., None, None]

    def streak(dx: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
        along, across = dx * way[..., 0, :, :] + dy * way[..., 1, :, :], dx * way[..., 1, :, :] - dy * way[..., 0, :, :]
        return (1 - age[..., None, None] ** 2) * torch.exp(-((along / 0.042) ** 2) - (across / 0.013) ** 2)

    hue = torch.lerp(torch.tensor([1.0, 0.93, 0.6]), torch.tensor([1.0, 0.5, 0.1]), age[..., None])
    color, alpha = _splat(at, 0.075, streak, hue, height, width)
    x, y = plane(height, width)
    flicker = (0.55 + 0.05 * torch.sin(times * 0.8))[:, None, None, None] * strength**0.5
    glow = flicker * torch.exp(-((x - foot[0]) ** 2 + (y - foot[1]) ** 2) / 0.075)
    return _over(color, alpha, torch.tensor([1.0, 0.72, 0.3])[:, None, None], glow)


def light_rays(
    rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int, strength: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slowly moving shafts of light that fan out from beyond the upper left corner."""
    x, y = plane(height, width)
    from_x = -0.5 * width / height * rng.uniform(0.95, 1.05)
    dx, dy = x - from_x, y + 0.75
    angle, far = torch.atan2(dx, dy), torch.hypot(dx, dy)
    shafts = torch.zeros(len(times), height, width)
    for waves in (7, 11, 17):
        phase = waves + rng.uniform(-0.4, 0.4) + times[:, None, None] * rng.uniform(-0.015, 0.015)
        shafts += torch.sin(angle * waves + phase) / math.sqrt(waves / 7)
    alpha = 0.7 * strength**0.7 * smoothstep(-1.2, 2.2, shafts) * smoothstep(2.1, 0.2, far)
    warm = torch.tensor([1.0, 0.94, 0.78])[None, :, None, None]
    return warm.expand(len(times), 3, height, width), alpha.clamp(0, 0.8)[:, None]


def _over(
    color: torch.Tensor, alpha: torch.Tensor, below: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight colour and alpha of one layer over another; the lower layer's colour where both alphas are 0."""
    share = share * (1 - alpha)
    weight = share + 0.02  # the bias keeps a nearly transparent upper layer from tinting the result
    return (color * alpha + below * weight) / (alpha + weight), alpha + share


def _splat(
    at: torch.Tensor,
    radius: float,
    draw: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    colors: torch.Tensor,
    height: int,
    width: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw particles at (T, N, 2), x and y in frame heights from the frame's centre -> straight colour and alpha.

    draw(dx, dy) returns each particle's alpha at offsets (T, N, P, P) from its centre; beyond radius it must be 0.
    colors: ([T,] N, 3). Where particles overlap, the largest alpha is kept.
    """
    reach = math.ceil(radius * height)
    offset = torch.arange(-reach, reach + 1)
    col = (at[..., 0] * height + width / 2).floor().long()[..., None, None] + offset
    row = (at[..., 1] * height + height / 2).floor().long()[..., None, None] + offset[:, None]
    dx = (col + 0.5 - width / 2) / height - at[..., 0, None, None]
    dy = (row + 0.5 - height / 2) / height - at[..., 1, None, None]
    a = draw(dx, dy) * ((col >= 0) & (col < width) & (row >= 0) & (row < height))
    index = (row.clamp(0, height - 1) * width + col.clamp(0, width - 1)).flatten(1)
    frames, count = at.shape[:2]
    blank = torch.zeros(frames, height * width)
    alpha = blank.scatter_reduce(1, index, a.flatten(1), "amax")
    colors = colors.expand(frames, count, 3)[..., None, None]
    sums = [blank.scatter_add(1, index, (a * colors[:, :, i]).flatten(1)) for i in range(3)]
    weight = blank.scatter_add(1, index, a.flatten(1)).clamp_min(1e-6)
    alpha = alpha.view(frames, 1, height, width)
    return extend_color(torch.stack(sums, 1).div(weight[:, None]).view(frames, 3, height, width) * alpha, alpha), alpha


EFFECTS = {
    f.__name__.replace("_", " "): f for f in (snow, rain, fog, smoke, fire, confetti, bubbles, sparks, light_rays)
}


def effect(
    name: str, amount: str, rng: random.Random, gen: torch.Generator, times: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Straight colour and alpha of the named effect at the given frames. amount: a key of AMOUNTS. size: (height,
    width)."""
    return EFFECTS[name](rng, gen, times, *size, AMOUNTS[amount])
