"""What the parts of a model give one another: the text encoder, latents by frame, what is known of a whole shot.

The codec's contract is the base class `vera.core.model.codec.Codec`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from vera.core.model.codec import Codec
from vera.core.model.limits import Limits
from vera.core.model.offload import computing_device

if TYPE_CHECKING:
    from vera.core.model.transformer import Transformer


class Text(Protocol):
    """A text encoder."""

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt. Raises InputError for what the model cannot do, or does not know unless `anyway`."""

    def asks_for_people(self, prompt: str) -> bool:
        """Whether the people in the plate have to be told where there is no mask: before another background."""

    def encode(self, prompts: list[str]) -> Tensor:
        """States (B, N, D); positions past a prompt's end are zeros."""


class LatentsByFrame(Protocol):
    """Latents of a shot, in memory or on the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(T, C, H, W), of all latent frames."""

    def read(self, start: int, stop: int) -> Tensor:
        """Latent frames start .. stop-1, (stop - start, C, H, W), fp32."""


class ShotConditioning(Protocol):
    """What a model knows of a whole shot beside the window that it looks at; made by `Transformer.read_shot`."""

    def window(self, start: int, stop: int) -> ShotConditioning:
        """The same for latent frames start .. stop-1: what `Transformer.forward` is given as `shot`."""


@dataclass(frozen=True)
class SurfacePoints:
    """What is known of points (...) of an object, without any light.

    distance: to the outline in half heights of the object, negative inside; color (..., 3): what it is painted with,
    display-encoded; facing (..., 2): its normal to the right and down, what is left of 1 faces the camera; gloss, how
    open it is to the light about it, and how much it shines by itself, (...) in [0, 1] each; named (...): the share
    that the prompt's material covers.
    """

    distance: Tensor
    color: Tensor
    facing: Tensor
    gloss: Tensor
    open: Tensor
    shine: Tensor
    named: Tensor


class ShotObject(Protocol):
    """The object that a prompt adds to a shot, as a shape: known at any size. Times are frames of the shot, from 0."""

    stands: bool  # on something, and so casts a contact shadow
    glow: float  # of a luminous material, 0 to 1, as are gloss and metal
    gloss: float
    metal: float
    soft: bool  # whether the model draws something soft about it: a shadow, a halo, a reflection
    color: tuple[float, float, float]  # as named, display-encoded

    def place(self, time: int) -> tuple[float, float, float]:
        """Its middle in halves of the frame, right and down from the frame's middle; its half height in halves of the
        frame's."""

    def points(self, time: int, u: Tensor, v: Tensor) -> SurfacePoints:
        """Of places u (right) and v (down) from its middle, in half heights."""


@dataclass(frozen=True)
class ShotEffect:
    """An effect that a prompt adds, by its name in the model's world; amount: how much of it the words ask for, 1 is
    usual."""

    kind: str
    amount: float = 1.0


@dataclass(frozen=True)
class ShotBackground:
    """A background that a prompt asks for, by its name in the model's world. traits: what else the words say of it."""

    kind: str
    traits: frozenset[str] = frozenset()


class ObjectDrawer(Protocol):
    """The part of a model that knows what it adds as shapes, beside its layers."""

    def kind_in(self, text: Tensor) -> str:
        """What text states (1, N, D) name: an object, an effect, or nothing that has shapes, which is "nothing"."""

    def of_shot(
        self, text: Tensor, source: LatentsByFrame, mask: LatentsByFrame | None, window: int
    ) -> ShotObject | ShotEffect | ShotBackground | None:
        """What text states (1, N, D) add to a shot of these latents; None where that has no shapes."""


class BlockRunner(Protocol):
    """A way to run the transformer's blocks: cached, watched, cut over processes, recomputed."""

    def run(self, blocks: Sequence[Callable[..., Tensor]], hidden: Tensor, *given: Any) -> Tensor:
        """Hidden states (B, 3, L, D) through the blocks, each called as block(hidden, *given)."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    dtype of the transformer and the text encoder; None keeps the files' own. The parameters that must stay fp32 do,
    and so does the codec. weights: "auto" leaves it at that; "bf16", or "fp8" and "int8", with which the
    transformer's projections take 8 bits (see quantise.py) and the rest is bf16. mini is small: it is computed in fp32,
    whatever its weights are kept in. offload: "parts" keeps the text encoder and the codec in the host's memory, and
    brings each to the device only while it works; "blocks" the transformer's blocks too. loras: (path, strength) each;
    skip_missing: leave out their tensors that match nothing in the model.
    """

    device: torch.device | str
    dtype: torch.dtype | None = None
    weights: str = "auto"
    offload: str = "none"
    loras: tuple[tuple[str, float], ...] = ()
    skip_missing: bool = False


@dataclass(frozen=True)
class Model:
    """All that turns noise into layers.

    name: as in a recipe. fingerprint: 64 hex digits, the same for the same configuration and weights. notes: what a
    user should know of how it was loaded, a sentence each. objects: draws an object as a shape at plate
    size, where the model can.
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
