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
    """`mini`, or a model's folder, onto a device.

    dtype, weights, offload: see LoadOptions. lora: "FILE[:STRENGTH]" each, added to the weights as these are read;
    lora_skip_missing: without those of its tensors that match nothing in the model.
    Host memory is one copy of what stays there, and one file's tensors while they are read. Raises InputError before
    any weight is read when a part is missing or does not fit.
    """
    loras = tuple(parse_lora(text) for text in lora)
    options = LoadOptions(device, dtype, weights, offload, loras, lora_skip_missing)
    return family_of(name).load(folder_of(name), name, options)
