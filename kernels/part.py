"""A part of a picture: work is done where a layer can be, and the result is that of the whole picture, cropped."""

from __future__ import annotations

from typing import NamedTuple


class Part(NamedTuple):
    """Rows top to bottom and columns left to right of a picture, ends outside."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def whole(cls, size: tuple[int, ...]) -> Part:
        """All of a picture of this height and width."""
        return cls(0, size[0], 0, size[1])

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.bottom - self.top, self.right - self.left

    def joined(self, other: Part | None) -> Part:
        """The smallest part that contains both."""
        if other is None:
            return self
        return Part(
            min(self.top, other.top),
            max(self.bottom, other.bottom),
            min(self.left, other.left),
            max(self.right, other.right),
        )

    def grown(self, margin: int, size: tuple[int, int]) -> Part:
        """The part with a margin around it, within a picture of this size."""
        return Part(
            max(0, self.top - margin),
            min(size[0], self.bottom + margin),
            max(0, self.left - margin),
            min(size[1], self.right + margin),
        )


class Window(NamedTuple):
    """A part of a picture of `size` (height, width)."""

    size: tuple[int, int]
    part: Part

    @classmethod
    def whole(cls, size: tuple[int, ...]) -> Window:
        return cls((size[0], size[1]), Part.whole(size))
