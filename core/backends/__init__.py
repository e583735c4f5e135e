"""The ways to make edit layers, in one table; each is a module with a `BACKEND` that fulfils `base.Backend`."""

import importlib

from vera.core.backends.base import Backend
from vera.core.recipe import backend_of

# Name: its module. The name is the prefix of a recipe's model ("lift:FILE"); a model without one is generate's.
BACKENDS = {
    "generate": "vera.core.backends.generate",
    "lift": "vera.core.backends.lift",
    "vace": "vera.core.backends.vace",
}


def load_backend(model: str) -> Backend:
    """The backend of a recipe's model, imported only now: some take seconds."""
    return importlib.import_module(BACKENDS[backend_of(model)]).BACKEND
