"""Each saver against the full computation, on a small random transformer."""

import pytest
import torch
from torch import nn

from vera.core.errors import InputError
from vera.core.model.config import TransformerConfig
from vera.core.model.transformer import JointBlock, Transformer
from vera.core.sampling.denoise import denoise
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
    """Counts the blocks that ran."""
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
    return denoise(model, text, empty, source, mask, seed=3, steps=STEPS, guidance=guidance, shift=3, speed=speed)


def off(result, full):
    return ((result - full).abs().mean() / full.abs().mean()).item()


def test_a_cache_that_never_skips_changes_no_bit(transformer, calls):
    full = sample(transformer)
    assert torch.equal(sample(transformer, SpeedOptions(cache=1e-12)), full)
    assert len(calls) == 2 * (STEPS * 2 * 4)


def test_the_cache_saves_blocks_and_its_error_shrinks_with_its_threshold(transformer, calls):
    full = sample(transformer)
    errors, work = [], []
    for threshold in (0.12, 0.4):
        calls.clear()
        errors.append(off(sample(transformer, SpeedOptions(cache=threshold)), full))
        work.append(len(calls) / (STEPS * 2 * 4))
    assert 0 < errors[0] < errors[1] < 0.1
    assert 1 > work[0] > work[1] > 0.25


def test_each_guidance_pass_has_its_own_cache():
    # Shared, the second pass would meet the change of the first and skip on that.
    hidden, other = torch.randn(2, 1, 3, 8, 64, generator=torch.Generator().manual_seed(0))
    blocks = [lambda x: x + 1, lambda x: 2 * x]
    cache = FirstBlockCache(0.1)
    assert torch.equal(cache.run(blocks, hidden), 2 * (hidden + 1))
    assert not torch.equal(cache.run(blocks, other), 2 * (other + 1))
    assert cache.skipped == 1
    speed = SpeedOptions(cache=0.1)
    assert speed.new_cache() is not speed.new_cache()
    assert SpeedOptions().new_cache() is None


def test_a_skipped_step_adds_the_last_full_steps_change():
    blocks = [lambda x: x + 1, lambda x: 2 * x, lambda x: x - 3]
    cache = FirstBlockCache(0.1)
    first = torch.arange(6.0).reshape(1, 3, 2, 1)
    cache.run(blocks, first)
    rest = (2 * (first + 1) - 3) - (first + 1)
    assert torch.equal(cache.run(blocks, first + 10), first + 11 + rest)
    assert torch.equal(FirstBlockCache(0).run(blocks, first), 2 * (first + 1) - 3)


def test_the_branch_that_changes_most_decides():
    """A change that only the alpha branch sees, a ninth of all branches' mean, still runs the blocks."""
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


def test_one_batch_is_two_passes_up_to_rounding(transformer, calls):
    full = sample(transformer)
    assert len(calls) == STEPS * 2 * 4
    calls.clear()
    assert off(sample(transformer, SpeedOptions(one_batch=True)), full) < 1e-5
    assert len(calls) == STEPS * 4


def test_one_batch_keeps_two_passes_where_the_texts_differ_in_length(transformer, calls):
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
def test_attention_that_is_not_exact(transformer, attention, most):
    full = sample(transformer)
    speed = SpeedOptions(attention)
    speed.prepare(transformer)
    assert 0 < off(sample(transformer, speed), full) < most
    SpeedOptions().prepare(transformer)
    assert torch.equal(sample(transformer), full)


def test_without_guidance_there_is_one_pass(transformer, calls):
    sample(transformer, SpeedOptions(one_batch=True), guidance=1)
    assert len(calls) == STEPS * 4


def test_a_compiled_model_is_plain_again_for_who_does_not_ask(transformer):
    """The service keeps one model for jobs of all kinds."""
    full = sample(transformer)
    SpeedOptions(compile=True).prepare(transformer, backend="eager")
    assert all(block._compiled_call_impl is not None for block in transformer.blocks)
    SpeedOptions().prepare(transformer)
    assert all(block._compiled_call_impl is None for block in transformer.blocks)
    assert torch.equal(sample(transformer), full)


def test_what_saves_nothing_here_is_said_and_what_cannot_be_is_refused(transformer, monkeypatch):
    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    assert SpeedOptions(cache=0.1, one_batch=True).check(transformer) == []
    (warning,) = SpeedOptions("int8").check(transformer)
    assert "saves nothing here" in warning
    monkeypatch.setenv("VERA_ATTENTION", "triton")
    with pytest.raises(
        InputError, match="VERA_ATTENTION: attention 'triton' was forced but Triton needs a CUDA device"
    ):
        SpeedOptions().check(transformer)
    monkeypatch.setenv("VERA_ATTENTION", "reference")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InputError, match="--compile: there is no C"):
        SpeedOptions(compile=True).check(transformer)


def test_explained_in_a_line_each(transformer, monkeypatch):
    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    lines = SpeedOptions(cache=0.1, compile=True).explain(transformer, 90)
    assert lines[0] == "joint attention: sdpa (no CUDA device (cpu)); 3 x 90 tokens, 2 heads of 32, float32"
    assert "threshold 0.1" in lines[1] and "repeated block" in lines[2] and "two passes" in lines[3]
    window = SpeedOptions("window").explain(transformer, 90)[0]
    assert window == "joint attention: window (asked for), written out, without a kernel on cpu"
    monkeypatch.setenv("VERA_ATTENTION", "reference")
    assert "reference (VERA_ATTENTION says so)" in SpeedOptions().explain(transformer, 90)[0]


def test_the_recipe_names_what_there_is():
    from vera.core.recipe import ATTENTIONS
    from vera.kernels.variants import VARIANTS

    assert ATTENTIONS == VARIANTS


@pytest.mark.parametrize(
    "given, message", [({"attention": "fast"}, "dense, int8, window"), ({"cache": -1}, "negative")]
)
def test_speed_options_that_do_not_exist_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        SpeedOptions(**given)
