"""mini among the families of models. Without torch, until a model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vera.core.model.mini.edition_files import CONFIG, TEXT, MiniDescription, describe, refuse_missing, vocabulary_of
from vera.core.model.mini.prompt.reader import PromptReader

if TYPE_CHECKING:
    from vera.core.model.interfaces import LoadOptions, Model


class MiniFamily:
    """mini and what was trained as it, see `Family`."""

    name = "edition of mini"
    planned = False  # it fits everywhere

    def recognises(self, folder: Path) -> bool:
        return (folder / TEXT).is_file() or (folder / CONFIG).is_file()

    def describe(self, folder: Path) -> MiniDescription:
        return describe(folder)

    def check_text(self, folder: Path, prompt: str, anyway: bool = False) -> list[str]:
        refuse_missing(folder)
        return PromptReader(vocabulary_of(folder / TEXT)).read(prompt).check(anyway)

    def load(self, folder: Path, name: str, options: LoadOptions) -> Model:
        from vera.core.model.mini.edition import load_edition

        return load_edition(folder, name, options)
