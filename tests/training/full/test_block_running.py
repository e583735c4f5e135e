"""How blocks are run in training: compiled by torch.compile, and recomputed except for attention."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

from tests.data.datasets.layers import write_dataset
from tests.tiny_vera import GEOMETRY, vera_directory
from tests.training.full.test_trainer import nearly_equal, run_training, state
from vera.core.model import transformer as model_file
from vera.core.model.config import TransformerConfig
from vera.core.model.transformer import Transformer
from vera.core.training.full.sharded_model import ATTENTION_OPERATIONS, RecomputingRunner

ATTENTION_ON_THE_CPU = "aten::_scaled_dot_product_flash_attention_for_cpu"
LAYERS = 2


@pytest.fixture
def fused_attention(monkeypatch):
    """Attention by torch's fused operation, as on a GPU; training on the CPU has a plain one."""
    monkeypatch.setenv("VERA_ATTENTION", "sdpa")
    monkeypatch.setattr(model_file, "cross_attention", F.scaled_dot_product_attention)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of two blocks and two clips, and a run of two steps without compilation."""
    root = tmp_path_factory.mktemp("blocks")
    vera_directory(root / "vera", {"max_frames": 49}, layers=LAYERS)
    write_dataset(root / "data", count=2)
    run_training(root, "eager", steps=2)
    return root


@pytest.mark.parametrize("recompute", [True, False, "but attention"])
def test_compiled_blocks_train_as_plain_ones(place, monkeypatch, recompute):
    """Sharded, with clips that are recomputed or not: one graph, of all of a block, and the same steps.

    The default, which recomputes, is also divided into graphs of forward and backward passes; no code is generated,
    which takes minutes.
    """
    graphs, runs = [], []

    def backend(graph, inputs):
        graphs.append(graph)
        compiled = aot_eager(graph, inputs) if recompute is True else graph
        return lambda *given: runs.append(1) or compiled(*given)

    torch._dynamo.reset()
    counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    name = f"compiled-{recompute}"
    apart = run_training(place, name, steps=2, compile=True, recompute=recompute) - run_training(
        place, "eager", steps=2
    )
    assert len(graphs) == 1 and not counters["graph_break"]  # all blocks are alike
    assert len(runs) == 2 * 2 * LAYERS * (2 if recompute else 1)  # steps and clips
    assert apart.abs().max() < 1e-6 and nearly_equal(state(place / name), state(place / "eager"), 1e-6)


class Attentions(TorchDispatchMode):
    """Counts computations of fused attention. Results that a checkpoint has kept do not come here."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += operation.name() == ATTENTION_ON_THE_CPU
        return operation(*args, **(kwargs or {}))


def step_of(recompute):
    """(loss and gradients of one step, how often attention was computed)."""
    torch.manual_seed(0)
    transformer = Transformer(TransformerConfig(**GEOMETRY | {"layers": LAYERS}))
    given = torch.randn(1, 3, 4, 3, 4, 4), torch.tensor([500.0]), torch.randn(1, 5, 16), torch.randn(1, 4, 3, 4, 4)
    with Attentions() as attentions:
        loss = transformer(*given, cache=RecomputingRunner(recompute)).square().mean()
        loss.backward()
    gradients = [p.grad for p in transformer.parameters() if p.grad is not None]
    return [loss.detach(), *gradients], attentions.count


def test_attention_is_not_recomputed_when_its_results_are_kept(fused_attention):
    assert ATTENTION_ON_THE_CPU in ATTENTION_OPERATIONS
    whole, once = step_of(False)
    again, twice = step_of(True)
    kept, counted = step_of("but attention")
    assert once >= 2 * LAYERS and twice == 2 * once and counted == once
    for found in (again, kept):
        assert len(found) == len(whole) > 10
        for ours, theirs in zip(found, whole):
            torch.testing.assert_close(ours, theirs, atol=1e-7, rtol=1e-6)
