"""What full-size training takes, by arithmetic: `vera model cost [CONFIG]`.

Operations are counted, hours follow from a GPU's peak and the share of it that is reached, which is an assumption
until step times have been measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vera.core.model.codec import SPACE_STRIDE, latent_frames
from vera.core.model.config import PRESETS, TransformerConfig

TEXT_TOKENS = 512
PEAKS = {"H100": 989e12, "A100": 312e12}  # dense bf16 FLOP/s, as their maker states them
UTILISATION = 0.4  # of the peak; assumed
PRICE = 2.5  # dollars for a GPU hour; assumed


@dataclass(frozen=True)
class Cost:
    """forward: FLOP of one clip's forward pass; step: of one training step; hours: of one GPU, for all steps."""

    forward: float
    step: float
    hours: float
    dollars: float


def tokens_of(config: TransformerConfig, frames: int, height: int, width: int) -> int:
    """Tokens of one layer."""
    grid = (latent_frames(frames), height // SPACE_STRIDE, width // SPACE_STRIDE)
    return math.prod(n // p for n, p in zip(grid, config.patch))


def forward_flops(config: TransformerConfig, tokens: int, text_tokens: int = TEXT_TOKENS) -> float:
    """Multiplications and additions of matrix products, for one clip of `tokens` tokens a layer."""
    dim, joint = config.dim, 3 * tokens
    patch = tokens * config.latent_channels * math.prod(config.patch) * dim
    total = 6 * patch + (1 + config.mask_input) * patch  # in and out of three branches; source, mask
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
    """Of training all weights. A backward pass counts as two forward ones; recomputing what it needs, as a third."""
    forward = forward_flops(config, tokens_of(config, frames, height, width))
    step = forward * batch * (4 if recompute else 3)
    hours = step * steps / (peak * utilisation) / 3600
    return Cost(forward, step, hours, hours * price)


def cost_table(steps: int, batch: int, recompute: bool) -> Iterator[str]:
    """The lines of the table of docs/training.md."""
    given: dict[str, Any] = {"steps": steps, "batch": batch, "recompute": recompute}
    yield (
        f"{given['steps']} steps of {given['batch']} clips, {UTILISATION:.0%} of the "
        f"peak, ${PRICE} a GPU hour (both assumed)"
    )
    yield "| model | frames | PFLOP a forward pass | PFLOP a step | H100 hours | A100 hours | dollars on H100 |"
    yield "|---|---|---|---|---|---|---|"
    for name in ("1.3b", "14b"):
        for frames in (49, 81):
            on = {
                gpu: training_cost(PRESETS[name], frames, 480, 832, peak=peak, **given) for gpu, peak in PEAKS.items()
            }
            cost, slower = on["H100"], on["A100"]
            yield (
                f"| {name} | {frames} | {cost.forward / 1e15:.2f} | {cost.step / 1e15:,.0f} | {cost.hours:,.0f} |"
                f" {slower.hours:,.0f} | {cost.dollars:,.0f} |"
            )
