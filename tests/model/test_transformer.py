import copy
import math
from dataclasses import replace

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed, WanTransformer3DModel
from torch.nn.functional import scaled_dot_product_attention

from vera.core.model.config import BRANCHES, PRESETS, TransformerConfig
from vera.core.model.transformer import Transformer, kept_in_float32, rotary_table, rotate
from vera.core.model.wan.checkpoint import config_from_wan, parameter_shapes, vera_state_dict

CONFIG = TransformerConfig(dim=60, heads=3, layers=2, ffn_dim=72, text_dim=32, freq_dim=16, latent_channels=4)


def random_vera(config=CONFIG, seed=5):
    """All parameters random, the new ones too: a trained model's place."""
    vera = Transformer(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in vera.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (0.7 if "norm" in name else 0))
    return vera


@pytest.fixture
def sample():
    generator = torch.Generator().manual_seed(6)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "latents": draw(2, 3, 4, 3, 6, 4),
        "timestep": torch.tensor([80.0, 900.0]),
        "text": draw(2, 7, 32),
        "source": draw(2, 4, 3, 6, 4),
        "mask": draw(2, 4, 3, 6, 4),
    }


@torch.no_grad()
def run(vera, sample, **changes):
    return vera(**(sample | changes))


def change(a, b):
    """Largest change of each branch's output."""
    return (a - b).abs().amax(dim=(0, 2, 3, 4, 5)).tolist()


@pytest.mark.parametrize("preset, copies, published", [("1.3b", 4.26e9, 3.92e9), ("14b", 42.87e9, 38.21e9)])
def test_parameter_counts(preset, copies, published):
    def count(config):
        return sum(math.prod(shape) for shape in parameter_shapes(config).values())

    assert count(PRESETS[preset]) == pytest.approx(copies, rel=0.005)
    shared = replace(PRESETS[preset], share_embedders=True, alpha_text=False)
    assert count(shared) == pytest.approx(published, rel=0.005)


@pytest.mark.parametrize("branch", range(3))
def test_one_branchs_values_reach_the_others_through_attention_alone(sample, branch):
    vera, name = random_vera(), BRANCHES[branch]
    before = run(vera, sample)
    with torch.no_grad():
        getattr(vera.blocks[0], name).attn1.to_v.weight.mul_(1.5)
    joint = change(before, run(vera, sample))
    assert min(joint) > 1e-3

    # The head comes after the last attention: only its own branch may move.
    vera = random_vera()
    with torch.no_grad():
        getattr(vera, name).proj_out.weight.mul_(1.5)
    own = change(before, run(vera, sample))
    assert own[branch] > 1e-3 and [c for i, c in enumerate(own) if i != branch] == [0, 0]


def test_branches_meet_nowhere_but_in_attention(sample, monkeypatch):
    """With attention cut to each layer's own tokens, a change in one branch stays there."""

    def separate(*qkv):
        return scaled_dot_product_attention(*(x.transpose(2, 3) for x in qkv)).transpose(2, 3)

    monkeypatch.setattr("vera.core.model.transformer.attention_variant", lambda name, grid: separate)
    vera = random_vera()
    before = run(vera, sample)
    with torch.no_grad():
        for p in vera.blocks[0].alpha.parameters():
            p.mul_(1.5)
    moved = change(before, run(vera, sample))
    assert moved[1] > 1e-3 and moved[0] == moved[2] == 0


def test_source_and_mask_reach_every_branch(sample):
    vera = random_vera()
    before = run(vera, sample)
    assert min(change(before, run(vera, sample, source=sample["source"] + 1))) > 1e-4
    assert min(change(before, run(vera, sample, mask=sample["mask"] + 1))) > 1e-4
    assert min(change(before, run(vera, sample, mask=None))) > 1e-4


def test_branches_change_places_with_their_weights(sample):
    """All three in another order, weights and latents; source, mask and layer embeddings are what tells them apart."""
    vera = random_vera()
    with torch.no_grad():
        vera.layer_embedding.zero_()
        for embedding in (vera.source_embedding, vera.mask_embedding):
            embedding.weight.zero_()
            embedding.bias.zero_()
    before = run(vera, sample)
    order = [2, 0, 1]
    state = vera.state_dict()
    moved = dict(state)
    for name in state:
        for place, origin in enumerate(order):
            parts = name.split(".")
            if BRANCHES[place] in parts:
                moved[name] = state[".".join(BRANCHES[origin] if p == BRANCHES[place] else p for p in parts)]
    vera.load_state_dict({n: t.clone() for n, t in moved.items()})
    after = run(vera, sample, latents=sample["latents"][:, order])
    assert change(before, before[:, order])[0] > 1e-2
    torch.testing.assert_close(after, before[:, order], rtol=0, atol=2e-5)


