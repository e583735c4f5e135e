"""Parse texts of a recipe that contain several values. All functions raise InputError."""

import math
import re

from vera.core.errors import InputError
from vera.core.recipe.backend_table import prefixes

EXTRA_OUTPUT_NAMES = ("prores", "png", "matte")  # extra outputs of a layer, see layer/outputs
EMBEDDED = "mini"  # the model that needs no folder
MATCHES = ("grain", "sharpness")  # properties of the plate that a layer can be matched to, see layer/match.py
MAX_STOPS = 20  # largest exposure in stops, either way
MAX_STRENGTH = 10  # largest strength of a LoRA, either way
MAX_TEXT = 4096  # characters of one path or prompt
MAX_SHOWN = 100  # characters of a wrong value that a message quotes


def shown(value: object) -> str:
    """A value for a message: text in quotes, at most MAX_SHOWN characters of it."""
    try:
        text = repr(value[:MAX_SHOWN] if isinstance(value, str) else value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, a nest of thousands of lists
        text = f"of {type(value).__name__}, too long to show,"
    is_cut = isinstance(value, str) and len(value) > MAX_SHOWN
    return text if len(text) <= MAX_SHOWN and not is_cut else f"{text[:MAX_SHOWN]}..."


def split_model(model: str) -> tuple[str, str]:
    """(prefix, path) of a model's name: ("lift", an edited video), ("vace", a directory); else ("", the model)."""
    prefix, colon, path = model.partition(":")
    return (prefix, path) if colon and prefix in prefixes() else ("", model)


def parse_lora(text: str) -> tuple[str, float]:
    """ "FILE" or "FILE:STRENGTH" -> the path and the strength, by default 1."""
    path, colon, number = text.rpartition(":")
    if not colon or not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", number):
        path, number = text, "1"  # a colon may be a drive's
    if not path.strip() or not abs(float(number)) <= MAX_STRENGTH:
        raise InputError(f"lora {shown(text)} is not FILE or FILE:STRENGTH, a number up to {MAX_STRENGTH}")
    return path, float(number)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """ "X,Y,W,H" -> four whole numbers."""
    match = re.fullmatch(r"\s*(-?\d{1,9})\s*,\s*(-?\d{1,9})\s*,\s*(\d{1,9})\s*,\s*(\d{1,9})\s*", text)
    if not match:
        raise InputError(f"region {shown(text)} is not X,Y,W,H in whole pixels; write for example 640,200,512,512")
    x, y, width, height = (int(number) for number in match.groups())
    return x, y, width, height


def parse_cuts(text: str | None) -> str | tuple[int, ...]:
    """ "auto" (also None), or the first frames of new shots, rising; () for "none"."""
    plain = "auto" if text is None else text.strip().lower()
    if plain == "auto":
        return "auto"
    if plain == "none":
        return ()
    if not re.fullmatch(r"-?\d{1,9}(\s*,\s*-?\d{1,9})*", plain):
        example = "write auto, none, or first frames such as 1013,1040"
        raise InputError(f"cuts {shown(text)} are not frame numbers; {example}")
    numbers = tuple(int(n) for n in plain.split(","))
    if list(numbers) != sorted(set(numbers)):
        raise InputError(f"cuts {shown(text)} do not rise; write each first frame once, in order")
    return numbers


def parse_also(value: object) -> tuple[str, ...]:
    """A list of EXTRA_OUTPUT_NAMES; see `_listed`."""
    return _listed("also", value, EXTRA_OUTPUT_NAMES)


def parse_match(value: object) -> tuple[str, ...]:
    """A list of MATCHES, or none; see `_listed`."""
    return () if value == "none" else _listed("match", value, MATCHES)


def _listed(field: str, value: object, choices: tuple[str, ...]) -> tuple[str, ...]:
    """A list, or a text with commas, as unique names in the order of choices, so that equal requests are equal
    recipes."""
    names = [n.strip() for n in value.split(",") if n.strip()] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)):
        raise InputError(f"{field} {shown(value)} is not a list; choose from {', '.join(choices)}")
    for name in names:
        if name not in choices:
            raise InputError(f"{field} {shown(name)} is unknown; choose from {', '.join(choices)}")
    return tuple(n for n in choices if n in names)


def parse_parts(text: str | None) -> tuple[int, ...]:
    """Numbers of parts, all positive (to keep) or all negative (to drop); () for None."""
    if text is None:
        return ()
    if not re.fullmatch(r"\s*-?[1-9]\d{0,5}(\s*,\s*-?[1-9]\d{0,5})*\s*", text):
        raise InputError(f"parts {shown(text)} are not numbers; write those to keep, as 1,3, or to drop, as -2,-4")
    numbers = tuple(sorted({int(n) for n in text.split(",")}))
    if numbers[0] < 0 < numbers[-1]:
        raise InputError(f"parts {shown(text)} keep some and drop others; write either numbers to keep, or to drop")
    return numbers


def parse_exposure(value: object) -> float | str:
    """ "auto", or a number of stops, also as text."""
    if value == "auto":
        return "auto"
    try:
        stops = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        stops = math.nan
    if not abs(stops) <= MAX_STOPS:
        given = value if isinstance(value, str) and len(value) <= MAX_SHOWN else shown(value)
        raise InputError(f"exposure {given} is out of range; give auto, or stops from {-MAX_STOPS} to {MAX_STOPS}")
    return stops
