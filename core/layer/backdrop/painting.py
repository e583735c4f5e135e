"""The base class of painted backgrounds: its inputs, its random numbers, and its result."""

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
class BackdropRequest:
    """A requested background. kind: a name in PAINTINGS. seed: of random choices. traits: such as "misty"."""

    kind: str
    seed: int
    traits: frozenset[str] = field(default=frozenset())

    def has(self, trait: str) -> bool:
        return trait in self.traits


@dataclass(frozen=True)
class Picture:
    """A painted picture.

    light: (3, h, w), linear Rec.709; 1 is a white surface in the plate's brightest light
    blur: (h, w), radius of the defocus disc as a share of that at infinity
    follows_plate: 1 takes the plate's brightness, 0 keeps the painting's own; below 1 a night stays dark
    """

    light: Tensor
    blur: Tensor
    follows_plate: float = 1.0


class Painting(ABC):
    """A painted background of one shot. `at` is thread-safe after `parts` was read once."""

    defocus = 0.006  # radius of the defocus disc at infinity, in picture heights; raising it blurs more
    moves = True  # whether the picture changes over time

    def __init__(self, request: BackdropRequest, view: View) -> None:
        self.request, self.view = request, view
        self.rng = random.Random(zlib.crc32(f"{request.kind} {request.seed}".encode()))
        self.noise = cache(lambda number: Noise(request.seed, zlib.crc32(request.kind.encode()), number))

    @cached_property
    @abstractmethod
    def parts(self) -> Any:
        """Everything that does not change over time."""

    @abstractmethod
    def at(self, time: float) -> Picture:
        """The picture at a time in frames."""


def evenly(view: View, value: float = 1.0) -> Tensor:
    """A plane (h, w) of one value."""
    return torch.full((view.rows, view.columns), value)
