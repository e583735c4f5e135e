"""The formula for the cost of training, against torch's own count."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vera.core.cli.model_cost import main
from vera.core.job.gpu_plan import wans_parts
from vera.core.model.codec import WanCodec
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.transformer import Transformer
from vera.core.training.full.cost import (
    ENCODING,
    Gpu,
    TrainingRun,
    encoding_hours,
    forward_flops,
    tokens_of,
    training_cost,
)


@pytest.mark.parametrize("switches", [{}, {"share_embedders": True}, {"alpha_text": False}, {"mask_input": False}])
def test_counted_flops_equal_torch_s_own_count(switches):
    config = TransformerConfig(
        dim=24, heads=2, layers=3, ffn_dim=40, text_dim=20, freq_dim=8, latent_channels=4, **switches
    )
    with torch.device("meta"):
        model = Transformer(config)
        latents = torch.zeros(1, 3, 4, 3, 6, 4)
        mask = latents[:, 0] if config.mask_input else None
        with FlopCounterMode(
            display=False
        ) as counter:  # with gradients; else attention is one operation that is not counted
            model(latents, torch.zeros(1), torch.zeros(1, 7, 20), latents[:, 0], mask)
    assert forward_flops(config, 3 * 3 * 2, text_tokens=7) == counter.get_total_flops()


@pytest.mark.parametrize("preset, frames, tokens", [("1.3b", 49, 20_280), ("14b", 81, 32_760)])
def test_token_counts_equal_the_published_ones(preset, frames, tokens):
    assert tokens_of(PRESETS[preset], frames, 480, 832) == tokens


def test_hours_agree_with_a_calculation_by_hand():
    """8,000 steps of 16 clips, each the cost of four forward passes, at 40 % of 989 TFLOP/s."""
    forward = forward_flops(PRESETS["1.3b"], 20_280)
    cost = training_cost(PRESETS["1.3b"], 20_280, TrainingRun(8000, 16), Gpu(989e12, price=2.0))
    assert cost.hours == pytest.approx(8000 * 16 * 4 * forward / 989e12 / 0.4 / 3600) and cost.dollars == 2 * cost.hours
    saved = training_cost(PRESETS["1.3b"], 20_280, TrainingRun(8000, 16, recompute=False))
    assert saved.hours == pytest.approx(0.75 * cost.hours)


def test_encoding_is_counted_by_torch_too():
    vae, _ = wans_parts()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        WanCodec(vae).encode(torch.empty(1, 3, 49, 480, 832, device="meta"))
    assert counter.get_total_flops() == pytest.approx(ENCODING[49], rel=1e-4)
    assert encoding_hours(49, 1000) == pytest.approx(
        1000 * 5 * counter.get_total_flops() / (0.2 * 495e12) / 3600, rel=1e-3
    )


def test_the_table(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 9 and "encoding, once: 1.4 H100 hours for 1,000 rows of 49 frames" in said
