"""Each speed option against the full computation, on a small random transformer."""

import pytest
import torch
from torch import nn

from vera.core.errors import InputError
from vera.core.model.config import TransformerConfig
from vera.core.model.transformer import JointBlock, Transformer
from vera.core.sampling.denoise import ClipInputs, SamplingSettings, denoise
from vera.core.sampling.first_block_cache import FirstBlockCache, largest_change
from vera.core.sampling.speed_options import SpeedOptions

torch.set_num_threads(1)
STEPS = 8


@pytest.fixture
def transformer():
    torch.manual_seed(0)
    config = TransformerConfig(dim=64, heads=2, layers=4, ffn_dim=96, text_dim=24, freq_dim=32, latent_channels=4)
    model = Transformer(config).eval()
    for name, parameter in model.named_parameters():
        if name.startswith(("source_embedding", "mask_embedding", "layer_embedding")):
            nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture
def calls(monkeypatch):
    """A list that grows by one for each block that runs."""
    ran, forward = [], JointBlock.forward

    def counting(self, *given):
        ran.append(self)
        return forward(self, *given)

    monkeypatch.setattr(JointBlock, "forward", counting)
    return ran


def sample(model, speed=SpeedOptions(), guidance=4.0, empty_length=5):
    generator = torch.Generator().manual_seed(1)
    text, empty = (torch.randn(1, n, 24, generator=generator) for n in (5, empty_length))
    source, mask = (torch.randn(1, 4, 3, 8, 8, generator=generator) for _ in range(2))
    settings = SamplingSettings(3, STEPS, guidance, shift=3, speed=speed)
    return denoise(model, ClipInputs.of_tensors(text, empty, source, mask), settings)


def off(result, full):
    return ((result - full).abs().mean() / full.abs().mean()).item()


def test_a_threshold_of_zero_changes_no_bit(transformer, calls):
    full = sample(transformer)
    assert torch.equal(sample(transformer, SpeedOptions(cache=1e-12)), full)
    assert len(calls) == 2 * (STEPS * 2 * 4)


def test_a_lower_cache_threshold_runs_more_blocks_with_less_error(transformer, calls):
    full = sample(transformer)
    errors, work = [], []
    for threshold in (0.12, 0.4):
        calls.clear()
        errors.append(off(sample(transformer, SpeedOptions(cache=threshold)), full))
        work.append(len(calls) / (STEPS * 2 * 4))
    assert 0 < errors[0] < errors[1] < 0.1
    assert 1 > work[0] > work[1] > 0.25


def test_each_guidance_pass_has_its_own_cache():
    # With a shared cache, the second pass would be compared with the first pass and skipped.
    hidden, other = torch.randn(2, 1, 3, 8, 64, generator=torch.Generator().manual_seed(0))
    blocks = [lambda x: x + 1, lambda x: 2 * x]
    cache = FirstBlockCache(0.1)
    assert torch.equal(cache.run(blocks, hidden), 2 * (hidden + 1))
    assert not torch.equal(cache.run(blocks, other), 2 * (other + 1))
    assert cache.skipped == 1
    speed = SpeedOptions(cache=0.1)
    assert speed.new_cache() is not speed.new_cache()
    assert SpeedOptions().new_cache() is None


def test_a_skipped_step_adds_the_residual_of_the_last_full_step():
    blocks = [lambda x: x + 1, lambda x: 2 * x, lambda x: x - 3]
    cache = FirstBlockCache(0.1)
    first = torch.arange(6.0).reshape(1, 3, 2, 1)
    cache.run(blocks, first)
    rest = (2 * (first + 1) - 3) - (first + 1)
    assert torch.equal(cache.run(blocks, first + 10), first + 11 + rest)
    assert torch.equal(FirstBlockCache(0).run(blocks, first), 2 * (first + 1) - 3)


def test_the_branch_with_the_largest_change_decides():
    """A change in the alpha branch alone, a ninth of the mean over branches, still runs the blocks."""
    before = torch.ones(1, 3, 4, 5)
    now = before.clone()
    now[:, 1] += 0.3
    assert largest_change(now, before) == pytest.approx(0.3)
    ran = []
    blocks = [lambda x: 2 * x, lambda x: ran.append(1) or x]
    cache = FirstBlockCache(0.2)
    cache.run(blocks, before)
    cache.run(blocks, now)
    assert len(ran) == 2 and (cache.steps, cache.skipped) == (2, 0)


