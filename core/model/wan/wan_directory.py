"""Full-size Veras: directories as save.py and `vera model from-wan` write them.

    transformer/config.json     TransformerConfig
    transformer/*.safetensors   any number of shards, with their index
    vae/ text_encoder/ tokenizer/   as in diffusers' Wan2.1 directories
    model.json                  optional: the fields of Limits

Everything is checked from headers before any weight is read. diffusers and transformers are slow to import and are
needed for such directories only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.codec import WanCodec
from vera.core.model.config import TransformerConfig
from vera.core.model.fingerprint import fingerprint
from vera.core.model.interfaces import LoadOptions, Model
from vera.core.model.limits import Limits
from vera.core.model.lora import Loras, adapted_fingerprint
from vera.core.model.offload import offloaded
from vera.core.model.quantise import KINDS, linear_quantiser, without_library_logging
from vera.core.model.tensors import TensorFiles, check_shapes, load_weights, read_json, shapes_of
from vera.core.model.text import WanText
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.checkpoint import parameter_shapes

PARTS = ("transformer", "vae", "text_encoder", "tokenizer")
# Parts in host memory for each value of `offload`.
OFFLOADED_PARTS = {"none": (), "parts": ("vae", "text_encoder"), "blocks": ("transformer", "vae", "text_encoder")}


@dataclass(frozen=True)
class WanParts:
    """A model directory's parts before any weight is read; vae and encoder are on the meta device."""

    config: TransformerConfig
    limits: Limits
    vae: Any  # diffusers' AutoencoderKLWan
    encoder: Any  # transformers' UMT5EncoderModel


def read_parts(root: Path) -> WanParts:
    """A Vera directory's configurations. Raises InputError."""
    require(f"model '{root}'", "diffusers", "transformers")
    with without_library_logging():
        from diffusers import AutoencoderKLWan
        from transformers import UMT5Config, UMT5EncoderModel

    for part in PARTS:
        if not (root / part).is_dir():
            raise InputError(f"{root / part}: missing; a model directory holds {', '.join(PARTS)}")
    limits = Limits.load(root / "model.json")
    config = TransformerConfig.load(root / "transformer" / "config.json")
    vae = build_on_meta(AutoencoderKLWan.from_config, root / "vae")
    encoder = build_on_meta(lambda raw: UMT5EncoderModel(UMT5Config.from_dict(raw)), root / "text_encoder")
    if config.latent_channels != vae.config.z_dim:
        raise InputError(f"{root}: transformer of {config.latent_channels} latent channels, vae of {vae.config.z_dim}")
    if config.text_dim != encoder.config.d_model:
        raise InputError(f"{root}: transformer for text of width {config.text_dim}, encoder {encoder.config.d_model}")
    return WanParts(config, limits, vae, encoder)


def load_directory(root: Path, name: str, options: LoadOptions) -> Model:
    """Load a Vera directory onto a device. Raises InputError before any weight is read."""
    parts = read_parts(root)
    tokenizer = load_tokenizer(root / "tokenizer")
    in_host_memory = OFFLOADED_PARTS[options.offload]
    files = {
        part: TensorFiles(root / part, "cpu" if part in in_host_memory else options.device)
        for part in PARTS
        if part != "tokenizer"
    }
    shapes = parameter_shapes(parts.config)
    check_shapes(files["transformer"].shapes, shapes, root / "transformer")
    check_shapes(files["vae"].shapes, shapes_of(parts.vae), root / "vae")
    tie_embedding(files["text_encoder"])
    check_shapes(files["text_encoder"].shapes, shapes_of(parts.encoder), root / "text_encoder")
    loras = Loras(options.loras, shapes, options.skip_missing)
    quantise_linear = linear_quantiser(options.weights) if options.weights in KINDS else None

    with torch.device("meta"):
        transformer = Transformer(parts.config)
    dtype = options.dtype if options.weights == "auto" else torch.bfloat16
    change = loras.changed if options.loras else None
    load_weights(transformer, files["transformer"], dtype, kept_in_float32, change, quantise_linear)
    load_weights(parts.vae, files["vae"], torch.float32)
    load_weights(parts.encoder, files["text_encoder"], dtype)
    parts.encoder.tie_weights()
    model = Model(
        name,
        transformer,
        WanCodec(parts.vae),
        WanText(tokenizer, parts.encoder),
        adapted_fingerprint(fingerprint(root, PARTS), loras),
        parts.limits,
        loras.notes,
    )
    return offloaded(model, parts.encoder, options.offload, options.device)


def build_on_meta(build: Callable[[dict[str, Any]], nn.Module], folder: Path) -> Any:
    """Build a module from its config.json, without weights. Raises InputError with the library's message."""
    path = folder / "config.json"
    raw = read_json(path)
    try:
        with torch.device("meta"):
            return build(raw)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not this part's configuration ({reason[:200]})") from None


def load_tokenizer(folder: Path) -> Any:
    """transformers' tokenizer of a model directory. Raises InputError."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: not a tokenizer ({reason[:200]})") from None


def tie_embedding(files: TensorFiles) -> None:
    """Give UMT5's input embedding both of its names: files store it under either."""
    pair = ("shared.weight", "encoder.embed_tokens.weight")
    for name, other in (pair, pair[::-1]):
        if name in files.shapes and other not in files.shapes:
            files.alias(other, name)
