"""A trained model for a codec with further channels draws what it drew."""

from dataclasses import replace

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.training.mini.extension import widened
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
def test_layers_without_fine_channels_are_predicted_0_there(models):
    """The other layers, and the coarse channels of all, are those of a model that predicts every channel."""
    whole = models[1]
    some = MiniTransformer(replace(whole.config, fine_layers=("edit", "composite"))).eval()
    for p in (*whole.drawing.outer.parameters(), *whole.alpha.proj_out.parameters()):
        p.copy_(torch.randn_like(p) * 0.1)
    some.load_state_dict(whole.state_dict())
    some.drawing.outer.weight[-2:] = whole.drawing.outer.weight[-2:] = 0  # alpha's fine ones, which the layers read
    some.drawing.outer.bias[-2:] = whole.drawing.outer.bias[-2:] = 0
    clips, level = encoded(), 0.5
    noisy = clips.latents[:, 1:4]
    clean = [
        noisy - level * m(noisy, torch.full((4,), 1000 * level), clips.states, clips.latents[:, 0], shot=clips.shot)
        for m in (some, whole)
    ]
    torch.testing.assert_close(clean[0][:, 1, COARSE:], torch.zeros(4, CHANNELS - COARSE, 2, 4, 6), atol=1e-6, rtol=0)
    assert clean[1][:, 1, COARSE:].abs().max() > 1e-3
    torch.testing.assert_close(clean[0][:, :2, :COARSE], clean[1][:, :2, :COARSE])
    torch.testing.assert_close(clean[0][:, 0], clean[1][:, 0])


@pytest.mark.parametrize("fine, coarse", [(["beta"], 2), ("edit", 2), (["edit"], None)])
def test_fine_layers_that_do_not_fit_are_refused(fine, coarse):
    with pytest.raises(InputError, match="fine_layers"):
        replace(CONFIG, fine_layers=fine, coarse_channels=coarse)
