"""Where a model runs."""

import torch

from vera.core.errors import InputError


def choose_device(name: str) -> str:
    """auto takes CUDA where there is one. Raises InputError for a device that is not there."""
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return ("cuda" if there else "cpu") if name == "auto" else name
