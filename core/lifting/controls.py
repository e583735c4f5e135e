"""What a user may ask of a lift beside plate, edited video and mask."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LiftControls:
    """learned: whether the learned gate decides what was touched at all. sensitivity: by which the evidence that is
    asked for is divided: 4 finds changes half as strong. edge: how many times steeper a solid edge is
    drawn than it is found. steadiness: frames each way over which mattes of what stands still are averaged."""

    learned: bool = True
    sensitivity: float = 1.0
    edge: float = 1.0
    steadiness: int = 2


USUAL = LiftControls()
