"""The user's options for reading a plate's files, from a recipe or from the options of `vera inspect`."""

from collections.abc import Collection
from dataclasses import dataclass, fields

OF_PICTURES = ("layer", "part", "view")  # options of EXR files with several pictures
OF_VIDEO = ("matrix", "range")  # options of YUV movies
MATRICES = ("bt601", "bt709", "bt2020", "smpte240m", "fcc")
RANGES = ("limited", "full")
FIELD_WAYS = ("upper", "lower", "ignore")


@dataclass(frozen=True)
class Choice:
    """Options for reading files; None takes the default.

    layer, part, view: names in a file with several pictures; part can also be a number, from 0
    matrix, range: of a YUV movie, one of MATRICES and RANGES; they override the movie's statement
    fields: of interlaced frames, one of FIELD_WAYS: the field that is first in time and is kept, or "ignore" to read
        frames as they are
    """

    layer: str | None = None
    part: str | None = None
    view: str | None = None
    matrix: str | None = None
    range: str | None = None
    fields: str | None = None

    @classmethod
    def of(cls, asked: object) -> "Choice":
        """From an object with these attributes: a recipe, or a command's options."""
        return cls(**{field.name: getattr(asked, field.name) for field in fields(cls)})

    def given(self, names: Collection[str]) -> dict[str, str]:
        """Name and value of the given options that are not None."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


USUAL = Choice()  # all defaults
