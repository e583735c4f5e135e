"""Estimate the cost of full-size training: `vera model cost [CONFIG]`.

The number of operations is exact. Hours follow from a GPU's peak rate and an assumed utilisation; no step time has
been measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from vera.core.model.codec import SPACE_STRIDE, latent_frames
from vera.core.model.config import BRANCHES, PRESETS, TransformerConfig

TEXT_TOKENS = 512  # text tokens per instruction, padding included. Raising it raises the cost of attention to the text
# FLOP of encoding one layer of a clip of 832x480 pixels by Wan's codec, by the clip's frames; in TF32.
ENCODING = {49: 99.34e12, 81: 163.75e12}
LAYERS_ENCODED = 5  # of a row with a mask
TF32_PEAK = 495e12  # of an H100 in dense TF32 FLOP/s, from the manufacturer's data sheet
ENCODING_UTILISATION = 0.2  # share of that peak that encoding reaches; assumed. Raising it lowers the hours


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    peak: rate in dense bf16 FLOP/s, from the manufacturer's data sheet
    utilisation: share of the peak that training reaches; assumed. Raising it lowers hours and dollars
    price: dollars per GPU hour; assumed. Raising it raises the dollars only
    """

    peak: float
    utilisation: float = 0.4
    price: float = 2.5


GPUS = {"H100": Gpu(989e12), "A100": Gpu(312e12)}


@dataclass(frozen=True)
class TrainingRun:
    """steps: of the run. batch: clips per step. recompute: activations are computed again in the backward pass."""

    steps: int
    batch: int
    recompute: bool = True


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a training run.

    forward: FLOP of the forward pass of one clip. step: FLOP of one training step. hours: GPU hours of all steps.
    dollars: price of these hours.
    """

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
    products = _patch_products(config, tokens) + config.layers * _joint_attention_products(config, tokens)
    for branch in BRANCHES:
        products += config.layers * _block_products(config, branch, tokens, text_tokens)
        if branch == BRANCHES[0] or not config.share_embedders:
            products += _embedder_products(config, branch, text_tokens)
    return 2.0 * products  # one multiplication and one addition each


def _patch_products(config: TransformerConfig, tokens: int) -> int:
    """Patch embeddings of the three layers, the plate and the mask; output projections of the three layers."""
    one = tokens * config.latent_channels * math.prod(config.patch) * config.dim
    inputs, outputs = len(BRANCHES) + 1 + config.mask_input, len(BRANCHES)
    return (inputs + outputs) * one


def _block_products(config: TransformerConfig, branch: str, tokens: int, text_tokens: int) -> int:
    """One block of one branch: projections, feed-forward, and attention to the text if the branch has it."""
    dim = config.dim
    projections = 4 * tokens * dim * dim  # query, key, value, output
    feed_forward = 2 * tokens * dim * config.ffn_dim
    if not config.text_of(branch):
        return projections + feed_forward
    text_projections = 2 * dim * dim * (tokens + text_tokens)  # query and output of tokens, key and value of text
    text_attention = 2 * tokens * text_tokens * dim  # scores, and the weighted sum of values
    return projections + feed_forward + text_projections + text_attention


def _joint_attention_products(config: TransformerConfig, tokens: int) -> int:
    """Attention of one block over the tokens of all layers: scores, and the weighted sum of values."""
    joint = len(BRANCHES) * tokens
    return 2 * joint * joint * config.dim


def _embedder_products(config: TransformerConfig, branch: str, text_tokens: int) -> int:
    """The time embedder, and the text embedder if the branch has one."""
    dim = config.dim
    time = config.freq_dim * dim + dim * dim + 6 * dim * dim  # two linear layers, then six modulation vectors
    text = text_tokens * dim * (config.text_dim + dim)  # two linear layers
    return time + (text if config.text_of(branch) else 0)


def training_cost(config: TransformerConfig, tokens: int, run: TrainingRun, gpu: Gpu = GPUS["H100"]) -> Cost:
    """Cost of training all weights on clips of `tokens` tokens per layer.

    A backward pass costs two forward passes. Computing activations again costs one more.
    """
    forward = forward_flops(config, tokens)
    step = forward * run.batch * (4 if run.recompute else 3)
    hours = step * run.steps / (gpu.peak * gpu.utilisation) / 3600
    return Cost(forward, step, hours, hours * gpu.price)


def encoding_hours(frames: int, rows: int) -> float:
    """H100 hours of the first start, which encodes all rows of `frames` (49 or 81) frames of 832x480 pixels."""
    return rows * LAYERS_ENCODED * ENCODING[frames] / (TF32_PEAK * ENCODING_UTILISATION) / 3600


def cost_table(run: TrainingRun) -> Iterator[str]:
    """The lines of the cost table in docs/training.md: presets by clip length, at 832x480 pixels, and encoding."""
    gpu = GPUS["H100"]
    assumed = f"{gpu.utilisation:.0%} of the peak, ${gpu.price} a GPU hour (both assumed)"
    yield f"{run.steps} steps of {run.batch} clips, {assumed}"
    yield "| model | frames | PFLOP a forward pass | PFLOP a step | H100 hours | A100 hours | dollars on H100 |"
    yield "|---|---|---|---|---|---|---|"
    for name in ("1.3b", "14b"):
        for frames in (49, 81):
            tokens = tokens_of(PRESETS[name], frames, 480, 832)
            cost, slower = (training_cost(PRESETS[name], tokens, run, GPUS[kind]) for kind in ("H100", "A100"))
            yield (
                f"| {name} | {frames} | {cost.forward / 1e15:.2f} | {cost.step / 1e15:,.0f} | {cost.hours:,.0f} |"
                f" {slower.hours:,.0f} | {cost.dollars:,.0f} |"
            )
    for frames, flops in ENCODING.items():
        yield (
            f"encoding, once: {encoding_hours(frames, 1000):.1f} H100 hours for 1,000 rows of {frames} frames"
            f" ({flops / 1e12:.0f} TFLOP a layer, {LAYERS_ENCODED} layers a row, {ENCODING_UTILISATION:.0%} of TF32's"
            " peak, assumed)"
        )
