"""Find and change the paths in a recipe's values, by the table of fields."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

from vera.core.errors import InputError
from vera.core.recipe.backend_table import BACKENDS
from vera.core.recipe.field import Field
from vera.core.recipe.parse import parse_lora, split_model
from vera.core.recipe.path_kind import PathKind

Change = Callable[[str, PathKind], str]  # (path, kind of its field) -> new path


def change_paths(values: dict[str, Any], table: Iterable[Field], change: Change) -> dict[str, Any]:
    """The values with every path changed. Values of a wrong type or spelling stay, and are refused later.

    A path within a model's name (lift:VIDEO) counts as PATTERN or FOLDER, a model's name or folder as MODEL.
    """
    changed = dict(values)
    for field in table:
        if field.row.path and values.get(field.name) and values[field.name] not in field.row.no_path:
            changed[field.name] = _changed(values[field.name], field.row.path, change)
    return changed


def paths_of(values: dict[str, Any], table: Iterable[Field]) -> list[tuple[str, str, PathKind]]:
    """(field, path, kind) of every path that `change_paths` would change."""
    found: list[tuple[str, str, PathKind]] = []
    for field in table:

        def note(path: str, kind: PathKind, name: str = field.name) -> str:
            found.append((name, path, kind))
            return path

        change_paths(values, [field], note)
    return found


def _changed(value: Any, kind: PathKind, change: Change) -> Any:
    if kind is PathKind.LORAS:
        return [_lora(each, change) for each in value] if isinstance(value, (list, tuple)) else value
    if kind is PathKind.FILES and isinstance(value, (list, tuple)):
        return [change(each, kind) if isinstance(each, str) else each for each in value]
    if not isinstance(value, str):
        return value
    if kind is not PathKind.MODEL:
        return change(value, kind)
    prefix, path = split_model(value)
    if not prefix:
        return change(value, PathKind.MODEL)
    kind_after = BACKENDS[prefix].path
    return value if kind_after is None else f"{prefix}:{change(path, kind_after)}"


def _lora(text: Any, change: Change) -> Any:
    with contextlib.suppress(InputError, AttributeError):
        path, strength = parse_lora(text)
        return f"{change(path, PathKind.LORAS)}:{strength!r}"
    return text
