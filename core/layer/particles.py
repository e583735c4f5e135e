"""Snow, rain, confetti, bubbles and sparks as particles with shapes and speeds, drawn at the plate's size.

The prompt names the effect. The diffusion model's smoothed alpha gives its position, density and occlusion. The seed
gives the position of each particle at any time. Nothing here is learned. Lengths are in picture heights, times in
frames of the shot, velocities per frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.plate_light import Scene, display_codes
from vera.core.model.interfaces import ShotEffect, SurfacePoints
from vera.kernels.planes import smoothstep

SHUTTER = 0.5  # open time as a share of a frame; raising it lengthens streaks
DENSITY_REACH = 6  # radius in model pixels of the two box filters over the model's alpha that measure density
# Half sizes from its centre within which a particle is drawn; lowering it cuts the uneven rims of flakes.
PARTICLE_REACH = 1.25
# Groups of particles of similar size per octave of size. Raising it draws fewer empty pixels, in more calls.
SIZES_PER_OCTAVE = 2
PIXELS_AT_ONCE = 400_000  # pixels of particles drawn in one call; raising it takes more memory and is hardly faster
LEAST_PIXELS = 0.55  # smallest drawn width of a particle in plate pixels; a narrower one is drawn fainter instead
LEAST_MEAN = 0.01  # mean of the model's alpha below which the model drew no effect
MAX_AMOUNT = 1.5  # largest factor, up or down, on the number of particles that the words ask for
# Local density as a share of the usual one: below the first no particle is drawn, above the second all are.
PRESENCE_RANGE = (0.05, 0.3)
GRAVITY = 0.9e-3  # acceleration of sparks, in picture heights per frame squared; raising it makes them fall faster
PALETTE = (  # colours of confetti, RGB, display-encoded
    (0.93, 0.16, 0.18), (0.98, 0.62, 0.10), (0.98, 0.86, 0.15), (0.20, 0.72, 0.28),
    (0.12, 0.70, 0.86), (0.16, 0.30, 0.90), (0.60, 0.22, 0.80), (0.98, 0.48, 0.72),
)  # fmt: skip


@dataclass(frozen=True)
class Swarm:
    """N particles at one time: centre (picture heights from the picture's centre), direction, half sizes along and
    across it, opacity, colour (N, 3) in the model's codes, and further inputs of `draw`.
    """

    at: np.ndarray  # (N, 2)
    angle: np.ndarray
    half: np.ndarray  # (N, 2)
    opacity: np.ndarray
    color: np.ndarray
    draw: Callable[..., tuple[Tensor, Tensor | None]]
    odd: np.ndarray  # (N,) in [0, 1): a random number that varies the shape
    mixed: bool = True  # whether particles differ in colour, so that their order matters


@dataclass(frozen=True)
class Weather:
    """How an effect is drawn.

    swarms: gives its particles for (noise, time, look), far ones first
    veil: share of the model's smoothed alpha that remains below the particles
    usual: mean of the model's alpha for the plain word, at which the number of particles is the intended one
    """

    swarms: Callable[..., list[Swarm]]
    veil: float
    usual: float


@dataclass(frozen=True)
class Look:
    """The inputs of a swarm: the scene, the amount of particles (1 is the usual number), and the centroid (x, y) of the
    model's alpha in picture heights."""

    scene: Scene
    amount: float
    middle: tuple[float, float]

    def lit(self, code: float) -> np.ndarray:
        """The colour, in the plate's light, of a white surface with this display code."""
        facing, ones = torch.tensor([[0.0, -0.4]]), torch.ones(1)
        points = SurfacePoints(-ones, torch.full((1, 3), code), facing, 0 * ones, ones, 0 * ones, ones)
        return display_codes(self.scene.light.shade(points, 0.5, 0.0, 0.0), self.scene.clips)[0].numpy()


# ---- Shapes of n particles: along, across (n, h, w) in half sizes, a random number (n, 1, 1) and half sizes in pixels
# (n, 1, 1, 2) of each -> alpha (n, h, w), colour (n, h, w, 3) or None


def flake(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, None]:
    """A clump of snow: a soft, uneven disc."""
    angle = torch.atan2(across, along)
    rim = 0.84 + 0.1 * torch.sin(3 * angle + 40 * odd) + 0.08 * torch.sin(5 * angle + 90 * odd)
    return smoothstep(rim - torch.hypot(along, across), -0.18, 0.42), None


def bokeh(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, None]:
    """A particle out of focus: an even disc."""
    return smoothstep(0.9 - torch.hypot(along, across), -0.1, 0.3), None


def streak(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, None]:
    """A falling drop, motion-blurred over the open shutter."""
    return smoothstep(1 - along.abs(), 0.0, 0.6) * torch.exp(-2.2 * across**2), None


def piece(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, None]:
    """A piece of paper, its edges averaged over a pixel."""
    covered = [(0.5 + (1 - x.abs()) * half[..., k]).clamp(0, 1) for k, x in enumerate((along, across))]
    return covered[0] * covered[1], None


def film(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """A soap bubble, almost transparent: a thin bright rim in interference colours and two reflections of windows."""
    radius = torch.hypot(along, across)
    pixel = 0.6 / half[..., 1]  # the rim is at least a pixel wide
    width = pixel.clamp_min(0.045)
    inside = smoothstep(1 - radius, 0.0, 0.035)
    rim = torch.exp(-(((radius - 1 + width) / width) ** 2)) + 0.5 * torch.exp(-(((radius - 0.84) / 0.13) ** 2))
    window = torch.exp(-((along + 0.42) ** 2 + (across + 0.5) ** 2) / 0.03 - ((along + across) ** 2) / 0.12)
    below = torch.exp(-((along - 0.45) ** 2 + (across - 0.52) ** 2) / 0.04)
    alpha = (0.15 + 0.8 * rim + 0.95 * window + 0.4 * below).clamp(0, 0.95) * inside
    phase = 5.5 * radius**2 + 1.4 * torch.atan2(across, along) + 6.3 * odd
    hues = torch.stack([0.5 + 0.5 * torch.cos(phase + k * 2.1) for k in range(3)], -1)
    white = (window + 0.6 * below).clamp(0, 1)[..., None]
    return alpha, 0.62 + 0.38 * hues + (0.38 - 0.38 * hues) * white


def spark(along: Tensor, across: Tensor, odd: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """A glowing grain with a trail, brightest at its head, and a faint glow."""
    head = smoothstep(along, -1.0, 0.75) * smoothstep(1 - along, 0.0, 0.12)
    core = head * torch.exp(-((across / 0.16) ** 2))
    about = 0.3 * head * torch.exp(-((across / 0.55) ** 2))
    hot = torch.stack([torch.ones_like(core), 0.55 + 0.43 * core, 0.12 + 0.75 * core**2], -1)
    return (core + about).clamp(0, 1), hot


# ---- Effects


def _snow(noise: np.random.Generator, time: float, look: Look) -> list[Swarm]:
    made = []
    for count, size, speed, opacity, draw in (
        (380, 0.0032, 0.0030, 0.85, flake), (200, 0.0060, 0.0048, 0.95, flake), (72, 0.0110, 0.0075, 0.95, flake),
        (9, 0.0260, 0.0115, 0.45, bokeh),
    ):  # fmt: skip
        n = round(count * look.amount * look.scene.aspect)
        x, y, odd, pace, sway, big = noise.random((6, n))
        size = size * (0.7 + 0.6 * big)
        fall = speed * (0.8 + 0.4 * pace)
        drift = 0.25 * speed * math.sin(4 * odd[0] if n else 0)
        across = (x * 1.1 + drift * time / look.scene.aspect) % 1.1 - 0.55
        at = np.stack(
            [across * look.scene.aspect + 0.012 * np.sin(0.11 * time + 6.3 * sway), (y + fall * time) % 1.08 - 0.54], 1
        )
        half = np.stack([size + fall * SHUTTER / 2, size], 1)
        white = np.broadcast_to(look.lit(0.97), (n, 3))
        made.append(Swarm(at, np.full(n, math.pi / 2), half, np.full(n, opacity), white, draw, odd, mixed=False))
    return made


def _rain(noise: np.random.Generator, time: float, look: Look) -> list[Swarm]:
    made = []
    slant = (noise.random() - 0.5) * 0.24
    for count, width, speed, opacity in (
        (340, 0.0021, 0.045, 0.72),
        (220, 0.0036, 0.060, 0.85),
        (60, 0.0075, 0.080, 0.7),
    ):
        n = round(count * look.amount * look.scene.aspect)
        x, y, odd, pace, faint, _ = noise.random((6, n))
        fall = speed * (0.85 + 0.3 * pace)
        way = (x * 1.2 - 0.6) * look.scene.aspect
        down = (y + fall * time) % 1.2 - 0.6
        at = np.stack([way + slant * down, down], 1)
        half = np.stack([fall * 0.75, np.full(n, width)], 1)
        color = np.broadcast_to(0.25 + 0.75 * look.lit(0.9), (n, 3))
        made.append(
            Swarm(
                at,
                np.full(n, math.atan2(1, slant)),
                half,
                opacity * (0.6 + 0.6 * faint),
                color,
                streak,
                odd,
                mixed=False,
            )
        )
    return made


def _confetti(noise: np.random.Generator, time: float, look: Look) -> list[Swarm]:
    made = []
    for count, size, speed in ((56, 0.0140, 0.0055), (64, 0.0230, 0.0075), (24, 0.0375, 0.0105)):
        n = round(count * look.amount * look.scene.aspect)
        x, y, odd, pace, sway, turn = noise.random((6, n))
        fall = speed * (0.75 + 0.5 * pace)
        at = np.stack(
            [
                (x * 1.1 - 0.55) * look.scene.aspect + 0.03 * np.sin(0.12 * time + 6.3 * sway),
                (y + fall * time) % 1.12 - 0.56,
            ],
            1,
        )
        facing = np.cos(6.3 * pace + (0.16 + 0.14 * turn) * time)
        half = np.stack([size * np.ones(n), size * 0.68 * np.abs(facing).clip(0.06)], 1)
        color = np.array(PALETTE)[(odd * len(PALETTE)).astype(int)]
        made.append(
            Swarm(
                at,
                6.3 * turn + (turn - 0.5) * 0.2 * time,
                half,
                np.full(n, 0.97),
                _paper(color, facing, look),
                piece,
                odd,
            )
        )
    return made


def _paper(color: np.ndarray, facing: np.ndarray, look: Look) -> np.ndarray:
    """Colours (N, 3) of paper in the plate's light. facing: cosine of its tilt, -1 to 1."""
    down = torch.from_numpy(0.8 * np.sqrt(1 - np.minimum(facing**2, 1)) * np.sign(facing)).float()
    zeros, ones = torch.zeros(len(down)), torch.ones(len(down))
    points = SurfacePoints(
        -ones, torch.from_numpy(color).float(), torch.stack([0.3 * torch.sign(down), down], -1), zeros + 0.3, ones,
        zeros, ones,
    )  # fmt: skip
    return display_codes(look.scene.light.shade(points, 0.5, 0.0, 0.0), look.scene.clips).numpy()


def _bubbles(noise: np.random.Generator, time: float, look: Look) -> list[Swarm]:
    n = round(40 * look.amount * look.scene.aspect)
    x, y, odd, pace, sway, size = noise.random((6, n))
    radius = 0.022 + 0.095 * size**2
    rise = (0.003 + 0.004 * pace) * (1.2 - 4 * radius)
    at = np.stack(
        [(x * 1.1 - 0.55) * look.scene.aspect + 0.025 * np.sin(0.1 * time + 6.3 * sway), 0.6 - (y + rise * time) % 1.2],
        1,
    )
    breath = 1 + 0.03 * np.sin(0.5 * time + 40 * odd)
    half = np.stack([radius * breath, radius / breath], 1)
    color = np.broadcast_to(0.35 + 0.65 * look.lit(0.97), (n, 3))
    return [Swarm(at, np.zeros(n), half, np.full(n, 0.9), color, film, odd)]


def _sparks(noise: np.random.Generator, time: float, look: Look) -> list[Swarm]:
    n = round(260 * look.amount)
    heading, speed, start, odd, life, big = noise.random((6, n))
    age = (start + time / (22 + 20 * life)) % 1
    lived = age * (22 + 20 * life)
    angle = (heading - 0.5) * 2.5
    first = np.stack([np.sin(angle), -np.cos(angle)], 1) * (0.012 + 0.026 * speed[:, None])
    foot = np.array([look.middle[0], look.middle[1] + 0.1])
    at = foot + first * lived[:, None] + np.stack([0 * lived, GRAVITY / 2 * lived**2], 1)
    way = first + np.stack([0 * lived, GRAVITY * lived], 1)
    pace = np.hypot(*way.T)
    half = np.stack([pace * 0.62 + 0.003, 0.0045 + 0.0035 * big], 1)
    color = np.ones((n, 3))
    return [Swarm(at, np.arctan2(way[:, 1], way[:, 0]), half, (1 - age**2) * 0.98, color, spark, odd)]


WEATHER = {
    "snow": Weather(_snow, veil=0.45, usual=0.12),
    "rain": Weather(_rain, veil=0.5, usual=0.15),
    "confetti": Weather(_confetti, veil=0.0, usual=0.1),
    "bubbles": Weather(_bubbles, veil=0.0, usual=0.09),
    "sparks": Weather(_sparks, veil=0.55, usual=0.1),
}


@dataclass(frozen=True)
class Particles:
    """An effect in one frame of its shot. amount, middle: see `Look`."""

    kind: str
    seed: int
    time: int
    amount: float
    middle: tuple[float, float]


def particles_of(effect: ShotEffect, seed: int, time: int, alpha: Tensor, aspect: float) -> Particles | None:
    """The particles at one time, from the prompt and the model's mean alpha (h, w) over a shot; None if the model drew
    almost nothing."""
    mean = float(alpha.mean())
    if mean < LEAST_MEAN:
        return None
    height, width = alpha.shape
    x = float((alpha.sum(0) @ ((torch.arange(width) + 0.5) / width - 0.5)) / alpha.sum()) * aspect
    y = float((alpha.sum(1) @ ((torch.arange(height) + 0.5) / height - 0.5)) / alpha.sum())
    amount = effect.amount * min(MAX_AMOUNT, max(1 / MAX_AMOUNT, mean / WEATHER[effect.kind].usual))
    return Particles(effect.kind, seed, time, amount, (x, y))


def density(planes: Tensor) -> Tensor:
    """Local density of an effect from the model's alpha (h, w), or local means of other planes (C, h, w)."""
    wide = planes.reshape(1, -1, *planes.shape[-2:])
    for _ in range(2):
        wide = F.avg_pool2d(F.pad(wide, (DENSITY_REACH,) * 4, mode="replicate"), 2 * DENSITY_REACH + 1, 1)
    return wide.reshape(planes.shape)


def over_veil(particles: Particles, alpha: Tensor, color: Tensor, scene: Scene) -> tuple[Tensor, Tensor, Tensor]:
    """An effect at the scene's size: straight colour (H, W, 3), alpha (H, W), and the particles' share of it.

    alpha (h, w), color (3, h, w): the model's, at model size. A share of it remains as a veil, and its density decides
    where particles are.
    """
    weather, dense = WEATHER[particles.kind], density(alpha)
    veil = weather.veil * dense
    tint = density(color * alpha) / dense.clamp_min(1e-4)
    planes = torch.cat([veil[None], smoothstep(dense / weather.usual, *PRESENCE_RANGE)[None], tint])
    veil, there, *tint = F.interpolate(planes[None], scene.size, mode="bilinear", align_corners=False)[0]
    drawn, own = drawn_particles(particles, scene)
    own = own * there
    below = (1 - own) * veil
    total = own + below
    mixed = own[..., None] * drawn + below[..., None] * torch.stack(tint, -1).clamp(0, 1)
    return mixed / total.clamp_min(1e-6)[..., None], total, own


def drawn_particles(particles: Particles, scene: Scene) -> tuple[Tensor, Tensor]:
    """Straight colour (H, W, 3) in the model's codes, and alpha (H, W), of all particles, before occlusion."""
    height, width = scene.size
    look = Look(scene, particles.amount, particles.middle)
    noise = np.random.default_rng([particles.seed, sorted(WEATHER).index(particles.kind)])
    premultiplied, alpha = torch.zeros(height, width, 3), torch.zeros(height, width)
    for swarm in WEATHER[particles.kind].swarms(noise, float(particles.time), look):
        patches = (_patches(swarm, some, scene) for some in _alike(swarm, scene))
        if swarm.mixed:
            for some in patches:
                _in_order(premultiplied, alpha, some)
        else:
            _at_once(premultiplied, alpha, patches)
    return premultiplied / alpha.clamp_min(1e-6)[..., None], alpha


def _alike(swarm: Swarm, scene: Scene) -> Iterator[np.ndarray]:
    """Indices of a swarm's particles, in groups of similar size, each of which is drawn in one call."""
    size = np.ceil(np.log2(np.maximum(swarm.half * scene.size[0], LEAST_PIXELS)) * SIZES_PER_OCTAVE).astype(int)
    for one in np.unique(size, axis=0):
        numbers = np.flatnonzero((size == one).all(1))
        reach = 2 * PARTICLE_REACH * float(np.hypot(*2.0 ** (one / SIZES_PER_OCTAVE))) + 3
        count = max(1, int(PIXELS_AT_ONCE / reach**2))
        yield from (numbers[k : k + count] for k in range(0, len(numbers), count))


@dataclass(frozen=True)
class Patches:
    """Drawn particles, each in its own square of pixels.

    rows (n, h), columns (n, w): of the picture, or outside of it. alpha (n, h, w). color (n, h, w, 3), straight
    """

    rows: np.ndarray
    columns: np.ndarray
    alpha: Tensor
    color: Tensor


def _patches(swarm: Swarm, some: np.ndarray, scene: Scene) -> Patches:
    """The particles with these indices, drawn."""
    (height, width), aspect = scene.size, scene.aspect
    half = swarm.half[some] * height
    opacity = swarm.opacity[some] * np.minimum(1, half[:, 1] / LEAST_PIXELS)
    half = np.maximum(half, LEAST_PIXELS)
    across = width / aspect / height  # plate pixels are not always square
    x = (swarm.at[some, 0] / aspect + 0.5) * width
    y = (swarm.at[some, 1] + 0.5) * height
    cos, sin = np.cos(swarm.angle[some]), np.sin(swarm.angle[some])
    wide = (np.abs(cos) * half[:, 0] + np.abs(sin) * half[:, 1]).max() * PARTICLE_REACH * across
    tall = (np.abs(sin) * half[:, 0] + np.abs(cos) * half[:, 1]).max() * PARTICLE_REACH
    columns = np.floor(x - wide).astype(int)[:, None] + np.arange(math.ceil(2 * wide) + 2)
    rows = np.floor(y - tall).astype(int)[:, None] + np.arange(math.ceil(2 * tall) + 2)
    dx, dy, c, d = (
        torch.from_numpy(np.float32(v))
        for v in (
            ((columns + 0.5 - x[:, None]) / across)[:, None],
            (rows + 0.5 - y[:, None])[:, :, None],
            cos[:, None, None],
            sin[:, None, None],
        )
    )
    sizes = torch.from_numpy(np.float32(half))[:, None, None]
    odd = torch.from_numpy(np.float32(swarm.odd[some]))[:, None, None]
    a, color = swarm.draw((dx * c + dy * d) / sizes[..., 0], (dy * c - dx * d) / sizes[..., 1], odd, sizes)
    a = a * torch.from_numpy(np.float32(opacity))[:, None, None]
    base = torch.from_numpy(np.float32(swarm.color[some]))[:, None, None]
    return Patches(rows, columns, a, base.expand(*a.shape, 3) if color is None else color * base)


def _in_order(premultiplied: Tensor, alpha: Tensor, patches: Patches) -> None:
    """Composite patches over a picture one after another, in place."""
    layer, matte = premultiplied.numpy(), alpha.numpy()
    height, width = matte.shape
    masks, colored = patches.alpha.numpy(), (patches.color * patches.alpha[..., None]).numpy()
    for rows, columns, patch, paint in zip(patches.rows, patches.columns, masks, colored, strict=True):
        top, bottom = (int(np.searchsorted(rows, edge)) for edge in (0, height))
        left, right = (int(np.searchsorted(columns, edge)) for edge in (0, width))
        if top >= bottom or left >= right:
            continue
        here = slice(rows[top], rows[bottom - 1] + 1), slice(columns[left], columns[right - 1] + 1)
        patch, paint = patch[top:bottom, left:right], paint[top:bottom, left:right]
        layer[here] = paint + (1 - patch)[..., None] * layer[here]
        matte[here] = patch + (1 - patch) * matte[here]


def _at_once(premultiplied: Tensor, alpha: Tensor, groups: Iterable[Patches]) -> None:
    """`_in_order` for patches of one colour, whose order does not matter."""
    height, width = alpha.shape
    seen_through, color = torch.zeros(height * width), None  # log of their joint transmission
    for patches in groups:
        rows, columns = torch.from_numpy(patches.rows), torch.from_numpy(patches.columns)
        inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
        places = (rows[:, :, None] * width + columns[:, None])[inside]
        seen_through.index_add_(0, places, torch.log1p(-patches.alpha[inside].clamp(max=0.9999)))
        color = patches.color[0, 0, 0]
    if color is None:
        return
    left = seen_through.exp_().view(height, width)
    premultiplied.mul_(left[..., None]).add_((1 - left)[..., None] * color)
    alpha.mul_(left).add_(1 - left)
