"""The ways to make edit layers; each is a module with a `BACKEND` that fulfils `base.Backend`, and a row in
`vera.core.recipe.backend_table`."""

import importlib

from vera.core.backends.base import Backend
from vera.core.recipe import backend_of
from vera.core.recipe.backend_table import BACKENDS


def load_backend(model: str) -> Backend:
    """The backend of a recipe's model, imported only now: some take seconds."""
    return importlib.import_module(BACKENDS[backend_of(model)].module).BACKEND
