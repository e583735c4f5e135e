"""From noise to the latents of the three layers, for clips of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vera.core.errors import StoppedError
from vera.core.model.interfaces import LatentsByFrame, ShotConditioning
from vera.core.model.offload import computing_device
from vera.core.sampling.first_block_cache import Watched
from vera.core.sampling.latent_store import InMemory, StatesInMemory
from vera.core.sampling.solver import Solver
from vera.core.sampling.speed_options import SpeedOptions
from vera.core.sampling.time_windows import windows

if TYPE_CHECKING:
    from vera.core.model.transformer import Transformer
    from vera.core.sampling.first_block_cache import FirstBlockCache
    from vera.core.sampling.latent_store import States


# Windows' caches of one shot, each pass's its own, hold hidden states: so many are kept, and the windows of a
# longer shot that come after are computed in full, so that memory does not grow with the shot.
MOST_CACHES = 16

# What one window of a step is: its latents (n, 3, C, H, W), its span of frames, the step's time.
Look = tuple[torch.Tensor, tuple[int, int], torch.Tensor]
# Looks at the windows of a step, as `run_windows_serially`.
WindowRunner = Callable[..., Iterable[torch.Tensor]]


def seeded_noise(seed: int, start: int, stop: int, shape: Sequence[int]) -> torch.Tensor:
    """Standard normal fp32 (stop - start, *shape) of latent frames start .. stop-1.

    Each frame's is drawn by itself, from the seed and its number, on the CPU: the same for every
    device, and whatever the length of the clip.
    """
    seeds = (np.random.SeedSequence([seed, frame]).generate_state(1, np.uint64)[0] for frame in range(start, stop))
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds])


def evaluations(length: int, window: int, steps: range) -> int:
    """How many windows are looked at in these steps (a range)."""
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
    """Sample the layers of one clip from tensors: as `sample`, with source and mask (1, C, T, H, W), mask or None.

    One window, unless `window` is given. Returns latents (1, 3, C, T, H, W), fp32.
    """
    by_frame = [None if t is None else InMemory(t[0].movedim(1, 0)) for t in (source, mask)]
    options = {"window": source.shape[2], "states": StatesInMemory()} | options
    state = sample(
        transformer, text, empty_text, *by_frame, seed=seed, steps=steps, guidance=guidance, shift=shift, **options
    )
    return state.read(0, source.shape[2])[:, 0].movedim(0, 2)[None]


@dataclass(frozen=True)
class Guided:
    """The velocity that a window is given under the instruction: all that a step asks of the model, but the model.

    text, empty_text, source, mask, guidance: as for `sample`. one_batch: both passes at once.
    shot: what the model knows of the whole shot, see `Transformer.read_shot`.
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
        """Of latents (n, 3, C, H, W), frames span[0] .. span[1]-1; fp32 (n, 3, C, H, W) on the transformer's device.

        caches: by pass and window, or None. check() is called before each block; it may raise.
        """

        def velocity(instruction, empty=False):
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
            blocks = Watched(check, caches[empty, span] if caches else None)
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
    guided: Guided, transformer: Transformer, looks: Iterable[Look], caches: Caches | None, check: Callable[[], object]
) -> Iterator[torch.Tensor]:
    """Yield the velocity of each look (latents, span, timestep), in order."""
    for look in looks:
        yield guided(transformer, *look, caches, check)


class Caches:
    """By pass and window: a cache each, of the first MOST_CACHES that ask, None for the others."""

    def __init__(self, new_cache: Callable[[], FirstBlockCache | None]) -> None:
        self.new_cache = new_cache
        self.kept: dict[tuple[bool, tuple[int, int]], FirstBlockCache | None] = {}

    def __getitem__(self, key: tuple[bool, tuple[int, int]]) -> FirstBlockCache | None:
        if key not in self.kept and len(self.kept) < MOST_CACHES:
            self.kept[key] = self.new_cache()
        return self.kept.get(key)


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
    each: WindowRunner = run_windows_serially,
) -> LatentsByFrame:
    """Sample the layers of one clip of any length, window by window.

    text, empty_text: states (1, N, D) of the instruction and of no instruction;
    source, mask: latents by frame (T, C, H, W) of the plate and of the mask (or None), see
    latents.py. window: how many latent frames the model sees at once. guidance 1 leaves out
    the second pass. states keeps each step's state; steps that it holds are not done again.
    advance() is called after each window, stopping() asked before each block: true raises StoppedError.
    speed.prepare(transformer) is the caller's. each: how a step's windows are looked at, `run_windows_serially` or
    its like: the windows of a step do not hang on one another.

    At each step the velocities of overlapping windows are blended, then one solver steps
    the blended whole. A frame is stepped as soon as no window to come covers it, so that only
    one window and its overlap are in memory. Returns the last state, (T, Solver.STATE, 3, C, H, W)
    by frame; [:, 0] of it are the latents.
    """
    device = computing_device(transformer)
    solver = Solver(steps, shift)
    length, shape = source.shape[0], (3, *source.shape[1:])
    # One batch needs states of one length: padding would not be neutral.
    one_batch = speed.one_batch and text.shape == empty_text.shape
    shot = transformer.read_shot(source, mask, window)
    guided = Guided(text, empty_text, source, mask, guidance, one_batch, shot)
    caches = Caches(speed.new_cache)
    if speed.cache:
        states.clear()  # what a cache held is not kept: without it the pixels would be others

    def check():
        if stopping():
            raise StoppedError(f"stopped in step {i + 1} of {steps}")

    def now(span):
        there = solver.start(seeded_noise(seed, span[0], span[1], shape)) if state is None else state.read(*span)
        return there.to(device)

    done, state = states.newest()
    for i in range(done, steps):
        windowed = windows(length, window, i)
        looks = ((now(w.span)[:, 0], w.span, solver.timesteps[i]) for w in windowed)
        velocities = each(guided, transformer, looks, caches, check)
        blended = torch.zeros(0, *shape, device=device)  # of the frames from this window's first on, so far
        with states.writer(i + 1) as add:
            for look, following, v in zip(windowed, [*windowed[1:], None], velocities):
                v = v * look.weights.to(device).view(-1, 1, 1, 1, 1)
                v[: len(blended)] += blended
                settled = (following.start if following else look.stop) - look.start
                add(solver.step(i, v[:settled], now((look.start, look.start + settled))))
                blended = v[settled:]
                advance()
        _, state = states.newest()
    return state


def _clip(latents):
    """By frame (n, ..., C, H, W) -> as the model takes them, (1, ..., C, n, H, W)."""
    return latents.movedim(0, -3)[None]