def test_the_shared_embedder_is_one(sample):
    config = replace(CONFIG, share_embedders=True, alpha_text=False)
    names = parameter_shapes(config)
    assert any(n.startswith("shared.text_embedder") for n in names)
    assert not any("condition_embedder" in n or "alpha.attn2" in n for n in names)
    vera = random_vera(config)
    before = run(vera, sample)
    assert min(change(before, run(vera, sample, text=sample["text"] * 2))) > 1e-4


def test_bfloat16_follows_float32_and_keeps_its_islands(sample):
    vera = random_vera()
    truth = run(vera, sample)
    for name, p in vera.named_parameters():
        if not kept_in_float32(name):
            p.data = p.data.bfloat16()
    out = run(vera, sample)
    assert out.dtype == torch.float32
    error = (out - truth).std() / truth.std()
    assert 0 < error < 0.05


def test_bfloat16_is_as_near_to_float32_as_wans_own(wan, inputs):
    """Against diffusers' Wan in bf16 with the fp32 islands its own loader keeps."""
    half = copy.deepcopy(wan)
    for name, p in half.named_parameters():
        if not any(kept in name.split(".") for kept in WanTransformer3DModel._keep_in_fp32_modules):
            p.data = p.data.bfloat16()
    state = half.state_dict()
    config = config_from_wan({n: t.shape for n, t in state.items()}, heads=3)
    with torch.device("meta"):
        vera = Transformer(config)
    vera.load_state_dict({n: t.clone() for n, t in vera_state_dict(state, config).items()}, assign=True)
    for p in (vera.layer_embedding, *vera.source_embedding.parameters(), *vera.mask_embedding.parameters()):
        p.data = p.data.bfloat16()
    latents, timestep, text = inputs["latents"], inputs["timestep"], inputs["text"]
    with torch.no_grad():
        truth = wan(latents, timestep, text, return_dict=False)[0]
        theirs = half(latents.bfloat16(), timestep, text.bfloat16(), return_dict=False)[0].float()
        ours = vera(latents[:, None].expand(-1, 3, -1, -1, -1, -1), timestep, text, latents)
    error = [(x - truth).pow(2).mean().sqrt() for x in (theirs, *ours.unbind(1))]
    assert 0 < max(error[1:]) < 1.5 * error[0]


@pytest.mark.parametrize("head_dim", [20, 32, 128])
def test_rotary_angles_are_wans(head_dim):
    grid = (5, 3, 4)
    theirs = WanRotaryPosEmbed(head_dim, (1, 2, 2), 64)(torch.zeros(1, 1, 5, 6, 8))
    ours = rotary_table(grid, head_dim, "cpu")
    for table, truth in zip(ours, theirs):
        torch.testing.assert_close(table, truth[0, :, 0, ::2].float(), rtol=0, atol=1e-6)


def test_rotation_keeps_length_and_depends_on_distance():
    generator = torch.Generator().manual_seed(7)
    q, k = torch.randn(2, 1, 1, 1, 20, generator=generator)

    def score(a, b):
        table = rotary_table((1, 1, 1), 20, "cpu", times=[a]), rotary_table((1, 1, 1), 20, "cpu", times=[b])
        return (rotate(q, table[0]) * rotate(k, table[1])).sum().item()

    turned = rotate(q, rotary_table((1, 1, 1), 20, "cpu", times=[11]))
    assert turned.norm().item() == pytest.approx(q.norm().item(), rel=1e-6)
    assert score(3, 8) == pytest.approx(score(23, 28), abs=1e-5)
    assert abs(score(3, 8) - score(3, 9)) > 1e-3


def test_the_published_architecture_knows_nothing_beyond_its_window():
    assert Transformer(replace(CONFIG, layers=1)).read_shot(None, None, 7) is None


def test_frames_given_in_another_order_with_their_times_give_the_same_in_that_order():
    """A frame's place in time is what `times` says, not its place in the tensor."""
    torch.manual_seed(3)
    geometry = dict(dim=36, heads=3, layers=2, ffn_dim=48, text_dim=16, freq_dim=16, latent_channels=4)
    transformer = Transformer(TransformerConfig(**geometry)).eval()
    grid, order = (4, 2, 3), torch.tensor([2, 0, 3, 1])
    hidden, text = torch.randn(1, 3, 24, 36), torch.randn(1, 5, 16)
    moved = hidden.unflatten(2, grid)[:, :, order].flatten(2, 4)
    with torch.inference_mode():
        usual = transformer.predict(hidden, torch.tensor([500.0]), text, grid)
        same = transformer.predict(moved, torch.tensor([500.0]), text, grid, times=order)
        other = transformer.predict(moved, torch.tensor([500.0]), text, grid)
    torch.testing.assert_close(same, usual[:, :, :, order], rtol=1e-4, atol=1e-5)
    assert (other - same).abs().max() > 1e-4
