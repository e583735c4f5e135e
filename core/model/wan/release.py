"""Convert codec, text encoder and tokenizer of Wan2.1's original release to the layouts of diffusers and transformers.

    Wan2.1_VAE.pth    models_t5_umt5-xxl-enc-bf16.pth    google/umt5-xxl/

The two files are pickles. torch reads them with weights_only, which creates tensors but runs none of the files' code,
and maps them, so that one shard of memory is enough. Safetensors files of the same names are accepted too.
"""

import json
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.quantise import without_library_logging
from vera.core.model.save import write_shards
from vera.core.model.tensors import TensorFiles, check_shapes

if TYPE_CHECKING:
    from transformers import UMT5Config

VAE, TEXT, TOKENIZER = "Wan2.1_VAE", "models_t5_umt5-xxl-enc-bf16", "google/umt5-xxl"

# (the release's, transformers' UMT5); {} is the block's number, `.weight` follows.
TEXT_NAMES = (
    ("token_embedding", "shared"),
    ("blocks.{}.norm1", "encoder.block.{}.layer.0.layer_norm"),
    ("blocks.{}.attn.q", "encoder.block.{}.layer.0.SelfAttention.q"),
    ("blocks.{}.attn.k", "encoder.block.{}.layer.0.SelfAttention.k"),
    ("blocks.{}.attn.v", "encoder.block.{}.layer.0.SelfAttention.v"),
    ("blocks.{}.attn.o", "encoder.block.{}.layer.0.SelfAttention.o"),
    ("blocks.{}.pos_embedding.embedding", "encoder.block.{}.layer.0.SelfAttention.relative_attention_bias"),
    ("blocks.{}.norm2", "encoder.block.{}.layer.1.layer_norm"),
    ("blocks.{}.ffn.gate.0", "encoder.block.{}.layer.1.DenseReluDense.wi_0"),
    ("blocks.{}.ffn.fc1", "encoder.block.{}.layer.1.DenseReluDense.wi_1"),
    ("blocks.{}.ffn.fc2", "encoder.block.{}.layer.1.DenseReluDense.wo"),
    ("norm", "encoder.final_layer_norm"),
)


def parts_of_release(source: Path, shard_bytes: int) -> dict:
    """The parts of an original release's folder, each with a function that writes it into a given folder.

    Raises InputError for unreadable or misfit files, before anything is written.
    """
    parts: dict[str, Callable[[Path], object]] = {}
    if file := file_of(source, VAE):
        parts["vae"] = codec_writer(file)
    if file := file_of(source, TEXT):
        parts["text_encoder"] = text_writer(file, shard_bytes)
    if (source / TOKENIZER).is_dir():
        parts["tokenizer"] = lambda folder: shutil.copytree(source / TOKENIZER, folder)
    return parts


def file_of(source: Path, stem: str) -> Path | None:
    return next(
        (source / f"{stem}{end}" for end in (".safetensors", ".pth") if (source / f"{stem}{end}").is_file()), None
    )


def tensors_of(file: Path) -> Mapping[str, torch.Tensor]:
    """The tensors of a file, mapped into memory. Raises InputError."""
    if file.suffix == ".safetensors":
        files = TensorFiles(file)
        return {name: files.get(name) for name in files.shapes}
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if all(isinstance(value, torch.Tensor) for value in state.values()):
            return state
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, AttributeError, ValueError) as error:
        raise InputError(f"{file}: not read as plain weights ({' '.join(str(error).split())[:150]})") from None
    raise InputError(f"{file}: holds more than tensors; supply the file of Wan's release")


def codec_writer(file: Path) -> Callable[[Path], None]:
    """A function that writes the release's VAE into a folder in diffusers' layout. Raises InputError."""
    require(str(file), "diffusers")
    with without_library_logging():
        from diffusers import AutoencoderKLWan
        from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers

    state = convert_wan_vae_to_diffusers(dict(tensors_of(file)))
    with torch.device("meta"):
        vae = AutoencoderKLWan()
    check_shapes(shapes(state), shapes(vae.state_dict()), file)

    def write(folder: Path) -> None:
        vae.load_state_dict(state, assign=True)
        vae.save_pretrained(folder)

    return write


def text_writer(file: Path, shard_bytes: int) -> Callable[[Path], None]:
    """A function that writes the release's text encoder into a folder in transformers' layout, in shards."""
    require(str(file), "transformers")
    from transformers import UMT5EncoderModel

    stored = tensors_of(file)
    state = {text_name(name) or name: tensor for name, tensor in stored.items()}
    config = text_config(shapes(stored), file)
    with torch.device("meta"):
        needed = UMT5EncoderModel(config).state_dict()
    needed.pop("encoder.embed_tokens.weight", None)  # the same as shared.weight
    check_shapes(shapes(state), shapes(needed), file)

    def write(folder: Path) -> None:
        folder.mkdir()
        kind = str(state["shared.weight"].dtype).removeprefix("torch.")
        values = config.to_diff_dict() | {"architectures": ["UMT5EncoderModel"], "dtype": kind}
        (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        write_shards(folder, state, state.get, shard_bytes, "model")

    return write


def text_name(name: str) -> str | None:
    """transformers' name of a tensor of the release; None if it does not belong to UMT5."""
    match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.*?)(?:\.weight)?", name, re.DOTALL)
    assert match is not None  # every text fits
    block, stem = match.groups()
    new = dict(TEXT_NAMES).get(stem if block is None else "blocks.{}." + stem)
    return new and new.format(block) + ".weight"


def text_config(shapes: Mapping[str, tuple], file: Path) -> "UMT5Config":
    """UMT5's configuration, from the tensors' shapes. Raises InputError."""
    from transformers import UMT5Config

    names = ("token_embedding", "blocks.0.attn.q", "blocks.0.ffn.fc1", "blocks.0.pos_embedding.embedding")
    absent = [f"{n}.weight" for n in names if len(shapes.get(f"{n}.weight", ())) != 2]
    if absent:
        raise InputError(f"{file}: not UMT5 of Wan's release; missing: {absent[0]}")
    (words, width), (inner, _), (ffn, _), (buckets, heads) = (shapes[f"{n}.weight"] for n in names)
    return UMT5Config(
        vocab_size=words,
        d_model=width,
        d_kv=inner // heads,
        d_ff=ffn,
        num_heads=heads,
        num_layers=1 + max(int(n.split(".")[1]) for n in shapes if n.startswith("blocks.")),
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
    )


def shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """The tensors' shapes by name."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
