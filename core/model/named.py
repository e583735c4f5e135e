"""Things that a prompt names, as data. Without torch, for the check of a prompt before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """Something in the plate that a prompt names. name: as the model calls it."""

    name: str
    is_person: bool


@dataclass(frozen=True)
class Finish:
    """How a thing is painted, as a prompt says it: colour (display-encoded), material by the name of a trait, and
    texture; None where the words leave it."""

    color: tuple[float, float, float]
    material: str | None = None
    texture: str | None = None
