"""Wan's sampler for latents that are stepped a few frames at a time.

UniPC with B(h) = e^h - 1 on predictions of the clean latents, at most of second order (Zhao et al., "UniPC: A
Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", 2023, equations 3, 9 and 12). Each
operation and its rounding is that of diffusers' UniPCMultistepScheduler as Wan configures it, so results equal its
bit for bit on the CPU (tested); it is written out because that scheduler takes a second to import.
"""

from dataclasses import dataclass

import numpy as np
import torch

# Noise levels of training: timesteps are levels times this, and no level but the last is below its inverse.
LEVELS = 1000

# The first level is this much below 1, for at 1 the signal's share, whose logarithm is taken, is 0.
BELOW_ONE = 1e-6


@dataclass(frozen=True)
class _Move:
    """From the level of x to another one: fp32 scalars of `scale * x - growth * m0 - growth * (residuals)`.

    scale   ratio of the noise's shares, sigma_t / sigma_s
    growth  alpha_t (e^-h - 1): of the prediction m0 at x's level, and alpha_t B(h) of what is added to it
    rk      place of the prediction before m0 on the axis of log signal-to-noise, in steps of h; None at first order
    weights of the corrector's residuals: (older prediction, newest), or (newest,) at first order
    """

    scale: torch.Tensor
    growth: torch.Tensor
    rk: torch.Tensor | None
    weights: torch.Tensor


class Solver:
    """UniPC of order 2 on the flow's noise levels, sigma' = s sigma / (1 + (s-1) sigma), s the shift.

    What the next step must know of a frame travels with it: a state is (n, STATE, ...), n frames
    of their latents, of the latents that the last step started from, and of the last two
    predictions of the clean latents. A step treats each element by itself, so frames may be
    stepped in any portions, and from files.

    sigmas     (steps + 1,) fp32, falling to 0
    timesteps  (steps,) int64, what the model is told of the noise's level
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
        """From level i to level i + 1."""
        h = self._log_ratio(i + 1) - self._log_ratio(i)
        minus_h = -h
        growth = torch.expm1(minus_h)
        rk, weights = None, torch.tensor([0.5])
        if order == 2:
            rk = (self._log_ratio(i - 1) - self._log_ratio(i)) / h
            phi_2 = growth / minus_h - 1
            phi_3 = phi_2 / minus_h - 1 / 2
            places = torch.stack([rk, torch.ones(())])
            system = torch.stack([torch.pow(places, 0), torch.pow(places, 1)])
            weights = torch.linalg.solve(system, torch.stack([phi_2 / growth, phi_3 * 2 / growth]))
        return _Move(self.sigmas[i + 1] / self.sigmas[i], (1 - self.sigmas[i + 1]) * growth, rk, weights)

    def _log_ratio(self, i: int) -> torch.Tensor:
        """Logarithm of signal to noise at level i. Of one number at a time: of many at once it rounds otherwise."""
        return torch.log(1 - self.sigmas[i]) - torch.log(self.sigmas[i])

    def start(self, noise: torch.Tensor) -> torch.Tensor:
        """The state (n, STATE, ...) before the first step: noise (n, ...) and no past."""
        return torch.stack([noise, *(torch.zeros_like(noise) for _ in range(self.STATE - 1))], dim=1)

    def step(self, i: int, velocity: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Step i (from 0) of the frames in `state` with their velocity (n, ...), noise - clean; the new state."""
        latents, before, older, newer = state.unbind(1)
        clean = latents - self.sigmas[i] * velocity
        correct = self._correct[i]
        if correct is not None:
            latents = self._corrected(correct, before, older, newer, clean)
        return torch.stack([self._predicted(self._predict[i], latents, newer, clean), latents, newer, clean], dim=1)

    @staticmethod
    def _predicted(move: _Move, x, m1, m0):
        """UniP: from x over this move, with the predictions m0 at x's level and m1 at the level before."""
        moved = move.scale * x - move.growth * m0
        return moved if move.rk is None else moved - move.growth * (0.5 * ((m1 - m0) / move.rk))

    @staticmethod
    def _corrected(move: _Move, x, m1, m0, reached):
        """UniC: the last move again, from x, now that the prediction at its end, `reached`, is known."""
        residual = move.weights[-1] * (reached - m0)
        if move.rk is not None:
            residual = move.weights[0] * ((m1 - m0) / move.rk) + residual
        return move.scale * x - move.growth * m0 - move.growth * residual
