"""Save a Vera in diffusers' layout, so that other tools can read its parts and its shards.

model_index.json   library and class of each part
model.json         Limits
transformer/       config.json, diffusion_pytorch_model*.safetensors, and an index if there are several
vae/ text_encoder/ tokenizer/   as diffusers and transformers save them
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import rmtree

import torch

from vera.core.errors import InputError
from vera.core.model.codec import WanCodec
from vera.core.model.config import TransformerConfig
from vera.core.model.interfaces import Model
from vera.core.model.tensors import save_tensors
from vera.core.model.text import WanText

SHARD_BYTES = 5 * 10**9  # largest size of a file; raising it makes fewer files and takes more memory
STEM = "diffusion_pytorch_model"
# Part of a model -> (library, class), the contents of model_index.json.
CLASSES = {
    "transformer": ("vera.core.model.transformer", "Transformer"),
    "vae": ("diffusers", "AutoencoderKLWan"),
    "text_encoder": ("transformers", "UMT5EncoderModel"),
    "tokenizer": ("transformers", "AutoTokenizer"),
}


def save_model(model: Model, target: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write a full-size Model (see load.py) as a new directory, bit for bit and in its own types.

    Adapters must be merged before (lora.py), and weights must not be quantised. Raises InputError.
    """
    state = model.transformer.state_dict()
    if not isinstance(model.codec, WanCodec) or not isinstance(model.text, WanText):
        raise InputError(f"{target}: only a full-size model that is not offloaded can be saved")
    if any(".base_layer." in name or type(value) is not torch.Tensor for name, value in state.items()):
        raise InputError(
            f"{target}: adapted or quantised weights are not saved; merge adapters, load with --weights bf16"
        )
    with new_directory(target) as work:
        write_transformer(work / "transformer", model.transformer.config, state, state.get, shard_bytes)
        model.codec.vae.save_pretrained(work / "vae", max_shard_size=shard_bytes)
        model.text.encoder.save_pretrained(work / "text_encoder", max_shard_size=shard_bytes)
        model.text.tokenizer.save_pretrained(work / "tokenizer")
        model.limits.save(work / "model.json")
        write_index(work)


def write_transformer(
    folder: Path,
    config: TransformerConfig,
    tensors: Mapping[str, torch.Tensor],
    get: Callable[[str], torch.Tensor],
    shard_bytes: int,
) -> None:
    """Write config.json and shards, see write_shards."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {"_class_name": "Transformer", **asdict(config)}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    write_shards(folder, tensors, get, shard_bytes, STEM)


def write_shards(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    get: Callable[[str], torch.Tensor],
    shard_bytes: int,
    stem: str,
) -> None:
    """Write shards of at most shard_bytes (a larger tensor has its own), and an index if there are several.

    tensors: only names, shapes and types are used, so they may be on the meta device
    get: returns a tensor by name, when its shard is written
    The memory needed is one shard.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    layout = split_torch_state_dict_into_shards(
        {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()},
        filename_pattern=stem + "{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )
    for file, names in layout.filename_to_tensors.items():
        # Copies, because safetensors refuses tensors that share a storage, as those of the branches may.
        shard = {name: get(name).to("cpu", tensors[name].dtype, copy=True).contiguous() for name in names}
        save_tensors(folder / file, shard, {"format": "pt"})
        del shard
    if layout.is_sharded:
        index = {"metadata": layout.metadata, "weight_map": layout.tensor_to_filename}
        path = folder / f"{stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def write_index(root: Path) -> None:
    """Write model_index.json with the parts that exist."""
    parts = {part: list(names) for part, names in CLASSES.items() if (root / part).is_dir()}
    text = json.dumps({"_class_name": "Vera", **parts}, indent=2)
    (root / "model_index.json").write_text(text + "\n", encoding="utf-8")


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """A directory to fill that gets its final name when it is complete. Raises InputError if the name is taken."""
    target = Path(target)
    if target.exists():
        raise InputError(f"{target}: exists already; name a new directory")
    work = target.with_name(target.name + ".partial")
    if work.exists():
        raise InputError(f"{work}: left by an interrupted run; remove it")
    try:
        work.mkdir(parents=True)
        yield work
        work.rename(target)
    except BaseException:
        rmtree(work, ignore_errors=True)
        raise
