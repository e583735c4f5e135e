"""A model by name: the embedded `mini`, or a Vera directory of safetensors.

A Vera directory, as `vera model from-wan` and save.py write it:
    transformer/config.json     TransformerConfig
    transformer/*.safetensors   any number of shards, with their index
    vae/ text_encoder/ tokenizer/   as in diffusers' Wan2.1 directories
    model.json                  optional: the fields of Limits
All is checked from headers before a weight is read. diffusers and transformers are slow to import,
and only such a directory needs them.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.codec import Codec, WanCodec
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.lora import Loras
from vera.core.model.offload import VisitingCodec, VisitingText, computing_device, offload_blocks
from vera.core.model.quantise import KINDS, is_quantised, quantise, quantiser, quietly
from vera.core.model.tensors import TensorFiles, check_shapes
from vera.core.model.text import WanText
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.checkpoint import parameter_shapes
from vera.core.recipe import parse_lora

MINI = Path(__file__).parents[1] / "weights" / "mini"
PARTS = ("transformer", "vae", "text_encoder", "tokenizer")
SAMPLE_BYTES = 4096


@dataclass(frozen=True)
class Limits:
    """What a model was trained for, and how it is best sampled.

    max_frames in one window; pixels: area at model size, sides a multiple of `multiple`;
    steps, guidance and the noise schedule's shift unless the user says otherwise. light_curve: how it
    was taught to see scene-referred light, "srgb" (cut at display white) or "range" (up to 64 times white).
    step_width: over how many model pixels it decodes a step of alpha, see core/layer/outline.py.
    """

    max_frames: int = 81
    pixels: int = 832 * 480
    multiple: int = 16
    steps: int = 50
    guidance: float = 5.0
    shift: float = 3.0
    light_curve: str = "srgb"
    step_width: float = 3.0

    @classmethod
    def load(cls, path: Path) -> "Limits":
        """Of model.json, or Wan's own where there is none."""
        if not path.is_file():
            return cls()
        try:
            limits = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: not a model's limits ({error})") from None
        if limits.light_curve not in ("srgb", "range"):
            raise InputError(f"{path}: light_curve must be srgb or range")
        for field, value in asdict(limits).items():
            if field == "light_curve":
                continue
            whole = isinstance(getattr(cls, field), int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not value > 0:
                raise InputError(f"{path}: {field} must be a {'whole ' if whole else ''}number above 0")
        return limits


@dataclass(frozen=True)
class Model:
    """All that turns noise into layers. fingerprint is the same for the same configuration and weights."""

    name: str
    transformer: nn.Module
    codec: Codec
    text: object
    fingerprint: str
    limits: Limits

    @property
    def device(self) -> torch.device:
        return computing_device(self.transformer)


def load_model(
    name: str,
    device,
    dtype: torch.dtype | None = None,
    weights: str = "auto",
    offload: str = "none",
    lora: tuple[str, ...] = (),
) -> Model:
    """`mini`, or a Vera directory, onto a device.

    dtype is that of the transformer and the text encoder; None keeps the files' own. The parameters that must
    stay fp32 do, and so does the codec. weights: "auto" leaves it at that; "bf16", or "fp8" and "int8", with which
    the transformer's projections take 8 bits (see quantise.py) and the rest is bf16. mini is small: it is computed
    in fp32, whatever its weights are kept in. lora: "FILE[:STRENGTH]" each, added to the weights as these are read.
    offload: "parts" keeps the text encoder and the codec in the host's memory, and brings each to the device only
    while it works; "blocks" the transformer's blocks too. Host memory is one copy of what stays there, and
    one file's tensors while they are read. Raises InputError before any weight is read when a part is missing or
    does not fit.
    """
    loras = [parse_lora(text) for text in lora]
    if name == "mini":
        from vera.core.model.mini.edition import load_mini

        model = load_mini(MINI, "cpu" if offload == "blocks" else device)
        model = replace(model, fingerprint=adapt(model.transformer, loras, model.fingerprint))
        if weights in KINDS:
            quantise(model.transformer, weights)
        return offloaded(model, model.text, offload, device)
    root = Path(name)
    if not root.is_dir():
        raise unknown_model(name)
    dtype = dtype if weights == "auto" else torch.bfloat16
    return load_directory(root, device, dtype, weights, offload, loras)


def offloaded(model, text_module, offload, device):
    """The model with what waits outside the device."""
    if offload == "blocks":
        offload_blocks(model.transformer, device)
    return model if offload == "none" else replace(model, **visiting(model, text_module, device))


def adapt(transformer, loras, fingerprint) -> str:
    """Add LoRAs to a transformer in memory; the fingerprint of what it is then."""
    state = transformer.state_dict()
    changes = Loras(loras, {name: tuple(value.shape) for name, value in state.items()})
    for name, value in state.items():
        value.copy_(changes.changed(name, value))
    return adapted(fingerprint, changes)


def adapted(fingerprint: str, loras: Loras) -> str:
    return hashlib.sha256(f"{fingerprint} {loras.digest}".encode()).hexdigest() if loras.digest else fingerprint


def visiting(model, text_module, device):
    """The codec and the text encoder of a model, to be kept outside the device."""
    return {
        "codec": VisitingCodec(model.codec, device),
        "text": VisitingText(model.text, text_module, device),
    }


def unknown_model(name: str) -> InputError:
    if name in PRESETS:
        return InputError(
            f"model '{name}': no weights of that size are public; make a directory from Wan2.1 with "
            "`vera model from-wan SOURCE TARGET`, train it, and name that directory"
        )
    return InputError(f"model '{name}': neither 'mini' nor a directory")


def described(root: Path):
    """A Vera directory's configuration, limits, codec and text encoder, both without weights. Raises InputError."""
    require(f"model '{root}'", "diffusers", "transformers")
    with quietly():
        from diffusers import AutoencoderKLWan
        from transformers import UMT5Config, UMT5EncoderModel

    for part in PARTS:
        if not (root / part).is_dir():
            raise InputError(f"{root / part}: missing; a model directory holds {', '.join(PARTS)}")
    limits = Limits.load(root / "model.json")
    config = TransformerConfig.load(root / "transformer" / "config.json")
    vae = on_meta(AutoencoderKLWan.from_config, root / "vae")
    encoder = on_meta(lambda raw: UMT5EncoderModel(UMT5Config.from_dict(raw)), root / "text_encoder")
    if config.latent_channels != vae.config.z_dim:
        raise InputError(f"{root}: transformer of {config.latent_channels} latent channels, vae of {vae.config.z_dim}")
    if config.text_dim != encoder.config.d_model:
        raise InputError(f"{root}: transformer for text of width {config.text_dim}, encoder {encoder.config.d_model}")
    return config, limits, vae, encoder


def load_directory(root: Path, device, dtype, weights, offload, loras) -> Model:
    config, limits, vae, encoder = described(root)
    tokenizer = load_tokenizer(root / "tokenizer")
    waiting = {"none": (), "parts": ("vae", "text_encoder"), "blocks": ("transformer", "vae", "text_encoder")}[offload]
    at = {part: "cpu" if part in waiting else device for part in PARTS if part != "tokenizer"}
    files = {part: TensorFiles(root / part, at[part]) for part in at}
    shapes = parameter_shapes(config)
    check_shapes(files["transformer"].shapes, shapes, root / "transformer")
    check_shapes(files["vae"].shapes, shapes_of(vae), root / "vae")
    tie_embedding(files["text_encoder"])
    check_shapes(files["text_encoder"].shapes, shapes_of(encoder), root / "text_encoder")
    changes = Loras(loras, shapes)
    put = quantiser(weights) if weights in KINDS else None

    with torch.device("meta"):
        transformer = Transformer(config)
    fill(transformer, files["transformer"], dtype, kept_in_float32, changes.changed if loras else None, put)
    fill(vae, files["vae"], torch.float32)
    fill(encoder, files["text_encoder"], dtype)
    encoder.tie_weights()
    print_of = adapted(fingerprint(root), changes)
    model = Model(str(root), transformer, WanCodec(vae), WanText(tokenizer, encoder), print_of, limits)
    return offloaded(model, encoder, offload, device)


def on_meta(build: Callable[[dict], nn.Module], folder: Path) -> nn.Module:
    """Build a module from its config.json, without weights; its library's word on a wrong one is passed on."""
    path = folder / "config.json"
    raw = read_json(path)
    try:
        with torch.device("meta"):
            return build(raw)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not this part's configuration ({reason[:200]})") from None


def read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a model directory needs it") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None


def load_tokenizer(folder: Path):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: not a tokenizer ({reason[:200]})") from None


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def tie_embedding(files: TensorFiles) -> None:
    """UMT5's input embedding has two names and is stored under either; let both be found."""
    pair = ("shared.weight", "encoder.embed_tokens.weight")
    for here, there in (pair, pair[::-1]):
        if here in files.shapes and there not in files.shapes:
            files.alias(there, here)


def fill(module: nn.Module, files: TensorFiles, dtype, keep=lambda name: False, changed=None, put=None):
    """Give a module built on `meta` its weights, one tensor at a time.

    keep(name) stays fp32 when dtype is set. If given, changed(name, tensor) is what is stored instead, and
    put(linear) puts a block's projection into fewer bits as soon as its weight is there. Where all is as in the
    files, the tensors stay mapped to them; else they are copies, since one that is mapped holds its whole file.
    """
    for name in files.by_file(module.state_dict()):
        tensor = files.get(name)
        kind = tensor.dtype if dtype is None else torch.float32 if keep(name) else dtype
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        tensor = changed(name, tensor) if changed else tensor
        tensor = tensor.to(kind, copy=bool(dtype or changed))
        owner.load_state_dict({leaf: tensor}, strict=False, assign=True)
        if put and is_quantised(name, owner):
            put(owner)
        del tensor
    module.eval()


def fingerprint(root: Path, parts=PARTS) -> str:
    """SHA-256 of a model directory, cheap on 50 GB, as 64 hex digits.

    Over every .json, .txt, .model and .safetensors file of the parts, in order of name:
    its path, size and contents; of safetensors, the whole header and up to 4 KiB from the
    middle of every tensor. A training step moves every weight of a tensor, so it shows;
    a change of a few values elsewhere in a tensor does not. Limits are not part of it.
    """
    digest = hashlib.sha256()
    for part in parts:
        for file in sorted((root / part).rglob("*"), key=lambda f: f.relative_to(root).as_posix()):
            if file.suffix in (".json", ".txt", ".model", ".safetensors"):
                digest.update(f"{file.relative_to(root).as_posix()}\n{file.stat().st_size}\n".encode())
                hash_tensors(file, digest) if file.suffix == ".safetensors" else digest.update(file.read_bytes())
    return digest.hexdigest()


def hash_tensors(path: Path, digest) -> None:
    """The header (8 bytes of its length, then JSON with each tensor's byte range), then the samples."""
    with open(path, "rb") as file:
        length = file.read(8)
        header = file.read(int.from_bytes(length, "little"))
        digest.update(length + header)
        for name, entry in json.loads(header).items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                file.seek(8 + len(header) + max(start, (start + end - SAMPLE_BYTES) // 2))
                digest.update(file.read(min(SAMPLE_BYTES, end - start)))
