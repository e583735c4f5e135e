"""The sampler against what it must do on fields whose answer is known.

The scheduler rounds noise levels to thousandths, as Wan's does: hence the tolerances.
"""

import pytest
import torch
from torch import nn

from core.errors import Stopped
from core.sampling.denoise import denoise, seeded_noise

CLEAN = torch.linspace(-1, 1, 3 * 2 * 3 * 4 * 4).reshape(1, 3, 2, 3, 4, 4)
SOURCE = torch.zeros(1, 2, 3, 4, 4)
SETTINGS = {"seed": 5, "steps": 8, "guidance": 1, "shift": 2.0}


class Straight(nn.Module):
    """The exact velocity field of one clean sample: (x - clean) / sigma. Text scales the sample."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, latents, timestep, text, source, mask=None, cache=None):
        self.seen.append(float(timestep[0]))
        return (latents - CLEAN * text.mean()) / (timestep / 1000).reshape(-1, 1, 1, 1, 1, 1)


def sample(model=None, text=1.0, **changes):
    states = torch.full((1, 1, 1), text)
    return denoise(model or Straight(), states, torch.zeros(1, 1, 1), SOURCE, None, **(SETTINGS | changes))


@pytest.mark.parametrize("steps", [1, 2, 8, 30])
def test_finds_the_sample_that_the_field_points_to(steps):
    torch.testing.assert_close(sample(steps=steps), CLEAN, atol=5e-3, rtol=0)


def test_guidance_goes_past_the_prompt():
    torch.testing.assert_close(sample(guidance=3.0), 3 * CLEAN, atol=1.5e-2, rtol=0)


def test_guidance_of_one_asks_once_a_step():
    one, two = Straight(), Straight()
    sample(one)
    sample(two, guidance=2.0)
    assert len(one.seen) == 8 and len(two.seen) == 16


def test_noise_levels_fall_from_the_top():
    model = Straight()
    sample(model)
    assert model.seen == sorted(model.seen, reverse=True) and model.seen[0] > 990


def test_noise_of_a_frame_hangs_on_the_seed_and_its_number_only():
    whole = seeded_noise(7, 0, 9, (2, 3))
    assert whole.shape == (9, 2, 3) and torch.equal(whole[4:6], seeded_noise(7, 4, 6, (2, 3)))
    assert not torch.equal(whole[0], whole[1]) and not torch.equal(whole, seeded_noise(8, 0, 9, (2, 3)))
    assert len({float(seeded_noise(seed, at, at + 1, (1,))) for seed in (0, 1, 2**63 - 1) for at in range(9)}) == 27
    noise = seeded_noise(1, 0, 10, (10000,))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01 and abs(noise[:-1].mul(noise[1:]).mean()) < 0.02


def test_stops_when_asked():
    model = Straight()
    with pytest.raises(Stopped, match="in step 4 of 8"):
        sample(model, stopping=lambda: len(model.seen) == 3)
    assert len(model.seen) == 3
