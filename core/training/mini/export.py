"""An edition of mini from a training run: `vera model export RUN --to DIR`."""

from pathlib import Path

from vera.core.data.engine.phrases import vocabulary
from vera.core.errors import InputError
from vera.core.model.limits import Limits
from vera.core.model.mini.edition import save_mini
from vera.core.model.mini.mini_config import MINI, MiniConfig
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.save import new_directory
from vera.core.training.mini.transformer import load_codec
from vera.core.training.state import STATE, read_state

# How an edition is sampled unless the user says otherwise, measured in core/weights/mini/README.md.
LIMITS = Limits(max_frames=49, pixels=144 * 80, multiple=16, steps=5, guidance=1.0, shift=6.0, step_width=4.5)


def export(run: Path, target: Path, codec_from: Path | None = None) -> int:
    """Write the averaged weights of a run as a new folder; returns its step. Raises InputError, and writes nothing
    then."""
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; name a run's, such as runs/mini")
    if target.exists():
        raise InputError(f"{target}: exists already; name a new folder")
    if not (run / STATE).is_file():
        raise InputError(f"{run / STATE}: missing; the run has not saved yet, or is none of mini's transformer")
    tensors, step, about = read_state(run / STATE)
    if not any(name.startswith("ema_transformer/") for name in tensors):
        raise InputError(f"{run / STATE}: not a run of mini's transformer; runs of codecs are named with --codec")
    codec = load_codec(codec_from or run)
    geometry = about.get("geometry")
    config = MiniConfig(**geometry) if geometry else MiniConfig(**vars(MINI) | {"latent_channels": codec.channels})
    transformer = MiniTransformer(config)
    text = MiniText(about.get("words") or vocabulary(), config.text_dim)
    if codec.channels != config.latent_channels:
        raise InputError(
            f"{codec_from or run}: a codec of {codec.channels} channels, the run's has {config.latent_channels}"
        )
    for name, module in (("transformer", transformer), ("text", text)):
        prefix = f"ema_{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(f"{run / STATE}: of another geometry ({' '.join(str(error).split())[:200]})") from None
    with new_directory(target) as work:
        save_mini(work, transformer, text, codec, LIMITS)
    return step
