"""Make a job from a recipe: open its files, and let its backend check the rest."""

from dataclasses import replace

from vera.core.backends import load_backend
from vera.core.backends.base import Job, Loader, Opened, formats_of
from vera.core.job.opening import Inputs, open_inputs
from vera.core.layer.compressions import compression_notes
from vera.core.model.device import choose_device
from vera.core.model.load import load_model
from vera.core.recipe import EditRecipe


def prepare(recipe: EditRecipe, device: str, load: Loader = load_model, inputs: Inputs | None = None) -> Job:
    """Open everything that the recipe names, and check it. Raises InputError; nothing is written.

    device: "auto", "cpu" or "cuda"
    load: called as load(name, device, **recipe.loading()), returns the Model
    inputs: plate and mask if they are already open
    """
    inputs = inputs or open_inputs(recipe)
    plate = inputs.plate
    fingerprints = {f: plate.fingerprint(f) for f in plate.frames}
    opened = Opened(recipe, plate, inputs.mask, fingerprints, choose_device(device))
    job = load_backend(recipe.model).prepare(opened, load)
    notes = (*inputs.notes, *compression_notes(formats_of(recipe), plate))
    return replace(job, warnings=(*notes, *job.warnings))
