"""Draw an object as an analytic shape, at the plate's resolution and in the plate's light.

`mini` describes the object that it adds as a shape (`ShotObject`), in addition to the layer from its diffusion model.
The outline and the surface are drawn from the shape, sharp at any resolution. The diffusion model's alpha decides
whether the object is visible, what occludes it, and what is soft around it (shadow, reflection, halo).

Lengths: "half heights" are halves of the object's height; "model pixels" are pixels of the generated layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.plate_light import Scene, display_codes
from vera.core.model.interfaces import ShotObject, SurfacePoints
from vera.kernels.planes import pull_push, smoothstep

REACH = 1.35  # half side of the box around an object, in half heights. Raising it fits larger shapes and costs time
FINEST = 360  # largest number of samples across the box. Raising it draws large objects sharper and slower
# A shape is first evaluated on every COARSE_STEP-th sample, then on all samples closer to its outline than
# COARSE_MARGIN half heights. A larger step or a smaller margin is faster and can miss thin parts.
COARSE_STEP, COARSE_MARGIN = 4, 0.15
# Deviation, in model pixels, of the Gaussian that blurs a shape before it is compared with the model's alpha. It is the
# blur of the model's own shapes; raising it expects softer ones.
BLUR = 1.3
# Alpha of the blurred shape between which a pixel gains weight in the decision whether the object is visible. Raising
# it decides by pixels deeper inside the shape.
SOLID = (0.85, 0.98)
# Ratio of the model's alpha to the shape's: hidden below the first, visible above the second. Raising it hides more.
SEEN = (0.2, 0.5)
# Distance outside the outline, in model pixels: below the first the model's alpha is the object's own blur and is
# removed, above the second it is kept. Raising it removes more of shadows and reflections. OWN_BLUR_CLEAR is for
# objects around which the model draws nothing soft.
OWN_BLUR, OWN_BLUR_CLEAR = (1.0, 4.0), (5.0, 9.0)
# Model pixels around a shape in which the model's alpha is compared with it. Raising it counts more stray alpha.
NEAR = 6.0
AGREES = 0.35  # least overlap (intersection over union) of shape and model alpha; raising it rejects more shapes
SHADOW = 0.62  # strength of the contact shadow where the object touches the ground. Raising it darkens the shadow
# A luminous object's halo: alpha at the outline, and width in half heights. Raising them makes it stronger, and wider.
HALO, HALO_REACH = 0.5, 0.55


# Variation between seeds other than 0: largest tilt in radians, smaller for standing objects, and largest change of
# size. Raising them makes takes differ more. A shape that leaves the model's own alpha is not drawn.
MAX_TILT, MAX_TILT_STANDING, MAX_GROWTH = 0.12, 0.03, 0.04


@dataclass(frozen=True)
class Take:
    """How one seed's object differs from the shape as it is. tilt: radians, clockwise. size: times the shape's."""

    tilt: float = 0.0
    size: float = 1.0

    @classmethod
    def of(cls, seed: int, stands: bool) -> Take:
        """The take of a seed; seed 0 takes the shape as it is."""
        if seed == 0:
            return cls()
        turn, grow = np.random.default_rng(seed).uniform(-1, 1, 2)
        return cls(float(turn) * (MAX_TILT_STANDING if stands else MAX_TILT), 1 + MAX_GROWTH * float(grow))


@dataclass(frozen=True)
class DrawnFrame:
    """An object in one frame of its shot. time: number of frames since the shot's first."""

    shape: ShotObject
    time: int
    take: Take = Take()

    def place(self) -> tuple[float, float, float]:
        """The object's middle, (x, y) in -1 .. 1 of the picture, and its half height in halves of the picture's."""
        x, y, half = self.shape.place(self.time)
        return x, y, half * self.take.size

    def points(self, u: Tensor, v: Tensor) -> SurfacePoints:
        """The surface at points (...) right and down of the middle, in half heights."""
        if self.take.tilt == 0:
            return self.shape.points(self.time, u, v)
        cos, sin = math.cos(self.take.tilt), math.sin(self.take.tilt)
        found = self.shape.points(self.time, cos * u + sin * v, cos * v - sin * u)
        right, down = found.facing.unbind(-1)
        return replace(found, facing=torch.stack([cos * right - sin * down, sin * right + cos * down], dim=-1))


@dataclass(frozen=True)
class Box:
    """The part of a picture in which an object lies.

    rows, columns: of the picture. u (columns,), v (rows,): position of each column and row relative to the object's
    middle, right and down, in half heights.
    """

    rows: slice
    columns: slice
    u: Tensor
    v: Tensor


@dataclass(frozen=True)
class Coverage:
    """A shape at model size: its alpha (h, w), and its signed distance (h, w) to the outline in model pixels.

    The distance is negative inside.
    """

    alpha: Tensor
    distance: Tensor


@dataclass(frozen=True)
class ObjectPicture:
    """A drawn object, without occlusion: straight color (h, w, 3) in the model's range, alpha (h, w), of the box."""

    box: Box
    color: Tensor
    alpha: Tensor


