"""Edits of kinds that the data engine has not: recolours, light, veils, titles, retouch, replaced and removed parts.

Each is a straight colour and an alpha over a plate, display-encoded, as `LayeredClip` has them. The plates are real
pictures of core/data/engine/footage/train (its ATTRIBUTION.md has their licences) under a moving camera, with grain.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from vera.core.data.engine import plates
from vera.core.data.engine.footage import footage
from vera.core.data.engine.random_fields import noise, plane, smoothstep, view
from vera.core.lifting.smooth import blur, luma

WORDS = ("VERA", "Chapter One", "a year later", "NEWS 24", "The End", "Lisbon, 1974", "LIVE", "0:42", "Part II")
GRAIN = 0.012  # largest noise of a frame, as a share of the code range; raising it makes noisier training clips
MIN_ALPHA = 0.01  # alpha; thinner is nothing


@dataclass(frozen=True)
class Draw:
    """Where the chance of a clip comes from, and the plate (T, 3, H, W) that it edits."""

    rng: random.Random
    gen: torch.Generator
    plate: torch.Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, height, width."""
        t, _, h, w = self.plate.shape
        return t, h, w


Edit = tuple[torch.Tensor, torch.Tensor]  # straight colour (T, 3, H, W) and alpha (T, 1, H, W)


