"""Read training configurations strictly: unknown names, wrong types and values out of bounds are refused.

A configuration is a JSON object. The dataclass that it is read into is the table of its settings.
"""

from __future__ import annotations

import difflib
import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from vera.core.errors import InputError
from vera.core.files import JsonError, read_json, shortened

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True)
class Bounds:
    """Allowed values of a setting: a range of numbers, both ends included, or a choice of texts and booleans."""

    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str | bool, ...] = ()


def setting(
    default: Any = MISSING, least: float = -math.inf, most: float = math.inf, choices: tuple[str | bool, ...] = ()
) -> Any:
    """A field of a settings dataclass. Without a default it is required. Bounds of a list apply to each element."""
    return field(default=default, metadata={"bounds": Bounds(least, most, choices)})


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration file. Raises InputError."""
    try:
        return read_json(path, dict, follow_links=True)
    except (OSError, JsonError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: not a readable configuration ({reason})") from None


def read_settings(kind: type[SettingsT], values: Mapping[str, Any], where: str = "") -> SettingsT:
    """Read a configuration into the dataclass `kind`. `where` prefixes names in messages. Raises InputError."""
    assert is_dataclass(kind)
    known = {each.name: each for each in fields(kind)}
    for name in values:
        if name not in known:
            raise InputError(f"{where}{shortened(name)}: no such setting; {_guess(str(name), list(known))}")
    hints, given = get_type_hints(kind), {}
    for name, each in known.items():
        if name in values:
            bounds = each.metadata.get("bounds", Bounds())
            given[name] = _read(hints[name], values[name], bounds, f"{where}{name!r}")
        elif each.default is MISSING:
            raise InputError(f"{where}{name!r}: missing from the configuration")
    return kind(**given)


def _guess(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"


def _read(kind: Any, value: Any, bounds: Bounds, where: str) -> Any:
    """Convert a value to the type `kind`. Raises InputError."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        kind = next(each for each in get_args(kind) if each is not type(None))
        origin = get_origin(kind)
    if origin is tuple:
        return _read_tuple(get_args(kind), value, bounds, where)
    if bounds.choices:
        return _read_choice(value, bounds, where)
    if is_dataclass(kind):
        if not isinstance(value, dict):
            raise InputError(f"{where}: {shortened(value)} is not a JSON object")
        return read_settings(kind, value, f"{where}, ")  # type: ignore[arg-type]
    if kind is float or kind is int:
        return _read_number(kind, value, bounds, where)
    if origin is dict and not isinstance(value, dict):
        raise InputError(f"{where}: {shortened(value)} is not a JSON object")
    if kind is bool and not isinstance(value, bool):
        raise InputError(f"{where}: {shortened(value)} is not true or false")
    if kind is str and (not isinstance(value, str) or not value):
        raise InputError(f"{where}: {shortened(value)} is not a text")
    return value


def _read_choice(value: Any, bounds: Bounds, where: str) -> Any:
    for choice in bounds.choices:
        if value is choice if isinstance(choice, bool) else value == choice:
            return choice
    named = (choice if isinstance(choice, str) else json.dumps(choice) for choice in bounds.choices)
    raise InputError(f"{where}: {shortened(value)} is not one of {', '.join(named)}")


def _read_number(kind: type, value: Any, bounds: Bounds, where: str) -> Any:
    a_number = "a whole number" if kind is int else "a number"
    wrong = isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float))
    if wrong or not bounds.least <= value <= bounds.most:
        ends = [f"from {bounds.least:g}"] if bounds.least > -math.inf else []
        ends += [f"to {bounds.most:g}"] if bounds.most < math.inf else []
        raise InputError(f"{where}: {shortened(value)} is not {' '.join([a_number, *ends])}")
    return kind(value)


def _read_tuple(kinds: tuple[Any, ...], value: Any, bounds: Bounds, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{where}: {shortened(value)} is not a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise InputError(f"{where}: {shortened(value)} is not a list of {len(kinds)}")
    return tuple(_read(kind, each, bounds, f"{where}[{i}]") for i, (kind, each) in enumerate(zip(kinds, value)))
