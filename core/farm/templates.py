"""The OpenJD template of one shot, made from the table of recipe fields.

`python -m vera.core.farm.templates` writes core/farm/openjd/shot/template.yaml anew.
"""

import json
from pathlib import Path
from typing import Any

from vera.core.recipe import table
from vera.core.recipe.field import Field, Part
from vera.core.recipe.path_kind import PathKind

FILE = Path(__file__).parent / "openjd/shot/template.yaml"
MAX_BOUND = 2**31 - 1  # of a spin box; a bound above it is left to the recipe
HEAD = """\
# One shot: an edit layer over a plate. See docs/farm.md.
# Made by `python -m vera.core.farm.templates` from core/recipe/table.py: edit that instead.
specificationVersion: jobtemplate-2023-09
name: Vera edit layer
description: >-
  Adds or changes what the prompt says, as an RGBA edit layer over an untouched plate. Submitted again with the same
  values, it goes on where it stopped, or finds nothing to do.
parameterDefinitions:
"""
STEP = """\
steps:
  - name: Render
    script:
      actions:
        onRun:
          command: "{{Param.Python}}"
          # Each value is one argument, and no shell reads it: it may hold anything.
          args:
            - "-P"
            - "-m"
            - vera.core.farm.task
"""
CANCELLING = "          cancelation: {mode: NOTIFY_THEN_TERMINATE, notifyPeriodInSeconds: 120}\n"
WORKER: list[tuple[str | None, dict[str, Any]]] = [
    (
        "device",
        {
            "name": "Device",
            "type": "STRING",
            "default": "auto",
            "allowedValues": ["auto", "cuda", "cpu"],
            "userInterface": {"control": "DROPDOWN_LIST", "label": "Device", "groupLabel": "Worker"},
        },
    ),
    (
        None,
        {
            "name": "Python",
            "type": "STRING",
            "default": "python",
            "minLength": 1,
            "description": "The Python on the workers in which Vera is installed.",
            "userInterface": {"control": "LINE_EDIT", "label": "Python", "groupLabel": "Worker"},
        },
    ),
]


def shot_template() -> str:
    """The template's text: a parameter, or two, for each field, and the task that is given them all."""
    parameters = [p for field in table.FIELDS for p in _parameters(field)] + WORKER
    definitions = "".join(_yaml(parameter) for _, parameter in parameters)
    arguments = "".join(
        f'            - "{argument}={{{{Param.{parameter["name"]}}}}}"\n'
        for argument, parameter in parameters
        if argument
    )
    return HEAD + definitions + STEP + arguments + CANCELLING


def _parameters(field: Field) -> list[tuple[str, dict[str, Any]]]:
    """(the task's name for it, the parameter): a path is a folder, so that a farm maps it, and a name within."""
    name, path = "".join(part.title() for part in field.name.split("_")), field.row.path
    if path is PathKind.PATTERN:
        where = _folder(field, f"{name}Folder", f"The folder that holds the {field.label}.", "IN")
        return [(f"{field.name}_folder", where), (field.name, _value(field, name, "LINE_EDIT"))]
    if path is PathKind.FOLDER:
        return [(field.name, _folder(field, f"{name}Folder", "The folder for the results, of this shot alone.", "OUT"))]
    if path is PathKind.MODEL:
        text = "A full-size model on shared storage; empty for the embedded mini."
        return [(field.name, _folder(field, f"{name}Folder", text, "NONE"))]
    kind = field.kinds[0]
    if kind is bool:
        names = {"allowedValues": ["false", "true"], "default": str(field.default).lower()}
        return [(field.name, _value(field, name, "CHECK_BOX") | names)]
    if field.row.choices and kind is str:
        allowed = [*([""] if field.optional else []), *field.row.choices]  # empty: not given
        return [(field.name, _value(field, name, "DROPDOWN_LIST") | {"allowedValues": allowed})]
    if kind in (int, float) and not field.row.read:
        return [(field.name, _number(field, name))]
    many_lines = field.name == "prompt" or path in (PathKind.FILES, PathKind.LORAS)
    return [(field.name, _value(field, name, "MULTILINE_EDIT" if many_lines else "LINE_EDIT"))]


def _value(field: Field, name: str, control: str) -> dict[str, Any]:
    default = {"minLength": 1} if field.required else {"default": field.default or ""}
    return {
        "name": name,
        "type": "STRING",
        **default,
        "description": _help(field),
        "userInterface": _shown(field, control),
    }


def _number(field: Field, name: str) -> dict[str, Any]:
    """OpenJD's numbers cannot be empty: 0 leaves an optional one to the model."""
    low, high = field.row.bounds or (None, None)
    limits = {"minValue": 0 if field.optional else low, "maxValue": high}
    limits = {n: limit for n, limit in limits.items() if limit is not None and abs(limit) <= MAX_BOUND}
    control = _shown(field, "SPIN_BOX") | ({"decimals": 2} if field.kinds[0] is float else {})
    kind = "FLOAT" if field.kinds[0] is float else "INT"
    text = _help(field) + ("; 0 leaves it out" if field.optional else "")
    return {
        "name": name,
        "type": kind,
        **limits,
        "default": field.default or 0,
        "description": text,
        "userInterface": control,
    }


def _folder(field: Field, name: str, description: str, flow: str) -> dict[str, Any]:
    default = {} if field.required else {"default": ""}
    control = _shown(field, "CHOOSE_DIRECTORY") | {"label": f"{field.label.capitalize()} folder"}
    kind = {"type": "PATH", "objectType": "DIRECTORY", "dataFlow": flow}
    return {"name": name, **kind, **default, "description": description, "userInterface": control}


def _help(field: Field) -> str:
    return field.row.help[0].upper() + field.row.help[1:]


def _shown(field: Field, control: str) -> dict[str, str]:
    return {"control": control, "label": field.label.capitalize(), "groupLabel": _group(field)}


def _group(field: Field) -> str:
    if field.row.part is Part.DELIVERY:
        return "Layer"
    return "Model" if "lift" not in field.row.backends or field.row.path is PathKind.MODEL else "Shot"


def _yaml(parameter: dict[str, Any]) -> str:
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in parameter.items()]
    return f"  - {lines[0]}\n" + "".join(f"    {line}\n" for line in lines[1:])


if __name__ == "__main__":
    FILE.write_text(shot_template(), encoding="utf-8")
