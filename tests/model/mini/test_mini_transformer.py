"""What mini's transformer adds to the published architecture."""

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.config import BRANCHES
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.mini.mini_transformer import MiniTransformer, velocity_towards
from vera.core.model.mini.shot import MiniShot

GEOMETRY = dict(dim=60, heads=3, layers=2, ffn_dim=72, text_dim=32, freq_dim=16, latent_channels=4)


def random_mini(**switches):
    """All parameters random, the new ones too: a trained model's place."""
    mini = MiniTransformer(MiniConfig(**GEOMETRY, **switches)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, p in mini.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (0.7 if "norm" in name else 0))
    return mini


def with_heads_of_zeros(mini):
    with torch.no_grad():
        for name in BRANCHES:
            for p in getattr(mini, name).proj_out.parameters():
                p.zero_()
    return mini


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
def run(mini, sample, shot=None):
    return mini(**sample, shot=shot)


def change(a, b):
    """Largest change of each branch's output."""
    return (a - b).abs().amax(dim=(0, 2, 3, 4, 5)).tolist()


def clean_of(sample, velocity):
    """Clean latents that a velocity leads to."""
    return sample["latents"] - (sample["timestep"] / 1000)[:, None, None, None, None, None] * velocity


def at_times(*times):
    return MiniShot(torch.zeros(3, 2), times=torch.tensor(times))


def test_times_are_the_positions_of_latent_frames(sample):
    mini = random_mini()
    assert change(run(mini, sample), run(mini, sample, at_times(0, 1, 2))) == [0, 0, 0]
    # Rotation is relative: a shifted window computes the same, a stretched one does not.
    shifted = run(mini, sample, at_times(40, 41, 42))
    torch.testing.assert_close(shifted, run(mini, sample), rtol=0, atol=2e-5)
    assert min(change(shifted, run(mini, sample, at_times(0, 2, 4)))) > 1e-3


def test_a_new_place_input_changes_nothing_until_it_is_trained(sample):
    torch.manual_seed(0)
    mini = MiniTransformer(MiniConfig(**GEOMETRY, place_input=True)).eval()
    before = run(mini, sample)
    with torch.no_grad():
        mini.edit.place_embedding.weight.normal_()
    assert not torch.allclose(run(mini, sample), before)
    with torch.no_grad():
        mini.edit.place_embedding.weight.zero_()
    assert torch.equal(run(mini, sample), before)


def test_clean_latents_give_the_flow_s_velocity():
    generator = torch.Generator().manual_seed(8)
    clean, noise = (torch.randn(2, 3, 4, 2, 6, 4, generator=generator) for _ in range(2))
    level = torch.tensor([0.06, 1.0])
    sigma = level[:, None, None, None, None, None]
    noisy = (1 - sigma) * clean + sigma * noise
    torch.testing.assert_close(velocity_towards(clean, noisy, level * 1000), noise - clean, atol=1e-4, rtol=0)


def test_the_velocity_is_finite_at_the_end_of_a_schedule():
    clean = torch.randn(2, 3, 4, 2, 6, 4)
    assert not velocity_towards(clean, clean, torch.zeros(2)).any()


def test_heads_of_zeros_leave_the_plate(sample):
    mini = with_heads_of_zeros(random_mini(latent_std=0.65))
    plate = torch.stack([0 * sample["source"], 0 * sample["source"], sample["source"]], dim=1)
    torch.testing.assert_close(clean_of(sample, run(mini, sample)), plate)


def test_heads_of_zeros_lay_what_the_words_draw_over_the_plate(sample):
    mini = with_heads_of_zeros(random_mini(latent_std=0.65, drawing=True))
    shot = MiniShot(torch.tensor([[0.1, 0.2], [0.2, 0.3], [0.6, 0.7]]), path=torch.rand(2, 3, 2, 3))
    # Without gradients, as `run` computes: untrained weights enlarge the rounding of another way to compute GELU.
    with torch.no_grad():
        drawn = mini.drawing(sample["text"], sample["mask"], shot.progress, (3, 6, 4), shot.path)
        over = mini.drawing.blend(sample["source"], *drawn.unbind(1))
    assert drawn.abs().max() > 0.1
    clean = clean_of(sample, run(mini, sample, shot))
    torch.testing.assert_close(clean, torch.cat([drawn, over[:, None]], dim=1), atol=1e-4, rtol=1e-4)


def test_the_drawing_learns_nothing_from_the_transformer_s_loss(sample):
    mini = random_mini(latent_std=0.65, drawing=True)
    mini(**sample).sum().backward()
    assert all(p.grad is None for p in mini.drawing.parameters())


def test_the_transformer_sees_the_drawing(sample):
    mini = random_mini(latent_std=0.65, drawing=True)
    seen = run(mini, sample)
    with torch.no_grad():
        for name in BRANCHES:
            getattr(mini, name).drawing_embedding.weight.zero_()
    assert min(change(seen, run(mini, sample))) > 1e-3  # the baseline is the same in both


def test_a_drawing_needs_heads_of_clean_latents():
    with pytest.raises(InputError, match="latent_std"):
        MiniConfig(**GEOMETRY, drawing=True)


def test_words_steer_the_modulation_and_padding_does_not(sample):
    embedders = random_mini(text_modulation=True).edit.condition_embedder
    with torch.no_grad():
        before = embedders(sample["timestep"], sample["text"]).modulation
        assert (embedders(sample["timestep"], -sample["text"]).modulation - before).abs().min() > 1e-4
        padded = torch.cat([sample["text"], torch.zeros(2, 5, 32)], dim=1)
        torch.testing.assert_close(embedders(sample["timestep"], padded).modulation, before)
        assert embedders(sample["timestep"], torch.zeros(2, 5, 32)).modulation.isfinite().all()


def test_a_fresh_text_modulation_changes_nothing():
    mini = MiniTransformer(MiniConfig(**GEOMETRY, text_modulation=True))
    assert not mini.edit.condition_embedder.text_pooler.weight.any()
