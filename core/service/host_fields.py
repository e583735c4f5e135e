"""Recipe fields that hosts show in their group "Reading the plate". Python >= 3.9, standard library alone.

Written by `python -m tools.host_fields` from core/recipe/table.py: edit the rows there.
"""

from __future__ import annotations

from typing import NamedTuple


class HostField(NamedTuple):
    """name: in the recipe. choices: the only values, beside none at all; () where any text is one. listed: whether a
    value is a list, with commas. of_files: whether it says how the plate's own files are read."""

    name: str
    label: str
    choices: tuple[str, ...]
    help: str
    listed: bool
    of_files: bool


# fmt: off
READING = (
    HostField(
        name="layer",
        label="Layer",
        choices=(),
        help=(
            "Layer of an EXR plate with several pictures, such as beauty (default: the usual one, named "
            "in a message)"
        ),
        listed=False,
        of_files=True,
    ),
    HostField(
        name="part",
        label="Part",
        choices=(),
        help="Part of a multi-part EXR plate, by name or by number from 0",
        listed=False,
        of_files=True,
    ),
    HostField(
        name="view",
        label="View",
        choices=(),
        help="View of a stereo plate, such as left",
        listed=False,
        of_files=True,
    ),
    HostField(
        name="matrix",
        label="Matrix",
        choices=("bt601", "bt709", "bt2020", "smpte240m", "fcc"),
        help=(
            "YUV matrix of a movie, if the file states none or a wrong one (default: as stated; else "
            "BT.709 from 720 lines on, BT.601 below)"
        ),
        listed=False,
        of_files=True,
    ),
    HostField(
        name="range",
        label="Code Range",
        choices=("limited", "full"),
        help=(
            "Code range of a YUV movie, if the file states none or a wrong one (default: as stated; "
            "else limited)"
        ),
        listed=False,
        of_files=True,
    ),
    HostField(
        name="fields",
        label="Fields",
        choices=("upper", "lower", "ignore"),
        help=(
            "For an interlaced movie: deinterlace it with the upper or the lower field first, or ignore "
            "its fields (default: refuse it)"
        ),
        listed=False,
        of_files=True,
    ),
    HostField(
        name="match",
        label="Match",
        choices=("grain", "sharpness", "grain,sharpness"),
        help=(
            "Match the layer to the plate: grain,sharpness, or one of them (default: none; "
            "docs/edges.md)"
        ),
        listed=True,
        of_files=False,
    ),
)
# fmt: on
