"""The embedded model: a folder of three small safetensors files, limits and a card."""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from core.errors import InputError
from core.model.config import TransformerConfig
from core.model.load import Limits, Model
from core.model.mini_codec import MiniCodec
from core.model.mini_text import MiniText
from core.model.transformer import Transformer

FILES = ("transformer.safetensors", "text.safetensors", "codec.safetensors")


def load_mini(folder: Path, device) -> Model:
    """Read a folder as save_mini() writes it; the weights are stored in bf16 and computed in fp32."""
    for name in ("config.json", "model.json", *FILES):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing; the embedded model is incomplete, install again")
    transformer = Transformer(TransformerConfig.load(folder / "config.json"))
    with safe_open(folder / "text.safetensors", "pt") as file:
        words = json.loads(file.metadata()["words"])
    modules = (transformer, MiniText(words, transformer.config.text_dim), MiniCodec())
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for module, name in zip(modules, FILES):
        try:
            module.load_state_dict(load_file(folder / name))
        except (SafetensorError, RuntimeError) as error:
            raise InputError(f"{folder / name}: damaged ({str(error).splitlines()[0]}); install again") from None
        digest.update((folder / name).read_bytes())
        module.to(device, torch.float32).eval().requires_grad_(False)
    limits = Limits.load(folder / "model.json")
    return Model("mini", *(modules[i] for i in (0, 2, 1)), digest.hexdigest(), limits)


def save_mini(folder: Path, transformer: Transformer, text: MiniText, codec: MiniCodec, limits: dict) -> None:
    """Write an edition: weights in bf16, the codec in fp32 (it is small, and its error is seen)."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer.config.save(folder / "config.json")
    (folder / "model.json").write_text(json.dumps(limits, indent=2) + "\n", encoding="utf-8")
    for module, name in zip((transformer, text, codec), FILES):
        dtype = torch.float32 if module is codec else torch.bfloat16
        state = {k: v.detach().to(dtype).contiguous() for k, v in module.state_dict().items()}
        save_file(state, folder / name, {"words": json.dumps(text.words)} if module is text else None)
