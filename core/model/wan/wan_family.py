"""Veras that started from a Wan2.1, among the families of models. Without torch, until one is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vera.core.model.interfaces import LoadOptions, Model
    from vera.core.model.wan.wan_directory import WanParts


class WanFamily:
    """Veras that started from a Wan2.1, see `Family`."""

    name = "Vera grown out of Wan2.1"
    planned = True

    def recognises(self, folder: Path) -> bool:
        return (folder / "transformer").is_dir()

    def describe(self, folder: Path) -> WanParts:
        from vera.core.model.wan.wan_directory import read_parts

        return read_parts(folder)

    def check_text(self, folder: Path, prompt: str, anyway: bool = False) -> list[str]:
        # Its vocabulary is open; whether the prompt is too long is the tokenizer's to say, once it is loaded.
        return []

    def load(self, folder: Path, name: str, options: LoadOptions) -> Model:
        from vera.core.model.wan.wan_directory import load_directory

        return load_directory(folder, name, options)
