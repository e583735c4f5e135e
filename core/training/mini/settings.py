"""What a configuration of mini's training may say; docs/training.md tells what the values do. Without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vera.core.errors import InputError
from vera.core.training.settings import read_settings, setting

MAX_STEPS = 10_000_000
MAX_BATCH = 4096
LATENT_FRAMES = 13  # of a whole clip, 49 frames
SIDE_MULTIPLE = 16  # pixels: two cells of the codec
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Geometry:
    """Of mini's transformer, where it is another than mini's own."""

    dim: int | None = setting(None, 8, 2048)
    heads: int | None = setting(None, 1, 64)
    layers: int | None = setting(None, 1, 64)
    ffn_dim: int | None = setting(None, 8, 8192)
    text_dim: int | None = setting(None, 8, 2048)
    freq_dim: int | None = setting(None, 8, 2048)
    latent_std: float | None = setting(None, 0.01, 10)


@dataclass(frozen=True)
class Stage:
    """Steps of one kind, up to step `until`.

    batch: clips a round. latents: latent frames made of each clip; keep: of these, in a step. repeats: steps a round.
    only "drawing" trains nothing else. objects: share of clips that add an object. rendered: share of rounds of
    rendered clips. shapes: (height, width) in pixels, of which a round draws one.
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
    """Of the transformer and the text encoder.

    codec: a run of a codec, or an edition. start: an edition to go on from, or None. rendered: a folder of rendered
    clips. processes share a batch on a CPU; workers make the clips. device None is CUDA where there is one.
    text_drop, mask_keep: how often the instruction is withheld, and the mask is shown.
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
                f"'stages': they end at steps {untils}; to rise, and the last one to reach 'steps', {self.steps}"
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
    """Of mini's own codec: size in pixels of the square clips, noise added to the latents."""

    seed: int = setting(least=0, most=2**40)
    size: int = setting(least=16, most=1024)
    batch: int = setting(least=1, most=MAX_BATCH)
    steps: int = setting(least=1, most=MAX_STEPS)
    rate: float = setting(least=1e-9, most=1)
    noise: float = setting(least=0, most=10)
    train: str = setting("codec", choices=("codec",))

    def __post_init__(self) -> None:
        if self.size % 8:
            raise InputError(f"'size': {self.size} is not a multiple of 8 pixels")


@dataclass(frozen=True)
class VaeSettings:
    """Of a small Wan-type VAE.

    geometry: arguments of diffusers' AutoencoderKLWan. size: pixels of the square clips, of which squares of `crop` are
    cut, `frames` long. noise: added to the latents; kl: weight of the posterior's distance from a normal distribution.
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
                f"'crop' of {self.crop} and 'frames' of {self.frames}: crop is to be a "
                f"multiple of 8 within size {self.size}, "
                "frames 4k + 1 up to 49"
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


def read_transformer(config: Mapping[str, Any]) -> TransformerSettings:
    """Raises InputError, also where a folder that is named is not there."""
    settings = read_settings(TransformerSettings, config)
    for name in ("codec", "start", "rendered"):
        path = getattr(settings, name)
        if path is not None and not Path(path).is_dir():
            raise InputError(f"{name!r}: {path} is not a folder")
    return settings
