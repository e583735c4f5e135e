"""What every backdrop has: what was asked for, its random choices, and the light that it shows at a time."""

from __future__ import annotations

import random
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from vera.core.layer.backdrop.backdrop_view import View
from vera.core.layer.backdrop.smooth_noise import Noise


@dataclass(frozen=True)
class Asked:
    """kind: of the model's backgrounds. seed: of the take. traits: what else the words say, such as "misty"."""

    kind: str
    seed: int
    traits: frozenset[str] = field(default=frozenset())

    def has(self, trait: str) -> bool:
        return trait in self.traits


@dataclass(frozen=True)
class Picture:
    """light (3, h, w): linear Rec.709 in which white in the plate's best light is 1. blur (h, w): how far out of focus,
    of what is at infinity. follows_plate: how far its level follows the plate's; a night stays dark."""

    light: Tensor
    blur: Tensor
    follows_plate: float = 1.0


class Painting(ABC):
    """A backdrop of one shot. `at` may be called from several threads once `parts` was read."""

    defocus = 0.006  # radius of a point at infinity, in heights of the picture
    moves = True  # whether two times differ

    def __init__(self, asked: Asked, view: View) -> None:
        self.asked, self.view = asked, view
        self.rng = random.Random(zlib.crc32(f"{asked.kind} {asked.seed}".encode()))
        self.noise = cache(lambda number: Noise(asked.seed, zlib.crc32(asked.kind.encode()), number))

    @cached_property
    @abstractmethod
    def parts(self) -> Any:
        """What does not change with time."""

    @abstractmethod
    def at(self, time: float) -> Picture:
        """The backdrop at a time in frames."""


def evenly(view: View, value: float = 1.0) -> Tensor:
    """(h, w) of one value."""
    return torch.full((view.rows, view.columns), value)
