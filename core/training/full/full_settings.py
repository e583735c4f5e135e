"""The settings of a full-size training run. docs/training.md says which values are published, and which are ours."""

from dataclasses import dataclass, replace
from typing import Any

from vera.core.errors import InputError
from vera.core.model.config import BRANCHES
from vera.core.training.configuration import read_settings, setting


@dataclass(frozen=True)
class Settings:
    """The settings of a full-size run.

    train: "vera"
    model: model directory to start from
    data: folder of the dataset
    cache: folder of the latent cache; None puts it into the run's folder
    frames: only rows with this number of frames are used
    steps, batch: number of steps, and rows per step
    rate, warmup, decay: learning rate, and the steps over which it rises and the share of steps over which it falls
    betas, weight_decay, clip: of AdamW, and the largest norm of the gradient
    ema: decay of the weights' average, which is evaluated and exported; 0 keeps no average
    ema_on: memory that holds the average
    shift: of the noise levels
    weights: loss weights of the branches edit, alpha, composite
    mask_drop, text_drop: probability that the mask or the instruction is dropped
    lora: {"rank", "alpha", "branches"}, or None to train all weights
    base: type of the frozen weights of a LoRA run
    swap: a LoRA run keeps the blocks' frozen weights in host memory
    bf16: compute in bf16
    recompute: see RecomputingRunner
    compile: compile the blocks with torch.compile
    attention: "window" trains weights that are rendered with `--attention window`
    context: number of ranks that share a clip
    workers: processes that read rows
    held_out: number of rows kept for evaluation
    evaluate_every, save_every: steps between evaluations, and between saved states
    samples: held-out rows that are sampled as movies after each evaluation; 0 samples none
    """

    train: str
    model: str
    data: str
    cache: str | None = None
    frames: int = setting(49, least=1)
    steps: int = setting(8000, least=1)
    batch: int = setting(16, least=0)
    rate: float = setting(2e-5, least=0)
    warmup: int = setting(200, least=0)
    decay: float = setting(0.0, least=0)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = setting(0.01, least=0)
    clip: float = setting(1.0, least=0)
    ema: float = setting(0.999, least=0)
    ema_on: str = setting("gpu", choices=("gpu", "host"))
    shift: float = setting(3.0, least=0)
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mask_drop: float = setting(0.5, least=0)
    text_drop: float = setting(0.1, least=0)
    lora: dict[str, Any] | None = None
    base: str = setting("bf16", choices=("fp32", "bf16", "int8"))
    swap: bool = False
    bf16: bool = True
    recompute: bool | str = setting(True, choices=(True, False, "but attention"))
    compile: bool = False
    attention: str = setting("dense", choices=("dense", "window"))
    context: int = setting(1, least=0)
    workers: int = setting(4, least=0)
    held_out: int = setting(32, least=0)
    evaluate_every: int = setting(500, least=1)
    samples: int = setting(2, least=0)
    save_every: int = setting(250, least=1)
    seed: int = setting(0, least=0)

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Settings":
        """Read a configuration. Raises InputError for a missing, unknown or wrong setting."""
        settings = read_settings(cls, config)
        if settings.swap and not settings.lora:
            raise InputError("'swap': only weights that are not trained can be in host memory; give 'lora' too")
        if settings.swap and settings.base == "fp32" and settings.bf16:
            raise InputError(
                '\'base\': weights in host memory are stored in the type they compute in; give "bf16" or "int8"'
            )
        if settings.attention == "window" and settings.recompute == "but attention":
            # The choice of what to keep would run flex_attention uncompiled, with all scores in memory.
            raise InputError("'recompute': \"but attention\" goes with 'attention' \"dense\" only; give true or false")
        if sum(settings.weights) <= 0:
            raise InputError(f"'weights': {list(settings.weights)} of {', '.join(BRANCHES)} have no sum above 0")
        if not settings.lora or (settings.base == "bf16" and not settings.bf16):
            return replace(settings, base="fp32")  # no frozen weights, or no computation in bf16
        return settings

    def check_ranks(self, ranks: int) -> None:
        """Raise InputError if this number of ranks cannot share the batch and the clips evenly."""
        groups, rest = divmod(ranks, max(self.context, 1))
        if rest or self.context < 1:
            raise InputError(f"'context': {ranks} ranks are not groups of {self.context}")
        if self.batch < 1 or self.batch % groups:
            raise InputError(f"'batch': {self.batch} rows cannot be shared evenly by {groups} groups of ranks")
