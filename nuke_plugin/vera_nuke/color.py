"""Colour spaces by name: Nuke's names and the core's.

"linear" here is scene-linear light with Rec.709 primaries, "srgb" the same encoded for an sRGB
display; any other name goes to the core as the configuration has it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# In lower case, without spaces, dashes and underscores.
_LINEAR = {
    "linear",
    "linearrec.709",
    "linearrec.709(srgb)",
    "linearrec709",
    "linearrec709(srgb)",
    "linearsrgb",
    "linsrgb",
    "linrec709",
    "linrec709srgb",
    "linrec709scene",
    "utilitylinearsrgb",
    "utilitylinearrec.709",
    "srgblinear",
}
_SRGB = {
    "srgb",
    "srgbtexture",
    "srgb(texture)",
    "srgbencodedrec.709(srgb)",
    "utilitysrgbtexture",
    "srgbrec709scene",
    "srgbtx",
}
# A role of the configuration, or "default", and in brackets the space that it stands for.
_WRAPPED = re.compile(r"[a-z_]+\s*\((.+)\)")


def known(name: str) -> str:
    """The core's name for a name from Nuke's menus: "linear", "srgb", or the name itself."""
    name = name.strip()
    plain = re.sub(r"[\s_-]", "", name.lower())
    if plain in _LINEAR:
        return "linear"
    if plain in _SRGB:
        return "srgb"
    inner = _WRAPPED.fullmatch(name)
    return known(inner[1]) if inner else name


def of_script(root: Callable[[str], str | None]) -> str:
    """The working space of the script. Nuke's own colour management always works in linear Rec.709.

    root: a function from a knob's name to its text, None if the root has no such knob
    """
    if root("colorManagement") == "Nuke":
        return "linear"
    return known(root("workingSpaceLUT") or "linear")


def of_read(name: str, root: Callable[[str], str | None], bits: str) -> str:
    """The colour space of a Read, "" if it does not say which.

    name: of its menu. bits: what its metadata says of its pixels, such as "16-bit half float".
    """
    if name.strip() != "default":
        return known(name)
    if "float" in bits:
        default = root("floatLut")
    elif bits.startswith("8"):
        default = root("int8Lut")
    elif bits.startswith("16"):
        default = root("int16Lut")
    else:
        default = None
    return known(default) if default else ""
