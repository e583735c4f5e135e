"""Place mini's objects in a shot: the field of shapes along the drawing's path."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vera.core.model.codec import TIME_STRIDE
from vera.core.model.interfaces import LatentsByFrame, ShotBackground, ShotEffect, SurfacePoints
from vera.core.model.mini import words
from vera.core.model.mini.camera import seen
from vera.core.model.mini.finishes import WOOD
from vera.core.model.mini.object_field import RATE_OF, ObjectDescription, ObjectField
from vera.core.model.mini.scene_reader import SceneReader
from vera.core.model.named import Finish

if TYPE_CHECKING:
    from vera.core.model.mini.mini_transformer import MiniTransformer

LITTLE, MUCH = 0.5, 2.2  # factors on the number of particles for "little" and "much"
ROCK = (0.06, 0.2)  # rocking of objects that do not stand: amplitude in radians, rate in radians per frame


@dataclass(frozen=True)
class MiniObject:
    """See `ShotObject`. path (frames, 3): middle and log of the half height, as `Aim.path` tells them.

    texture: of what the prompt's material covers: "wood", or None.
    """

    field: ObjectField
    description: ObjectDescription
    path: Tensor
    texture: str | None = None

    @property
    def color(self) -> tuple[float, float, float]:
        return self.description.color

    @property
    def stands(self) -> bool:
        return self.description.has("stands")

    @property
    def glow(self) -> float:
        return float(self.description.has("glowing"))

    @property
    def metal(self) -> float:
        return float(self.description.has("metallic"))

    @property
    def gloss(self) -> float:
        """1 for a glossy material, 0 for a matte one; in between, the kind's own gloss is used."""
        return 0.5 + 0.5 * self.description.has("glossy") - 0.5 * self.description.has("matte")

    @property
    def soft(self) -> bool:
        return self.stands or self.description.has("reflected")

    def place(self, time: int) -> tuple[float, float, float]:
        x, y, size = self.path[min(time, len(self.path) - 1)].tolist()
        return x, y, math.exp(size)

    @property
    def moves(self) -> bool:
        return self.description.kind in RATE_OF

    @property
    def surface(self) -> str:
        return self.description.kind if self.texture is None else ""

    @property
    def mirrored(self) -> bool:
        return self.description.has("faces left")

    def turn(self, time: int) -> float:
        return 0.0 if self.stands else ROCK[0] * math.sin(ROCK[1] * time)

    def points(self, time: int, u: Tensor, v: Tensor) -> SurfacePoints:
        side = -1.0 if self.mirrored else 1.0
        found = self.field.at(self.description, side * u, v, float(time))
        color = found.color
        if self.texture == WOOD:
            color = color * torch.lerp(torch.ones_like(u), wood(side * u, v), found.named)[..., None]
        return replace(found, color=color, facing=found.facing * found.facing.new_tensor([side, 1.0]))


class ShapeDrawer:
    """See `ObjectDrawer`. The field gives an object's shape, the transformer's aim and camera its path, and `scenes`
    reads backgrounds, in editions that have it."""

    def __init__(self, field: ObjectField, transformer: MiniTransformer, scenes: SceneReader | None = None) -> None:
        self.field, self.transformer, self.scenes = field, transformer, scenes

    def kind_in(self, text: Tensor) -> str:
        description = self.field.describe(text.cpu())
        scene = self._scene(description, text)
        return description.kind if scene is None else scene.kind

    def _scene(self, description: ObjectDescription, text: Tensor) -> ShotBackground | None:
        """The background that a prompt names, unless it adds a thing: "a white moth behind the dancer" is none."""
        return None if self.scenes is None or description.kind != "nothing" else self.scenes.background(text)

    @torch.inference_mode()
    def of_shot(
        self,
        text: Tensor,
        source: LatentsByFrame,
        mask: LatentsByFrame | None,
        window: int,
        finish: Finish | None = None,
    ) -> MiniObject | ShotEffect | ShotBackground | None:
        description = self.field.describe(text.cpu())
        scene = self._scene(description, text)
        if scene is not None:
            return scene
        drawing = self.transformer.drawing
        if description.kind in words.EFFECTS:
            return ShotEffect(
                description.kind, LITTLE if description.has("little") else MUCH if description.has("much") else 1.0
            )
        if description.kind not in words.OBJECTS or drawing is None:
            return None
        shot = self.transformer.read_shot(source, mask, window)
        aspect = source.shape[3] / source.shape[2]
        latents = None if mask is None else mask.read(0, mask.shape[0]).movedim(0, 1)[None].to(text.device)
        path = drawing.aim.path(text, latents, shot.progress.to(text.device), aspect)
        if shot.views is not None:
            path = seen(path, shot.views.to(path.device), aspect)
        made = MiniObject(self.field, description, by_frame(path[0].float().cpu()))
        return made if finish is None else painted(made, finish)


def painted(shape: MiniObject, finish: Finish) -> MiniObject:
    """The same object of another colour, material and texture."""
    traits = shape.description.traits if finish.material is None else shape.description.traits | {finish.material: 1.0}
    return replace(
        shape, description=replace(shape.description, color=finish.color, traits=traits), texture=finish.texture
    )


def wood(u: Tensor, v: Tensor) -> Tensor:
    """How bright wood is beside its colour, at places in half heights: growth rings cut lengthwise, and fibres."""
    rings = v * 3.2 + 0.3 * torch.sin(1.7 * u + 0.6) + 0.1 * torch.sin(4.1 * u + 5 * v)
    late = torch.remainder(rings, 1.0) ** 2.5  # a ring darkens slowly and ends at once
    fibres = torch.sin(70 * v + 3 * torch.sin(2.3 * u)) * torch.sin(31 * v + 1.9 * u)
    return (1.12 - 0.5 * late + 0.06 * fibres).clamp(0.4, 1.2)


def by_frame(path: Tensor) -> Tensor:
    """Values at the beginning and end of latent frames (T, 2, ...), interpolated to frames (1 + 4 (T - 1), ...)."""
    begins, ends = path[1:, 0], path[1:, 1]
    parts = [torch.lerp(begins, ends, k / (TIME_STRIDE - 1)) for k in range(TIME_STRIDE)]
    return torch.cat([path[:1, 1], torch.stack(parts, dim=1).flatten(0, 1)])
