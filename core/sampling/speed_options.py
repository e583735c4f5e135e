"""Options that make sampling faster than the full computation.

`python -m benchmarks.speed_options` measures their errors against the full computation.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from vera.core.errors import InputError
from vera.core.model.offload import computing_device
from vera.core.sampling.first_block_cache import FirstBlockCache
from vera.kernels.attention_choice import VARIABLE, choose, explain, has_kernel
from vera.kernels.language import installed
from vera.kernels.variants import VARIANTS

if TYPE_CHECKING:
    from vera.core.model.transformer import Transformer


@dataclass(frozen=True)
class SpeedOptions:
    """Speed options of a run.

    attention  "dense"; or "int8" or "window", which are approximations
    cache      threshold of the first-block cache, see FirstBlockCache; an approximation. 0 turns it off
    compile    compile the repeated block with torch.compile: exact up to rounding, slow to start
    one_batch  run both guidance passes in one batch: exact up to rounding, takes more memory
    """

    attention: str = "dense"
    cache: float = 0.0
    compile: bool = False
    one_batch: bool = False

    def __post_init__(self) -> None:
        if self.attention not in VARIANTS:
            raise InputError(f"attention {self.attention!r} is not one of {', '.join(VARIANTS)}")
        if self.cache < 0:
            raise InputError(f"cache threshold {self.cache} is negative; 0 turns the cache off")

    @classmethod
    def of(cls, recipe: Any) -> SpeedOptions:
        """The options of a recipe."""
        return cls(recipe.attention, recipe.cache or 0.0, recipe.compile, recipe.one_batch)

    def check(self, transformer: Transformer) -> list[str]:
        """Check the options before a run; return warnings about options without effect on this device.

        Raises InputError for options that are not available.
        """
        parameter = next(transformer.parameters())
        device, dim = computing_device(transformer), transformer.config.head_dim
        try:
            choose(device, parameter.dtype, dim)
        except ValueError as error:
            raise InputError(f"{VARIABLE}: {error}; set another value, or unset it") from None
        problem = obstacle_to_compiling(device) if self.compile else None
        if problem:
            raise InputError(f"--compile: {problem}; leave it out")
        if self.attention != "dense" and not has_kernel(device, parameter.dtype, dim):
            return [f"attention {self.attention} has no kernel for this device ({device.type}): it saves no time here"]
        return []

    def explain(self, transformer: Transformer, length: int, guidance: float | None = None) -> list[str]:
        """One line for each option; length: number of tokens of one layer."""
        dtype, config, device = next(transformer.parameters()).dtype, transformer.config, computing_device(transformer)
        shape = (1, 3, length, config.heads, config.head_dim)
        if self.attention == "dense":
            attention = explain(device, dtype, shape)
        else:
            kernel = has_kernel(device, dtype, config.head_dim)
            how = "Triton kernel" if kernel else f"plain PyTorch, no kernel for {device.type}"
            attention = f"joint attention: {self.attention} (requested), {how}"
        off = "off (not requested)"
        passes = "both passes in one batch (requested)" if self.one_batch else "two passes, one after the other"
        if guidance == 1:
            passes = "one pass (a guidance of 1 needs no second pass)"
        return [
            attention,
            f"cache: first block, threshold {self.cache:g} (requested)" if self.cache else f"cache: {off}",
            "compile: the repeated block (requested)" if self.compile else f"compile: {off}",
            f"guidance: {passes}",
        ]

    def prepare(self, transformer: Transformer, backend: str | Callable[..., Any] = "inductor") -> None:
        """Set the transformer's attention and compile its blocks, or undo that. Call it once before a run.

        backend: of torch.compile
        """
        transformer.attention = self.attention
        for block in transformer.blocks:
            if self.compile:
                block.compile(fullgraph=True, backend=backend)
            else:
                block._compiled_call_impl = None  # undo an earlier run's compilation; torch has no public way

    def new_cache(self) -> FirstBlockCache | None:
        """A new cache for one guidance pass of one window, or None if the cache is off."""
        return FirstBlockCache(self.cache) if self.cache else None


def obstacle_to_compiling(device: torch.device) -> str | None:
    """Why torch.compile cannot compile for this device, or None if it can."""
    if device.type == "cuda":
        return None if installed() else "Triton is not installed, which torch.compile needs on a GPU"
    names = [os.environ.get("CXX"), *(("cl",) if sys.platform == "win32" else ("g++", "clang++", "c++"))]
    has_compiler = any(name and shutil.which(name) for name in names)
    return None if has_compiler else "no C++ compiler is installed, which torch.compile needs"
