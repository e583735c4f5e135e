"""The kinds of model that Vera runs, and which one a name means.

A new family is a class like these with one row in FAMILIES; nothing else asks which family a model is of.
"""

from pathlib import Path
from typing import Protocol

from vera.core.model.config import TransformerConfig
from vera.core.model.interfaces import LoadOptions, Model
from vera.core.model.limits import Limits
from vera.core.model.mini.edition import MiniFamily
from vera.core.model.names import folder_of, unknown_model
from vera.core.model.wan.family import WanFamily


class Description(Protocol):
    """What is known of a model before a weight is read."""

    @property
    def config(self) -> TransformerConfig:
        """Geometry of the transformer."""

    @property
    def limits(self) -> Limits:
        """What it was trained for."""


class Family(Protocol):
    """One kind of model: folders of the same files.

    name: for messages
    planned: whether core/job/gpu_plan.py plans the GPU memory of its models before they are loaded
    """

    name: str
    planned: bool

    def recognises(self, folder: Path) -> bool:
        """Whether a folder is of this family, by the names in it."""

    def describe(self, folder: Path) -> Description:
        """Geometry and limits, from headers and configurations. Raises InputError."""

    def check_text(self, folder: Path, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt that need no weights. Raises InputError, see `Text.check`."""

    def load(self, folder: Path, name: str, options: LoadOptions) -> Model:
        """The model, named `name`. Raises InputError before any weight is read where a part is missing or does
        not fit."""


FAMILIES: tuple[Family, ...] = (MiniFamily(), WanFamily())


def family_of(name: str) -> Family:
    """The family of a model by its name in a recipe. Raises InputError for a name that is no model."""
    folder = folder_of(name)
    if not folder.is_dir():
        raise unknown_model(name)
    # A folder of which no family says that it is its own is taken for a full-size one with parts missing.
    return next((family for family in FAMILIES if family.recognises(folder)), FAMILIES[-1])
