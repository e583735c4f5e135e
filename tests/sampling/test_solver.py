"""The solver, stepped in portions, against diffusers' scheduler on the whole clip."""

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from vera.core.sampling.solver import Solver


def field(latents, sigma):
    """A velocity that is nonlinear in the latents and differs between frames."""
    frames = torch.arange(len(latents)).view(-1, 1, 1, 1, 1)
    return torch.sin(3 * latents + frames) * (0.2 + sigma) + latents


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 8, 21, 50])
@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0, 16.0])
def test_stepping_in_portions_equals_diffusers_bit_for_bit(steps, shift):
    compare_with_the_library(steps, shift)


def test_a_thousand_steps_equal_diffusers():
    compare_with_the_library(1000, 16.0)


def compare_with_the_library(steps, shift):
    noise = torch.randn(7, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    whole = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    whole.set_timesteps(steps)
    whole.set_begin_index(0)  # two of 1000 timesteps are equal integers, and the scheduler would begin at the second
    solver = Solver(steps, shift)
    assert torch.equal(solver.sigmas, whole.sigmas)
    assert torch.equal(solver.timesteps, whole.timesteps)
    latents, state = noise, solver.start(noise)
    for i, timestep in enumerate(whole.timesteps):
        latents = whole.step(field(latents, timestep / 1000), timestep, latents, return_dict=False)[0]
        velocity = field(state[:, 0], timestep / 1000)
        portions = [solver.step(i, velocity[a:b], state[a:b]) for a, b in ((0, 1), (1, 4), (4, 7))]
        state = torch.cat(portions)
        assert torch.equal(state[:, 0], latents), f"step {i}"
