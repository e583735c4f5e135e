"""Run one task of an OpenJD job: `python -m vera.core.farm.task NAME=VALUE ...`, called by the templates.

A value is everything after the first `=`. An empty value counts as not given. Names:
    plate_folder, mask_folder    folders that relative plates and masks are relative to
    every field of vera.core.recipe.EditRecipe; booleans as true or false, lists with one item per line
    more                         rare fields, one NAME=VALUE per line
    shots, shot, path_mapping    a list of shots, the number (from 1) of a shot in it, and OpenJD's path mapping rules
    device                       as --device of `vera render`
Exit codes are those of `vera render`. Progress and status are printed in the form that OpenJD's runners read. Other
output is changed so that runners cannot read it as a command.
"""

import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from vera.core.errors import InputError
from vera.core.job.run import DONE, failed, render, stop_request
from vera.core.progress import Progress
from vera.core.recipe import EditRecipe, table
from vera.core.recipe.field import Field
from vera.core.recipe.parse import shown

STAGE_PERCENT = {"read": (0, 5), "denoise": (5, 85), "deliver": (85, 100)}  # (start, end) of each stage, estimated


def values_of(arguments: list[str]) -> dict[str, Any]:
    """Parse NAME=VALUE texts into {name: value}, without empty values. Raises InputError.

    The value 0 of an optional number counts as not given, because OpenJD's numbers cannot be empty.
    """
    fields = {field.name: field for field in table.FIELDS}
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InputError(f"{shown(argument)} is not NAME=VALUE")
        if name == "more":
            values |= _more(text, fields)
        elif name == "shot" and text:
            values[name] = _whole_number(name, text)
        elif name in fields and text:
            value = fields[name].from_text(text)
            if not (fields[name].optional and value in (0, ())):
                values[name] = value
        elif text:
            values[name] = text
    return values


def _more(text: str, fields: dict[str, Field]) -> dict[str, Any]:
    """The values of rare fields, NAME=VALUE a line. Raises InputError."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        name = line.partition("=")[0]
        if name not in fields or not fields[name].row.rare:
            rare = ", ".join(name for name, field in fields.items() if field.row.rare)
            raise InputError(f"more: {shown(name)} is no rare field; these are {rare}")
    return values_of(lines)


def _whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {shown(text)} is not a number") from None


def recipe_of(values: dict[str, Any]) -> EditRecipe:
    """The recipe from the values, or from the shot in the list that they name. Raises InputError."""
    if "shots" not in values:
        for name in ("plate", "mask"):
            folder = values.pop(f"{name}_folder", None)
            if folder and name in values:
                values[name] = str(Path(folder, values[name]))
        return EditRecipe.from_values(values, "the job")

    from vera.core.farm.shot_lists import Mapping, read_shots

    rules = values.pop("path_mapping", None)
    path, number = values.pop("shots"), values.pop("shot", None)
    if values or number is None:
        raise InputError(f"a list of shots takes only shot, path_mapping and device; {', '.join(values)} given")
    shots = read_shots([path], rules and Mapping(rules))
    if not 1 <= number <= len(shots):
        raise InputError(f"{path}: there is no shot {number}; it holds 1 to {len(shots)}")
    if shots[number - 1].error:
        raise InputError(shots[number - 1].error)
    return shots[number - 1].recipe


class TaskProgress(Progress):
    """Writes progress to `out` in the form that OpenJD's runner reads, at most once a second."""

    def __init__(self, out: TextIO) -> None:
        super().__init__("none")
        self.out, self.written_at = out, 0.0

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = name, total, done
        self._write()

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.done == self.total or time.monotonic() - self.written_at > 1:
            self._write()

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        print(text, flush=True)

    note = say

    def warn(self, text: str) -> None:
        print(f"warning: {text}", flush=True)

    def _write(self) -> None:
        self.written_at = time.monotonic()
        if self.name in STAGE_PERCENT and self.total:
            first, last = STAGE_PERCENT[self.name]
            self.out.write(f"openjd_progress: {first + (last - first) * self.done / self.total:.1f}\n")
        self.out.write(f"openjd_status: {self.name}, {self.done} of {self.total}\n")
        self.out.flush()


class PlainOutput:
    """A wrapper of standard output or error that alters anything the runner would read as a command."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self.stream.write(re.sub("openjd_", "openjd-", text, flags=re.IGNORECASE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def main(arguments: list[str] | None = None) -> int:
    out, err = sys.stdout, sys.stderr
    for stream in (out, err):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.stdout, sys.stderr = PlainOutput(out), PlainOutput(err)
    try:
        values = values_of(sys.argv[1:] if arguments is None else arguments)
        device = values.pop("device", "auto")
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device {device!r} is unknown; choose auto, cpu or cuda")
        progress = TaskProgress(out)
        _, message = render(recipe_of(values), device, progress, stop_request())
        progress.say(message)
        return DONE
    except Exception as error:
        return failed(error)
    finally:
        sys.stdout, sys.stderr = out, err


if __name__ == "__main__":
    sys.exit(main())
