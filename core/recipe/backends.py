"""The backend of a recipe, and the check of the recipe's fields against it."""

from vera.core.errors import InputError
from vera.core.recipe.backend_table import BACKENDS, DEFAULT
from vera.core.recipe.field import fields_of
from vera.core.recipe.parse import split_model
from vera.core.recipe.table import EditRecipe


def backend_of(model: str) -> str:
    """The backend of a model's name: by its prefix, else DEFAULT."""
    return split_model(model)[0] or DEFAULT


def refuse_unsupported(recipe: EditRecipe, backend: str) -> None:
    """Raise InputError for a field that the backend does not support and that differs from its default.

    backend: a name in BACKENDS
    """
    assert backend in BACKENDS, backend
    for field in fields_of(type(recipe)):
        value = getattr(recipe, field.name)
        if backend in field.row.backends or value in (field.default, *field.row.same_as_default):
            continue
        reason = (
            f"{BACKENDS[backend].words} {field.row.left_out}" if field.row.left_out else f"{backend} does not take it"
        )
        raise InputError(f"{field.label}: {reason}; leave it out")
