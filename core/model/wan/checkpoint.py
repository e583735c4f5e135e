"""Make a Vera model directory from Wan2.1 text-to-video weights.

    vera model from-wan SOURCE TARGET      (SOURCE may also be a Vera model, to change types or merge LoRAs)

Every Vera parameter starts from one Wan tensor, the same for all three branches, or from zeros if Wan has none;
parameter_names.py has the names.
"""

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from vera.core.errors import InputError
from vera.core.model.config import TransformerConfig
from vera.core.model.lora import Loras
from vera.core.model.save import SHARD_BYTES, new_directory, write_index, write_transformer
from vera.core.model.tensors import PICKLES, TensorFiles, check_shapes, weight_files
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.parameter_names import ONLY_T2V, PREFIXES, checkpoint_name, detect_layout, is_vera, wan_name
from vera.core.model.wan.release import TEXT, VAE, parts_of_release

COPIED = ("vae", "text_encoder", "tokenizer")


@cache
def parameter_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a Vera's parameters, without allocating any."""
    with torch.device("meta"):
        return {name: tuple(p.shape) for name, p in Transformer(config).state_dict().items()}


def config_from_wan(shapes: Mapping[str, tuple], heads: int | None = None, **switches: Any) -> TransformerConfig:
    """The geometry of a Wan checkpoint in either layout, from its tensors' shapes.

    heads: by default dim // 128, because shapes do not determine it
    switches: further fields of TransformerConfig: eps, share_embedders, alpha_text, mask_input
    """
    layout = detect_layout(shapes)

    def shape(name, axes):
        own = checkpoint_name(name, layout)
        if own not in shapes or len(shapes[own]) != axes:
            raise InputError(f"tensors do not fit the model; missing or misshapen: {own}" + ONLY_T2V)
        return tuple(shapes[own])

    dim, channels, *patch = shape("patch_embedding.weight", 5)
    if shape("proj_out.weight", 2)[0] != channels * math.prod(patch):
        raise InputError(f"the checkpoint takes {channels} latent channels but does not return as many" + ONLY_T2V)
    return TransformerConfig(
        dim=dim,
        heads=heads or max(dim // 128, 1),
        layers=1 + max(int(n.split(".")[1]) for n in shapes if re.match(r"blocks\.\d+\.", n)),
        ffn_dim=shape("blocks.0.ffn.net.0.proj.weight", 2)[0],
        text_dim=shape("condition_embedder.text_embedder.linear_1.weight", 2)[1],
        freq_dim=shape("condition_embedder.time_embedder.linear_1.weight", 2)[1],
        latent_channels=channels,
        patch=tuple(patch),
        **switches,
    )


def vera_sources(
    shapes: Mapping[str, tuple], config: TransformerConfig, where: Path | str = "checkpoint"
) -> dict[str, str | None]:
    """For each Vera parameter the checkpoint's tensor it starts from; None if it starts from zeros.

    Raises InputError with their names for missing, surplus and misshapen tensors.
    """
    layout = detect_layout(shapes)
    needed = parameter_shapes(config)
    sources = {name: wan_name(name) for name in needed}
    sources = {name: source and checkpoint_name(source, layout) for name, source in sources.items()}
    expected = {source: needed[name] for name, source in sources.items() if source}
    check_shapes(shapes, expected, where, ONLY_T2V)
    return sources


def vera_state_dict(wan: Mapping[str, torch.Tensor], config: TransformerConfig) -> dict[str, torch.Tensor]:
    """Wan's weights, either layout, under Vera's names; new parameters are zeros.

    The three branches share each tensor, so this costs no memory. `load_state_dict` makes separate copies (not with
    assign=True, which would tie them).
    """
    sources = vera_sources({name: tensor.shape for name, tensor in wan.items()}, config)
    shapes = parameter_shapes(config)
    return {name: wan[source] if source else torch.zeros(shapes[name]) for name, source in sources.items()}


@dataclass(frozen=True)
class BranchOptions:
    """Options of `branch_wan`.

    dtype: of the weights; None keeps their types. Parameters that the transformer computes in fp32 stay fp32.
    shard_bytes: largest size of a file of weights. Raising it makes fewer files, and takes more memory.
    loras: (path, strength) each, merged into the weights
    skip_missing: leave out LoRA tensors that match nothing; `warn` gets a message about them
    switches: share_embedders, alpha_text, mask_input, if the source is a Wan
    """

    dtype: torch.dtype | None = None
    shard_bytes: int = SHARD_BYTES
    loras: Sequence[tuple[str, float]] = ()
    skip_missing: bool = False
    warn: Callable[[str], object] = lambda line: None
    switches: Mapping[str, Any] = field(default_factory=dict)


def branch_wan(source: Path | str, target: Path | str, options: BranchOptions = BranchOptions()) -> list[str]:
    """Make a Vera directory from Wan2.1 T2V, or rewrite a Vera's; return the parts that `source` did not have.

    source: one of a diffusers directory (`transformer/`, `vae/`, `text_encoder/`, `tokenizer/`), a folder of the
        original release (release.py), safetensors of the transformer alone in either layout, or a Vera directory.
        Prefixes of other tools on all names of a file are removed.
    target: must not exist
    The directory is written shard by shard beside target and renamed when it is complete. The memory needed is one
    shard read and one shard written. Raises InputError.
    """
    source, target = Path(source), Path(target)
    if (source / "transformer_2").exists():
        raise InputError(f"{source}: two transformers, as in Wan2.2" + ONLY_T2V)
    folder = source / "transformer" if (source / "transformer").is_dir() else source
    files = TensorFiles(folder, excluded=(VAE, TEXT))
    files.drop_prefix(PREFIXES)
    config, sources = _geometry(source, folder, files.shapes, options.switches)
    shapes = parameter_shapes(config)
    changes = Loras(options.loras, shapes, options.skip_missing)
    for note in changes.notes:
        options.warn(note)
    present = _parts(source, options.shard_bytes)
    type_of_zeros = next(iter(files.types.values()))

    def type_of(name: str) -> torch.dtype:
        if options.dtype is None:
            origin = sources[name]
            return files.types[origin] if origin else type_of_zeros
        return torch.float32 if kept_in_float32(name) else options.dtype

    def initial_value(name: str) -> torch.Tensor:
        origin = sources[name]
        return changes.changed(name, files.get(origin) if origin else torch.zeros(shapes[name]))

    with new_directory(target) as work:
        tensors = {name: torch.empty(shape, dtype=type_of(name), device="meta") for name, shape in shapes.items()}
        write_transformer(work / "transformer", config, tensors, initial_value, options.shard_bytes)
        for part, write in present.items():
            write(work / part)
        if (source / "model.json").is_file():
            shutil.copy(source / "model.json", work)
        write_index(work)
    return [part for part in COPIED if part not in present]


def _geometry(
    source: Path, folder: Path, shapes: Mapping[str, tuple[int, ...]], switches: Mapping[str, Any]
) -> tuple[TransformerConfig, dict[str, str | None]]:
    """The Vera's geometry, and for each of its parameters the source's tensor, see `vera_sources`. Raises InputError.

    folder: of the transformer's files, with tensors of these shapes
    """
    if not is_vera(shapes):
        config = config_from_wan(shapes, **_heads_and_eps(folder), **switches)
        return config, vera_sources(shapes, config, folder)
    config = TransformerConfig.load(folder / "config.json")
    if replace(config, **switches) != config:
        raise InputError(f"{source}: already a Vera model; options that change its geometry are for a Wan source")
    check_shapes(shapes, parameter_shapes(config), folder)
    return config, {name: name for name in shapes}


def _parts(source: Path, shard_bytes: int) -> dict[str, Callable[[Path], Any]]:
    """For each part of the source but the transformer, a function that writes it into a folder. Raises InputError."""
    present = {part: _part_copier(source / part) for part in COPIED if (source / part).is_dir()}
    return parts_of_release(source, shard_bytes) | present if source.is_dir() else present


def _part_copier(folder: Path) -> Callable[[Path], Any]:
    """A function that copies a part into another folder. Raises InputError for one without safetensors."""
    if folder.name != "tokenizer":
        weight_files(folder)
    return lambda target: shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*("*" + p for p in PICKLES)))


def _heads_and_eps(folder: Path) -> dict[str, Any]:
    """Heads and eps of the checkpoint's config.json, if it has one; shapes do not determine them."""
    path = folder / "config.json"
    if not path.is_file():
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        heads = raw.get("num_attention_heads", raw.get("num_heads"))
        return {"heads": None if heads is None else int(heads), "eps": float(raw.get("eps", 1e-6))}
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a Wan configuration ({error})") from None
