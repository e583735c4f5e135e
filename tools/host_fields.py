"""Recipe fields in the hosts' group "Reading the plate": `python -m tools.host_fields` writes what the hosts carry.

The rows of core/recipe/table.py that have `hosts` become core/service/host_fields.py, which both hosts carry, and the
knobs of the Nuke node between the lines of GROUP. A test fails where either is not as the table says.
"""

from itertools import combinations
from pathlib import Path

from vera.core.recipe.field import Field
from vera.core.recipe.table import FIELDS

ROOT = Path(__file__).parents[1]
MODULE, GIZMO = ROOT / "core/service/host_fields.py", ROOT / "nuke_plugin/VeraEdit.gizmo"
GROUP = ' addUserKnob {20 reading l "Reading the plate" n 2}\n', ' addUserKnob {20 reading_end l "" n -1}\n'
HEAD = '''"""Recipe fields that hosts show in their group "Reading the plate". Python >= 3.9, standard library alone.

Written by `python -m tools.host_fields` from core/recipe/table.py: edit the rows there.
"""

from __future__ import annotations

from typing import NamedTuple


class HostField(NamedTuple):
    """name: in the recipe. choices: the only values, beside none at all; () where any text is one. listed: whether a
    value is a list, with commas. of_files: whether it says how the plate's own files are read."""

    name: str
    label: str
    choices: tuple[str, ...]
    help: str
    listed: bool
    of_files: bool


'''


def shown() -> list[Field]:
    """The fields that hosts show."""
    return [field for field in FIELDS if field.row.hosts]


def choices_of(field: Field) -> tuple[str, ...]:
    """A field's values; of a list of words every selection of them, such as "grain,sharpness"."""
    words = field.row.choices
    if tuple not in field.kinds:
        return words
    return tuple(",".join(some) for count in range(1, len(words) + 1) for some in combinations(words, count))


def help_of(field: Field) -> str:
    """What the field does, as the end of a tip."""
    return (field.row.help[0].upper() + field.row.help[1:]).replace('"', "'")


def module_text() -> str:
    """core/service/host_fields.py."""
    rows = []
    for field in shown():
        assert field.row.hosts
        values = {
            "name": field.name,
            "label": field.row.hosts.label,
            "choices": choices_of(field),
            "help": help_of(field),
            "listed": tuple in field.kinds,
            "of_files": field.row.hosts.of_files,
        }
        rows.append("    HostField(\n" + "".join(_argument(*pair) for pair in values.items()) + "    ),\n")
    return HEAD + "# fmt: off\nREADING = (\n" + "".join(rows) + ")\n# fmt: on\n"


def _argument(name: str, value: object) -> str:
    quoted = repr(value).replace("'", '"') if not isinstance(value, str) else _text(value)
    return f"        {name}={quoted},\n"


def _text(value: str) -> str:
    """A text as ruff formats one: over several lines where it is long."""
    if len(value) <= 80:
        return f'"{value}"'
    lines, line = [], ""
    for word in value.split(" "):
        if len(line) + len(word) > 90:
            lines.append(line)
            line = ""
        line += word + " "
    lines.append(line.removesuffix(" "))
    return "(\n" + "".join(f'            "{each}"\n' for each in lines) + "        )"


def knobs_text() -> str:
    """The rows of the node's group, without its first and last line."""
    rows = []
    for field in shown():
        assert field.row.hosts
        label, tip = field.row.hosts.label, help_of(field).replace("{", "(").replace("}", ")")
        choices = choices_of(field)
        menu = f" M {{default {' '.join(choices)}}}" if choices else ""
        rows.append(f' addUserKnob {{{4 if choices else 1} read_{field.name} l "{label}" t "{tip}"{menu}}}\n')
    return "".join(rows)


def gizmo_text(gizmo: str) -> str:
    """The node's file with its group as the table says."""
    begin, end = GROUP
    before, rest = gizmo.split(begin)
    return before + begin + knobs_text() + end + rest.split(end)[1]


if __name__ == "__main__":
    MODULE.write_text(module_text(), encoding="utf-8")
    GIZMO.write_text(gizmo_text(GIZMO.read_text(encoding="utf-8")), encoding="utf-8")
