"""An object that a model knows as a shape, drawn at the plate's size in the plate's light.

Of the diffusion model stay: where the object is, how large, whether it is seen at all, what hides it, and what is soft
about it. Its own alpha says so, wherever the shape is solid; the outline and the surface are the shape's, crisp at any
size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.plate_light import Scene, display_codes
from vera.core.model.interfaces import ShotObject, SurfacePoints
from vera.kernels.planes import pull_push, smoothstep

REACH = 1.35  # half heights from its middle, beyond which no object reaches
FINEST = 360  # samples of a shape across its box at most; more: sharper drawing on large ones, and slower
# A shape is looked at on every so many samples first; what is farther from its outline, in half heights, is not looked
# at again. A thin part must not be missed.
LOOK, LOOK_NEAR = 4, 0.15
# What the model's blur makes of a shape, in model pixels: its alpha is compared with the shape blurred as far.
BLUR = 1.3
SOLID = (0.85, 0.98)  # of the blurred shape, from which a place tells whether the object is seen: well inside it
SEEN = (0.2, 0.5)  # of the model's alpha beside the shape's: below, hidden; above, seen
# Model pixels from the outline within which the model's own alpha is taken for the object's blur, and thrown away; and
# where it counts again. Of kinds with nothing soft about them it counts from farther on.
OWN_BLUR, OWN_BLUR_CLEAR = (1.0, 4.0), (5.0, 9.0)
NEAR = 6.0  # model pixels about a shape, within which the model's alpha is compared with it
AGREES = 0.35  # overlap of the model's alpha with the shape, below which the shape is not what it drew
SHADOW = 0.62  # of black, where an object touches the ground; more where the light is hard
HALO, HALO_REACH = 0.5, 0.55  # of a luminous object's halo at its outline, and how far it goes in half heights


@dataclass(frozen=True)
class DrawnFrame:
    """An object in one frame of its shot. time: frames since the shot's first."""

    shape: ShotObject
    time: int


@dataclass(frozen=True)
class Box:
    """Rows and columns of a picture; where its samples are in the object, u (columns,), v (rows,) in half heights."""

    rows: slice
    columns: slice
    u: Tensor
    v: Tensor


@dataclass(frozen=True)
class Coverage:
    """A shape at model size, (h, w) each: its alpha, and the distance to its outline in pixels, negative inside."""

    alpha: Tensor
    distance: Tensor


@dataclass(frozen=True)
class ObjectPicture:
    """Of a box of the plate: color (h, w, 3) codes of the model's range, alpha (h, w), as if nothing hid it."""

    box: Box
    color: Tensor
    alpha: Tensor


def box_of(drawn: DrawnFrame, size: tuple[int, int], aspect: float, reach: float = REACH) -> Box | None:
    """Where an object is in a picture of (height, width) pixels, shown that wide over its height; None: outside."""
    height, width = size
    x, y, half = drawn.shape.place(drawn.time)
    scale = half * height / 2  # pixels down to a half height
    across = half * width / 2 / aspect
    middle = (x + 1) / 2 * width, (y + 1) / 2 * height
    left, right = (math.floor(middle[0] - reach * across), math.ceil(middle[0] + reach * across))
    top, bottom = (math.floor(middle[1] - reach * scale), math.ceil(middle[1] + reach * scale))
    left, right, top, bottom = max(left, 0), min(right, width), max(top, 0), min(bottom, height)
    if left >= right or top >= bottom:
        return None
    u = (torch.arange(left, right) + 0.5 - middle[0]) / across
    v = (torch.arange(top, bottom) + 0.5 - middle[1]) / scale
    return Box(slice(top, bottom), slice(left, right), u, v)


def coverage(drawn: DrawnFrame, size: tuple[int, int], aspect: float) -> Coverage:
    """The shape at model size (h, w)."""
    height, width = size
    box = box_of(drawn, size, aspect)
    if box is None:
        return Coverage(torch.zeros(size), torch.full(size, 1e3))
    scale = drawn.shape.place(drawn.time)[2] * height / 2
    v, u = torch.meshgrid(box.v, box.u, indexing="ij")
    inner = drawn.shape.points(drawn.time, u, v).distance * scale
    row, column = torch.arange(height), torch.arange(width)
    near_row, near_column = (
        row.clamp(box.rows.start, box.rows.stop - 1),
        column.clamp(box.columns.start, box.columns.stop - 1),
    )
    beyond = torch.hypot((row - near_row).float()[:, None], (column - near_column).float()[None])
    distance = inner[(near_row - box.rows.start)[:, None], near_column - box.columns.start]
    distance = torch.where(beyond > 0, distance.clamp_min(0) + beyond, distance)
    return Coverage((0.5 - distance).clamp(0, 1), distance)


