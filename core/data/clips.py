"""Layered clips with exact alpha: clip k of this world, the same everywhere.

In display-encoded colour, composite = alpha * edit + (1 - alpha) * source, exactly.
"""

import math
import random
from dataclasses import dataclass

import torch

from core.data import backgrounds, effects, phrases, plates, shapes, words
from core.data.fields import extend_color, plane, smoothstep

SPAN = 48  # motions are laid out over the frames 0 .. SPAN


@dataclass
class LayeredClip:
    """Frames T at H x W, all in [0, 1], display-encoded.

    source, edit (straight colour), composite: (T, 3, H, W); alpha: (T, 1, H, W);
    mask: (T, 1, H, W), 1 where the edit may go; labels: what the instruction names.
    """

    source: torch.Tensor
    edit: torch.Tensor
    alpha: torch.Tensor
    composite: torch.Tensor
    mask: torch.Tensor
    instruction: str
    labels: dict


def draw_labels(rng) -> dict:
    """What to ask for: the edit and its named properties."""
    kind = rng.random()
    if kind < 0.72:
        named = rng.random() < 0.75
        return {
            "edit": "object",
            "object": rng.choice(list(words.OBJECTS)),
            "color": rng.choice(list(words.COLORS)),
            "size": rng.choice(("small", "medium", "medium", "large")),
            "place": rng.choice(list(words.PLACES)) if named else None,
            "motion": rng.choice(("still", "still", *list(words.MOTIONS)[1:])),
        }
    if kind < 0.84:
        return {
            "edit": "effect",
            "effect": rng.choice(list(words.EFFECTS)),
            "amount": rng.choice(("light", "medium", "medium", "heavy")),
        }
    return {"edit": "background", "background": rng.choice(list(words.BACKGROUNDS))}


def make_clip(seed: int, height: int, width: int, times, labels: dict | None = None) -> LayeredClip:
    """Clip number `seed` at the given frame times (any subset of 0 .. SPAN, in any spacing)."""
    rng = random.Random(seed)
    gen = torch.Generator().manual_seed(seed)
    times = torch.as_tensor(times, dtype=torch.float32)
    drawn = draw_labels(rng)
    labels = drawn if labels is None else labels
    text = phrases.instruction(labels, rng)
    source, cam = plates.plate(rng, gen, times, height, width)

    if labels["edit"] == "background":
        matte, rgb = plates.subject(rng, gen, times, height, width)
        source = source + (rgb - source) * matte
        edit, alpha = backgrounds.background(labels["background"], rng, gen, times, height, width), 1 - matte
        mask = alpha
    elif labels["edit"] == "effect":
        edit, alpha = effects.effect(labels["effect"], labels["amount"], rng, gen, times, height, width)
        mask = torch.ones_like(alpha)
    else:
        if rng.random() < 0.35:
            matte, rgb = plates.subject(rng, gen, times, height, width)
            source = source + (rgb - source) * matte
        premultiplied, alpha = added_object(labels, rng, cam, times, height, width)
        edit = extend_color(premultiplied, alpha)
        mask = _loose_mask(alpha, rng)
    composite = alpha * edit + (1 - alpha) * source
    return LayeredClip(source, edit, alpha, composite, mask, text, labels)


