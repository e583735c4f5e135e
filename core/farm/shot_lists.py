"""Read lists of shots from files, and map their paths between machines."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from vera.core.errors import InputError, one_line
from vera.core.recipe import EditRecipe, read_json, table
from vera.core.recipe.paths import change_paths

RULES_VERSION = "pathmapping-1.0"


@dataclass(frozen=True)
class Shot:
    """A shot of a list.

    number: counted from 1 over all files
    where: file and position, for messages
    recipe: None if the shot is wrong; error is then the reason
    """

    number: int
    where: str
    recipe: EditRecipe | None = None
    error: str | None = None

    @property
    def name(self) -> str:
        return f"shot {self.number}" + (f" ({Path(self.recipe.out).name})" if self.recipe else "")


def read_shots(paths: Sequence[str], rules: Mapping | None = None) -> list[Shot]:
    """Read files that contain one job or a list of jobs. A wrong shot has an error instead of a recipe.

    rules: path mapping, see `Mapping`. Raises InputError for a file that is neither.
    """
    shots: list[Shot] = []
    outs: dict[str, int] = {}  # out folder -> number of its shot
    for path in paths:
        content = read_json(path)
        for index, values in enumerate(content if isinstance(content, list) else [content], 1):
            where = f"{path}, shot {index}" if isinstance(content, list) else str(path)
            number = len(shots) + 1
            try:
                if not isinstance(values, dict):
                    raise InputError(f"{where}: not a job; write an object with plate, prompt and out")
                recipe = EditRecipe.from_job(rules(values) if rules else values, Path(path).absolute().parent, where)
                out = os.path.normcase(os.path.realpath(recipe.out))
                if out in outs:
                    raise InputError(f"{where}: its out {recipe.out} is that of shot {outs[out]} too; give another")
                outs[out] = number
                shots.append(Shot(number, where, recipe))
            except (InputError, ArithmeticError, AttributeError, TypeError, ValueError) as error:
                shots.append(Shot(number, where, error=_with_place(error, where)))
    if not shots:
        raise InputError(f"{', '.join(map(str, paths))}: no shots; write a list of objects with plate, prompt and out")
    return shots


class Mapping:
    """OpenJD's path mapping rules: map paths of the machine where a list was written to paths of this machine.

    Calling it with the object of a job maps the absolute paths in all fields. The longest matching rule applies.
    """

    def __init__(self, path: str) -> None:
        """Read a file {"version": "pathmapping-1.0", "path_mapping_rules": [...]}; without rules nothing is mapped."""
        content = read_json(path)
        try:
            if content.get("version", RULES_VERSION) != RULES_VERSION:
                raise ValueError(f"version {content['version']!r} is unknown")
            rules = [
                (_PATH_CLASSES[rule["source_path_format"].upper()](rule["source_path"]), Path(rule["destination_path"]))
                for rule in content.get("path_mapping_rules", [])
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not OpenJD's path mapping rules ({json.dumps(str(error))})") from None
        self.rules = sorted(rules, key=lambda rule: len(rule[0].parts), reverse=True)

    def __call__(self, values: dict[str, Any]) -> dict[str, Any]:
        return change_paths(values, table.FIELDS, lambda path, kind: self.path(path))

    def path(self, text: str) -> str:
        """Map one path; a path that no rule matches is returned unchanged."""
        for source, destination in self.rules:
            path = type(source)(text)
            if path.is_relative_to(source):
                return str(destination.joinpath(*path.relative_to(source).parts))
        return text


_PATH_CLASSES = {"POSIX": PurePosixPath, "WINDOWS": PureWindowsPath}  # by the rules' name of a path format


def _with_place(error: Exception, where: str) -> str:
    return one_line(error if str(error).startswith(where) else f"{where}: {error}")
