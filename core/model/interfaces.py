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
    user should know of how it was loaded, a sentence each.
    """

    name: str
    transformer: Transformer
    codec: Codec
    text: Text
    fingerprint: str
    limits: Limits
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        return computing_device(self.transformer)
