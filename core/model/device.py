"""Choose the device on which a model runs, and the number format of its training."""

import torch

from vera.core.errors import InputError

# Instructions of x86 and ARM that multiply bfloat16 matrices, as torch.cpu.get_capabilities() names them.
BFLOAT16_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def choose_device(name: str) -> str:
    """The device of a name; auto takes CUDA if available. Raises InputError for a missing device."""
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return ("cuda" if has_cuda else "cpu") if name == "auto" else name


def indexed(device: str | torch.device) -> str:
    """The device with its number. "cuda" is the process's current GPU to torch, but the first GPU to other
    libraries."""
    device = torch.device(device)
    return f"cuda:{torch.cuda.current_device()}" if device.type == "cuda" and device.index is None else str(device)


def why_device(name: str, device: torch.device) -> str:
    """Why a job runs on this device, in words. name: the requested one, auto, cpu or cuda."""
    if name != "auto":
        return "asked for"
    if device.type == "cuda":
        return "auto: CUDA is available"
    return "auto: the GPU's memory ran out" if torch.cuda.is_available() else "auto: torch finds no CUDA device"


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware.

    A CPU without such instructions emulates them: training mini there is about twice as slow as in fp32.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not hasattr(torch.cpu, "get_capabilities"):  # not in every torch that is supported
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in BFLOAT16_INSTRUCTIONS)


def mixed_precision(device: torch.device) -> torch.autocast:
    """The context in which training computes: bfloat16 where the device has units for it, else fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16_units(device))
