"""Sample the latents of the three layers from noise, for clips of any length."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from vera.core.errors import StoppedError
from vera.core.model.interfaces import LatentsByFrame, ShotConditioning
from vera.core.model.offload import computing_device
from vera.core.sampling.first_block_cache import CheckedRunner
from vera.core.sampling.latent_store import InMemory, StatesInMemory
from vera.core.sampling.solver import Solver
from vera.core.sampling.speed_options import SpeedOptions
from vera.core.sampling.time_windows import Window, windows

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


def seeded_noise(seed: int, start: int, stop: int, shape: Sequence[int], coarse: int | None = None) -> torch.Tensor:
    """Standard normal noise, fp32 (stop - start, *shape), for latent frames start .. stop-1.

    The noise of a frame is drawn on the CPU from the seed and the frame's number. It does not
    depend on the device or on the length of the clip. coarse: leading channels, of `shape` (layers, C, H, W), that
    are drawn first, so that they do not depend on how many follow.
    """
    seeds = (np.random.SeedSequence([seed, frame]).generate_state(1, np.uint64)[0] for frame in range(start, stop))
    counts = [shape[1]] if coarse is None else [coarse, shape[1] - coarse]
    frames = []
    for frame_seed in seeds:
        generator = torch.Generator().manual_seed(int(frame_seed))
        parts = [torch.randn((shape[0], count, *shape[2:]), generator=generator) for count in counts]
        frames.append(torch.cat(parts, dim=1))
    return torch.stack(frames)


def evaluations(length: int, window: int, steps: range) -> int:
    """Number of windows that the model evaluates in these steps."""
    return sum(len(windows(length, window, i)) for i in steps)


@dataclass(frozen=True)
class ClipInputs:
    """What the model is given about one clip.

    text, empty_text: states (1, N, D) of the instruction and of the negative or empty prompt; a guidance of 1 needs no
        empty_text
    source, mask: latents by frame (T, C, H, W) of the plate and of the mask (or None), see latent_store.py
    """

    text: torch.Tensor
    empty_text: torch.Tensor | None
    source: LatentsByFrame
    mask: LatentsByFrame | None = None

    @classmethod
    def of_tensors(
        cls,
        text: torch.Tensor,
        empty_text: torch.Tensor | None,
        source: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> ClipInputs:
        """The inputs for latents (1, C, T, H, W) of the plate and of the mask (or None) in memory."""
        by_frame = None if mask is None else InMemory(mask[0].movedim(1, 0))
        return cls(text, empty_text, InMemory(source[0].movedim(1, 0)), by_frame)


@dataclass(frozen=True)
class SamplingSettings:
    """The settings that change the sampled latents.

    guidance: scale of classifier-free guidance; 1 runs no second pass
    shift: of the noise levels, see `Solver`
    window: number of latent frames that the model sees at once; None for the whole clip
    speed: the caller must have called speed.prepare(transformer)
    """

    seed: int
    steps: int
    guidance: float
    shift: float
    window: int | None = None
    speed: SpeedOptions = SpeedOptions()


@dataclass(frozen=True)
class Guided:
    """Computes the velocity of a window with classifier-free guidance. Holds all inputs of a step except the model.

    guidance: see `SamplingSettings`. one_batch: run both guidance passes in one batch.
    shot: the conditioning of the whole shot, see `Transformer.read_shot`.
    """

    clip: ClipInputs
    guidance: float
    one_batch: bool
    shot: ShotConditioning | None

    def with_text_on(self, device: torch.device | str) -> Guided:
        """The same computation with text states on a device, as another process needs it."""
        empty = None if self.clip.empty_text is None else self.clip.empty_text.to(device)
        return replace(self, clip=replace(self.clip, text=self.clip.text.to(device), empty_text=empty))

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

        clip = self.clip

        def velocity(instruction, empty=False):
            """Velocities (batch, n, 3, C, H, W) for text states (batch, N, D). empty: the pass without instruction."""
            check()
            device, dtype = computing_device(transformer), next(transformer.parameters()).dtype
            batch = len(instruction)
            x, plate, matte = (
                None if t is None else _clip(t.to(device)).expand(batch, *[-1] * (t.ndim))
                for t in (
                    latents.to(dtype),
                    clip.source.read(*span),
                    None if clip.mask is None else clip.mask.read(*span),
                )
            )
            shot = None if self.shot is None else self.shot.window(*span)
            blocks = CheckedRunner(check, caches[empty, span] if caches else None)
            time = timestep.to(device).expand(batch)
            v = transformer(x, time, instruction, plate, matte, shot, cache=blocks)
            return v.float().movedim(3, 1)

        if self.guidance == 1:
            return velocity(clip.text)[0]
        if clip.empty_text is None:
            raise ValueError("a guidance other than 1 needs empty_text")
        if self.one_batch:
            with_text, without = velocity(torch.cat([clip.text, clip.empty_text]))
        else:
            with_text, without = velocity(clip.text)[0], velocity(clip.empty_text, empty=True)[0]
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


@dataclass(frozen=True)
class SamplingRun:
    """How the sampling of a clip is computed, watched and resumed.

    states: stores the state after each step; sampling resumes from the newest stored step
    advance: called after each window
    stopping: called before each block; True raises StoppedError
    window_runner: runs the model on the windows of a step, which are independent of one another
    """

    states: States | StatesInMemory = field(default_factory=StatesInMemory)
    advance: Callable[[], object] = lambda: None
    stopping: Callable[[], bool] = lambda: False
    window_runner: WindowRunner = run_windows_serially


def denoise(
    transformer: Transformer, clip: ClipInputs, settings: SamplingSettings, run: SamplingRun | None = None
) -> torch.Tensor:
    """`sample`, with the whole result in memory: latents (1, 3, C, T, H, W), fp32."""
    state = sample(transformer, clip, settings, run or SamplingRun())
    return state.read(0, clip.source.shape[0])[:, 0].movedim(0, 2)[None]


@torch.inference_mode()
def sample(transformer: Transformer, clip: ClipInputs, settings: SamplingSettings, run: SamplingRun) -> LatentsByFrame:
    """Sample the layers of one clip of any length, window by window.

    In each step the velocities of overlapping windows are blended, and one solver steps the
    blended latents. A frame is stepped as soon as no later window covers it, so that only one
    window and its overlap are in memory. Returns the last state, (T, Solver.STATE, 3, C, H, W)
    by frame; its [:, 0] are the latents.
    """
    device, states = computing_device(transformer), run.states
    solver = Solver(settings.steps, settings.shift)
    length, shape = clip.source.shape[0], (3, *clip.source.shape[1:])
    window = settings.window or length
    coarse = getattr(transformer, "coarse_channels", None)
    caches = Caches(settings.speed.new_cache)
    if settings.speed.cache:
        states.clear()  # caches are not stored, and resuming without them would change the pixels

    def check():
        if run.stopping():
            raise StoppedError(f"stopped in step {i + 1} of {settings.steps}")

    def present(span):
        """The solver's state of these frames before the step; noise in the first step."""
        if state is None:
            return solver.start(seeded_noise(settings.seed, span[0], span[1], shape, coarse)).to(device)
        return state.read(*span).to(device)

    guided = _guided(transformer, clip, settings, window)
    done, state = states.newest()
    for i in range(done, settings.steps):
        windowed = windows(length, window, i)
        inputs = ((present(w.span)[:, 0], w.span, solver.timesteps[i]) for w in windowed)
        velocities = run.window_runner(guided, transformer, inputs, caches, check)
        with states.writer(i + 1) as add:
            for start, v in _blended(windowed, velocities):
                add(solver.step(i, v, present((start, start + len(v)))))
                run.advance()
        _, state = states.newest()
    return state


