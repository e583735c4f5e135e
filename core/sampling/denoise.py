"""Sample the latents of the three layers from noise, for clips of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vera.core.errors import StoppedError
from vera.core.model.interfaces import LatentsByFrame, ShotConditioning
from vera.core.model.offload import computing_device
from vera.core.sampling.first_block_cache import CheckedRunner
from vera.core.sampling.latent_store import InMemory, StatesInMemory
from vera.core.sampling.solver import Solver
from vera.core.sampling.speed_options import SpeedOptions
from vera.core.sampling.time_windows import windows

if TYPE_CHECKING:
    from vera.core.model.transformer import Transformer
    from vera.core.sampling.first_block_cache import FirstBlockCache
    from vera.core.sampling.latent_store import States


# Largest number of first-block caches per shot. Each pair of window and guidance pass needs one, which holds hidden
# states. The other windows of a long shot run without a cache. Raising it saves time on long shots and takes memory.
MAX_CACHES = 16

# Input of one window in a step: latents (n, 3, C, H, W), span of frames, timestep.
WindowInput = tuple[torch.Tensor, tuple[int, int], torch.Tensor]
# Runs the model on the windows of a step; the signature is that of `run_windows_serially`.
WindowRunner = Callable[..., Iterable[torch.Tensor]]


def seeded_noise(seed: int, start: int, stop: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal noise, fp32 (stop - start, *shape), for latent frames start .. stop-1.

    The noise of a frame is drawn on the CPU from the seed and the frame's number. It does not
    depend on the device or on the length of the clip.
    """
    seeds = (np.random.SeedSequence([seed, frame]).generate_state(1, np.uint64)[0] for frame in range(start, stop))
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])


def evaluations(length: int, window: int, steps: range) -> int:
    """Number of windows that the model evaluates in these steps."""
    return sum(len(windows(length, window, i)) for i in steps)


def denoise(
    transformer: Transformer,
    text: torch.Tensor,
    empty_text: torch.Tensor,
    source: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    seed: int,
    steps: int,
    guidance: float,
    shift: float,
    **options: Any,
) -> torch.Tensor:
    """Sample the layers of one clip held in tensors; see `sample`. source, mask: (1, C, T, H, W), or None for mask.

    There is one window unless `window` is given. Returns latents (1, 3, C, T, H, W), fp32.
    """
    by_frame = [None if t is None else InMemory(t[0].movedim(1, 0)) for t in (source, mask)]
    options = {"window": source.shape[2], "states": StatesInMemory()} | options
    state = sample(
        transformer, text, empty_text, *by_frame, seed=seed, steps=steps, guidance=guidance, shift=shift, **options
    )
    return state.read(0, source.shape[2])[:, 0].movedim(0, 2)[None]


@dataclass(frozen=True)
class Guided:
    """Computes the velocity of a window with classifier-free guidance. Holds all inputs of a step except the model.

    text, empty_text, source, mask, guidance: see `sample`. one_batch: run both guidance passes in one batch.
    shot: the conditioning of the whole shot, see `Transformer.read_shot`.
    """

    text: torch.Tensor
    empty_text: torch.Tensor
    source: LatentsByFrame
    mask: LatentsByFrame | None
    guidance: float
    one_batch: bool
    shot: ShotConditioning | None

    def __call__(
        self,
        transformer: Transformer,
        latents: torch.Tensor,
        span: tuple[int, int],
        timestep: torch.Tensor,
        caches: Caches | None,
        check: Callable[[], object] = lambda: None,
    ) -> torch.Tensor:
        """The velocity for latents (n, 3, C, H, W) of frames span[0] .. span[1]-1.

        caches: first-block caches by guidance pass and window, or None. check() is called before each block and may
        raise. Returns fp32 (n, 3, C, H, W) on the transformer's device.
        """

        def velocity(instruction, empty=False):
            """Velocities (batch, n, 3, C, H, W) for text states (batch, N, D). empty: the pass without instruction."""
            check()
            device, dtype = computing_device(transformer), next(transformer.parameters()).dtype
            batch = len(instruction)
            x, plate, matte = (
                None if t is None else _clip(t.to(device)).expand(batch, *[-1] * (t.ndim))
                for t in (
                    latents.to(dtype),
                    self.source.read(*span),
                    None if self.mask is None else self.mask.read(*span),
                )
            )
            shot = None if self.shot is None else self.shot.window(*span)
            blocks = CheckedRunner(check, caches[empty, span] if caches else None)
            time = timestep.to(device).expand(batch)
            v = transformer(x, time, instruction, plate, matte, shot, cache=blocks)
            return v.float().movedim(3, 1)

        if self.guidance == 1:
            return velocity(self.text)[0]
        if self.one_batch:
            with_text, without = velocity(torch.cat([self.text, self.empty_text]))
        else:
            with_text, without = velocity(self.text)[0], velocity(self.empty_text, empty=True)[0]
        return without + self.guidance * (with_text - without)


