import pytest
import torch
from torch import nn

from vera.core.model import transformer
from vera.core.model.config import TransformerConfig
from vera.core.model.transformer import JointBlock, joint_linear, rotary_table


def block_and_inputs(batch=2):
    torch.manual_seed(0)
    block = JointBlock(TransformerConfig(dim=48, heads=3, layers=1, ffn_dim=64, text_dim=16, freq_dim=16))
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    text = torch.randn(batch, 4, 48)
    rotary = rotary_table((2, 3, 4), 16, "cpu")
    return block, (torch.randn(batch, 3, 24, 48), [text] * 3, torch.randn(batch, 3, 6, 48), rotary)


@torch.no_grad()
def test_packed_projections_are_the_stacked_ones(monkeypatch):
    block, given = block_and_inputs()
    stacked = block(*given)
    monkeypatch.setattr(transformer, "can_pack", lambda hidden: True)
    torch.testing.assert_close(block(*given), stacked, rtol=0, atol=2e-5)


@torch.no_grad()
def test_a_block_compiles_into_one_graph_either_way(monkeypatch):
    block, given = block_and_inputs(batch=1)
    wanted = block(*given)
    for packed in (False, True):
        monkeypatch.setattr(transformer, "can_pack", lambda hidden: packed)
        torch._dynamo.reset()
        compiled = torch.compile(block, fullgraph=True, backend="eager")  # one graph, or an error
        torch.testing.assert_close(compiled(*given), wanted, rtol=0, atol=2e-5)


@torch.no_grad()
def test_joint_linear_writes_in_place_what_the_layers_say():
    linears = [nn.Linear(8, 6) for _ in range(3)]
    inputs = [torch.randn(2, 5, 8) for _ in range(3)]
    wanted = torch.stack([linear(x) for linear, x in zip(linears, inputs)], dim=1)
    torch.testing.assert_close(joint_linear(linears, inputs), wanted, rtol=0, atol=1e-6)


class Twice(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize("way", ["hook", "pre-hook", "subclass", "forward"])
@torch.no_grad()
def test_joint_linear_goes_through_whatever_wraps_a_layer(way):
    linears = [nn.Linear(8, 6) for _ in range(3)]
    inputs = [torch.randn(1, 5, 8) for _ in range(3)]
    middle = linears[1]
    wanted = [linear(x) for linear, x in zip(linears, inputs)]
    wanted[1] = middle(2 * inputs[1]) if way == "pre-hook" else 2 * wanted[1]
    if way == "hook":
        middle.register_forward_hook(lambda module, given, out: 2 * out)
    elif way == "pre-hook":
        middle.register_forward_pre_hook(lambda module, given: (2 * given[0],))
    elif way == "subclass":
        linears[1] = Twice(8, 6)
        linears[1].load_state_dict(middle.state_dict())
    else:
        plain = middle.forward
        middle.forward = lambda x: 2 * plain(x)
    torch.testing.assert_close(joint_linear(linears, inputs), torch.stack(wanted, dim=1), rtol=0, atol=1e-6)
