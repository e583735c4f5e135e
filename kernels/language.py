"""Triton if it is installed. Without it, the kernel modules still import, and their kernels are not called.

Kernel files import `tl` and `jit` from here and postpone their annotations
(`from __future__ import annotations`), so `tl.constexpr` is never looked up.
"""

from collections.abc import Callable
from typing import Any

import torch

try:
    import triton
    import triton.language as tl

    jit = triton.jit
except ImportError:
    triton = tl = None

    def jit(function: Callable) -> Callable:
        return function


def installed() -> bool:
    return triton is not None


# Triton decides this when kernels are defined. A constant can also be traced by torch.compile.
_INTERPRETING = triton is not None and triton.knobs.runtime.interpret


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, which takes CPU tensors (for tests)."""
    return _INTERPRETING


def runs_on(device: torch.device) -> bool:
    """Whether a Triton kernel can be launched on tensors of this device."""
    return installed() and (device.type == "cuda" or interpreting())


def compute_capability(device: torch.device) -> tuple[int, int]:
    """The compute capability of a CUDA device; that of Hopper for the interpreter's CPU tensors."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else (9, 0)


def launch_options(**options: Any) -> dict:
    """Compiler options of a launch; none for the interpreter.

    Fusion of multiply and add is enabled explicitly, because newer Triton versions disable it.
    """
    return {} if interpreting() else {"enable_fp_fusion": True, **options}


def give_scratch(device: torch.device) -> None:
    """Make Triton take the scratch memory of tensor descriptors from torch.

    Triton stores the allocator per thread, so this is called before each launch.
    """
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))