def run_windows_serially(
    guided: Guided,
    transformer: Transformer,
    inputs: Iterable[WindowInput],
    caches: Caches | None,
    check: Callable[[], object],
) -> Iterator[torch.Tensor]:
    """Yield the velocity of each window, in order."""
    for latents, span, timestep in inputs:
        yield guided(transformer, latents, span, timestep, caches, check)


class Caches:
    """First-block caches by (whether the pass is the one without the instruction, span of the window).

    The first MAX_CACHES keys get a cache each, all others None.
    """

    def __init__(self, new_cache: Callable[[], FirstBlockCache | None]) -> None:
        self.new_cache = new_cache
        self.caches: dict[tuple[bool, tuple[int, int]], FirstBlockCache | None] = {}

    def __getitem__(self, key: tuple[bool, tuple[int, int]]) -> FirstBlockCache | None:
        if key not in self.caches and len(self.caches) < MAX_CACHES:
            self.caches[key] = self.new_cache()
        return self.caches.get(key)


@torch.inference_mode()
def sample(
    transformer: Transformer,
    text: torch.Tensor,
    empty_text: torch.Tensor,
    source: LatentsByFrame,
    mask: LatentsByFrame | None,
    *,
    seed: int,
    steps: int,
    guidance: float,
    shift: float,
    window: int,
    states: States | StatesInMemory,
    speed: SpeedOptions = SpeedOptions(),
    advance: Callable[[], object] = lambda: None,
    stopping: Callable[[], bool] = lambda: False,
    window_runner: WindowRunner = run_windows_serially,
) -> LatentsByFrame:
    """Sample the layers of one clip of any length, window by window.

    text, empty_text: states (1, N, D) of the instruction and of the negative or empty prompt.
    source, mask: latents by frame (T, C, H, W) of the plate and of the mask (or None), see latent_store.py.
    guidance: scale of classifier-free guidance; 1 runs no second pass.
    window: number of latent frames that the model sees at once.
    states: stores the state after each step; sampling resumes from the newest stored step.
    speed: the caller must have called speed.prepare(transformer).
    advance: called after each window. stopping: called before each block; True raises StoppedError.
    window_runner: runs the model on the windows of a step, which are independent of one another.

    In each step the velocities of overlapping windows are blended, and one solver steps the
    blended latents. A frame is stepped as soon as no later window covers it, so that only one
    window and its overlap are in memory. Returns the last state, (T, Solver.STATE, 3, C, H, W)
    by frame; its [:, 0] are the latents.
    """
    device = computing_device(transformer)
    solver = Solver(steps, shift)
    length, shape = source.shape[0], (3, *source.shape[1:])
    # One batch needs text states of equal length, because padding would change the result.
    one_batch = speed.one_batch and text.shape == empty_text.shape
    shot = transformer.read_shot(source, mask, window)
    guided = Guided(text, empty_text, source, mask, guidance, one_batch, shot)
    caches = Caches(speed.new_cache)
    if speed.cache:
        states.clear()  # caches are not stored, and resuming without them would change the pixels

    def check():
        if stopping():
            raise StoppedError(f"stopped in step {i + 1} of {steps}")

    def present(span):
        """The solver's state of these frames before the step; noise in the first step."""
        values = solver.start(seeded_noise(seed, span[0], span[1], shape)) if state is None else state.read(*span)
        return values.to(device)

    done, state = states.newest()
    for i in range(done, steps):
        windowed = windows(length, window, i)
        inputs = ((present(w.span)[:, 0], w.span, solver.timesteps[i]) for w in windowed)
        velocities = window_runner(guided, transformer, inputs, caches, check)
        # Weighted sum of the earlier windows' velocities, for the frames from this window's start on.
        blended = torch.zeros(0, *shape, device=device)
        with states.writer(i + 1) as add:
            for place, following, v in zip(windowed, [*windowed[1:], None], velocities):
                v = v * place.weights.to(device).view(-1, 1, 1, 1, 1)
                v[: len(blended)] += blended
                # Frames of this window that no later window covers.
                complete = (following.start if following else place.stop) - place.start
                add(solver.step(i, v[:complete], present((place.start, place.start + complete))))
                blended = v[complete:]
                advance()
        _, state = states.newest()
    return state


def _clip(latents):
    """Reorder latents by frame (n, ..., C, H, W) as the model takes them, (1, ..., C, n, H, W)."""
    return latents.movedim(0, -3)[None]
