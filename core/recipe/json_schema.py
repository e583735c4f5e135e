"""The JSON Schema of a recipe, generated from the table of fields."""

from typing import Any

from vera.core.recipe import table
from vera.core.recipe.field import Field
from vera.core.recipe.parse import MAX_TEXT

MAX_ITEMS = 64  # of a list, such as of LoRAs; a longer one is refused
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", tuple: "array"}


def recipe_schema() -> dict[str, Any]:
    """An object with a property for each field of the table."""
    return {
        "type": "object",
        "description": f"An EditRecipe ({table.SCHEMA}): paths are absolute, on the service's machine.",
        "properties": {field.name: field_schema(field) for field in table.FIELDS},
        "required": [field.name for field in table.FIELDS if field.required],
        "additionalProperties": False,
    }


def field_schema(field: Field) -> dict[str, Any]:
    """The JSON Schema of a field: the types of its values, and their limits."""
    names = [_TYPES[kind] for kind in field.kinds] + (["null"] if field.optional else [])
    schema: dict[str, Any] = {"type": names[0] if len(names) == 1 else names, "description": field.row.help}
    text: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
    if tuple in field.kinds:
        schema |= {"maxItems": MAX_ITEMS, "items": _one_of(field) | {"type": "string"} if field.row.choices else text}
    elif str in field.kinds:
        schema |= _one_of(field) | {name: limit for name, limit in text.items() if name != "type"}
    if field.row.bounds:
        schema |= dict(zip(("minimum", "maximum"), field.row.bounds, strict=True))
    return schema


def _one_of(field: Field) -> dict[str, Any]:
    return {"enum": list(field.row.choices)} if field.row.choices else {}
