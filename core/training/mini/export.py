"""Write an edition of mini from a training run: `vera model export RUN --to DIR`."""

import shutil
from pathlib import Path

from vera.core.data.engine.instructions import vocabulary
from vera.core.errors import InputError
from vera.core.model.limits import Limits
from vera.core.model.mini.edition import files_of, save_mini, save_objects, save_scenes
from vera.core.model.mini.edition_files import CONFIG
from vera.core.model.mini.edition_files import LIMITS as LIMITS_FILE
from vera.core.model.mini.mini_config import MINI, MiniConfig
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.object_field import ObjectField
from vera.core.model.mini.scene_reader import SceneReader
from vera.core.model.names import EMBEDDED
from vera.core.model.save import new_directory
from vera.core.training.mini.transformer_training import load_codec
from vera.core.training.state import STATE, read_state

# Default sampling of an edition; core/weights/mini/README.md has the measurements.
LIMITS = Limits(max_frames=49, pixels=144 * 80, multiple=16, steps=5, guidance=1.0, shift=6.0, step_width=4.5)


def export(run: Path, target: Path, codec_from: Path | None = None, edition: Path | None = None) -> int:
    """Write the averaged weights of a run as a new folder; return the run's step.

    codec_from: run whose codec is used instead of the run's own. A run of objects or of scenes writes a copy of
    `edition` (default: the embedded one) with what was trained. Raises InputError before anything is written.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such folder; give the folder of a run, such as runs/mini")
    if target.exists():
        raise InputError(f"{target}: exists already; give a new folder")
    if not (run / STATE).is_file():
        raise InputError(f"{run / STATE}: missing; the run has not saved yet, or does not train mini's transformer")
    tensors, step, metadata = read_state(run / STATE)
    for part in PARTS:
        if any(name.startswith(part) for name in tensors):
            return _export_part(run, target, edition or EMBEDDED, part)
    if not any(name.startswith("ema_transformer/") for name in tensors):
        raise InputError(f"{run / STATE}: not a run of mini's transformer; give a codec's run with --codec")
    codec = load_codec(codec_from or run)
    geometry = metadata.get("geometry")
    config = MiniConfig(**geometry) if geometry else MiniConfig(**vars(MINI) | {"latent_channels": codec.channels})
    transformer = MiniTransformer(config)
    text = MiniText(metadata.get("words") or vocabulary(), config.text_dim)
    if codec.channels != config.latent_channels:
        raise InputError(
            f"{codec_from or run}: the codec has {codec.channels} channels, the run's codec {config.latent_channels}"
        )
    for name, module in (("transformer", transformer), ("text", text)):
        prefix = f"ema_{name}/"
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise InputError(
                f"{run / STATE}: its geometry does not fit ({' '.join(str(error).split())[:200]})"
            ) from None
    with new_directory(target) as work:
        save_mini(work, transformer, text, codec, LIMITS)
    return step


# Parts of an edition that are trained beside its transformer, by the prefix of their tensors in a run's state.
PARTS = {"field/": (ObjectField, save_objects), "scenes/": (SceneReader, save_scenes)}


def _export_part(run: Path, target: Path, edition: Path, part: str) -> int:
    tensors, step, _ = read_state(run / STATE)
    make, save = PARTS[part]
    module = make(MiniConfig.load(edition / CONFIG).text_dim)
    try:
        module.load_state_dict({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
    except RuntimeError as error:
        raise InputError(f"{run / STATE}: of another geometry ({' '.join(str(error).split())[:200]})") from None
    with new_directory(target) as work:
        for name in (*files_of(edition), LIMITS_FILE):
            shutil.copyfile(edition / name, work / name)
        save(work, module)
    return step
