"""The user's controls of a lift, besides plate, edited video and mask."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LiftControls:
    """learned: whether the learned gate decides which pixels were touched
    sensitivity: divisor of the evidence thresholds; 4 finds changes half as strong
    edge: factor by which solid edges are drawn steeper than they are found
    steadiness: frames each way over which the matte is averaged where nothing moves
    """

    learned: bool = True
    sensitivity: float = 1.0
    edge: float = 1.0
    steadiness: int = 2


USUAL = LiftControls()