def agreement(drawn: DrawnFrame, alpha: Tensor, aspect: float) -> tuple[float, float]:
    """How much the model's alpha (h, w) and the shape share, and how much they cover together, in pixels."""
    cover = coverage(drawn, (alpha.shape[0], alpha.shape[1]), aspect)
    shape, near = blurred(cover.alpha), cover.distance < NEAR
    return float(torch.minimum(shape, alpha)[near].sum()), float(torch.maximum(shape, alpha)[near].sum())


def visible(cover: Coverage, alpha: Tensor) -> Tensor:
    """How far an object is seen, (h, w) in [0, 1], from its shape and the model's alpha at model size; where the shape
    tells nothing, as where it does next to it."""
    soft = blurred(cover.alpha)
    share = (alpha / soft.clamp_min(0.2)).clamp(0, 1)
    trust = smoothstep(soft, *SOLID)
    if trust.max() == 0:  # too small or thin to be solid anywhere: the best that it shows
        trust = soft / soft.max().clamp_min(1e-6)
    return smoothstep(pull_push(share[None, None], trust[None, None])[0, 0], *SEEN)


def without_object(cover: Coverage, alpha: Tensor, soft: bool) -> Tensor:
    """The model's alpha (h, w) with the object itself taken out: its shadow, its reflection, what else is there. soft:
    whether the model draws such a thing about this object."""
    return alpha * smoothstep(cover.distance, *(OWN_BLUR if soft else OWN_BLUR_CLEAR))


@dataclass(frozen=True)
class Drawn:
    """What it takes to draw an object. alpha (h, w): the model's, at its size."""

    frame: DrawnFrame
    scene: Scene
    alpha: Tensor


