"""One field of a recipe: its row in the table, and the checks of its values."""

import math
import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from functools import cache
from typing import Any

from vera.core.errors import InputError
from vera.core.recipe.backend_table import BACKENDS
from vera.core.recipe.parse import MAX_TEXT, shown
from vera.core.recipe.path_kind import PathKind

# Groups of options, by their heading in --help.
GENERAL = ""  # without a heading
SAVING = "cheaper than the full computation (docs/kernels.md has each one's error)"
LARGE = "full-size models (docs/full-size.md)"


class Part(Enum):
    """The hash of a job that a field belongs to."""

    GENERATION = "generation"  # it determines the latents
    DELIVERY = "delivery"  # it determines the files that are made of them


@dataclass(frozen=True)
class InHosts:
    """How the hosts' panels show a field.

    label: text beside it
    of_files: whether it applies to the plate's own files only. It has no effect if the host writes the plate.
    """

    label: str
    of_files: bool = True


@dataclass(frozen=True)
class Row:
    """A field's row in the table, besides its name, type and default.

    help: for the command line, the schema and the docs
    hint: valid values, as the end of a message
    metavar, group: of the option
    bounds: lowest and highest number
    choices: the only values
    path: kind of path that it contains, or None
    no_path: values that are accepted in place of a path, such as "none"
    backends: that support it
    left_out: why the others do not support it, as the end of a message that begins with "a lift "
    part: the hash that it belongs to; None if it changes no pixel
    same_as_default: other spellings of the default
    check: raises InputError for a wrong text; called for each text of a list
    read: replaces all checks; returns the value to store
    rare: whether farm templates, which have at most 50 parameters, put it into the parameter for other fields
    hosts: its place in the hosts' group "Reading the plate", or None; `python -m tools.host_fields` writes that group
    """

    help: str
    hint: str = ""
    metavar: str | None = None
    group: str = GENERAL
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    path: PathKind | None = None
    no_path: tuple[str, ...] = ()
    backends: tuple[str, ...] = tuple(BACKENDS)
    left_out: str = ""
    part: Part | None = None
    same_as_default: tuple[object, ...] = ()
    check: Callable[[str], object] | None = None
    read: Callable[[object], object] | None = None
    rare: bool = False
    hosts: InHosts | None = None


@dataclass(frozen=True)
class Field:
    """A field of a recipe class. kinds: the types that a value may have, without None."""

    name: str
    kinds: tuple[type, ...]
    default: Any  # MISSING if a value is required
    row: Row

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def optional(self) -> bool:
        """Whether None, which leaves the choice to plate or model, is a valid value."""
        return self.default is None

    @property
    def label(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    @property
    def option(self) -> str:
        """The name on a command line."""
        return f"--{self.name.replace('_', '-')}"

    def checked(self, value: Any) -> Any:
        """The value in the form that a recipe stores. Raises InputError."""
        if value is None and not self.required:
            return self.default
        for text in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(text, str) and ("\0" in text or text.encode("utf-8", "ignore").decode() != text):
                raise InputError(
                    f"{self.name} {shown(text)} contains a NUL or a character that is not Unicode; remove it"
                )
            if isinstance(text, str) and len(text) > MAX_TEXT:
                raise InputError(f"{self.name} has {len(text)} characters; at most {MAX_TEXT} are allowed")
        if self.row.read:
            return self.row.read(value)
        if self.row.choices:
            if value not in self.row.choices:
                raise InputError(f"{self.label} {shown(value)} is unknown; choose {', '.join(self.row.choices)}")
            return value
        return _CHECKS[self.kinds[0]](self, value)

    def from_text(self, text: str) -> Any:
        """Parse a value from the text of a farm's task: true or false, a number, or the lines of a list."""
        kind = self.kinds[0]
        if self.row.read or kind is str:
            return text
        if kind is tuple:
            return tuple(line for line in text.splitlines() if line.strip())
        if kind is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        try:
            return kind(text)
        except ValueError:
            raise InputError(f"{self.name} {shown(text)} is not a number") from None


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        wrong = "is empty" if isinstance(value, str) else f"{shown(value)} is not a text"
        fix = "say" if field.required else "leave it out or give"
        raise InputError(f"{field.name} {wrong}; {fix} {field.row.hint}")
    if field.row.check:
        field.row.check(value)
    return value


def _texts(field: Field, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
        raise InputError(f"{field.name} {shown(value)} is not a list of texts; give {field.row.hint}")
    for text in value if field.row.check else ():
        field.row.check(text)  # type: ignore[misc]
    return tuple(value)


def _flag(field: Field, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{field.name} {shown(value)} is not true or false")
    return value


def _number(field: Field, value: Any) -> float:
    whole = field.kinds[0] is int
    low, high = field.row.bounds or (-math.inf, math.inf)
    is_number = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:
        kind = "a whole number" if whole else "a number"
        raise InputError(f"{field.name} {shown(value)} is out of range; give {kind} from {low} to {high}")
    return value


_CHECKS: dict[type, Callable[[Field, Any], Any]] = {
    str: _text,
    tuple: _texts,
    bool: _flag,
    int: _number,
    float: _number,
}


@cache
def _table_of(recipe_class: Any) -> tuple[Field, ...]:
    """The table of a dataclass whose fields have a Row under "row" in their metadata."""
    hints = typing.get_type_hints(recipe_class)
    return tuple(Field(f.name, _kinds(hints[f.name]), f.default, f.metadata["row"]) for f in fields(recipe_class))


def fields_of(recipe_class: type) -> tuple[Field, ...]:
    """The table of a recipe's dataclass."""
    return _table_of(recipe_class)


def _kinds(annotation: Any) -> tuple[type, ...]:
    """str | None -> (str,), tuple[str, ...] -> (tuple,)."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return tuple(typing.get_origin(p) or p for p in parts if p is not types.NoneType)
