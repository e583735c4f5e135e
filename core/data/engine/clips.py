"""Generated layered clips with exact alpha. The seed alone determines a clip, on every machine.

In display-encoded colour, composite = alpha * edit + (1 - alpha) * source, exactly.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vera.core.data.engine import backgrounds, effects, instructions, plates, shapes
from vera.core.data.engine.random_fields import extend_color, plane, smoothstep
from vera.core.model.mini import words

OBJECT_SHARE = 0.7  # share of clips that add an object
SPAN = 48  # frames: motions are laid out over the frames 0 .. SPAN
ASPECTS = (1.8, 1.8, 1.0, 5 / 9)  # frame aspects (width over height) that `instructed_path` draws from
FACING = ("fish", "bird", "paper plane")  # objects that face their direction of motion; to the right at rest
SPEED_FACTORS = {"slow": 0.5, "usual": 1.0, "fast": 1.6}  # factor on the speed, by pace


@dataclass
class LayeredClip:
    """A clip of T frames at H x W; all pixels in [0, 1], display-encoded.

    source, edit (straight colour), composite: (T, 3, H, W).
    alpha: (T, 1, H, W).
    mask: (T, 1, H, W), 1 where the edit is allowed.
    labels: the edit and its named properties, see `draw_labels`.
    path: (T, 3), the object's centre x (right) and y (down), in half frame widths and heights, and the log of its
        height over the frame's height. All 0 for an effect or a background.
    """

    source: torch.Tensor
    edit: torch.Tensor
    alpha: torch.Tensor
    composite: torch.Tensor
    mask: torch.Tensor
    instruction: str
    labels: dict[str, Any]
    path: torch.Tensor


@dataclass(frozen=True)
class Placement:
    """Where an object is at each frame; all (T,), in frame heights from the frame's centre, x right and y down.

    x, y: the object's centre; half: half its height; lift: its height above the ground it rests on.
    """

    x: torch.Tensor
    y: torch.Tensor
    half: torch.Tensor
    lift: torch.Tensor

    def path(self, aspect: float) -> torch.Tensor:
        """(T, 3), as `LayeredClip.path`, in a frame of this aspect."""
        return in_halves(self.x, self.y, self.half, aspect)


def draw_labels(rng: random.Random, objects: float = OBJECT_SHARE) -> dict[str, Any]:
    """Draw an edit and its named properties.

    objects: probability of adding an object; effects and backgrounds share the rest equally.
    """
    kind = rng.random()
    if kind < objects:
        return draw_object(rng)
    if kind < (1 + objects) / 2:
        return {
            "edit": "effect",
            "effect": rng.choice(list(words.EFFECTS)),
            "amount": rng.choice(("light", "medium", "medium", "heavy")),
        }
    return {"edit": "background", "background": rng.choice(list(words.BACKGROUNDS))}


def draw_object(rng: random.Random) -> dict[str, Any]:
    """Draw the labels of an object to add. The instruction leaves out labels that are None or "usual"."""
    labels = {
        "edit": "object",
        "object": rng.choice(list(words.OBJECTS)),
        "color": rng.choice(list(words.COLORS)),
        "material": rng.choice(list(words.MATERIALS)) if rng.random() < 0.3 else None,
        "size": rng.choice(("small", "medium", "medium", "large")),
        "place": rng.choice(list(words.PLACES)) if rng.random() < 0.8 else None,
        "motion": rng.choice(("still", "still", *list(words.MOTIONS)[1:])),
        "pace": "usual",
        "depth": None,
        "reflection": rng.random() < 0.08,
    }
    if labels["motion"] in words.STEPS:
        labels["pace"] = rng.choice(("usual", "usual", "slow", "fast"))
    if (labels["material"], labels["color"]) == ("glowing", "black"):
        labels["material"] = None
    if not labels["place"] and rng.random() < 0.3:
        labels["depth"] = rng.choice(list(words.DEPTHS))
    return labels


def make_clip(
    seed: int,
    height: int,
    width: int,
    times: Sequence[float] | torch.Tensor,
    labels: dict[str, Any] | None = None,
    held_out: bool = False,
) -> LayeredClip:
    """Clip number `seed` at the given frame times: any subset of 0 .. SPAN, in any spacing.

    labels: the edit; drawn from the seed if None. held_out: take plates from footage that training never uses.
    """
    rng = random.Random(seed)
    gen = torch.Generator().manual_seed(seed)
    times = torch.as_tensor(times, dtype=torch.float32)
    drawn = draw_labels(rng)
    labels = drawn if labels is None else labels
    text = instructions.instruction(labels, rng)
    source, cam = plates.plate(rng, gen, times, height, width, held_out)
    path = torch.zeros(len(times), 3)

    if labels["edit"] == "background":
        matte, rgb, _ = plates.subject(rng, gen, times, height, width)
        source = source + (rgb - source) * matte
        edit, alpha = backgrounds.background(labels["background"], rng, gen, times, height, width), 1 - matte
        mask = alpha
    elif labels["edit"] == "effect":
        edit, alpha = effects.effect(labels["effect"], labels["amount"], rng, gen, times, (height, width))
        mask = torch.ones_like(alpha)
    else:
        depth, middle = labels.get("depth"), None
        if depth or rng.random() < 0.3:
            matte, rgb, middle = plates.subject(rng, gen, times, height, width)
            source = source + (rgb - source) * matte
        premultiplied, alpha, path = added_object(labels, rng, cam, times, (height, width), middle if depth else None)
        mask = loose_mask(alpha, rng)
        edit = extend_color(premultiplied, alpha)
        if depth == "behind":  # cut the subject out of the layer and the mask
            alpha, mask = alpha * (1 - matte), mask * (1 - matte)
    composite = alpha * edit + (1 - alpha) * source
    return LayeredClip(source, edit, alpha, composite, mask, text, labels, path)


def instructed_path(seed: int, times: Sequence[float] | torch.Tensor) -> tuple[str, float, torch.Tensor]:
    """(instruction, frame aspect, path (T, 3) as in `LayeredClip`), for a camera at rest and without any pixels."""
    rng = random.Random(seed)
    times = torch.as_tensor(times, dtype=torch.float32)
    labels = draw_labels(rng)
    text, aspect = instructions.instruction(labels, rng), rng.choice(ASPECTS)
    if labels["edit"] != "object":
        return text, aspect, torch.zeros(len(times), 3)
    subject = plates.place_of_subject(rng) if labels["depth"] else None
    return text, aspect, placement(labels, rng, plates.camera_at_rest(times), times, aspect, subject).path(aspect)


def in_halves(px: torch.Tensor, py: torch.Tensor, size: torch.Tensor, aspect: float) -> torch.Tensor:
    """Centre and half height in frame heights, (T,) each -> (T, 3), as `LayeredClip.path`."""
    return torch.stack([px * 2 / aspect, py * 2, (size * 2).log()], dim=1)


def placement(
    labels: dict[str, Any],
    rng: random.Random,
    cam: tuple[torch.Tensor, torch.Tensor],
    times: torch.Tensor,
    aspect: float,
    subject: tuple[float, float] | None = None,
) -> Placement:
    """Place the object that `labels` describe. It is fixed to the scene, so it moves with the plate's camera."""
    half = words.HALF_HEIGHTS[labels["size"]] * rng.uniform(0.99, 1.01)
    path_x, path_y, floor = path_of(labels, rng, times, half, aspect, subject)
    offsets, zoom = cam
    return Placement(
        (path_x - offsets[:, 0]) / zoom, (path_y - offsets[:, 1]) / zoom, half / zoom, (floor - path_y) / zoom
    )


