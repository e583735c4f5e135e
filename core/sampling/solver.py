"""Wan's sampler, for latents that are stepped a few frames at a time.

UniPC with B(h) = e^h - 1 on predictions of the clean latents, of at most second order (Zhao et al., "UniPC: A Unified
Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023, equations 3, 9 and 12). Operations and their
rounding are those of diffusers' UniPCMultistepScheduler as Wan configures it, so results are equal bit for bit on the
CPU (tested). It is implemented here because that scheduler takes a second to import.
"""

from dataclasses import dataclass

import numpy as np
import torch

# Number of noise levels in training. A timestep is a noise level times this number.
LEVELS = 1000

# The first noise level is lowered by this amount from 1, where the signal's share is 0 and has no logarithm.
BELOW_ONE = 1e-6


@dataclass(frozen=True)
class _Move:
    """The fp32 coefficients of a step from noise level s to t: `scale * x - growth * m0 - growth * (residuals)`.

    scale   sigma_t / sigma_s
    growth  alpha_t (e^-h - 1), the factor of the prediction m0 at level s and of the residuals
    rk      position of the prediction before m0 on the axis of log signal-to-noise, in steps of h; None at first order
    weights weights of the corrector's residuals: (older prediction, newest), or (newest,) at first order
    """

    scale: torch.Tensor
    growth: torch.Tensor
    rk: torch.Tensor | None
    weights: torch.Tensor


class Solver:
    """UniPC of order 2 on the flow's noise levels, sigma' = s sigma / (1 + (s-1) sigma) for a shift s.

    A state (n, STATE, ...) holds for each of n frames: the latents, the latents before the last
    step, and the last two predictions of the clean latents. A step is elementwise, so frames
    may be stepped in any portions, also from files.

    sigmas     (steps + 1,) fp32, decreasing to 0
    timesteps  (steps,) int64, the model's timestep input
    """

    STATE = 4
    ORDER = 2

    def __init__(self, steps: int, shift: float) -> None:
        self.steps = steps
        levels = np.linspace(1, 1 / LEVELS, steps + 1)[:-1]
        levels = shift * levels / (1 + (shift - 1) * levels)
        if abs(levels[0] - 1) < BELOW_ONE:
            levels[0] -= BELOW_ONE
        self.timesteps = torch.from_numpy((levels * LEVELS).astype(np.int64))
        self.sigmas = torch.from_numpy(np.concatenate([levels, [0]]).astype(np.float32))
        self._predict = [self._move(i, min(self.ORDER, steps - i, i + 1)) for i in range(steps)]
        self._correct: list[_Move | None] = [
            None,
            *(self._move(i, min(self.ORDER, steps - i, i + 1)) for i in range(steps - 1)),
        ]

    def _move(self, i: int, order: int) -> _Move:
        """The coefficients of the step from level i to level i + 1."""
        h = self._log_ratio(i + 1) - self._log_ratio(i)
        minus_h = -h
        growth = torch.expm1(minus_h)
        rk, weights = None, torch.tensor([0.5])
        if order == 2:
            rk = (self._log_ratio(i - 1) - self._log_ratio(i)) / h
            phi_2 = growth / minus_h - 1
            phi_3 = phi_2 / minus_h - 1 / 2
            positions = torch.stack([rk, torch.ones(())])
            system = torch.stack([torch.pow(positions, 0), torch.pow(positions, 1)])
            weights = torch.linalg.solve(system, torch.stack([phi_2 / growth, phi_3 * 2 / growth]))
        return _Move(self.sigmas[i + 1] / self.sigmas[i], (1 - self.sigmas[i + 1]) * growth, rk, weights)

    def _log_ratio(self, i: int) -> torch.Tensor:
        """Logarithm of signal over noise at level i. torch rounds a vector differently, so scalars are used."""
        return torch.log(1 - self.sigmas[i]) - torch.log(self.sigmas[i])

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """The state (n, STATE, ...) before the first step: noise (n, ...), and zeros for the past."""
        return torch.stack([noise, *(torch.zeros_like(noise) for _ in range(self.STATE - 1))], dim=1)

    def step(self, i: int, velocity: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Take step i (from 0) for the frames in `state`; velocity (n, ...): noise - clean. Returns the new state."""
        latents, before, older, newer = state.unbind(1)
        clean = latents - self.sigmas[i] * velocity
        correct = self._correct[i]
        if correct is not None:
            latents = self._corrected(correct, before, older, newer, clean)
        return torch.stack([self._predicted(self._predict[i], latents, newer, clean), latents, newer, clean], dim=1)

    @staticmethod
    def _predicted(move: _Move, x, m1, m0):
        """UniP: step from x with the predictions m0 at x's level and m1 at the previous level."""
        moved = move.scale * x - move.growth * m0
        return moved if move.rk is None else moved - move.growth * (0.5 * ((m1 - m0) / move.rk))

    @staticmethod
    def _corrected(move: _Move, x, m1, m0, reached):
        """UniC: repeat the last step from x with the prediction at its end, `reached`."""
        residual = move.weights[-1] * (reached - m0)
        if move.rk is not None:
            residual = move.weights[0] * ((m1 - m0) / move.rk) + residual
        return move.scale * x - move.growth * m0 - move.growth * residual