def over_rest(drawn: Drawn, shown: Tensor, edit: Tensor, matte: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The object over what is left of the model's layer, at plate size: colour, alpha, and the object's part of it.

    shown (H, W): how far the object is seen; edit (H, W, 3), matte (H, W): the rest, straight.
    """
    edit, matte, own = edit.clone(), matte.clone(), torch.zeros_like(matte)
    if shadow := contact_shadow(drawn):
        box, dark = shadow
        here = (box.rows, box.columns)
        dark = dark * shown[here]
        edit[here] *= (matte[here] / torch.maximum(matte[here], dark).clamp_min(1e-6))[..., None]
        matte[here] = torch.maximum(matte[here], dark)
    if made := picture(drawn):
        here = (made.box.rows, made.box.columns)
        own[here] = made.alpha * shown[here]
        over, under = own[here], (1 - own[here]) * matte[here]
        matte[here] = over + under
        edit[here] = (over[..., None] * made.color + under[..., None] * edit[here]) / (over + under)[
            ..., None
        ].clamp_min(1e-6)
    return edit, matte, own


def picture(drawn: Drawn) -> ObjectPicture | None:
    """The object at the scene's size, in its light, with the halo of a luminous one."""
    size = drawn.scene.size
    frame, shape = drawn.frame, drawn.frame.shape
    box = box_of(frame, size, drawn.scene.aspect)
    if box is None:
        return None
    scale = shape.place(frame.time)[2] * size[0] / 2
    step = max(1, math.ceil(2 * REACH * scale / FINEST))
    v, u = torch.meshgrid(_sampled(box.v, step), _sampled(box.u, step), indexing="ij")
    points = points_about(frame, u, v)
    lit = drawn.scene.light.shade(points, shape.gloss, shape.metal, shape.glow)
    full = len(box.v), len(box.u)
    distance = _grown(points.distance[None], step, full, "bicubic")[0]
    color = _grown(display_codes(lit, drawn.scene.clips).movedim(-1, 0), step, full, "bilinear").movedim(0, -1)
    alpha = (0.5 - distance * scale).clamp(0, 1)
    if shape.glow:
        edge = REACH - torch.maximum(box.v.abs()[:, None], box.u.abs()[None])
        halo = HALO * smoothstep(-distance, -HALO_REACH, 0.0) ** 2 * smoothstep(edge, 0.0, 0.3) * (1 - alpha)
        own = torch.tensor([min(1.0, 0.3 + c) for c in shape.color])
        total = alpha + halo
        color = (alpha[..., None] * color + halo[..., None] * own) / total[..., None].clamp_min(1e-6)
        alpha = total
    return ObjectPicture(box, color, alpha)


def points_about(drawn: DrawnFrame, u: Tensor, v: Tensor) -> SurfacePoints:
    """A shape's points on a grid (h, w); where a coarse look finds none of it near, only about how far it is."""
    size = (u.shape[0], u.shape[1])
    coarse = drawn.shape.points(drawn.time, u[::LOOK, ::LOOK], v[::LOOK, ::LOOK]).distance
    rough = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    near = (rough < LOOK_NEAR).nonzero(as_tuple=True)
    found = drawn.shape.points(drawn.time, u[near], v[near])

    def placed(values: Tensor, blank: Tensor) -> Tensor:
        return blank.index_put(near, values)

    bare = torch.zeros(size)
    return SurfacePoints(
        placed(found.distance, rough),
        placed(found.color, torch.tensor(drawn.shape.color).expand(*size, 3)),
        placed(found.facing, torch.zeros(*size, 2)),
        *(placed(x, bare) for x in (found.gloss, found.open, found.shine, found.named)),
    )


def contact_shadow(drawn: Drawn) -> tuple[Box, Tensor] | None:
    """The black that an object casts where it stands, at plate size: its box, and alpha there; None where it casts
    none. The model's own alpha says whether it stands there now, or is in the air."""
    if not drawn.frame.shape.stands:
        return None
    box = box_of(drawn.frame, drawn.scene.size, drawn.scene.aspect, reach=2.0)
    if box is None:
        return None
    away = -float(drawn.scene.light.key[0])
    v, u = box.v[:, None], box.u[None]
    flat = torch.hypot((u - 0.2 * away) / 1.25, (v - 0.98) / 0.26)
    core = torch.hypot((u - 0.05 * away) / 0.7, (v - 0.985) / 0.09)
    depth = SHADOW * (1.15 - 0.5 * drawn.scene.light.ambient)
    shadow = depth * (0.75 * smoothstep(-flat, -1.0, -0.15) ** 1.5 + 0.5 * smoothstep(-core, -1.0, -0.2))
    return box, (shadow * _stands_now(drawn)).clamp(0, 0.85)


def _stands_now(drawn):
    """Whether the model drew a shadow at the object's foot, 0 to 1."""
    alpha = drawn.alpha
    box = box_of(drawn.frame, (alpha.shape[0], alpha.shape[1]), drawn.scene.aspect, reach=1.6)
    if box is None:
        return 0.0
    v, u = box.v[:, None], box.u[None]
    foot = torch.hypot(u / 0.9, (v - 1.08) / 0.16) < 1
    if not foot.any():
        return 1.0
    return float(smoothstep(alpha[box.rows, box.columns][foot].mean(), 0.12, 0.3))


def blurred(planes: Tensor) -> Tensor:
    """(h, w) by a Gaussian of BLUR pixels."""
    steps = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(steps**2) / (2 * BLUR**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[None, None], (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def _sampled(places: Tensor, step: int) -> Tensor:
    """The middles of every `step` places, evenly spaced (n,), of a last part as long as the others."""
    if step == 1:
        return places
    apart = places[1] - places[0] if len(places) > 1 else places.new_zeros(())
    count = math.ceil(len(places) / step)
    return places[0] + apart * (torch.arange(count) * step + (step - 1) / 2)


def _grown(planes: Tensor, step: int, size: tuple[int, int], mode: str) -> Tensor:
    """(C, h, w) by a whole factor, cut to size."""
    if step == 1:
        return planes
    grown = F.interpolate(planes[None], scale_factor=step, mode=mode, align_corners=False)[0]
    return grown[:, : size[0], : size[1]]
