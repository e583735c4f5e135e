"""The ways to make edit layers. Each is a module with a `BACKEND` that implements `base.Backend`, and a row in
core/recipe/backend_table.py."""

import importlib

from vera.core.backends.base import Backend
from vera.core.recipe import backend_of
from vera.core.recipe.backend_table import BACKENDS


def load_backend(model: str) -> Backend:
    """The backend of a recipe's model. It is imported here, because some imports take seconds."""
    return importlib.import_module(BACKENDS[backend_of(model)].module).BACKEND
