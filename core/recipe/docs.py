"""The table of fields in docs/recipe.md; `python -m vera.core.recipe.docs docs/recipe.md` updates it."""

import sys
from pathlib import Path

from vera.core.recipe import table
from vera.core.recipe.backend_table import BACKENDS
from vera.core.recipe.field import Field
from vera.core.recipe.path_kind import PathKind

BEGIN = "<!-- made by `python -m vera.core.recipe.docs docs/recipe.md`: edit core/recipe/table.py instead -->"
END = "<!-- end of what is made -->"
_TYPES = {str: "text", bool: "true or false", int: "whole number", float: "number", tuple: "list of texts"}
_PATHS = {
    PathKind.PATTERN: "path: a sequence, a still or a movie",
    PathKind.FOLDER: "path: a folder",
    PathKind.MODEL: "a name, or a path",
    PathKind.FILES: "list of paths",
    PathKind.LORAS: "list of paths, each with a strength if wanted",
}


def fields_table() -> str:
    """The table as Markdown, between the two markers."""
    head = ["| field | type | default | " + " | ".join(BACKENDS) + " | hash | |", "|---" * (len(BACKENDS) + 5) + "|"]
    return "\n".join([BEGIN, "", *head, *map(_line, table.FIELDS), "", END])


def with_table(page: str) -> str:
    """The page with the current table. Raises ValueError if the page has no markers."""
    before, rest = page.split(BEGIN)
    return before + fields_table() + rest.split(END)[1]


def _line(field: Field) -> str:
    row = field.row
    taken = ["yes" if backend in row.backends else "" for backend in BACKENDS]
    part = row.part.value if row.part else ""
    cells = [f"`{field.name}`", _type(field), _default(field), *taken, part, row.help]
    return "| " + " | ".join(cells) + " |"


def _type(field: Field) -> str:
    row = field.row
    if row.path:
        return _PATHS[row.path]
    if row.choices:
        names = ", ".join(f"`{name}`" for name in row.choices)
        return f"any of {names}" if tuple in field.kinds else names
    words = " or ".join(_TYPES[kind] for kind in field.kinds)
    return words if row.bounds is None else f"{words}, {_number(row.bounds[0])} to {_number(row.bounds[1])}"


def _number(value: float) -> str:
    return "2^63 - 1" if value == table.MAX_SEED else f"{value:g}"


def _default(field: Field) -> str:
    if field.required:
        return "must be given"
    if field.default in (None, ()):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
