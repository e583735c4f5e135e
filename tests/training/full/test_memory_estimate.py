"""The estimate of training's memory, against torch's own record."""

import json

import pytest
import torch
import torch.nn.functional as F

from tests.job.test_gpu_plan import allocated
from vera.core.cli.plan import main
from vera.core.errors import InputError
from vera.core.model import transformer as model_file
from vera.core.model.config import TransformerConfig
from vera.core.model.transformer import Transformer
from vera.core.training.full import memory_estimate, trainer
from vera.core.training.full.full_settings import Settings
from vera.core.training.full.memory_estimate import rehearsal_key, training_need, working_bytes
from vera.core.training.full.sharded_model import RecomputingRunner, with_adapters

SMALL = TransformerConfig(dim=128, heads=4, layers=5, ffn_dim=512, text_dim=64, freq_dim=32)
LORA = {"rank": 8, "alpha": 8, "branches": ["edit", "alpha", "composite"]}


def settings(**changes):
    return Settings.of({"train": "vera", "model": "m", "data": "d", "frames": 13, "bf16": False} | changes)


@pytest.mark.parametrize(
    "changes",
    [{}, {"recompute": False}, {"recompute": "but attention"}, {"lora": LORA, "base": "fp32"}],
    ids=["recomputed", "kept", "attention kept", "lora"],
)
def test_estimated_activations_equal_the_allocator_s_record(changes, monkeypatch):
    """Compares with the real model on the CPU, whose attention is fused as on a GPU."""
    given, size = settings(**changes), (256, 160)
    counted = working_bytes(SMALL, rehearsal_key(given), 1, given.frames, size)
    monkeypatch.setenv("VERA_ATTENTION", "sdpa")
    monkeypatch.setattr(model_file, "cross_attention", F.scaled_dot_product_attention)
    torch.manual_seed(0)
    model = with_adapters(Transformer(SMALL), given)
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None)) if p.requires_grad else None
    blocks, shape = RecomputingRunner(given.recompute), (16, 4, size[1] // 8, size[0] // 8)

    def step():
        noisy, noise = torch.zeros(1, 3, *shape), torch.zeros(1, 3, *shape)
        source, mask, text = torch.zeros(1, *shape), torch.zeros(1, *shape), torch.zeros(1, 512, 64)
        (model(noisy, torch.full((1,), 500.0), text, source, mask, cache=blocks) - noise).pow(2).mean().backward()

    found = allocated(step)
    assert 0.9 < counted / found < 1.1, (counted, found)


@pytest.fixture(scope="module")
def encoders():
    with torch.device("meta"):
        from diffusers import AutoencoderKLWan

        return AutoencoderKLWan(base_dim=8, dim_mult=[1, 2, 2, 2], num_res_blocks=1), torch.nn.Linear(100, 100)


@pytest.fixture
def weights_alone(monkeypatch):
    """The activations, whose rehearsal takes seconds, count nothing."""
    monkeypatch.setattr(memory_estimate, "working_bytes", lambda *given: 0)


def need(encoders, ranks=1, **changes):
    return training_need(SMALL, settings(**changes), ranks, (256, 160), encoders)


def test_state_bytes_follow_from_the_parameters_and_ranks(encoders, weights_alone):
    """20 bytes per parameter with the average on the GPU, 16 without; sharded, except parameters that stay whole."""
    count = sum(p.numel() for p in Transformer(SMALL).parameters())
    whole = sum(p.numel() for name, p in Transformer(SMALL).named_parameters() if model_file.kept_in_float32(name))
    assert need(encoders).states == 20 * count
    assert need(encoders, ema=0).states == need(encoders, ema_on="host").states == 16 * count
    assert need(encoders, ema_on="host").host == 4 * count
    assert abs(need(encoders, ranks=4).states - 20 * ((count - whole) / 4 + whole)) < 100


def test_frozen_bytes_follow_from_the_base_type(encoders, weights_alone):
    wide, half, eight, away = (
        need(encoders, lora=LORA, bf16=True, **c)
        for c in ({"base": "fp32"}, {}, {"base": "int8"}, {"base": "int8", "swap": True})
    )
    assert 1.8 < wide.frozen / half.frozen < 2 and 1.7 < half.frozen / eight.frozen < 2
    assert away.frozen < 0.3 * eight.frozen and away.host > 0.7 * eight.frozen
    assert wide.states < 0.2 * need(encoders).states


def test_context_ranks_share_the_activations_of_a_clip(encoders):
    assert need(encoders, ranks=4, context=4).work < 0.5 * need(encoders, ranks=4).work


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "c.json"
    path.write_text(json.dumps({"train": "vera", "model": "none", "data": "none"}))
    return path


def test_training_that_does_not_fit_is_refused_with_settings_that_fit(monkeypatch, encoders):
    monkeypatch.setattr(trainer, "need_of", lambda given: lambda s, ranks: need(encoders, ranks, ema_on=s.ema_on))
    whole, less = need(encoders).peak, need(encoders, ema_on="host").peak
    trainer.refuse_too_large(settings(), 1, whole)
    with pytest.raises(InputError, match='"ema_on": "host"; or 2 such GPUs'):
        trainer.refuse_too_large(settings(), 1, (whole + less) // 2)


def test_the_command_says_whether_a_configuration_fits_and_what_would(config_file, capsys, tmp_path):
    """The figures of docs/training.md are rehearsed in tests/job/test_published_plans.py."""
    given = ["--train", str(config_file), "--model", "1.3b"]
    assert main([*given, "--memory", "131"]) == 0 and "GiB; fits" in capsys.readouterr().out
    assert main([*given, "--memory", "79"]) == 1
    said = capsys.readouterr().out
    assert "does not fit 79 GiB" in said and "would fit: 2 such GPUs" in said
    assert main(["--train", str(tmp_path / "gone.json")]) == 2
