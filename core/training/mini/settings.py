"""The settings of mini's training, explained in docs/training.md. Importing this module does not load torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vera.core.errors import InputError
from vera.core.model.config import BRANCHES
from vera.core.training.configuration import read_settings, setting

MAX_STEPS = 10_000_000  # largest number of steps that a configuration may name
MAX_BATCH = 4096  # largest number of clips per batch
LATENT_FRAMES = 13  # latent frames of a whole clip of 49 frames
SIDE_MULTIPLE = 16  # pixels: each side is a multiple of two codec cells
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Geometry:
    """Changes to the geometry of mini's transformer; None keeps mini's own value."""

    dim: int | None = setting(None, 8, 2048)
    heads: int | None = setting(None, 1, 64)
    layers: int | None = setting(None, 1, 64)
    ffn_dim: int | None = setting(None, 8, 8192)
    text_dim: int | None = setting(None, 8, 2048)
    freq_dim: int | None = setting(None, 8, 2048)
    latent_std: float | None = setting(None, 0.01, 10)
    fine_layers: tuple[str, ...] | None = setting(None, choices=BRANCHES)


@dataclass(frozen=True)
class Stage:
    """A stage of training, up to step `until`.

    batch: clips per round. repeats: steps per round on the same clips.
    latents: latent frames generated of each clip. keep: how many of these latent frames a step uses.
    only: "drawing" trains the drawing alone.
    objects: share of clips that add an object. rendered: share of rounds that use rendered clips.
    shapes: (height, width) in pixels; each round draws one.
    """

    until: int = setting(least=1, most=MAX_STEPS)
    batch: int = setting(least=1, most=MAX_BATCH)
    latents: int = setting(least=1, most=LATENT_FRAMES)
    keep: int = setting(least=1, most=LATENT_FRAMES)
    repeats: int = setting(least=1, most=1000)
    only: str | None = setting(None, choices=("drawing",))
    objects: float | None = setting(None, 0, 1)
    rendered: float = setting(0.0, 0, 1)
    shapes: tuple[tuple[int, int], ...] | None = setting(None, SIDE_MULTIPLE, 1024)


@dataclass(frozen=True)
class TransformerSettings:
    """Settings of the transformer and the text encoder.

    codec: folder of a codec's run, or of an edition. start: edition whose weights training starts from, or None.
    rendered: folder of rendered clips.
    processes: CPU processes that share a batch. workers: processes that generate clips. device: None means CUDA if
    available.
    text_drop: probability that the instruction is dropped. mask_keep: probability that the mask is shown.
    """

    codec: str = setting()
    seed: int = setting(least=0, most=2**40)
    stages: tuple[Stage, ...] = setting()
    steps: int = setting(least=0, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    ema: float = setting(least=0, most=0.999999)
    text_drop: float = setting(least=0, most=1)
    mask_keep: float = setting(least=0, most=1)
    shift: float = setting(least=0.01, most=100)
    save_every: int = setting(least=1, most=MAX_STEPS)
    sample_every: int = setting(least=1, most=MAX_STEPS)
    processes: int = setting(1, 1, 256)
    workers: int = setting(0, 0, 256)
    device: str | None = setting(None, choices=DEVICES)
    start: str | None = setting(None)
    rendered: str | None = setting(None)
    geometry: Geometry = Geometry()
    aim_steps: int = setting(0, 0, 1_000_000)
    last_aim_steps: int = setting(0, 0, 1_000_000)
    blend_clips: int = setting(300, 1, 100_000)
    camera_plates: int = setting(400, 1, 100_000)
    train: str = setting("transformer", choices=("transformer",))

    def __post_init__(self) -> None:
        untils = [stage.until for stage in self.stages]
        if not untils or untils != sorted(set(untils)) or untils[-1] < self.steps:
            raise InputError(
                f"'stages': they end at steps {untils}; these must increase, and the last must reach "
                f"'steps', {self.steps}"
            )
        for stage in self.stages:
            if stage.batch % self.processes:
                raise InputError(
                    f"'batch': {stage.batch} clips cannot be shared evenly by {self.processes} 'processes'"
                )
            for side in (side for shape in stage.shapes or () for side in shape):
                if side % SIDE_MULTIPLE:
                    raise InputError(f"'shapes': {side} is not a multiple of {SIDE_MULTIPLE} pixels")


@dataclass(frozen=True)
class CodecSettings:
    """Settings of mini's own codec. size: side of the square clips in pixels. noise: standard deviation of the noise
    added to the latents. start: edition whose codec is extended to `channels`, or None. steps: 0 leaves the refiner."""

    seed: int = setting(least=0, most=2**40)
    size: int = setting(least=16, most=1024)
    batch: int = setting(least=1, most=MAX_BATCH)
    steps: int = setting(least=0, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    noise: float = setting(least=0, most=10)
    channels: int = setting(24, 1, 768)
    start: str | None = setting(None)
    train: str = setting("codec", choices=("codec",))

    def __post_init__(self) -> None:
        if self.size % 8:
            raise InputError(f"'size': {self.size} is not a multiple of 8 pixels")


@dataclass(frozen=True)
class VaeSettings:
    """Settings of a small Wan-type VAE.

    geometry: arguments of diffusers' AutoencoderKLWan.
    size: side in pixels of the square clips. crop: side of the square that is cut from each clip, `frames` long.
    noise: noise added to the latents, relative to their deviation. kl: weight of the KL divergence of the posterior.
    """

    geometry: dict[str, Any] = setting()
    seed: int = setting(least=0, most=2**40)
    size: int = setting(least=16, most=1024)
    crop: int = setting(least=8, most=1024)
    frames: int = setting(least=1, most=1000)
    batch: int = setting(least=1, most=MAX_BATCH)
    workers: int = setting(least=0, most=256)
    steps: int = setting(least=1, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    ema: float = setting(least=0, most=0.999999)
    noise: float = setting(least=0, most=10)
    kl: float = setting(least=0, most=10)
    log_every: int = setting(least=1, most=MAX_STEPS)
    save_every: int = setting(least=1, most=MAX_STEPS)
    device: str | None = setting(None, choices=DEVICES)
    train: str = setting("vae", choices=("vae",))

    def __post_init__(self) -> None:
        if self.crop % 8 or self.crop > self.size or self.frames % 4 != 1 or not 5 <= self.frames <= 49:
            raise InputError(
                f"'crop' of {self.crop} and 'frames' of {self.frames}: crop must be a "
                f"multiple of 8 within size {self.size}, frames 4k + 1 from 5 to 49"
            )


@dataclass(frozen=True)
class ObjectsSettings:
    """Of the field of objects. text: an edition, whose text encoder tells the words. points: of each kind, in a step;
    prompts: that teach the words, in all."""

    text: str = setting()
    seed: int = setting(least=0, most=2**40)
    steps: int = setting(least=1, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    points: int = setting(least=2, most=1_000_000)
    prompts: int = setting(least=1, most=1_000_000)
    save_every: int = setting(least=1, most=MAX_STEPS)
    train: str = setting("objects", choices=("objects",))


@dataclass(frozen=True)
class ScenesSettings:
    """Of the head that reads backgrounds. text: an edition, whose text encoder reads the words; prompts: in all."""

    text: str = setting()
    seed: int = setting(least=0, most=2**40)
    steps: int = setting(least=1, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    prompts: int = setting(least=1, most=1_000_000)
    save_every: int = setting(least=1, most=MAX_STEPS)
    train: str = setting("scenes", choices=("scenes",))


def read_transformer(config: Mapping[str, Any]) -> TransformerSettings:
    """Read the settings and check that the folders they name exist. Raises InputError."""
    settings = read_settings(TransformerSettings, config)
    for name in ("codec", "start", "rendered"):
        path = getattr(settings, name)
        if path is not None and not Path(path).is_dir():
            raise InputError(f"{name!r}: {path} is not a folder")
    return settings
