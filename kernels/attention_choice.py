"""Choose the implementation of joint attention for a device, with the reason.

triton     kernels/flash.py; forward only
cudnn      cuDNN's fused attention, through torch
fa3, fa4   FlashAttention 3 (Hopper) and 4 (Hopper, Blackwell), registered in torch in place of its FlashAttention, if
           their packages are installed; with a backward
sdpa       torch's own choice among its fused attentions; runs everywhere
reference  plain torch, which defines the result; its score matrix is too large for real clips
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
# FlashAttentions that torch can use in place of its own: module, and major compute capabilities with kernels.
FLASH = {"fa3": ("flash_attn_interface", (9,)), "fa4": ("flash_attn.cute", (9, 10))}
VARIABLE = "VERA_ATTENTION"
HALF_TYPES = (torch.float16, torch.bfloat16)

# Major compute capability -> implementations, fastest first, from published figures (on H100: FA3 650, cuDNN 600,
# Triton 500, torch's default 350 TFLOP/s; on B200 FA4 is 1.3 times cuDNN). Not measured here; see benchmarks/gpu.py.
PREFERENCE = {8: ("sdpa",), 9: ("fa3", "cudnn", "triton", "sdpa"), 10: ("fa4", "cudnn", "sdpa")}


@dataclass(frozen=True)
class Choice:
    """An implementation, one of KINDS, and the reason for it in words."""

    kind: str
    why: str


def choose(
    device: torch.device, dtype: torch.dtype, dim: int, *, needs_gradient: bool = False, kind: str | None = None
) -> Choice:
    """The attention for inputs of this device, type and head size.

    kind, or else the environment variable VERA_ATTENTION, forces one of KINDS; ValueError if it cannot run here.
    Without either, some implementation always fits.
    """
    device = torch.device(device)
    wanted = forced(kind)
    if wanted:
        problem = obstacle(wanted, device, dtype, dim, needs_gradient)
        if problem:
            raise ValueError(f"attention {wanted!r} was forced but {problem}")
        return Choice(wanted, "requested" if kind else f"set by {VARIABLE}")
    if device.type == "cpu" and needs_gradient:
        return Choice("reference", "on a CPU its backward is faster than that of torch's fused attention")
    if device.type != "cuda":
        return Choice("sdpa", f"no CUDA device ({device.type})")
    major, minor = torch.cuda.get_device_capability(device)
    rejected: list[str] = []
    for kind in PREFERENCE.get(major, ("sdpa",)):
        problem = obstacle(kind, device, dtype, dim, needs_gradient)
        if problem is None:
            return Choice(kind, "; ".join([f"fastest usable for compute capability {major}.{minor}", *rejected]))
        rejected.append(f"not {kind}: {problem}")
    return Choice("sdpa", "; ".join(rejected))


def forced(kind: str | None) -> str | None:
    """The kind that the argument, or else the environment, forces; None leaves it to `choose`."""
    return kind or os.environ.get(VARIABLE)


def explain(
    device: torch.device,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    *,
    needs_gradient: bool = False,
    kind: str | None = None,
) -> str:
    """One line with the attention for inputs of this shape (B, 3, L, H, K) and the reason; see `choose`."""
    _, layers, length, heads, dim = shape
    choice = choose(device, dtype, dim, needs_gradient=needs_gradient, kind=kind)
    name = str(dtype).removeprefix("torch.")
    return f"joint attention: {choice.kind} ({choice.why}); {layers} x {length} tokens, {heads} heads of {dim}, {name}"


def constant_when_compiled(function: Any) -> Any:
    """torch.compiler.assume_constant_result without its import of torch._dynamo, which takes 1.3 CPU seconds."""
    function._dynamo_marked_constant = True
    return function


@constant_when_compiled
def chosen_kind(device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool, kind: str | None) -> str:
    """The kind of `choose`; evaluated once per compiled graph, not once per call."""
    return choose(device, dtype, dim, needs_gradient=needs_gradient, kind=kind).kind


@constant_when_compiled
def has_kernel(device: torch.device, dtype: torch.dtype, dim: int, needs_gradient: bool = False) -> bool:
    """Whether our Triton attention and its variants support such inputs; evaluated once per compiled graph."""
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
        if dtype not in HALF_TYPES or dim % 8 or dim > 128:
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
    if device.type == "cuda" and dtype not in HALF_TYPES or dim not in HEAD_DIMS:
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
    if dtype not in HALF_TYPES or dim % 8 or dim > 128:
        return f"it takes fp16 and bf16 with head sizes in eights up to 128, not {dtype} with {dim}"
    return None


def torch_flash_implementations() -> list[str]:
    """Names of FlashAttentions that this torch can use; none before torch 2.11."""
    known = getattr(torch.nn.attention, "list_flash_attention_impls", list)
    return list(known())


@functools.cache
def importable(module: str) -> bool:
    """Whether a module exists; only its parent packages are imported to find it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:  # its package is not there
        return False