def added_object(labels, rng, cam, times, height, width):
    """Premultiplied colour (T, 3, H, W) and alpha (T, 1, H, W) of the object and its shadow."""
    half = {"small": 0.15, "medium": 0.22, "large": 0.31}[labels["size"]] * rng.uniform(0.97, 1.03)
    path_x, path_y, floor = _path(labels, rng, times, half, width / height)
    # What is added is attached to the scene: it moves with the plate's camera.
    offsets, zoom = cam
    px = (path_x - offsets[:, 0]) / zoom
    py = (path_y - offsets[:, 1]) / zoom
    size = half / zoom

    x, y = (p[None] for p in plane(height, width))
    u, v = ((p - c[:, None, None]) / size[:, None, None] for p, c in ((x, px), (y, py)))
    tilt = _tilt(labels, rng, times)[:, None, None]
    u, v = u * tilt.cos() + v * tilt.sin(), v * tilt.cos() - u * tilt.sin()
    if labels["object"] == "fish" and labels["motion"] == "drifting left":
        u = -u
    base = tuple(min(1.0, max(0.0, c + rng.uniform(-0.04, 0.04))) for c in words.COLORS[labels["color"]])
    distance, rgb = shapes.SHAPES[labels["object"]](u, v, base, times[:, None, None])
    alpha = (0.5 - distance * size[:, None, None] * height).clamp(0, 1)[:, None]
    premultiplied = rgb.movedim(-1, 1).clamp(0, 1) * alpha
    if labels["object"] in words.STANDING:
        shadow = _shadow(rng, x, y, px, py, (floor - path_y) / zoom, size)[:, None] * (1 - alpha)
        alpha = alpha + shadow  # black, so the premultiplied colour stays
    return premultiplied, alpha


def _path(labels, rng, times, half, aspect):
    """Middle of the object in frame heights: x and y at each time, kept inside the frame, and y at rest."""
    reach_x, reach_y = aspect / 2 - half, 0.5 - half
    if labels["place"]:
        cx, cy = words.PLACES[labels["place"]]
        cx, cy = cx * aspect / 2 * rng.uniform(0.94, 1.06), cy / 2 * rng.uniform(0.94, 1.06)
    else:
        cx, cy = rng.uniform(-reach_x, reach_x) / 4, rng.uniform(-reach_y, reach_y) / 4
    t = times / SPAN - 0.5
    speed = rng.uniform(0.95, 1.05)
    x, y = torch.full_like(t, cx), torch.full_like(t, cy)
    motion = labels["motion"]
    if motion == "rising":
        y = y - 0.4 * speed * t
    elif motion == "falling":
        y = y + 0.4 * speed * t
    elif motion == "drifting left":
        x = x - 0.5 * speed * t
    elif motion == "drifting right":
        x = x + 0.5 * speed * t
    elif motion == "circling":
        phase = (t + 0.5) * 2 * math.pi * speed
        x, y = x + 0.13 * phase.cos(), y + 0.13 * phase.sin()
    floor = y
    if motion == "bouncing":
        floor = (y + 0.1).clamp(-reach_y, reach_y)
        y = floor - 0.22 * speed * torch.sin((t + 0.5) * 2 * math.pi * speed).abs()
    x, y = x.clamp(-reach_x, reach_x), y.clamp(-reach_y, reach_y)
    return x, y, floor if motion == "bouncing" else y


def _tilt(labels, rng, times):
    rock = rng.uniform(-0.04, 0.04) + rng.uniform(0, 0.04) * torch.sin(times * 0.2 + rng.uniform(0, 6))
    return rock if labels["object"] not in words.STANDING else rock * 0


def _shadow(rng, x, y, px, py, lift, size):
    """A soft black contact shadow where the object stands; wider and fainter the higher it is (lift, frame heights)."""
    ground = py + size + lift
    lift = lift / 0.25
    wide = (size * (1.05 + 0.4 * lift))[:, None, None]
    u = (x - px[:, None, None] - 0.15 * wide) / wide
    v = (y - ground[:, None, None] + 0.02) / (wide * 0.3)
    depth = rng.uniform(0.5, 0.65) * (1 - 0.6 * lift.clamp(0, 1))
    return depth[:, None, None] * smoothstep(1.15, 0.2, torch.hypot(u, v))


def _loose_mask(alpha, rng):
    """What a user might draw: the bounding box of the layer over the whole clip, with a margin."""
    where = alpha.amax(0)[0] > 0.02
    mask = torch.zeros_like(alpha)
    rows, cols = where.any(1).nonzero(), where.any(0).nonzero()
    if len(rows):
        m = rng.randint(1, 6)
        mask[:, :, max(0, rows[0] - m) : rows[-1] + 1 + m, max(0, cols[0] - m) : cols[-1] + 1 + m] = 1
    return mask
