"""Names of models in recipes. This module does not load torch."""

from pathlib import Path

from vera.core.errors import InputError
from vera.core.model.config import PRESETS

EMBEDDED_NAME = "mini"  # the model that comes with Vera
EMBEDDED = Path(__file__).parents[1] / "weights" / EMBEDDED_NAME  # the folder of that edition


def folder_of(name: str) -> Path:
    """The folder of a model's name in a recipe."""
    return EMBEDDED if name == EMBEDDED_NAME else Path(name)


def unknown_model(name: str) -> InputError:
    """The error for a name that is no model."""
    if name in PRESETS:
        return InputError(
            f"model '{name}': no weights of that size are public; make a directory from Wan2.1 with "
            "`vera model from-wan SOURCE TARGET`, train it, and name that directory"
        )
    return InputError(f"model '{name}': neither 'mini' nor a directory")
