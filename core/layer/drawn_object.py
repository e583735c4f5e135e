"""Draw an object as an analytic shape, at the plate's resolution and in the plate's light.

`mini` describes the object that it adds as a shape (`ShotObject`), in addition to the layer from its diffusion model.
The outline and the surface are drawn from the shape, complete and sharp at any resolution. Occlusion comes from a mask
or from the people in the plate, never from the diffusion model's alpha, which has holes on real plates. That alpha only
decides whether the shape is what the model drew, and gives the soft parts below the object: its shadow on the ground
and its reflection.

The shape is evaluated on a grid that is fixed to the object, and the grid is resampled to the plate. So the samples lie
at the same points of the object in every frame, and a rigid shape is evaluated once.

Lengths: a "half height" is half the object's height; a "model pixel" is a pixel of the generated layer.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vera.core.layer.plate_light import Scene, display_codes
from vera.core.layer.surface_detail import Place, detailed
from vera.core.model.interfaces import ShotObject, SurfacePoints
from vera.kernels.part import Part
from vera.kernels.planes import smoothstep

# Half side of the box around an object, in half heights. Raising it fits larger shapes and costs time.
BOX_HALF_SIDE = 1.35
# Largest number of samples across a shape's grid: for a rigid shape, evaluated once per shot; and for a moving one,
# evaluated in every frame. Raising them draws large objects sharper, and takes time.
FINEST, FINEST_MOVING = 480, 240
# The number of samples across a grid is a multiple of this. Raising it makes fewer grids for objects that change size.
GRID_STEP = 48
# A shape is first evaluated on every COARSE_STEP-th sample, then on all samples closer to its outline than
# COARSE_MARGIN half heights. A larger step or a smaller margin is faster and can miss thin parts.
COARSE_STEP, COARSE_MARGIN = 4, 0.15
# Samples inside the outline from which the surface is taken for the outline itself, where the field mixes it with what
# it learned outside. Raising it hides wider fringes and blurs more of the edge.
EDGE_SAMPLES = 1.5
# Strength of surface detail on metal, which is polished; 1 on other materials. Raising it roughens metal.
METAL_DETAIL = 0.25
# Deviation, in model pixels, of the Gaussian that blurs a shape before it is compared with the model's alpha. It is the
# blur of the model's own shapes; raising it expects softer ones.
MODEL_BLUR = 1.3
# Distance outside the outline, in model pixels: below the first the model's alpha is the object's own blur and is
# removed, above the second it is kept. Raising it removes more of shadows and reflections.
OWN_BLUR = (1.0, 4.0)
# Half heights below the object's middle between which the model's alpha begins to count as shadow or reflection.
# Raising it removes more of what the model draws beside the object.
SHADOW_BEGINS = (0.4, 0.8)
# Model pixels around a shape in which the model's alpha is compared with it. Raising it counts more stray alpha.
COMPARED_MARGIN = 6.0
# Smallest overlap (intersection over union) of shape and model alpha; raising it rejects more shapes.
MIN_OVERLAP = 0.35
# The same of a thing behind somebody, of which the model may hide any part: the share of the shape that it drew.
AGREES_HIDDEN = 0.1
# Where a contact shadow can be, in half heights from the object's middle: its half width, and its rows. Raising them
# only costs time; both ellipses of `contact_shadow` have to lie inside.
SHADOW_HALF_WIDTH, SHADOW_ROWS = 1.5, (0.7, 1.26)
SHADOW = 0.62  # strength of the contact shadow where the object touches the ground. Raising it darkens the shadow
# A luminous object's halo: alpha at the outline, and width in half heights. Raising them makes it stronger, and wider.
HALO, HALO_REACH = 0.5, 0.55


# Visible share of an occluded object below which it is moved aside, and the visible share wanted then. Raising the
# first moves objects more often, raising the second farther.
LEAST_SEEN, SEEN_ASIDE = 0.25, 0.5
# Variation between seeds other than 0: largest tilt in radians, smaller for standing objects, and largest change of
# size. Raising them makes takes differ more. A shape that no longer covers the model's alpha is not drawn.
MAX_TILT, MAX_TILT_STANDING, MAX_GROWTH = 0.12, 0.03, 0.04


@dataclass(frozen=True)
class Take:
    """A seed's variation of the shape. tilt: radians, clockwise. size: factor."""

    tilt: float = 0.0
    size: float = 1.0

    @classmethod
    def of(cls, seed: int, stands: bool) -> Take:
        """The variation of a seed; seed 0 leaves the shape unchanged."""
        if seed == 0:
            return cls()
        turn, grow = np.random.default_rng(seed).uniform(-1, 1, 2)
        return cls(float(turn) * (MAX_TILT_STANDING if stands else MAX_TILT), 1 + MAX_GROWTH * float(grow))


