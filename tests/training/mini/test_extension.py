"""A trained model for a codec with further channels: it draws what it drew, and predicts what is new."""

from dataclasses import replace

import pytest
import torch

from vera.core.model.config import BRANCHES
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.model.transformer import unpatchify
from vera.core.training.mini.codec_training import weakened
from vera.core.training.mini.extension import Regression, fit_fine, patches, widened
from vera.core.training.mini.flow import EncodedClips

COARSE, CHANNELS = 3, 5
CONFIG = MiniConfig(
    dim=24,
    heads=2,
    layers=1,
    ffn_dim=24,
    text_dim=8,
    freq_dim=8,
    latent_channels=COARSE,
    place_input=True,
    text_modulation=True,
    latent_std=0.65,
    drawing=True,
)


@pytest.fixture
def models():
    """A transformer with random weights, and the same one for more channels."""
    torch.manual_seed(0)
    small = MiniTransformer(CONFIG).eval()
    wide = MiniTransformer(replace(CONFIG, latent_channels=CHANNELS, coarse_channels=COARSE)).eval()
    with torch.no_grad():
        for name, p in small.named_parameters():
            p.copy_(torch.randn(p.shape) * 0.1 + (0.7 if "norm" in name else 0))
    kept = {k: torch.randn_like(v) * 0.1 for k, v in wide.state_dict().items() if k.startswith("drawing.blend.")}
    wide.load_state_dict(kept | widened(small.state_dict(), COARSE, CHANNELS))
    return small, wide


def encoded(count=4, seed=1):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    path = draw(count, 2, 2, 3) * 0.3 - torch.tensor([0, 0, 1.0])
    return EncodedClips(
        draw(count, 5, 8),
        draw(count, 5, CHANNELS, 2, 4, 6),
        draw(count, 2, 4, 6).abs(),
        MiniShot(moments([3, 4], 13), path=path),
    )


@torch.no_grad()
def velocity(model, clips, channels):
    latents = clips.latents[:, :, :channels]
    return model(
        latents[:, 1:4], torch.full((len(latents),), 400.0), clips.states, latents[:, 0], latents[:, 4], clips.shot
    )


def test_an_extended_model_predicts_the_first_channels_as_before(models):
    """Whatever the new channels of noise, plate and mask hold."""
    small, wide = models
    clips = encoded()
    wanted = velocity(small, clips, COARSE)
    off = velocity(wide, clips, CHANNELS)[:, :, :COARSE] - wanted
    assert off.abs().max() < 1e-4 * wanted.abs().max()


def test_an_extended_model_draws_nothing_new(models):
    """Clean edit and alpha have 0 in the new channels: velocity times level is what is noisy."""
    clips = encoded()
    predicted = 0.4 * velocity(models[1], clips, CHANNELS)[:, :2, COARSE:]
    torch.testing.assert_close(predicted, clips.latents[:, 1:3, COARSE:])


@torch.no_grad()
def errors(model, rounds):
    """Mean squared error of the clean latents by branch and group of channels, over noise levels."""
    torch.manual_seed(5)
    found = []
    for clips in rounds:
        clean, level = clips.latents[:, 1:4], 0.5
        noisy = (1 - level) * clean + level * torch.randn_like(clean)
        v = model(noisy, torch.full((len(clean),), 1000 * level), clips.states, clips.latents[:, 0], None, clips.shot)
        off = (noisy - level * v - clean).pow(2)
        found.append(
            [[part.mean() for part in branch.split([COARSE, CHANNELS - COARSE], dim=1)] for branch in off.unbind(1)]
        )
    return torch.tensor(found).mean(0)


def predictable(seed):
    """Clips whose fine channels follow from their instruction and path."""
    clips = encoded(count=12, seed=seed)
    told = torch.tanh(clips.states.mean(1)[:, :2] * 3)
    clips.latents[:, 1:4, COARSE:] = told[:, None, :, None, None, None] * 2 + 1
    return clips


def test_fitted_rows_predict_the_new_channels_and_leave_the_first_ones(models):
    wide, rounds, unseen = models[1], [predictable(k) for k in range(6)], [predictable(k) for k in range(20, 22)]
    before, weights = errors(wide, unseen), {n: getattr(wide, n).proj_out.weight.clone() for n in BRANCHES}
    fit_fine(wide, rounds, COARSE, shift=1.0)
    after = errors(wide, unseen)
    assert torch.equal(after[:, 0], before[:, 0])
    assert (after[:, 1] < 0.35 * before[:, 1]).all()
    for name in BRANCHES:
        old, new = (w.unflatten(0, (-1, CHANNELS)) for w in (weights[name], getattr(wide, name).proj_out.weight))
        assert torch.equal(old[:, :COARSE], new[:, :COARSE]) and not torch.equal(old[:, COARSE:], new[:, COARSE:])


def test_the_regression_finds_a_planted_map_under_any_weights():
    torch.manual_seed(6)
    weight, bias = torch.randn(3, 4), torch.randn(3)
    fit = Regression()
    for _ in range(3):
        x = torch.randn(50, 4)
        fit.add(x, x @ weight.T + bias, torch.rand(50))
    found = fit.solve()
    torch.testing.assert_close(found[0], weight, atol=2e-3, rtol=0)
    torch.testing.assert_close(found[1], bias, atol=2e-3, rtol=0)


def test_the_regression_gives_rows_their_weights():
    fit = Regression()
    fit.add(torch.zeros(4, 1), torch.tensor([[0.0], [0.0], [0.0], [4.0]]), torch.tensor([1.0, 1.0, 1.0, 5.0]))
    torch.testing.assert_close(fit.solve()[1], torch.tensor([20 / 8]), rtol=1e-3, atol=0)


def test_patches_are_in_the_order_of_a_head():
    latents = torch.randn(2, COARSE, 2, 4, 6)
    assert torch.equal(unpatchify(patches(latents, CONFIG.patch), (2, 2, 3), CONFIG), latents)


def test_weakened_latents_lose_fine_channels_only():
    torch.manual_seed(7)
    latents = torch.ones(400, 10, 1, 2, 2)
    weak = weakened(latents, 4, 0.5)[:, :, 0, 0, 0]
    assert torch.equal(weak[:, :4], torch.ones(400, 4)) and torch.equal(weakened(latents, 4, 0.0), latents)
    whole = (weak == 1).all(1)
    assert 150 < whole.sum() < 250  # half of them
    first = weak[~whole, 4:]
    assert (first.diff(dim=1) <= 0).all() and first.max() < 1  # one factor, then zeros
    assert (first[:, 1:] == 0).any(0).all() and (first[:, -1] > 0).any()
