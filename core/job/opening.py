"""Open and check the files that a recipe names, before torch is imported, so that errors appear at once.

Names of files that do not exist are refused before any library of pictures is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vera.core.errors import InputError
from vera.core.model.names import folder_of, unknown_model
from vera.core.plate.named_files import refuse_absent, refuse_wrong_name
from vera.core.recipe import NO_MASK, EditRecipe, backend_of, parse_cuts, parse_region, refuse_unsupported, split_model

if TYPE_CHECKING:
    from vera.core.plate.source import HeldOutMask, Mask, Plate


@dataclass(frozen=True)
class Inputs:
    """A recipe's plate and mask. notes: messages about how they were read."""

    plate: Plate
    mask: Mask | HeldOutMask | None

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.plate.notes, *(self.mask.notes if self.mask else ()))


def open_inputs(recipe: EditRecipe) -> Inputs:
    """Open plate and mask, and check everything that needs no model. Raises InputError; nothing is written."""
    refuse_unsupported(recipe, backend_of(recipe.model))
    _refuse_missing_model(recipe.model)
    _refuse_wrong_names(recipe)
    from vera.core.layer.out_folder import refuse_unwritable
    from vera.core.plate.choice import Choice
    from vera.core.plate.region import region_of
    from vera.core.plate.source import HeldOutMask, open_mask, open_plate

    plate = open_plate(recipe.plate, recipe.frames, Choice.of(recipe))
    if recipe.region:
        region_of(plate, parse_region(recipe.region))
    parse_cuts(recipe.cuts)
    mask: Mask | HeldOutMask | None
    mask = open_mask(recipe.mask, plate) if recipe.mask and recipe.mask != NO_MASK else None
    if recipe.hold_out:
        mask = HeldOutMask(mask, open_mask(recipe.hold_out, plate, holds_out=True))
    read_prompts(recipe)
    refuse_unwritable(Path(recipe.out))
    return Inputs(plate, mask)


def read_prompts(recipe: EditRecipe) -> list[str]:
    """The model's notes on both prompts, by its own tables. Raises InputError for a prompt that it cannot read."""
    if backend_of(recipe.model) != "generate":
        return []
    from vera.core.model.families import family_of

    family, folder, anyway = family_of(recipe.model), folder_of(recipe.model), bool(recipe.anyway)
    notes = family.check_text(folder, recipe.prompt, anyway)
    if recipe.negative_prompt is None:
        return notes
    try:
        return [*notes, *(f"negative {note}" for note in family.check_text(folder, recipe.negative_prompt, anyway))]
    except InputError as error:
        raise InputError(f"negative {error}") from None


def _refuse_wrong_names(recipe: EditRecipe) -> None:
    refuse_wrong_name(Path(recipe.plate))
    for mask in (recipe.mask, recipe.hold_out):
        if mask and mask != NO_MASK:
            try:
                refuse_wrong_name(Path(mask))
            except InputError as error:
                raise InputError(f"mask: {error}") from None


def _refuse_missing_model(model: str) -> None:
    prefix, name = split_model(model)
    if prefix == "lift":
        refuse_absent(Path(name))
    elif not prefix and not folder_of(name).is_dir():
        raise unknown_model(name)
