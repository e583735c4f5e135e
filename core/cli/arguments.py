"""Command lines: a parser with one-line errors, and options from the table of recipe fields."""

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vera.core.errors import InputError
from vera.core.recipe import table
from vera.core.recipe.field import Field

_NEGATIVE = re.compile(r"-\d[\d.,:-]*")  # a value that begins with a minus sign: -5-3, -5,0,64,64


class Parser(argparse.ArgumentParser):
    """A parser that raises InputError for wrong arguments, allows no abbreviations, and keeps the epilog's lines."""

    def __init__(self, **options: Any):
        defaults: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**defaults | options)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """argparse's method, with values such as that of `--frames -5-3` not taken for options."""
        return super().parse_known_args(_with_negative_values(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def refuse_unwritable_png(path: Path) -> None:
    """Raise InputError for a path to which no PNG can be written."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: is not named .png")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(f"{path}: is a folder, or its folder does not exist")


def add_recipe_options(
    parser: argparse.ArgumentParser,
    backend: str | None = None,
    leave_out: Collection[str] = (),
    only: Collection[str] | None = None,
) -> None:
    """Add an option for each recipe field of a backend; None: of all backends.

    leave_out: fields to skip. only: if given, these fields alone.
    """
    groups: dict[str, Any] = {"": parser}
    for field in table.FIELDS:
        if only is not None and field.name not in only:
            continue
        if field.name in leave_out or (backend and backend not in field.row.backends):
            continue
        heading = field.row.group
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        groups[heading].add_argument(field.option, **_argument_options(field))


def recipe_values(args: argparse.Namespace) -> dict[str, Any]:
    """The recipe fields that were given as options."""
    values = {field.name: getattr(args, field.name, None) for field in table.FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def _argument_options(field: Field) -> dict[str, Any]:
    """Keyword arguments of `add_argument` for a field."""
    help = field.row.help.replace("%", "%%")
    kind = field.kinds[0]
    if kind is bool:
        return {"action": "store_true", "default": None, "help": help}
    options: dict[str, Any] = {"metavar": field.row.metavar, "help": help}
    if field.row.read:
        return options
    if field.row.choices:
        return {"choices": field.row.choices, "help": help}
    if kind is str:
        return options
    return options | ({"action": "append"} if kind is tuple else {"type": kind})


def _with_negative_values(args: Sequence[str]) -> list[str]:
    """["--frames", "-5-3"] -> ["--frames=-5-3"]."""
    joined: list[str] = []
    for argument in args:
        if _NEGATIVE.fullmatch(argument) and joined and re.fullmatch(r"--[a-z-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
