"""Wan's sampler for latents that are stepped a few frames at a time."""

import torch
from diffusers import UniPCMultistepScheduler


class Solver:
    """UniPC of order 2 on the flow's noise levels, sigma' = s sigma / (1 + (s-1) sigma), s the shift.

    What the next step must know of a frame travels with it: a state is (n, STATE, ...), n frames
    of their latents, of the latents that the last step started from, and of the last two
    predictions of the clean latents. A step treats each element by itself, so frames may be
    stepped in any portions, and from files.
    """

    STATE = 4
    ORDER = 2

    def __init__(self, steps: int, shift: float):
        self.steps = steps
        self.scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, solver_order=self.ORDER
        )
        self.scheduler.set_timesteps(steps)
        self.timesteps = self.scheduler.timesteps

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """The state (n, STATE, ...) before the first step: noise (n, ...) and no past."""
        return torch.stack([noise, *(torch.zeros_like(noise) for _ in range(self.STATE - 1))], dim=1)

    def step(self, i: int, velocity: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Step i (from 0) of the frames in `state` with their velocity (n, ...), noise - clean; the new state."""
        latents, before, *predictions = state.unbind(1)
        s = self.scheduler
        s._step_index = i
        s.last_sample = before if i else None
        s.model_outputs = list(predictions)
        s.timestep_list = [None] * self.ORDER
        s.this_order = min(self.ORDER, i, self.steps - i + 1)  # of the step before
        s.lower_order_nums = min(self.ORDER, i)
        latents = s.step(velocity, self.timesteps[i], latents, return_dict=False)[0]
        return torch.stack([latents, s.last_sample, *s.model_outputs], dim=1)
