"""Translucent effects: straight colour (T, 3, H, W) and alpha (T, 1, H, W)."""

import torch
import torch.nn.functional as F

from core.data.fields import noise, plane, smoothstep, view

AMOUNTS = {"light": 0.6, "medium": 1.0, "heavy": 1.5}


def _flakes(gen, height, width, count, spread, stretch=1):
    """A tile of soft dots (1, height, width) that repeats seamlessly."""
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


def _scroll(tile, times, dx, dy, height, width):
    offsets = torch.stack([-dx * times, -dy * times], dim=-1)
    return view(tile, offsets, torch.ones(len(times)), height, width, wrap=True)


def snow(rng, gen, times, height, width, strength):
    clear = torch.ones(len(times), 1, height, width)
    for near in (0.45, 0.7, 1.0):
        count = round(strength * 26 / near)
        tile = _flakes(gen, height, width, count, 0.009 * near * height)
        drift = rng.uniform(-0.004, 0.004)
        clear = clear * (1 - 0.85 * _scroll(tile, times, drift, 0.014 * near, height, width))
    return torch.ones(len(times), 3, height, width) * 0.96, 1 - clear


def rain(rng, gen, times, height, width, strength):
    clear = torch.ones(len(times), 1, height, width)
    slant = rng.uniform(-0.006, 0.006)
    for near in (0.6, 1.0):
        tile = _flakes(gen, height, width, round(strength * 45 / near), 0.004 * height, stretch=9)
        clear = clear * (1 - 0.55 * _scroll(tile, times, slant, 0.075 * near, height, width))
    veil = 0.08 * strength
    return torch.full((len(times), 3, height, width), 0.78), 1 - clear * (1 - veil)


def fog(rng, gen, times, height, width, strength):
    _, y = plane(height, width)
    low = noise(gen, height, width * 2, 2, 4, 0.5)[None]
    drift = _scroll(low, times, rng.choice((-1, 1)) * rng.uniform(0.002, 0.006), 0.0, height, width)
    level = 0.38 * strength + 0.25 * y * rng.uniform(0, 1) + 0.14 * drift
    return torch.full((len(times), 3, height, width), rng.uniform(0.75, 0.9)), level.clamp(0.02, 0.85)


def smoke(rng, gen, times, height, width, strength):
    x, y = plane(height, width)
    foot = rng.uniform(-0.5, 0.5)
    rise = (0.5 - y).clamp_min(0.01)
    lean = rng.uniform(-0.3, 0.3)
    across = (x - foot - lean * rise**1.5) / (0.06 + 0.22 * rise)
    puffs = _scroll(noise(gen, height, width, 4, 5, 0.65)[None], times, 0.0, -0.012, height, width)
    curl = _scroll(noise(gen, height, width, 3, 3)[None], times, 0.0, -0.008, height, width)
    body = smoothstep(1.3, 0.1, (across + 0.35 * curl).abs()) * smoothstep(0.95, 0.45, rise)
    alpha = (strength * 0.55 * body * (1 + 0.45 * puffs)).clamp(0, 0.9)
    shade = (0.42 + 0.1 * puffs + 0.1 * rng.random()).clamp(0, 1)
    return shade.expand(-1, 3, -1, -1), alpha


EFFECTS = {f.__name__: f for f in (snow, rain, fog, smoke)}


def effect(name, amount, rng, gen, times, height, width):
    """The named effect at the given frames; amount is one of AMOUNTS."""
    return EFFECTS[name](rng, gen, times, height, width, AMOUNTS[amount])