class SurfaceStore:
    """A cache of the surface of a shot's shape on its grid, for frames that need the same one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[int, int] | None = None
        self._surface: SurfacePoints | None = None

    def surface(self, shape: ShotObject, time: int, count: int) -> SurfacePoints:
        """The shape on `own_grid(count)` at a time in frames."""
        if shape.moves:
            return points_about(shape, time, *own_grid(count))
        with self._lock:
            if self._surface is None or self._key != (0, count):
                self._key, self._surface = (0, count), points_about(shape, 0, *own_grid(count))
            return self._surface


@dataclass(frozen=True)
class DrawnFrame:
    """An object in one frame of its shot.

    time: frames since the shot's first
    standing: 1 on the ground, 0 in the air
    hidden: (h, w) in [0, 1], coverage by parts of the plate in front of the object, at any size; None for none
    moved: shift to the right and down, in halves of the picture's width and height
    store: shared by the frames of a shot
    """

    shape: ShotObject
    time: int
    take: Take = Take()
    standing: float = 1.0
    hidden: Tensor | None = None
    moved: tuple[float, float] = (0.0, 0.0)
    store: SurfaceStore = field(default_factory=SurfaceStore, compare=False)

    def place(self) -> tuple[float, float, float]:
        """The object's centre (x, y), -1 to 1 across the picture, and its half height in halves of the picture's
        height.
        """
        x, y, half = self.shape.place(self.time)
        return x + self.moved[0], y + self.moved[1], half * self.take.size

    @property
    def turn(self) -> float:
        """Rotation of the whole object, in radians, clockwise."""
        return self.take.tilt + self.shape.turn(self.time)

    def own(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Points to the right of and below the centre, in half heights, in the object's own frame (before rotation)."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return cos * u + sin * v, cos * v - sin * u

    def turned(self, facing: Tensor) -> Tensor:
        """Normals (..., 2) from the object's own frame, rotated to the picture."""
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        right, down = facing.unbind(-1)
        return torch.stack([cos * right - sin * down, sin * right + cos * down], dim=-1)

    def points(self, u: Tensor, v: Tensor) -> SurfacePoints:
        """The surface at points (...) to the right of and below the centre, in half heights."""
        found = self.shape.points(self.time, *self.own(u, v))
        return replace(found, facing=self.turned(found.facing))


