"""The embedded model: a folder of three small safetensors files, limits and a card."""

import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.codec import WanCodec
from vera.core.model.config import TransformerConfig
from vera.core.model.load import Limits, Model
from vera.core.model.mini.mini_codec import MiniCodec
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.transformer import Transformer

CODEC = "codec.safetensors"
FILES = ("transformer.safetensors", "text.safetensors", CODEC)


def load_mini(folder: Path, device) -> Model:
    """Read a folder as save_mini() writes it; computed in fp32."""
    for name in ("config.json", "model.json", *FILES):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing; the embedded model is incomplete, install again")
    transformer = Transformer(TransformerConfig.load(folder / "config.json"))
    words = json.loads(_metadata(folder / "text.safetensors")["words"])
    modules = (transformer, MiniText(words, transformer.config.text_dim), empty_codec(folder / CODEC))
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for module, name in zip(modules, FILES):
        try:
            module.load_state_dict(read_weights(folder / name))
        except (SafetensorError, RuntimeError) as error:
            raise InputError(f"{folder / name}: damaged ({str(error).splitlines()[0]}); install again") from None
        digest.update((folder / name).read_bytes())
        module.to(device, torch.float32).eval().requires_grad_(False)
    if modules[2].channels != transformer.config.latent_channels:
        channels = f"{modules[2].channels} channels, the transformer's latents have {transformer.config.latent_channels}"
        raise InputError(f"{folder / CODEC}: {channels}; install again")
    limits = Limits.load(folder / "model.json")
    return Model("mini", *(modules[i] for i in (0, 2, 1)), digest.hexdigest(), limits)


def save_mini(folder: Path, transformer: Transformer, text: MiniText, codec, limits: dict) -> None:
    """Write an edition: weights in 8 bits, its codec as save_codec() does."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer.config.save(folder / "config.json")
    (folder / "model.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")
    for module, name in zip((transformer, text), FILES):
        state = {k: v.detach().float().contiguous() for k, v in module.state_dict().items()}
        save_file(in_8_bits(state), folder / name, {"words": json.dumps(text.words)} if module is text else None)
    save_codec(codec, folder / CODEC)


def save_codec(codec, path: Path) -> None:
    """Write mini's own codec, or a small Wan-type VAE with its configuration, whole or not at all: in fp32 and fp16,
    for a codec's error is seen."""
    vae = isinstance(codec, WanCodec)
    kind = torch.float16 if vae else torch.float32
    state = {k: v.detach().to("cpu", kind).contiguous() for k, v in codec.state_dict().items()}
    config = {"vae": json.dumps({k: v for k, v in codec.vae.config.items() if not k.startswith("_")})} if vae else None
    part = path.with_name(path.name + ".part")
    save_file(state, part, config)
    os.replace(part, path)


def read_codec(path: Path):
    """A codec as save_codec() wrote it, on the CPU in fp32, not to be trained. Raises InputError where its file is cut short."""
    codec = empty_codec(path)
    codec.load_state_dict(load_file(path))
    return codec.eval().requires_grad_(False)


def empty_codec(path: Path):
    """The kind of codec that is in a file, without its weights."""
    config = _metadata(path).get("vae")
    if config is None:
        return MiniCodec()
    require(str(path), "diffusers")
    from diffusers import AutoencoderKLWan  # slow to import; only such a codec needs it

    return WanCodec(AutoencoderKLWan.from_config(json.loads(config)))


def _metadata(path: Path) -> dict:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path}: damaged ({str(error).splitlines()[0]}); install again") from None


def in_8_bits(state: dict) -> dict:
    """Matrices as int8, each row in 127ths of its largest value, which stands in NAME.scale; the rest in bf16."""
    packed = {}
    for name, value in state.items():
        if value.ndim < 2:
            packed[name] = value.bfloat16()
            continue
        scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        steps = value / scale.view(-1, *[1] * (value.ndim - 1))
        packed |= {name: steps.round().to(torch.int8), f"{name}.scale": scale}
    return packed


def read_weights(path: Path) -> dict:
    """The tensors of an edition's file, 8-bit ones in fp32. Raises SafetensorError if it is damaged."""
    state = load_file(path)
    scales = {n.removesuffix(".scale"): state.pop(n) for n in list(state) if n.endswith(".scale")}
    return state | {n: state[n].float() * s.view(-1, *[1] * (state[n].ndim - 1)) for n, s in scales.items()}