def _guided(transformer: Transformer, clip: ClipInputs, settings: SamplingSettings, window: int) -> Guided:
    # One batch needs text states of equal length, because padding would change the result.
    equal = clip.empty_text is not None and clip.text.shape == clip.empty_text.shape
    shot = transformer.read_shot(clip.source, clip.mask, window)
    return Guided(clip, settings.guidance, settings.speed.one_batch and equal, shot)


def _blended(windowed: Sequence[Window], velocities: Iterable[torch.Tensor]) -> Iterator[tuple[int, torch.Tensor]]:
    """After each window: the first frame that it completes, and the blended velocities of all frames that it completes.

    A window completes the frames that no later window covers.
    """
    earlier: torch.Tensor | None = None  # weighted sum of earlier windows' velocities, from this window's start on
    for window, following, v in zip(windowed, [*windowed[1:], None], velocities):
        v = v * window.weights.to(v.device).view(-1, 1, 1, 1, 1)
        if earlier is not None:
            v[: len(earlier)] += earlier
        complete = (following.start if following else window.stop) - window.start
        earlier = v[complete:]
        yield window.start, v[:complete]


def _clip(latents):
    """Reorder latents by frame (n, ..., C, H, W) as the model takes them, (1, ..., C, n, H, W)."""
    return latents.movedim(0, -3)[None]
