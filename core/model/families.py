"""The model families that Vera runs, and the family of a model's name.

A new family is a class like these and one row in FAMILIES. No other code distinguishes families. Their modules import
no torch: prompts are checked before it is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vera.core.errors import InputError
from vera.core.model.mini.mini_family import MiniFamily
from vera.core.model.names import folder_of, unknown_model
from vera.core.model.wan.wan_family import WanFamily

if TYPE_CHECKING:
    from vera.core.model.config import TransformerConfig
    from vera.core.model.interfaces import LoadOptions, Model
    from vera.core.model.limits import Limits


class Description(Protocol):
    """A model's properties that are known before any weight is read."""

    @property
    def config(self) -> TransformerConfig:
        """Geometry of the transformer."""

    @property
    def limits(self) -> Limits:
        """Sizes and sampling defaults that it was trained for."""


class Family(Protocol):
    """A kind of model whose folders have the same files.

    name: for messages
    planned: whether core/job/gpu_plan.py plans the GPU memory of its models before they are loaded
    """

    name: str
    planned: bool

    def recognises(self, folder: Path) -> bool:
        """Whether a folder is of this family, judged by the names of its files."""

    def describe(self, folder: Path) -> Description:
        """Geometry and limits, from headers and configurations. Raises InputError."""

    def check_text(self, folder: Path, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt that need no weights. Raises InputError, see `Text.check`."""

    def load(self, folder: Path, name: str, options: LoadOptions) -> Model:
        """Load the model and name it `name`. A missing or misfit part raises InputError before any weight is read."""


DIGESTS = "SHA256SUMS"  # optional list of the files at the top of a model's folder, as `sha256sum --check` reads it

FAMILIES: tuple[Family, ...] = (MiniFamily(), WanFamily())


def family_of(name: str) -> Family:
    """The family of a model's name in a recipe. Raises InputError if the name is no model."""
    folder = folder_of(name)
    if not folder.is_dir():
        raise unknown_model(name)
    refuse_incomplete(folder)
    # A folder that no family recognises is treated as a full-size one, whose missing parts are then reported.
    return next((family for family in FAMILIES if family.recognises(folder)), FAMILIES[-1])


def refuse_incomplete(folder: Path) -> None:
    """Raise InputError if a model's list of digests and its folder differ in their files: a part was lost or added."""
    path = folder / DIGESTS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):  # a list that is no text is refused where the digests are compared
        return
    names = {line.partition("  ")[2] for line in lines} - {""}
    if not lines:
        raise InputError(f"{path}: lists no file; export or copy the model again")
    for name in sorted(names):
        if name == Path(name).name and not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing, though {DIGESTS} lists it; export or copy the model again")
    for file in sorted(folder.glob("*.safetensors")):
        if file.name not in names:
            raise InputError(f"{file}: not listed in {DIGESTS}, so it is of another model; remove it")