def added_object(
    labels: dict[str, Any],
    rng: random.Random,
    cam: tuple[torch.Tensor, torch.Tensor],
    times: torch.Tensor,
    size: tuple[int, int],
    subject: tuple[float, float] | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw the object with its shadow, halo and reflection.

    size: (height, width) of the clip
    subject: position (x, y) of the subject that the instruction puts the object behind or in front of.
    Returns premultiplied colour (T, 3, H, W), alpha (T, 1, H, W) and the path (T, 3) as in `LayeredClip`.
    """
    aspect = size[1] / size[0]
    place = placement(labels, rng, cam, times, aspect, subject)
    x, y = (p[None] for p in plane(*size))
    tilt = _tilt(labels, rng, times)
    base = tuple(min(1.0, max(0.0, c + rng.uniform(-0.03, 0.03))) for c in words.COLORS[labels["color"]])
    premultiplied, alpha = _draw_object(labels, base, (x, y), place, tilt, times)
    if labels["object"] in words.STANDING:
        shadow = _shadow(x, y, place)[:, None] * (1 - alpha)
        alpha = alpha + shadow  # the shadow is black: it adds nothing to the premultiplied colour
    if labels.get("reflection"):
        ground = (place.y + place.half * 1.02 + place.lift)[:, None, None]
        wave = 0.012 * torch.sin((y - ground) * 70 - times[:, None, None] * 0.3) * (y > ground)
        below, covered = _draw_object(labels, base, (x + wave, 2 * ground - y), place, tilt, times)
        fade = smoothstep(2.2, 0.0, (y - ground) / place.half[:, None, None])
        share = (0.45 * fade * (y > ground))[:, None] * (1 - alpha)
        premultiplied, alpha = premultiplied + share * below, alpha + share * covered
    return premultiplied, alpha, place.path(aspect)


def _draw_object(
    labels: dict[str, Any],
    color: Sequence[float],
    at: tuple[torch.Tensor, torch.Tensor],
    place: Placement,
    tilt: torch.Tensor,
    times: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Premultiplied colour and alpha of the object alone, antialiased, with a halo if it glows.

    at: x and y of the pixel centres
    """
    (x, y), size = at, place.half
    u, v = ((p - c[:, None, None]) / size[:, None, None] for p, c in ((x, place.x), (y, place.y)))
    cos, sin = tilt.cos()[:, None, None], tilt.sin()[:, None, None]
    u, v = u * cos + v * sin, v * cos - u * sin
    if labels["object"] in FACING and labels["motion"] == "drifting left":
        u = -u
    distance, rgb = shapes.SHAPES[labels["object"]](u, v, color, times[:, None, None])
    rgb = shapes.finish(labels.get("material"), u, v, color, rgb).movedim(-1, 1).clamp(0, 1)
    alpha = (0.5 - distance * size[:, None, None] * x.shape[-2]).clamp(0, 1)[:, None]
    premultiplied = rgb * alpha
    if labels.get("material") == "glowing":
        halo = 0.5 * smoothstep(0.55, 0.0, distance)[:, None] ** 2 * (1 - alpha)
        light = torch.tensor([min(1.0, 0.3 + c) for c in color])[:, None, None]
        premultiplied, alpha = premultiplied + halo * light, alpha + halo
    return premultiplied, alpha


def path_of(
    labels: dict[str, Any],
    rng: random.Random,
    times: torch.Tensor,
    half: float,
    aspect: float,
    subject: tuple[float, float] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The object's centre in frame heights: x and y at each time, inside the frame, and y where it rests.

    The path follows the instruction with little random variation. Where the instruction names no place, the path is
    mostly central: a model cannot predict variation that the instruction does not mention.
    """
    reach_x, reach_y = aspect / 2 - half, 0.5 - half
    if labels["place"]:
        cx, cy = words.PLACES[labels["place"]]
        cx, cy = cx * aspect / 2 * rng.uniform(0.98, 1.02), cy / 2 * rng.uniform(0.98, 1.02)
    elif subject is not None:
        cx, cy = subject[0] + rng.choice((-1, 1)) * 0.6 * half, subject[1] - 0.1
    elif rng.random() < 0.6:
        cx, cy = 0.0, 0.0
    else:
        cx, cy = rng.uniform(-aspect / 6, aspect / 6), rng.uniform(-1 / 6, 1 / 6)
    t = times / SPAN - 0.5
    speed = rng.uniform(0.98, 1.02) * SPEED_FACTORS[labels.get("pace", "usual")]
    x, y = torch.full_like(t, cx), torch.full_like(t, cy)
    motion = labels["motion"]
    if motion in words.STEPS:
        x, y = x + words.STEPS[motion][0] * speed * t, y + words.STEPS[motion][1] * speed * t
    elif motion == "circling":
        phase = (t + 0.5) * 2 * math.pi * speed
        x, y = x + 0.13 * phase.cos(), y + 0.13 * phase.sin()
    floor = y
    if motion == "bouncing":
        floor = (y + 0.1).clamp(-reach_y, reach_y)
        y = floor - 0.22 * torch.sin((t + 0.5) * 2 * math.pi * speed).abs()
    x, y = x.clamp(-reach_x, reach_x), y.clamp(-reach_y, reach_y)
    return x, y, floor if motion == "bouncing" else y


def _tilt(labels: dict[str, Any], rng: random.Random, times: torch.Tensor) -> torch.Tensor:
    rock = rng.uniform(-0.05, 0.05) + 0.06 * torch.sin(times * 0.2)
    return rock if labels["object"] not in words.STANDING else rock * 0


def _shadow(x: torch.Tensor, y: torch.Tensor, place: Placement) -> torch.Tensor:
    """Alpha of a soft black contact shadow; a higher object has a wider and fainter one."""
    ground = place.y + place.half + place.lift
    lift = place.lift / 0.25
    wide = (place.half * (1.05 + 0.4 * lift))[:, None, None]
    u = (x - place.x[:, None, None] - 0.15 * wide) / wide
    v = (y - ground[:, None, None] + 0.02) / (wide * 0.3)
    depth = 0.58 * (1 - 0.6 * lift.clamp(0, 1))
    return depth[:, None, None] * smoothstep(1.15, 0.2, torch.hypot(u, v))


def loose_mask(alpha: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """A mask as a user might draw it: the layer's bounding box over the whole clip, with a random margin."""
    where = alpha.amax(0)[0] > 0.02
    mask = torch.zeros_like(alpha)
    rows, cols = where.any(1).nonzero(), where.any(0).nonzero()
    if len(rows):
        m = rng.randint(1, 6)
        mask[:, :, max(0, rows[0] - m) : rows[-1] + 1 + m, max(0, cols[0] - m) : cols[-1] + 1 + m] = 1
    return mask
