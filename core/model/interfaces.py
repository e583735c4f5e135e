"""Interfaces between the parts of a model: text encoder, latents by frame, conditioning on a whole shot, objects.

The codec's interface is the base class `Codec` in core/model/codec.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vera.core.model.codec import Codec
from vera.core.model.limits import Limits
from vera.core.model.named import Finish, Subject
from vera.core.model.offload import computing_device

if TYPE_CHECKING:
    from vera.core.model.transformer import Transformer


class Text(Protocol):
    """A text encoder."""

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt. Raises InputError if the model cannot do it or, unless `anyway`, does not know
        it."""

    def asks_for_people(self, prompt: str) -> bool:
        """Whether a job without a mask must first find the people in the plate, to keep them before a new
        background."""

    def in_front(self, prompt: str) -> Subject | None:
        """The subject of the plate behind which the prompt puts a thing; None for none."""

    def finish(self, prompt: str) -> Finish | None:
        """How an added thing is painted where the states do not tell it; None where they do."""

    def encode(self, prompts: list[str]) -> Tensor:
        """States (B, N, D); positions past a prompt's end are zeros."""


class LatentsByFrame(Protocol):
    """Latents of a shot, in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C, H, W); T counts all latent frames."""

    def read(self, start: int, stop: int) -> Tensor:
        """Latent frames start .. stop-1, (stop - start, C, H, W), fp32."""


class ShotConditioning(Protocol):
    """Conditioning on a whole shot, besides the window that is denoised; made by `Transformer.read_shot`."""

    def window(self, start: int, stop: int) -> ShotConditioning:
        """The part for latent frames start .. stop-1, the argument `shot` of `Transformer.forward`."""


@dataclass(frozen=True)
class SurfacePoints:
    """Surface properties at points (...) of an object, without light.

    distance (...): signed, to the outline, in half heights of the object, negative inside
    color (..., 3): surface colour, display-encoded
    facing (..., 2): components of the unit normal to the right and down; the third one faces the camera
    gloss, openness to ambient light, and emission (...): in [0, 1] each
    named (...): share covered by the prompt's material
    """

    distance: Tensor
    color: Tensor
    facing: Tensor
    gloss: Tensor
    open: Tensor
    shine: Tensor
    named: Tensor


class ShotObject(Protocol):
    """The object that a prompt adds to a shot, as a shape at any resolution. Times are frames of the shot, from 0."""

    moves: bool  # in itself: wings, tails, flames; else `points` are the same at every time
    stands: bool  # on something, and so casts a contact shadow
    glow: float  # of a luminous material, 0 to 1, as are gloss and metal
    gloss: float
    metal: float
    soft: bool  # whether the model draws something soft around it: a shadow, a halo, a reflection
    color: tuple[float, float, float]  # as named, display-encoded
    surface: str  # name of its detail, see core/layer/surface_detail.py; other names have none
    mirrored: bool  # left and right are exchanged, for the detail

    def place(self, time: int) -> tuple[float, float, float]:
        """Its centre, right and down from the frame's middle in half frames, and its half height in half frame
        heights."""

    def turn(self, time: int) -> float:
        """How far it is turned as a whole, in radians, clockwise."""

    def points(self, time: int, u: Tensor, v: Tensor) -> SurfacePoints:
        """Of places u (right) and v (down) from its middle, in half heights, before it is turned."""


@dataclass(frozen=True)
class ShotEffect:
    """An effect that a prompt adds, by its name in the model's world. amount: as the words ask for; 1 is usual."""

    kind: str
    amount: float = 1.0


@dataclass(frozen=True)
class ShotBackground:
    """A background that a prompt asks for, by its name in the model's world. traits: further properties that it has."""

    kind: str
    traits: frozenset[str] = frozenset()


class ObjectDrawer(Protocol):
    """The part of a model that describes added objects as shapes, in addition to its layers."""

    def kind_in(self, text: Tensor) -> str:
        """The object or effect that text states (1, N, D) name; "nothing" if it has no shape."""

    def of_shot(
        self,
        text: Tensor,
        source: LatentsByFrame,
        mask: LatentsByFrame | None,
        window: int,
        finish: Finish | None = None,
    ) -> ShotObject | ShotEffect | ShotBackground | None:
        """What text states (1, N, D) add to a shot of these latents, so painted; None where that has no shapes."""


class BlockRunner(Protocol):
    """A way to run the transformer's blocks: cached, observed, sharded over processes, or recomputed."""

    def run(self, blocks: Sequence[Callable[..., Tensor]], hidden: Tensor, *given: Any) -> Tensor:
        """Pass hidden states (B, 3, L, D) through the blocks, each called as block(hidden, *given)."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    dtype: of transformer and text encoder; None keeps the files' type. The codec, and parameters that must be fp32, are
        fp32 in any case. mini always computes in fp32.
    weights: "auto" follows dtype; "bf16"; "fp8" or "int8" store the transformer's projections in 8 bits (quantise.py)
        and the rest in bf16
    offload: "none"; "parts" keeps text encoder and codec in host memory and moves each to the device only while it
        works; "blocks" does the same with the transformer's blocks
    loras: (path, strength) each
    skip_missing: leave out LoRA tensors that match nothing in the model
    """

    device: torch.device | str
    dtype: torch.dtype | None = None
    weights: str = "auto"
    offload: str = "none"
    loras: tuple[tuple[str, float], ...] = ()
    skip_missing: bool = False


@dataclass(frozen=True)
class Model:
    """A loaded model.

    name: as in a recipe
    fingerprint: 64 hex digits, equal for equal configuration and weights
    notes: messages for the user about how it was loaded
    objects: draws added objects as shapes at plate size; None if the model cannot
    """

    name: str
    transformer: Transformer
    codec: Codec
    text: Text
    fingerprint: str
    limits: Limits
    notes: tuple[str, ...] = ()
    objects: ObjectDrawer | None = None

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        return computing_device(self.transformer)