def test_one_batch_equals_two_passes_up_to_rounding(transformer, calls):
    full = sample(transformer)
    assert len(calls) == STEPS * 2 * 4
    calls.clear()
    assert off(sample(transformer, SpeedOptions(one_batch=True)), full) < 1e-5
    assert len(calls) == STEPS * 4


def test_texts_of_unequal_length_are_never_batched(transformer, calls):
    full = sample(transformer, empty_length=3)
    calls.clear()
    assert torch.equal(sample(transformer, SpeedOptions(one_batch=True), empty_length=3), full)
    assert len(calls) == STEPS * 2 * 4


@pytest.mark.parametrize("attention", ["dense", "window"])
def test_compiled_blocks_share_one_graph_and_agree(transformer, attention):
    SpeedOptions(attention).prepare(transformer)
    full = sample(transformer)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    speed = SpeedOptions(attention, compile=True)
    speed.prepare(transformer, backend="aot_eager")
    assert off(sample(transformer, speed), full) < 1e-5
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("attention, most", [("int8", 0.001), ("window", 0.02)])
def test_approximate_attention_has_a_bounded_error(transformer, attention, most):
    full = sample(transformer)
    speed = SpeedOptions(attention)
    speed.prepare(transformer)
    assert 0 < off(sample(transformer, speed), full) < most
    SpeedOptions().prepare(transformer)
    assert torch.equal(sample(transformer), full)


def test_without_guidance_only_one_pass_runs(transformer, calls):
    sample(transformer, SpeedOptions(one_batch=True), guidance=1)
    assert len(calls) == STEPS * 4


def test_compilation_is_undone_for_a_run_without_it(transformer):
    """The service uses one loaded model for jobs with and without compilation."""
    full = sample(transformer)
    SpeedOptions(compile=True).prepare(transformer, backend="eager")
    assert all(block._compiled_call_impl is not None for block in transformer.blocks)
    SpeedOptions().prepare(transformer)
    assert all(block._compiled_call_impl is None for block in transformer.blocks)
    assert torch.equal(sample(transformer), full)


def test_options_without_effect_warn_and_impossible_ones_are_refused(transformer, monkeypatch):
    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    assert SpeedOptions(cache=0.1, one_batch=True).check(transformer) == []
    (warning,) = SpeedOptions("int8").check(transformer)
    assert "saves no time here" in warning
    monkeypatch.setenv("VERA_ATTENTION", "triton")
    with pytest.raises(
        InputError, match="VERA_ATTENTION: attention 'triton' was forced but Triton needs a CUDA device"
    ):
        SpeedOptions().check(transformer)
    monkeypatch.setenv("VERA_ATTENTION", "reference")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="--compile: no C"):
        SpeedOptions(compile=True).check(transformer)


def test_each_option_is_explained_in_one_line(transformer, monkeypatch):
    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    lines = SpeedOptions(cache=0.1, compile=True).explain(transformer, 90)
    assert lines[0] == "joint attention: sdpa (no CUDA device (cpu)); 3 x 90 tokens, 2 heads of 32, float32"
    assert "threshold 0.1" in lines[1] and "repeated block" in lines[2] and "two passes" in lines[3]
    window = SpeedOptions("window").explain(transformer, 90)[0]
    assert window == "joint attention: window (requested), plain PyTorch, no kernel for cpu"
    monkeypatch.setenv("VERA_ATTENTION", "reference")
    assert "reference (set by VERA_ATTENTION)" in SpeedOptions().explain(transformer, 90)[0]


def test_the_recipe_accepts_every_attention_variant():
    from vera.core.recipe import ATTENTIONS
    from vera.kernels.variants import VARIANTS

    assert ATTENTIONS == VARIANTS


@pytest.mark.parametrize(
    "given, message", [({"attention": "fast"}, "dense, int8, window"), ({"cache": -1}, "negative")]
)
def test_unknown_speed_options_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        SpeedOptions(**given)