@dataclass(frozen=True)
class Box:
    """The part of a picture that contains an object.

    rows, columns: of the picture. u (columns,), v (rows,): position of each column and row relative to the object's
    centre, right and down, in half heights.
    """

    rows: slice
    columns: slice
    u: Tensor
    v: Tensor

    def within(self, corner: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns relative to a row and a column of the picture."""
        rows, columns = (slice(s.start - at, s.stop - at) for s, at in zip((self.rows, self.columns), corner))
        return rows, columns


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


def box_of(drawn: DrawnFrame, size: tuple[int, int], aspect: float, reach: float = BOX_HALF_SIDE) -> Box | None:
    """The object's box in a picture of size (height, width); None if it lies outside the picture.

    aspect: displayed width over height of the picture. reach: half side of the box in half heights.
    """
    height, width = size
    x, y, half = drawn.place()
    scale = half * height / 2  # rows per half height
    across = half * width / 2 / aspect  # columns per half height
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


@dataclass(frozen=True)
class Agreement:
    """Overlap of a shape and the model's alpha: areas in model pixels, summed over frames.

    shared: of the intersection. together: of the union. shape: of the shape
    """

    shared: float = 0.0
    together: float = 0.0
    shape: float = 0.0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(self.shared + other.shared, self.together + other.together, self.shape + other.shape)

    def holds(self, hidden: bool) -> bool:
        """Whether the overlap is large enough. hidden: the model may have hidden parts of the object."""
        return self.shared > (AGREES_HIDDEN * self.shape if hidden else MIN_OVERLAP * self.together)


def agreement(drawn: DrawnFrame, alpha: Tensor, aspect: float) -> Agreement:
    """The overlap of the blurred shape and the model's alpha (h, w) in one frame."""
    cover = coverage(drawn, (alpha.shape[0], alpha.shape[1]), aspect)
    shape, near = blurred(cover.alpha), cover.distance < COMPARED_MARGIN
    both, either = torch.minimum(shape, alpha)[near], torch.maximum(shape, alpha)[near]
    return Agreement(float(both.sum()), float(either.sum()), float(shape[near].sum()))


def soft_below(drawn: DrawnFrame, alpha: Tensor, aspect: float) -> Tensor:
    """The part of the model's alpha (h, w) that is shadow or reflection below the object; 0 elsewhere."""
    size = (alpha.shape[0], alpha.shape[1])
    _, y, half = drawn.place()
    down = ((torch.arange(size[0]) + 0.5) / size[0] * 2 - 1 - y) / half
    below = smoothstep(down, *SHADOW_BEGINS)[:, None]
    alpha = alpha * below
    return alpha * smoothstep(coverage(drawn, size, aspect).distance, *OWN_BLUR) if alpha.any() else alpha


@dataclass(frozen=True)
class ObjectInScene:
    """The inputs for drawing an object."""

    frame: DrawnFrame
    scene: Scene

    @property
    def part(self) -> Part | None:
        """The part of the scene that contains the object and its shadow; None if both are outside."""
        found = None
        for box in (box_of(self.frame, self.scene.size, self.scene.aspect), shadow_box(self)):
            if box is not None:
                part = Part(box.rows.start, box.rows.stop, box.columns.start, box.columns.stop)
                found = part.joined(found)
        return found


def over_rest(
    drawn: ObjectInScene, shown: Tensor, edit: Tensor, matte: Tensor, corner: tuple[int, int] = (0, 0)
) -> tuple[Tensor, Tensor, Tensor]:
    """Composite the object and its contact shadow over the rest of the model's layer, at plate size.

    shown (H, W): visible share of the object, by occlusion. edit (H, W, 3), matte (H, W): straight colour and alpha of
    the rest; both are overwritten. corner: row and column of the scene at which (H, W) begins; it contains
    `drawn.part`.
    Returns straight colour (H, W, 3), alpha (H, W), and the object's own alpha (H, W) in it.
    """
    own = torch.zeros_like(matte)
    if shadow := contact_shadow(drawn):
        box, dark = shadow
        here = box.within(corner)
        dark = dark * shown[here]
        edit[here] *= (matte[here] / torch.maximum(matte[here], dark).clamp_min(1e-6))[..., None]
        matte[here] = torch.maximum(matte[here], dark)
    if made := picture(drawn):
        here = made.box.within(corner)
        own[here] = made.alpha * shown[here]
        over, under = own[here], (1 - own[here]) * matte[here]
        matte[here] = over + under
        edit[here] = (over[..., None] * made.color + under[..., None] * edit[here]) / (over + under)[
            ..., None
        ].clamp_min(1e-6)
    return edit, matte, own


def picture(drawn: ObjectInScene) -> ObjectPicture | None:
    """Draw the object at the scene's size and in its light; luminous objects get a halo. None if it is outside."""
    size = drawn.scene.size
    frame, shape = drawn.frame, drawn.frame.shape
    box = box_of(frame, size, drawn.scene.aspect)
    if box is None:
        return None
    scale = frame.place()[2] * size[0] / 2
    finest = FINEST_MOVING if shape.moves else FINEST
    count = min(finest, GRID_STEP * math.ceil(2 * BOX_HALF_SIDE * scale / GRID_STEP))
    points = frame.store.surface(shape, frame.time, count)
    points = replace(points, facing=frame.turned(points.facing))
    lit = display_codes(drawn.scene.light.shade(points, shape.gloss, shape.metal, shape.glow), drawn.scene.clips)
    u, v = frame.own(box.u[None], box.v[:, None])
    distance = _resampled(points.distance[None], u, v, "bicubic")[0]
    color = _resampled(lit.movedim(-1, 0), u, v, "bilinear").movedim(0, -1)
    alpha = (0.5 - distance * scale).clamp(0, 1)
    if shape.glow:
        edge = BOX_HALF_SIDE - torch.maximum(box.v.abs()[:, None], box.u.abs()[None])
        halo = HALO * smoothstep(-distance, -HALO_REACH, 0.0) ** 2 * smoothstep(edge, 0.0, 0.3) * (1 - alpha)
        own = torch.tensor([min(1.0, 0.3 + c) for c in shape.color])
        total = alpha + halo
        color = (alpha[..., None] * color + halo[..., None] * own) / total[..., None].clamp_min(1e-6)
        alpha = total
    return ObjectPicture(box, color, alpha)


def own_grid(count: int) -> tuple[Tensor, Tensor]:
    """Positions (count, count) of a shape's grid, right of and below the object's centre, in half heights."""
    at = ((torch.arange(count) + 0.5) / count * 2 - 1) * BOX_HALF_SIDE
    down, right = torch.meshgrid(at, at, indexing="ij")
    return right, down


def points_about(shape: ShotObject, time: int, u: Tensor, v: Tensor) -> SurfacePoints:
    """Evaluate a shape on a grid (h, w): coarsely first, then every sample near it.

    u, v: positions in half heights. Far samples get the interpolated coarse distance and the shape's plain colour.
    """
    size = (u.shape[0], u.shape[1])
    coarse = shape.points(time, u[::COARSE_STEP, ::COARSE_STEP], v[::COARSE_STEP, ::COARSE_STEP]).distance
    rough = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    near = (rough < COARSE_MARGIN).nonzero(as_tuple=True)
    found = _with_detail(shape, time, u[near], v[near], 2 * BOX_HALF_SIDE / size[1])

    def placed(values: Tensor, blank: Tensor) -> Tensor:
        return blank.index_put(near, values)

    bare = torch.zeros(size)
    made = SurfacePoints(
        placed(found.distance, rough),
        placed(found.color, torch.tensor(shape.color).expand(*size, 3)),
        placed(found.facing, torch.zeros(*size, 2)),
        *(placed(x, bare) for x in (found.gloss, found.open, found.shine, found.named)),
    )
    return _without_fringe(made, 2 * BOX_HALF_SIDE / size[1])


def _without_fringe(points: SurfacePoints, sample: float) -> SurfacePoints:
    """Points of a grid (h, w) whose reflectance at the outline is that of near points inside.

    sample: distance of two samples in half heights. Points without any inside near them, as in thin parts, keep their
    own.
    """
    inside = points.distance < -EDGE_SAMPLES * sample
    planes = torch.stack([*points.color.unbind(-1), points.gloss, points.open, points.shine, points.named])
    reach = math.ceil(2 * EDGE_SAMPLES)
    sums = F.pad(torch.cat([planes * inside, inside[None].float()])[None], (reach,) * 4)
    sums = F.avg_pool2d(F.avg_pool2d(sums, (1, 2 * reach + 1), 1), (2 * reach + 1, 1), 1)[0]
    near = sums[-1] * (2 * reach + 1) ** 2 > 0.5  # at least one inside
    planes = torch.where(near & ~inside, sums[:-1] / sums[-1].clamp_min(1e-6), planes)
    gloss, open_, shine, named = planes[3:]
    return replace(points, color=planes[:3].movedim(0, -1), gloss=gloss, open=open_, shine=shine, named=named)


def _with_detail(shape: ShotObject, time: int, u: Tensor, v: Tensor, sample: float) -> SurfacePoints:
    """A shape's points at positions (n,) with its detail. sample: distance of two samples in half heights."""
    points = shape.points(time, u, v)
    strength = 1 - shape.metal * (1 - METAL_DETAIL)
    if not shape.mirrored:
        return detailed(points, shape.surface, Place(u, v, sample, time), strength)
    mirror = points.facing.new_tensor([-1.0, 1.0])
    turned = replace(points, facing=points.facing * mirror)
    points = detailed(turned, shape.surface, Place(-u, v, sample, time), strength)
    return replace(points, facing=points.facing * mirror)


def contact_shadow(drawn: ObjectInScene) -> tuple[Box, Tensor] | None:
    """Alpha of the black contact shadow below a standing object, at plate size, and its box.

    None if the object does not stand on anything or is outside the picture. The shadow fades as the object leaves the
    ground, see `standing`.
    """
    box = shadow_box(drawn)
    if box is None:
        return None
    away = -float(drawn.scene.light.key[0])
    v, u = box.v[:, None], box.u[None]
    flat = torch.hypot((u - 0.2 * away) / 1.25, (v - 0.98) / 0.26)
    core = torch.hypot((u - 0.05 * away) / 0.7, (v - 0.985) / 0.09)
    depth = SHADOW * (1.15 - 0.5 * drawn.scene.light.ambient)
    shadow = depth * (0.75 * smoothstep(-flat, -1.0, -0.15) ** 1.5 + 0.5 * smoothstep(-core, -1.0, -0.2))
    return box, (shadow * drawn.frame.standing).clamp(0, 0.85)


def shadow_box(drawn: ObjectInScene) -> Box | None:
    """Where the contact shadow can be; None for an object that has none, or if that is outside of the picture."""
    if not drawn.frame.shape.stands:
        return None
    box = box_of(drawn.frame, drawn.scene.size, drawn.scene.aspect, reach=2.0)
    return box and _cropped(box, (-SHADOW_HALF_WIDTH, SHADOW_HALF_WIDTH), SHADOW_ROWS)


def _cropped(box: Box, right: tuple[float, float], down: tuple[float, float]) -> Box | None:
    """The part of a box between these positions in half heights; None if it is empty."""
    columns, rows = (((x >= low) & (x <= high)).nonzero()[:, 0] for x, (low, high) in ((box.u, right), (box.v, down)))
    if not len(rows) or not len(columns):
        return None
    (top, bottom), (left, last) = ((int(found[0]), int(found[-1]) + 1) for found in (rows, columns))
    corner = box.rows.start, box.columns.start
    return Box(
        slice(corner[0] + top, corner[0] + bottom),
        slice(corner[1] + left, corner[1] + last),
        box.u[left:last],
        box.v[top:bottom],
    )


def aside(drawn: Sequence[DrawnFrame], aspect: float) -> float:
    """Shift of an object, in halves of the picture's width, that makes it visible beside what hides it.

    drawn: some frames of the object, with their occlusion
    Returns 0 if enough is visible, else the smallest shift with which enough is visible, or the one that shows most.
    """
    pairs = []
    for frame in drawn:
        assert frame.hidden is not None
        size = (frame.hidden.shape[0], frame.hidden.shape[1])
        pairs.append((coverage(frame, size, aspect).alpha, 1 - frame.hidden))
    whole = float(sum(cover.sum() for cover, _ in pairs))
    width = pairs[0][0].shape[1]

    def seen(step: int) -> float:
        parts = (_moved(cover, step) * free for cover, free in pairs)
        return float(sum(part.sum() for part in parts)) / max(whole, 1e-6)

    if whole == 0 or seen(0) >= LEAST_SEEN:
        return 0.0
    steps = sorted(range(-width, width + 1, max(1, width // 64)), key=abs)
    found = next((step for step in steps if seen(step) >= SEEN_ASIDE), None)
    return 2 * (max(steps, key=seen) if found is None else found) / width


def _moved(plane: Tensor, step: int) -> Tensor:
    """A plane (h, w) shifted to the right by whole pixels. Values that leave it are lost."""
    width = plane.shape[1]
    return F.pad(plane, (max(step, 0), max(-step, 0)))[:, max(-step, 0) : max(-step, 0) + width]


def standing(drawn: DrawnFrame, alpha: Tensor, aspect: float) -> float:
    """Whether an object stands on the ground in a frame, 0 to 1, from the model's alpha (h, w) at its foot, where the
    model draws a shadow."""
    box = box_of(drawn, (alpha.shape[0], alpha.shape[1]), aspect, reach=1.6)
    if box is None:
        return 0.0
    v, u = box.v[:, None], box.u[None]
    foot = torch.hypot(u / 0.9, (v - 1.08) / 0.16) < 1
    if not foot.any():
        return 1.0
    return float(smoothstep(alpha[box.rows, box.columns][foot].mean(), 0.12, 0.3))


def blurred(planes: Tensor) -> Tensor:
    """A plane (h, w) blurred by a Gaussian with a sigma of MODEL_BLUR pixels."""
    steps = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(steps**2) / (2 * MODEL_BLUR**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(planes[None, None], (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def _resampled(planes: Tensor, u: Tensor, v: Tensor, mode: str) -> Tensor:
    """Sample planes (C, n, n) on `own_grid(n)` at positions u, v (h, w): (C, h, w). Values outside are the border's."""
    places = torch.stack(torch.broadcast_tensors(u, v), dim=-1) / BOX_HALF_SIDE
    return F.grid_sample(planes[None], places[None], mode=mode, padding_mode="border", align_corners=False)[0]
