"""Triton where it is installed; where it is not, the kernels still import and nobody calls them.

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


# Triton settles it when kernels are defined; a constant also lets torch.compile see through.
_INTERPRETING = triton is not None and triton.knobs.runtime.interpret


def interpreting() -> bool:
    """Whether kernels run in Triton's interpreter, which takes CPU tensors (for tests)."""
    return _INTERPRETING


def runs_on(device: torch.device) -> bool:
    """Whether a Triton kernel can be launched on tensors of this device."""
    return installed() and (device.type == "cuda" or interpreting())


def launch_options(**options: Any) -> dict:
    """Compiler options of a launch; the interpreter knows none.

    Multiply-add fusion is asked for by name: newer Triton versions leave it off.
    """
    return {} if interpreting() else {"enable_fp_fusion": True, **options}


def give_scratch(device: torch.device) -> None:
    """Let kernels that make tensor descriptors have their scratch memory from torch.

    Triton keeps the allocator per thread, so this is set again before each launch.
    """
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8, device=device))
