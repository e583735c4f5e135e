"""From noise to the latents of the three layers."""

import torch
from diffusers import UniPCMultistepScheduler

from core.errors import Stopped
from core.sampling.savers import Savers


def seeded_noise(seed: int, shape) -> torch.Tensor:
    """Standard normal fp32 of this shape, drawn on the CPU: the same for every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32)


def schedule(steps: int, shift: float) -> UniPCMultistepScheduler:
    """Wan's scheduler: UniPC on the flow's noise levels, sigma' = s sigma / (1 + (s-1) sigma)."""
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    scheduler.set_timesteps(steps)
    return scheduler


@torch.inference_mode()
def denoise(
    transformer, text, empty_text, source, mask, *, seed, steps, guidance, shift, step_done=None, savers=Savers()
):
    """Sample the layers of one clip.

    text, empty_text: states (1, N, D) of the instruction and of no instruction;
    source, mask: latents (1, C, T, H, W) of the plate and of the mask (or None).
    guidance 1 leaves out the second pass. step_done(i) is called after each step
    and stops the work by returning True (raises Stopped). savers.prepare(transformer) is the caller's.
    Returns latents (1, 3, C, T, H, W), fp32.
    """
    scheduler = schedule(steps, shift)
    parameter = next(transformer.parameters())
    latents = seeded_noise(seed, (1, 3, *source.shape[1:])).to(parameter.device)

    def velocity(states, timestep, cache):
        """Of the same latents under each of the states (B, N, D)."""
        given = (latents.to(parameter.dtype), source, mask)
        x, plate, matte = (t if t is None else t.expand(len(states), *t.shape[1:]) for t in given)
        times = timestep.to(parameter.device).expand(len(states))
        return transformer(x, times, states, plate, matte, cache=cache).float()

    # One batch needs states of one length: padding would not be neutral.
    one_batch = savers.one_batch and text.shape == empty_text.shape
    with_cache, without_cache = savers.new_cache(), savers.new_cache()
    for i, timestep in enumerate(scheduler.timesteps):
        if guidance == 1:
            v = velocity(text, timestep, with_cache)
        else:
            if one_batch:
                v, without = velocity(torch.cat([text, empty_text]), timestep, with_cache).split(1)
            else:
                v, without = velocity(text, timestep, with_cache), velocity(empty_text, timestep, without_cache)
            v = without + guidance * (v - without)
        latents = scheduler.step(v, timestep, latents, return_dict=False)[0]
        if step_done is not None and step_done(i + 1):
            raise Stopped(f"stopped after step {i + 1} of {steps}")
    return latents
