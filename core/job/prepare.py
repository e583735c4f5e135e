"""From a recipe to a job: open what it names, and let its backend check the rest."""

from dataclasses import replace

from vera.core.backends import load_backend
from vera.core.backends.base import Job, Loader, Opened, formats_of
from vera.core.layer.compressions import compression_notes
from vera.core.model.device import choose_device
from vera.core.model.load import load_model
from vera.core.plate.choice import Choice
from vera.core.plate.source import HeldOutMask, Mask, open_mask, open_plate
from vera.core.recipe import NO_MASK, EditRecipe, refuse_unsupported


def prepare(recipe: EditRecipe, device: str, load: Loader = load_model) -> Job:
    """Open everything that the recipe names. Raises InputError; nothing is written.

    device: "auto", "cpu" or "cuda". load(name, device, **recipe.loading()) gives the Model.
    """
    backend = load_backend(recipe.model)
    refuse_unsupported(recipe, backend.name)
    plate = open_plate(recipe.plate, recipe.frames, Choice.of(recipe))
    mask: Mask | HeldOutMask | None
    mask = open_mask(recipe.mask, plate) if recipe.mask and recipe.mask != NO_MASK else None
    if recipe.hold_out:
        mask = HeldOutMask(mask, open_mask(recipe.hold_out, plate))
    fingerprints = {f: plate.fingerprint(f) for f in plate.frames}
    compression = compression_notes(formats_of(recipe), plate)
    job = backend.prepare(Opened(recipe, plate, mask, fingerprints, choose_device(device)), load)
    notes = (*plate.notes, *(mask.notes if mask else ()), *compression)
    return replace(job, warnings=(*notes, *job.warnings))
