"""How the transformer's blocks are run: asked to stop in between, their work kept from one step to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from vera.core.model.transformer import run_blocks

if TYPE_CHECKING:
    from vera.core.model.interfaces import BlockRunner


class Watched:
    """Runs the blocks, through a cache where there is one, and calls `check` before each.

    At full size a pass takes seconds to minutes: between its blocks it can be stopped, by an exception.
    """

    def __init__(self, check: Callable[[], object], cache: BlockRunner | None = None) -> None:
        self.check, self.cache = check, cache

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        """As `run_blocks`."""
        watched = [self._watched(block) for block in blocks]
        return (self.cache.run if self.cache else run_blocks)(watched, hidden, *given)

    def _watched(self, block):
        def run(*given):
            self.check()
            return block(*given)

        return run


class FirstBlockCache:
    """Skips all blocks but the first in steps where the first changes the tokens as it last did.

    The first block is always run. While its change differs from that of the last full
    step by less than `threshold` in every branch (mean absolute difference over mean
    absolute value), the other blocks' change of that step is added again. 0 never skips.
    The branches meet in every block, so they are skipped together, and the one that
    changes most decides. Keeps two tensors of the hidden states' size. One cache serves
    one run of one window and one guidance pass, or of both passes in one batch.

    After ParaAttention's first-block cache (Cheng 2024), itself after TeaCache (Liu et al. 2024).
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.total = alone
        self.steps = self.skipped = 0
        self._change = self._rest = None

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        """Hidden states (B, 3, L, D) through the blocks; `given` is what each block takes beside them."""
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
    """The sums over all tokens, where no other process holds further ones."""
    return sums


def largest_change(
    now: torch.Tensor, before: torch.Tensor, total: Callable[[torch.Tensor], torch.Tensor] = alone
) -> float:
    """Of the branches (and of the batch's samples), the largest relative change; (B, 3, L, D) each."""
    apart, size = total(torch.stack([x.abs().sum((2, 3), dtype=torch.float32) for x in (now - before, before)]))
    return (apart / size).max().item()