def real_plate(rng: random.Random, gen: torch.Generator, times: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """A real picture under a moving camera, in half of them with somebody in front, with grain, (T, 3, H, W)."""
    picture = footage(rng, times, round(height * 1.4), round(width * 1.4))
    video = view(picture, *plates.camera(rng, times), height, width)
    if rng.random() < 0.5:
        matte, color, _ = plates.subject(rng, gen, times, height, width)
        video = torch.lerp(video, color, matte)
    video = video * rng.uniform(0.6, 1.1) + rng.uniform(0, 0.08)
    grain = blur(torch.randn(video.shape, generator=gen), rng.choice((0.0, 0.5)))
    return (video + rng.uniform(0, GRAIN) * grain).clamp(0, 1)


def _color(draw: Draw) -> torch.Tensor:
    return torch.tensor([draw.rng.random() for _ in range(3)])[:, None, None]


def _blob(draw: Draw, softest: float = 8.0) -> torch.Tensor:
    """A moving shape of any outline, (T, 1, H, W), its edge one to `softest` pixels wide."""
    t, h, w = draw.size
    x, y = plane(h, w)
    soft = draw.rng.choice((0.7, 1.5, softest)) / h
    wide, tall = (draw.rng.uniform(0.08, 0.4) for _ in "xy")
    bumps = draw.rng.choice((0.0, 0.25, 0.6)) * noise(draw.gen, (h, w), draw.rng.choice((3, 6)), 3)
    cx, cy = draw.rng.uniform(-0.6, 0.6), draw.rng.uniform(-0.35, 0.35)
    vx, vy = (draw.rng.choice((0.0, draw.rng.uniform(-0.012, 0.012))) for _ in "xy")
    frames = []
    for k in range(t):
        u, v = (x - cx - vx * k) / wide, (y - cy - vy * k) / tall
        far = torch.hypot(u, v)
        frames.append(smoothstep(soft, -soft, (far - 1 + 0.3 * bumps) * min(wide, tall)))
    return torch.stack(frames)[:, None]


def nothing(draw: Draw) -> Edit:
    """Not edited."""
    return draw.plate, torch.zeros_like(draw.plate[:, :1])


def recolour(draw: Draw) -> Edit:
    """One thing's colour: pixels of about one colour within a shape get their channels mixed differently."""
    h, w = draw.size[1:]
    at = draw.plate[0, :, draw.rng.randrange(h), draw.rng.randrange(w)][:, None, None]
    chroma = (draw.plate - luma(draw.plate)) - (at - luma(at[None])[0])
    like = smoothstep(0.16, 0.06, blur(chroma, 1.0).norm(dim=1, keepdim=True))
    mixing = torch.eye(3)[torch.randperm(3, generator=draw.gen)] * (0.6 + 0.8 * torch.rand(3, 1, generator=draw.gen))
    color = torch.einsum("ij,tjhw->tihw", mixing, draw.plate).clamp(0, 1)
    return color, blur(like, 0.6) * _blob(draw, 2.0)


def light(draw: Draw) -> Edit:
    """A light or a cast of colour: the plate times something within a soft shape."""
    gain = 1 + (torch.rand(3, generator=draw.gen)[:, None, None] - 0.4) * draw.rng.uniform(0.3, 1.5)
    return (draw.plate * gain).clamp(0, 1), _blob(draw, 25.0)


def retouch(draw: Draw) -> Edit:
    """Skin made smooth, make-up: little contrast, soft edges."""
    shift = (torch.rand(3, generator=draw.gen)[:, None, None] - 0.5) * draw.rng.uniform(0.06, 0.25)
    smooth = torch.lerp(draw.plate, blur(draw.plate, 2.0), draw.rng.random())
    return (smooth + shift).clamp(0, 1), _blob(draw, 15.0)


def veil(draw: Draw) -> Edit:
    """Smoke or fog: noise that drifts, of one colour."""
    t, h, w = draw.size
    base, wind = noise(draw.gen, (h * 2, w * 2), draw.rng.choice((3, 6)), 4), draw.rng.uniform(-3, 3)
    x, y = plane(h, w)
    dense = draw.rng.uniform(0.2, 0.9)
    around = torch.exp(
        -(((x - draw.rng.uniform(-0.5, 0.5)) / 0.5) ** 2 + ((y - draw.rng.uniform(-0.3, 0.3)) / 0.3) ** 2)
    )
    shape = around if draw.rng.random() < 0.6 else smoothstep(0.3, -0.2, y + draw.rng.uniform(-0.2, 0.2))
    cloud = torch.stack([base.roll(round(wind * k), 1)[:h, :w] for k in range(t)])[:, None]
    alpha = (0.35 + 0.45 * cloud).clamp(0, 1) * shape * dense
    return _color(draw).expand_as(draw.plate), alpha * (alpha > MIN_ALPHA)


def particles(draw: Draw) -> Edit:
    """Flakes and drops of one to three pixels that fall; thin ones half see-through."""
    t, h, w = draw.size
    count, step = draw.rng.choice((30, 120, 400)), draw.rng.uniform(1, 6)
    points = torch.rand(count, 2, generator=draw.gen)
    dense = 0.3 + 0.7 * torch.rand(count, generator=draw.gen)
    frames = []
    for k in range(t):
        rows = ((points[:, 0] * h + step * k) % h).long()
        columns = ((points[:, 1] * w + 0.3 * step * k) % w).long()
        frames.append(torch.zeros(h, w).index_put((rows, columns), dense))
    sigma = draw.rng.uniform(0.6, 1.4)
    alpha = (blur(torch.stack(frames)[:, None], sigma) * 2 * torch.pi * sigma**2).clamp(0, 1)
    return torch.full_like(draw.plate, draw.rng.uniform(0.8, 1.0)), alpha * (alpha > MIN_ALPHA)


def title(draw: Draw) -> Edit:
    """Words, on a translucent bar or with a soft shadow or both; they stand still."""
    t, h, w = draw.size
    size = draw.rng.randint(h // 12, h // 5)
    sheet = Image.new("L", (w, h))
    at = draw.rng.randint(0, w // 2), draw.rng.randint(h // 3, h - size - 4)
    font = ImageFont.load_default(size)
    pen = ImageDraw.Draw(sheet)
    pen.text(at, draw.rng.choice(WORDS), 255, font)
    letters = torch.from_numpy(np.asarray(sheet, np.float32) / 255)[None, None]
    bar = torch.zeros_like(letters)
    if draw.rng.random() < 0.7:
        top, bottom = max(0, at[1] - size // 3), min(h, at[1] + round(1.5 * size))
        left, right = draw.rng.choice(((0, w), (max(0, at[0] - size // 2), min(w, at[0] + 4 * size))))
        bar[..., top:bottom, left:right] = draw.rng.uniform(0.12, 0.75)
    if draw.rng.random() < 0.4:
        bar = torch.maximum(bar, 0.6 * blur(letters, 2.0).roll((1, 1), (2, 3)))
    alpha = letters + (1 - letters) * bar
    below = torch.zeros(3, 1, 1) if draw.rng.random() < 0.6 else _color(draw)
    ink = torch.ones(3, 1, 1) if draw.rng.random() < 0.6 else _color(draw)
    color = (letters * ink + (1 - letters) * bar * below) / alpha.clamp_min(1e-4)
    return color.expand_as(draw.plate), (alpha * (alpha > MIN_ALPHA)).expand(t, -1, -1, -1)


def replaced(draw: Draw) -> Edit:
    """A new sky or wall: all above a line, or all of about one brightness there, flat or of another picture."""
    t, h, w = draw.size
    x, y = plane(h, w)
    line = draw.rng.uniform(-0.3, 0.2) + 0.05 * noise(draw.gen, (h, w), 3, 4)
    alpha = smoothstep(0.01, -0.01, y - line).expand(t, 1, -1, -1)
    if draw.rng.random() < 0.5:
        level = luma(draw.plate)
        alpha = alpha * blur(smoothstep(0.05, 0.15, level - level.median() * draw.rng.uniform(0.7, 1.1)), 0.6)
    if draw.rng.random() < 0.5:
        ramp = ((y - y.min()) / (line - y.min()).clamp_min(0.05)).clamp(0, 1)
        color = torch.lerp(_color(draw).expand(3, h, w), _color(draw).expand(3, h, w), ramp)
        color = color + 0.06 * draw.rng.random() * noise(draw.gen, (h, w), 3, 4)
        return color.clamp(0, 1).expand_as(draw.plate), alpha
    return _other_picture(draw), alpha


def pasted(draw: Draw) -> Edit:
    """A thing of another picture."""
    return _other_picture(draw), _blob(draw, 2.0)


def removed(draw: Draw) -> Edit:
    """A part of the plate painted over by what lies beside it."""
    t, h, w = draw.size
    far = draw.rng.choice((-1, 1)) * draw.rng.randint(w // 10, w // 4)
    return blur(draw.plate.roll((draw.rng.randint(-4, 4), far), (2, 3)), draw.rng.choice((0.0, 0.8))), _blob(draw, 2.0)


def _other_picture(draw: Draw) -> torch.Tensor:
    t, h, w = draw.size
    return footage(draw.rng, torch.arange(t), h, w).expand_as(draw.plate) * draw.rng.uniform(0.5, 1.0)


# Each kind's share of the clips of this module.
KINDS: dict[Callable[[Draw], Edit], float] = {
    nothing: 2.0,
    recolour: 1.5,
    light: 1.0,
    retouch: 1.0,
    veil: 2.0,
    particles: 2.0,
    title: 2.0,
    replaced: 1.5,
    pasted: 1.5,
    removed: 1.0,
}


def draw_edit(rng: random.Random, gen: torch.Generator, plate: torch.Tensor) -> tuple[str, Edit]:
    """A kind's name, and an edit of it over the plate (T, 3, H, W)."""
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    return kind.__name__, kind(Draw(rng, gen, plate))
