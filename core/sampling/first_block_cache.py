"""Runners of the transformer's blocks: one that can be stopped between blocks, and the first-block cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vera.core.model.transformer import run_blocks

if TYPE_CHECKING:
    from vera.core.model.interfaces import BlockRunner


class CheckedRunner:
    """Runs the blocks, with `cache` if there is one, and calls `check` before each block.

    A full-size pass takes seconds to minutes; an exception from `check` stops it between two blocks.
    """

    def __init__(self, check: Callable[[], object], cache: BlockRunner | None = None) -> None:
        self.check, self.cache = check, cache

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        """Run the blocks, see `run_blocks`."""
        checked = [self._checked(block) for block in blocks]
        return (self.cache.run if self.cache else run_blocks)(checked, hidden, *given)

    def _checked(self, block):
        def run(*given):
            self.check()
            return block(*given)

        return run


class FirstBlockCache:
    """Skips all blocks but the first in steps where the first block's residual hardly changes.

    The first block always runs. Its residual is compared with that of the last full step: mean
    absolute difference over mean absolute value. If this is below `threshold` in every branch,
    the residual of the other blocks from that full step is added instead of running them.
    A threshold of 0 never skips. Branches interact in every block, so all branches are skipped
    together, and the branch with the largest change decides. The cache holds two tensors of the
    size of the hidden states. It serves one window and one guidance pass, or both passes in a batch.

    After ParaAttention's first-block cache (Cheng 2024), itself after TeaCache (Liu et al. 2024).
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.total = alone
        self.steps = self.skipped = 0
        self._change = self._rest = None

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        """Run hidden states (B, 3, L, D) through the blocks; `given`: the other arguments of each block."""
        self.steps += 1
        first = blocks[0](hidden, *given)
        change = first - hidden
        if self._change is not None and largest_change(change, self._change, self.total) < self.threshold:
            self.skipped += 1
            return first + self._rest
        out = first
        for block in blocks[1:]:
            out = block(out, *given)
        self._change, self._rest = change, out - first
        return out


def alone(sums: torch.Tensor) -> torch.Tensor:
    """The sums over all tokens, for a single process."""
    return sums


def largest_change(
    now: torch.Tensor, before: torch.Tensor, total: Callable[[torch.Tensor], torch.Tensor] = alone
) -> float:
    """The largest relative change among branches and samples; now, before: (B, 3, L, D)."""
    apart, size = total(torch.stack([x.abs().sum((2, 3), dtype=torch.float32) for x in (now - before, before)]))
    return (apart / size).max().item()