def box_of(drawn: DrawnFrame, size: tuple[int, int], aspect: float, reach: float = REACH) -> Box | None:
    """The object's box in a picture of size (height, width); None if it lies outside the picture.

    aspect: displayed width over height of the picture. reach: half side of the box in half heights.
    """
    height, width = size
    x, y, half = drawn.place()
    scale = half * height / 2  # rows in a half height
    across = half * width / 2 / aspect  # columns in a half height
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
    """The shape's alpha and distance at model size (h, w). Outside the box, the distance to the box is added."""
    height, width = size
    box = box_of(drawn, size, aspect)
    if box is None:
        return Coverage(torch.zeros(size), torch.full(size, 1e3))
    scale = drawn.place()[2] * height / 2
    v, u = torch.meshgrid(box.v, box.u, indexing="ij")
    inner = drawn.points(u, v).distance * scale
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
    """Areas of intersection and of union of the model's alpha (h, w) and the blurred shape, in model pixels."""
    cover = coverage(drawn, (alpha.shape[0], alpha.shape[1]), aspect)
    shape, near = blurred(cover.alpha), cover.distance < NEAR
    return float(torch.minimum(shape, alpha)[near].sum()), float(torch.maximum(shape, alpha)[near].sum())


def visible(cover: Coverage, alpha: Tensor) -> Tensor:
    """Visibility of an object, (h, w) in [0, 1], from its shape and the model's alpha (h, w).

    It is measured well inside the shape, and extended from there to edges and surroundings.
    """
    soft = blurred(cover.alpha)
    share = (alpha / soft.clamp_min(0.2)).clamp(0, 1)
    trust = smoothstep(soft, *SOLID)
    if trust.max() == 0:  # too small or thin to be solid anywhere: measure where it is most solid
        trust = soft / soft.max().clamp_min(1e-6)
    return smoothstep(pull_push(share[None, None], trust[None, None])[0, 0], *SEEN)


def without_object(cover: Coverage, alpha: Tensor, soft: bool) -> Tensor:
    """The model's alpha (h, w) without the object: its shadow, its reflection and other parts of the layer remain.

    soft: whether the model draws something soft around this object.
    """
    return alpha * smoothstep(cover.distance, *(OWN_BLUR if soft else OWN_BLUR_CLEAR))


@dataclass(frozen=True)
class Drawn:
    """The inputs for drawing an object. alpha (h, w): the model's, at model size."""

    frame: DrawnFrame
    scene: Scene
    alpha: Tensor


def over_rest(drawn: Drawn, shown: Tensor, edit: Tensor, matte: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Composite the object and its contact shadow over the rest of the model's layer, at plate size.

    shown (H, W): visibility of the object. edit (H, W, 3), matte (H, W): straight colour and alpha of the rest.
    Returns straight colour (H, W, 3), alpha (H, W), and the object's own alpha (H, W) in it.
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
    """Draw the object at the scene's size and in its light; luminous objects get a halo. None if it is outside."""
    size = drawn.scene.size
    frame, shape = drawn.frame, drawn.frame.shape
    box = box_of(frame, size, drawn.scene.aspect)
    if box is None:
        return None
    scale = frame.place()[2] * size[0] / 2
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
    """Evaluate a shape on a grid (h, w): coarsely first, then every sample near it.

    u, v: positions in half heights. Far samples get the interpolated coarse distance and the shape's plain colour.
    """
    size = (u.shape[0], u.shape[1])
    coarse = drawn.points(u[::COARSE_STEP, ::COARSE_STEP], v[::COARSE_STEP, ::COARSE_STEP]).distance
    rough = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    near = (rough < COARSE_MARGIN).nonzero(as_tuple=True)
    found = drawn.points(u[near], v[near])

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
    """Alpha of the black contact shadow below a standing object, at plate size, and its box.

    None if the object does not stand on anything or is outside the picture. The shadow fades if the model
    drew none at the object's foot, as when the object is in the air.
    """
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
    """Whether the object stands on the ground in this frame, 0 to 1: by the model's shadow at its foot."""
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
    """A plane (h, w) blurred by a Gaussian with a deviation of BLUR pixels."""
    steps = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(steps**2) / (2 * BLUR**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[None, None], (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def _sampled(places: Tensor, step: int) -> Tensor:
    """Evenly spaced positions (n,) thinned by `step`: the middle of each group. The last group counts as complete."""
    if step == 1:
        return places
    apart = places[1] - places[0] if len(places) > 1 else places.new_zeros(())
    count = math.ceil(len(places) / step)
    return places[0] + apart * (torch.arange(count) * step + (step - 1) / 2)


def _grown(planes: Tensor, step: int, size: tuple[int, int], mode: str) -> Tensor:
    """Planes (C, h, w) enlarged by the whole factor `step`, cropped to size."""
    if step == 1:
        return planes
    grown = F.interpolate(planes[None], scale_factor=step, mode=mode, align_corners=False)[0]
    return grown[:, : size[0], : size[1]]
