"""Which attention computes joint attention on a device, and why.

triton     kernels/flash.py; forward only
cudnn      cuDNN's fused attention, through torch
fa3, fa4   FlashAttention 3 (Hopper) and 4 (Hopper, Blackwell) in torch's place of FlashAttention, where their packages
           are installed; with a backward
sdpa       torch's own choice among its fused attentions; runs everywhere
reference  written out in plain torch; the truth, and far too large for real clips
"""

import functools
import importlib.util
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.attention

from vera.kernels.flash import HEAD_DIMS
from vera.kernels.language import installed, runs_on

KINDS = ("triton", "cudnn", "fa3", "fa4", "sdpa", "reference")
# Of each FlashAttention that torch can put in its own one's place: the module that holds it, and the major compute
# capabilities that it has kernels for.
FLASH = {"fa3": ("flash_attn_interface", (9,)), "fa4": ("flash_attn.cute", (9, 10))}
VARIABLE = "VERA_ATTENTION"
HALVES = (torch.float16, torch.bfloat16)

# Fastest first, by the compute capability's major number, from figures others published
# (on H100: FA3 650, cuDNN 600, Triton 500, torch's default 350 TFLOP/s; on B200 FA4 is 1.3 times cuDNN). Our own
# measurements go above these once there are any: see benchmarks/gpu.py.
PREFERENCE = {8: ("sdpa",), 9: ("fa3", "cudnn", "triton", "sdpa"), 10: ("fa4", "cudnn", "sdpa")}


@dataclass(frozen=True)
class Choice:
    kind: str
    why: str


def choose(
    device: torch.device, dtype: torch.dtype, dim: int, *, needs_gradient: bool = False, kind: str | None = None
) -> Choice:
    """The attention for inputs of this device, type and head size.

    kind, or else the environment variable VERA_ATTENTION, forces one of KINDS;
    ValueError if that one cannot run here. Without either there is always a choice.
    """
    device = torch.device(device)
    wanted = forced(kind)
    if wanted:
        problem = obstacle(wanted, device, dtype, dim, needs_gradient)
        if problem:
            raise ValueError(f"attention {wanted!r} was forced but {problem}")
        return Choice(wanted, "requested" if kind else f"set by {VARIABLE}")
    if device.type == "cpu" and needs_gradient:
        return Choice("reference", "the backward of torch's fused attention is the slower one on a CPU")
    if device.type != "cuda":
        return Choice("sdpa", f"no CUDA device ({device.type})")
    major, minor = torch.cuda.get_device_capability(device)
    passed: list[str] = []
    for kind in PREFERENCE.get(major, ("sdpa",)):
        problem = obstacle(kind, device, dtype, dim, needs_gradient)
        if problem is None:
            return Choice(kind, "; ".join([f"first choice left for compute capability {major}.{minor}", *passed]))
        passed.append(f"not {kind}: {problem}")
    return Choice("sdpa", "; ".join(passed))


def forced(kind: str | None) -> str | None:
    """The kind that an argument, or else the environment, asks for; None leaves it to `choose`."""
    return kind or os.environ.get(VARIABLE)


def explain(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    *,
    needs_gradient: bool = False,
    kind: str | None = None,
) -> str:
    """One line: which attention inputs of this shape (B, 3, L, H, K) take, and why; else as for `choose`."""
    _, layers, length, heads, dim = shape
    choice = choose(device, dtype, dim, needs_gradient=needs_gradient, kind=kind)
    name = str(dtype).removeprefix("torch.")
    return f"joint attention: {choice.kind} ({choice.why}); {layers} x {length} tokens, {heads} heads of {dim}, {name}"


def constant_when_compiled(function: Any) -> Any:
    """As torch.compiler.assume_constant_result, which would import all of torch._dynamo, 1.3 CPU seconds."""
    function._dynamo_marked_constant = True
    return function


@constant_when_compiled
def chosen_kind(device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool, kind: str | None) -> str:
    """The kind alone; asked once per compiled graph, not once per call."""
    return choose(device, dtype, dim, needs_gradient=needs_gradient, kind=kind).kind


@constant_when_compiled
def has_kernel(device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool = False) -> bool:
    """Whether our Triton attention, and so each opt-in, takes such inputs; asked once per compiled graph."""
    return obstacle("triton", device, dtype, dim, needs_gradient) is None


def obstacle(kind: str, device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool) -> str | None:
    """Why this attention cannot take such inputs, or None."""
    if kind in ("sdpa", "reference"):
        return None
    if kind == "cudnn":
        if device.type != "cuda" or not torch.backends.cudnn.is_available():
            return "there is no cuDNN here"
        if not torch.backends.cuda.cudnn_sdp_enabled():
            return "torch has its cuDNN attention switched off"
        if dtype not in HALVES or dim % 8 or dim > 128:
            return f"cuDNN takes fp16 and bf16 with head sizes in eights up to 128, not {dtype} with {dim}"
        return None
    if kind in FLASH:
        return obstacle_to_flash(kind, device, dtype, dim)
    if kind == "triton":
        return obstacle_to_triton(device, dtype, dim, needs_gradient)
    return f"there is no such attention; there are {', '.join(KINDS)}"


def obstacle_to_triton(device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool) -> str | None:
    """Why the Triton kernel cannot take such inputs, or None."""
    if not installed():
        return "Triton is not installed"
    if not runs_on(device):
        return f"Triton needs a CUDA device, not {device.type}"
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        return "the kernel needs compute capability 8.0"
    if needs_gradient:
        return "the Triton kernel has no backward"
    if device.type == "cuda" and dtype not in HALVES or dim not in HEAD_DIMS:
        return f"the Triton kernel takes fp16 and bf16 with head sizes {HEAD_DIMS}, not {dtype} with {dim}"
    return None


def obstacle_to_flash(kind: str, device: torch.device, dtype: torch.dtype, dim: int) -> str | None:
    """Why this FlashAttention cannot take such inputs, or None."""
    module, majors = FLASH[kind]
    if device.type != "cuda":
        return f"{kind} needs a CUDA device, not {device.type}"
    if kind.upper() not in torch_flash_implementations():
        return "this torch has no switch for it"
    if not importable(module):
        return f"{module} is not installed"
    if torch.cuda.get_device_capability(device)[0] not in majors:
        return f"it has kernels for compute capability {' and '.join(f'{major}.x' for major in majors)} only"
    if dtype not in HALVES or dim % 8 or dim > 128:
        return f"it takes fp16 and bf16 with head sizes in eights up to 128, not {dtype} with {dim}"
    return None


def torch_flash_implementations() -> list[str]:
    """Names that torch's own switch knows; none before torch 2.11."""
    known = getattr(torch.nn.attention, "list_flash_attention_impls", list)
    return list(known())


@functools.cache
def importable(module: str) -> bool:
    """Whether there is such a module; nothing of its package is imported but what finding it needs."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its package is not there
        return False
