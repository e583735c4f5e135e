"""One task of an OpenJD job: `python -m vera.core.farm.task NAME=VALUE ...`, as the templates call it.

A value is all that follows its first `=`, whatever it holds; an empty one is not given. Names:
    plate_folder, mask_folder    what relative plates and masks are relative to
    every field of vera.core.recipe.EditRecipe; true or false, and lists with an item a line
    shots, shot, path_mapping    a list of shots, the number (from 1) of one in it, and OpenJD's path mapping rules
    device                       as core.render's --device
Exit codes are core.render's. Progress and status are told as OpenJD's runners read them; whatever else is
printed cannot be taken for theirs.
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
from vera.core.recipe.parse import shown

SHARES = {"read": (0, 5), "denoise": (5, 85), "deliver": (85, 100)}  # of the whole, in percent; by guess


def values_of(arguments: list[str]) -> dict[str, Any]:
    """{name: value} of NAME=VALUE texts, without the empty ones. Raises InputError.

    A number that may be left to the model or plate is left to it as 0: OpenJD's numbers cannot be empty.
    """
    fields = {field.name: field for field in table.FIELDS}
    values: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if not equals:
            raise InputError(f"{shown(argument)} is not NAME=VALUE")
        if name == "shot" and text:
            values[name] = _whole_number(name, text)
        elif name in fields and text:
            value = fields[name].from_text(text)
            if not (fields[name].optional and value in (0, ())):
                values[name] = value
        elif text:
            values[name] = text
    return values


def _whole_number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {shown(text)} is not a number") from None


def recipe_of(values: dict[str, Any]) -> EditRecipe:
    """The recipe that the values say, or that of the shot in the list which they name. Raises InputError."""
    if "shots" not in values:
        for name in ("plate", "mask"):
            folder = values.pop(f"{name}_folder", None)
            if folder and name in values:
                values[name] = str(Path(folder, values[name]))
        return EditRecipe.from_values(values, "the job")

    from vera.core.farm.shots import Mapping, read_shots

    rules = values.pop("path_mapping", None)
    path, number = values.pop("shots"), values.pop("shot", None)
    if values or number is None:
        raise InputError(f"a list of shots goes with shot, path_mapping and device alone; {', '.join(values)} given")
    shots = read_shots([path], rules and Mapping(rules))
    if not 1 <= number <= len(shots):
        raise InputError(f"{path}: there is no shot {number}; it holds 1 to {len(shots)}")
    if shots[number - 1].error:
        raise InputError(shots[number - 1].error)
    return shots[number - 1].recipe


class TaskProgress(Progress):
    """Tells OpenJD's runner, on its own way out."""

    def __init__(self, out: TextIO) -> None:
        super().__init__("none")
        self.out, self.said_at = out, 0.0

    def stage(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done = name, total, done
        self._tell()

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.done == self.total or time.monotonic() - self.said_at > 1:
            self._tell()

    def say(self, text: str, event: str = "message", **values: Any) -> None:
        print(text, flush=True)

    note = say

    def warn(self, text: str) -> None:
        print(f"warning: {text}", flush=True)

    def _tell(self) -> None:
        self.said_at = time.monotonic()
        if self.name in SHARES and self.total:
            first, last = SHARES[self.name]
            self.out.write(f"openjd_progress: {first + (last - first) * self.done / self.total:.1f}\n")
        self.out.write(f"openjd_status: {self.name}, {self.done} of {self.total}\n")
        self.out.flush()


class Words:
    """Standard output or error for words: none of them is a command to the runner, which reads both."""

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
    sys.stdout, sys.stderr = Words(out), Words(err)
    try:
        values = values_of(sys.argv[1:] if arguments is None else arguments)
        device = values.pop("device", "auto")
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(f"device {device!r} is unknown; choose auto, cpu or cuda")
        progress = TaskProgress(out)
        _, said = render(recipe_of(values), device, progress, stop_request())
        progress.say(said)
        return DONE
    except Exception as error:
        return failed(error)
    finally:
        sys.stdout, sys.stderr = out, err


if __name__ == "__main__":
    sys.exit(main())
