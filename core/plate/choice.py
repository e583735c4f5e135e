"""What the user asks for of a plate's files, beside the frames; from a recipe or from the options of `vera inspect`."""

from collections.abc import Collection
from dataclasses import dataclass, fields

OF_PICTURES = ("layer", "part", "view")  # of files with several pictures: EXR
OF_VIDEO = ("matrix", "range")  # of YUV movies
MATRICES = ("bt601", "bt709", "bt2020", "smpte240m", "fcc")
RANGES = ("limited", "full")
FIELD_WAYS = ("upper", "lower", "ignore")


@dataclass(frozen=True)
class Choice:
    """None takes the usual.

    layer, part, view: of a file with several pictures, by name; part may also be a number, from 0.
    matrix, range: of a YUV movie, one of MATRICES and RANGES, in place of what it states. fields: of interlaced
    frames, one of FIELD_WAYS: which field is first in time and is kept, or that frames are taken as they are.
    """

    layer: str | None = None
    part: str | None = None
    view: str | None = None
    matrix: str | None = None
    range: str | None = None
    fields: str | None = None

    @classmethod
    def of(cls, asked: object) -> "Choice":
        """Out of an object with these attributes: a recipe, or a command's options."""
        return cls(**{field.name: getattr(asked, field.name) for field in fields(cls)})

    def given(self, names: Collection[str]) -> dict[str, str]:
        """Those of these names that are not None."""
        return {name: value for name in names if (value := getattr(self, name)) is not None}


USUAL = Choice()  # nothing asked for
