"""Command lines: a parser whose errors are one line, and the options that the table of recipe fields gives."""

import argparse
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from vera.core.errors import InputError
from vera.core.recipe import table
from vera.core.recipe.field import Field

_NEGATIVE = re.compile(r"-\d[\d.,:-]*")  # a value that begins with a minus: -5-3, -5,0,64,64


class Parser(argparse.ArgumentParser):
    """Wrong arguments are wrong input: one line. Options are not abbreviated, the epilog keeps its lines."""

    def __init__(self, **named: Any):
        ours: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**ours | named)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, which would take the value of `--frames -5-3` for an option."""
        return super().parse_known_args(_with_negative_values(sys.argv[1:] if args is None else args), namespace)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} --help")


def refuse_unwritable_png(path: Path) -> None:
    """Raise InputError for a picture that could not be written as a PNG."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: is not named .png")
    if path.is_dir() or not path.resolve().parent.is_dir():
        raise InputError(f"{path}: is a folder, or in none that is there")


def add_recipe_options(
    parser: argparse.ArgumentParser,
    backend: str | None = None,
    leave_out: Collection[str] = (),
    only: Collection[str] | None = None,
) -> None:
    """An option for each field of the table that the backend takes; None: for each of all backends. only: of these
    fields alone."""
    groups: dict[str, Any] = {"": parser}
    for field in table.FIELDS:
        if only is not None and field.name not in only:
            continue
        if field.name in leave_out or (backend and backend not in field.row.backends):
            continue
        heading = field.row.group
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        groups[heading].add_argument(field.option, **_how_argparse_reads(field))


def recipe_values(args: argparse.Namespace) -> dict[str, Any]:
    """The fields that options gave."""
    values = {field.name: getattr(args, field.name, None) for field in table.FIELDS}
    return {name: value for name, value in values.items() if value is not None}


def _how_argparse_reads(field: Field) -> dict[str, Any]:
    help = field.row.help.replace("%", "%%")
    kind = field.kinds[0]
    if kind is bool:
        return {"action": "store_true", "default": None, "help": help}
    how: dict[str, Any] = {"metavar": field.row.metavar, "help": help}
    if field.row.read:
        return how
    if field.row.choices:
        return {"choices": field.row.choices, "help": help}
    if kind is str:
        return how
    return how | ({"action": "append"} if kind is tuple else {"type": kind})


def _with_negative_values(args: Sequence[str]) -> list[str]:
    """["--frames", "-5-3"] -> ["--frames=-5-3"]."""
    joined: list[str] = []
    for argument in args:
        if _NEGATIVE.fullmatch(argument) and joined and re.fullmatch(r"--[a-z-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined
