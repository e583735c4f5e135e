"""Estimate the cost of full-size training: `vera model cost [CONFIG]`.

The number of operations is exact. Hours follow from a GPU's peak rate and an assumed utilisation; no step time has
been measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vera.core.model.codec import SPACE_STRIDE, latent_frames
from vera.core.model.config import PRESETS, TransformerConfig

TEXT_TOKENS = 512  # text tokens per instruction, padding included
PEAKS = {"H100": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, from the manufacturer's data sheets
UTILISATION = 0.4  # share of the peak that training reaches; assumed. Raising it lowers hours and dollars
PRICE = 2.5  # dollars per GPU hour; assumed


@dataclass(frozen=True)
class Cost:
    """forward: FLOP of the forward pass of one clip. step: FLOP of one training step. hours: GPU hours of all steps.
    dollars: price of these hours."""

    forward: float
    step: float
    hours: float
    dollars: float


def tokens_of(config: TransformerConfig, frames: int, height: int, width: int) -> int:
    """Number of tokens of one layer of a clip."""
    grid = (latent_frames(frames), height // SPACE_STRIDE, width // SPACE_STRIDE)
    return math.prod(n // p for n, p in zip(grid, config.patch))


def forward_flops(config: TransformerConfig, tokens: int, text_tokens: int = TEXT_TOKENS) -> float:
    """FLOP of the matrix products of a forward pass, for one clip with `tokens` tokens per layer."""
    dim, joint = config.dim, 3 * tokens
    patch = tokens * config.latent_channels * math.prod(config.patch) * dim
    total = 6 * patch + (1 + config.mask_input) * patch  # input and output of three branches; source and mask
    for branch in ("edit", "alpha", "composite"):
        text = config.text_of(branch)
        block = tokens * dim * (4 * dim + 2 * config.ffn_dim)
        if text:
            block += 2 * dim * dim * (tokens + text_tokens) + 2 * tokens * text_tokens * dim
        total += config.layers * block
        if branch == "edit" or not config.share_embedders:
            total += config.freq_dim * dim + 7 * dim * dim
            total += text_tokens * dim * (config.text_dim + dim) if text else 0
    total += config.layers * 2 * joint * joint * dim
    return 2.0 * total


def training_cost(
    config: TransformerConfig,
    frames: int,
    height: int,
    width: int,
    steps: int,
    batch: int,
    recompute: bool | str = True,
    peak: float = PEAKS["H100"],
    utilisation: float = UTILISATION,
    price: float = PRICE,
) -> Cost:
    """Cost of training all weights. A backward pass counts as two forward passes, recomputation as a third."""
    forward = forward_flops(config, tokens_of(config, frames, height, width))
    step = forward * batch * (4 if recompute else 3)
    hours = step * steps / (peak * utilisation) / 3600
    return Cost(forward, step, hours, hours * price)


def cost_table(steps: int, batch: int, recompute: bool) -> Iterator[str]:
    """The lines of the table of docs/training.md."""
    run: dict[str, Any] = {"steps": steps, "batch": batch, "recompute": recompute}
    yield f"{steps} steps of {batch} clips, {UTILISATION:.0%} of the peak, ${PRICE} a GPU hour (both assumed)"
    yield "| model | frames | PFLOP a forward pass | PFLOP a step | H100 hours | A100 hours | dollars on H100 |"
    yield "|---|---|---|---|---|---|---|"
    for name in ("1.3b", "14b"):
        for frames in (49, 81):
            costs = {
                gpu: training_cost(PRESETS[name], frames, 480, 832, peak=peak, **run) for gpu, peak in PEAKS.items()
            }
            cost, slower = costs["H100"], costs["A100"]
            yield (
                f"| {name} | {frames} | {cost.forward / 1e15:.2f} | {cost.step / 1e15:,.0f} | {cost.hours:,.0f} |"
                f" {slower.hours:,.0f} | {cost.dollars:,.0f} |"
            )
