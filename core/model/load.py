"""A model by name: the embedded `mini`, or a folder of any family."""

import torch

from vera.core.model.families import family_of
from vera.core.model.interfaces import LoadOptions, Model
from vera.core.model.names import folder_of
from vera.core.recipe import parse_lora


def load_model(
    name: str,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    weights: str = "auto",
    offload: str = "none",
    lora: tuple[str, ...] = (),
    lora_skip_missing: bool = False,
) -> Model:
    """Load `mini` or a model's folder onto a device.

    dtype, weights, offload: see LoadOptions
    lora: "FILE[:STRENGTH]" each, added to the weights while they are read
    lora_skip_missing: leave out LoRA tensors that match nothing in the model
    Host memory holds one copy of the weights that stay there, and one file's tensors during reading. Raises InputError
    before any weight is read if a part is missing or does not fit.
    """
    loras = tuple(parse_lora(text) for text in lora)
    options = LoadOptions(device, dtype, weights, offload, loras, lora_skip_missing)
    return family_of(name).load(folder_of(name), name, options)
