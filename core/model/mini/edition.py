"""An edition of mini into memory and out of it: its folder's files are those of edition_files.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.codec import Codec, WanCodec
from vera.core.model.interfaces import LoadOptions, Model
from vera.core.model.limits import Limits
from vera.core.model.lora import adapted_fingerprint, apply_loras
from vera.core.model.mini.edition_files import (
    CODEC,
    CONFIG,
    DIGESTS,
    LIMITS,
    MAX_CODEC_CONFIG,
    OBJECTS,
    SCENES,
    TEXT,
    TRANSFORMER,
    WEIGHTS,
    MiniDescription,
    again,
    damaged,
    describe,
    metadata_of,
    refuse_missing,
)
from vera.core.model.mini.mini_codec import MiniCodec, codec_of_state
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.object_field import ObjectField
from vera.core.model.mini.scene_reader import SceneReader
from vera.core.model.mini.shape_drawer import ShapeDrawer
from vera.core.model.offload import offloaded
from vera.core.model.quantise import KINDS, quantise
from vera.core.model.tensors import refuse_not_finite, save_tensors


def load_edition(folder: Path, name: str, options: LoadOptions) -> Model:
    """An edition as `Family.load` asks for it: with its LoRAs, quantised, offloaded. Raises InputError."""
    model = load_mini(folder, "cpu" if options.offload == "blocks" else options.device, name)
    loras = apply_loras(model.transformer, options.loras, options.skip_missing)
    fingerprint = adapted_fingerprint(model.fingerprint, loras)
    model = replace(model, name=name, fingerprint=fingerprint, notes=loras.notes)
    if options.weights in KINDS:
        quantise(model.transformer, options.weights)
    assert isinstance(model.text, MiniText)
    return offloaded(model, model.text, options.offload, options.device)


def load_mini(folder: Path, device: torch.device | str, name: str = "mini") -> Model:
    """Load a folder written by `save_mini`; it computes in fp32. Raises InputError."""
    refuse_missing(folder)
    published = published_digests(folder)
    fingerprint = hashlib.sha256()
    for file in files_of(folder):
        contents = (folder / file).read_bytes()
        refuse_other_digest(folder / file, contents, published)
        fingerprint.update(contents)
    about = describe(folder)
    refuse_other_geometry(about, folder)  # before anything is allocated for it
    transformer, text = MiniTransformer(about.config), MiniText(list(about.words), about.config.text_dim)
    load_state(transformer, folder / TRANSFORMER)
    load_state(text, folder / TEXT)
    codec = read_codec(folder / CODEC)
    if codec.channels != about.config.latent_channels:
        channels = f"{codec.channels} channels, the transformer's latents have {about.config.latent_channels}"
        raise InputError(f"{folder / CODEC}: {channels}; {again(folder)}")
    for module in (transformer, text, codec):
        module.to(device, torch.float32).eval().requires_grad_(False)
    objects = read_objects(folder, transformer)
    return Model(name, transformer, codec, text, fingerprint.hexdigest(), about.limits, objects=objects)


def files_of(folder: Path) -> tuple[str, ...]:
    """The files that determine an edition's results, without its limits."""
    return (CONFIG, *WEIGHTS, *(name for name in (OBJECTS, SCENES) if (folder / name).is_file()))


def read_objects(folder: Path, transformer: MiniTransformer) -> ShapeDrawer | None:
    """The drawer of an edition's objects, or None if the edition has no field of objects. Raises InputError."""
    if transformer.drawing is None or not (folder / OBJECTS).is_file():
        return None
    field = ObjectField(transformer.config.text_dim)
    load_state(field, folder / OBJECTS)
    return ShapeDrawer(field.float().eval().requires_grad_(False), transformer, read_scenes(folder, transformer))


def read_scenes(folder: Path, transformer: MiniTransformer) -> SceneReader | None:
    """What reads an edition's backgrounds, or None where it has none. Raises InputError."""
    if not (folder / SCENES).is_file():
        return None
    head = SceneReader(transformer.config.text_dim)
    load_state(head, folder / SCENES)
    return head.float().eval().requires_grad_(False)


def refuse_other_geometry(about: MiniDescription, folder: Path) -> None:
    """Raise InputError if the weights' shapes, from headers, differ from the configuration."""
    config, file = about.config, folder / TRANSFORMER
    shapes = header_shapes(file) | {f"text.{name}": shape for name, shape in header_shapes(folder / TEXT).items()}
    expected = {
        "edit.patch_embedding.weight": (config.dim, config.latent_channels, *config.patch),
        f"blocks.{config.layers - 1}.edit.ffn.net.0.proj.weight": (config.ffn_dim, config.dim),
        "source_embedding.weight": (config.dim, config.latent_channels, *config.patch),
        "text.embedding.weight": (len(about.words) + 2, config.text_dim),
    }
    embedders = "shared" if config.share_embedders else "edit.condition_embedder"
    expected[f"{embedders}.time_embedder.linear_1.weight"] = (config.dim, config.freq_dim)
    expected[f"{embedders}.text_embedder.linear_1.weight"] = (config.dim, config.text_dim)
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            found = "is missing" if name not in shapes else f"is {shapes[name]}"
            raise InputError(f"{file}: '{name}' {found}, {shape} by {CONFIG}; {again(folder)}")


def header_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a safetensors file's tensors. Raises InputError."""
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from None


def load_state(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Load a module's weights from a file of an edition, from the names that begin with `prefix`. Raises InputError."""
    try:
        state = read_weights(path)
        for name, value in state.items():
            refuse_not_finite(name, value, path)
        module.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()}, assign=True)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise damaged(path, error) from None


def published_digests(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, as published with the edition; empty if there are none. Raises InputError."""
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    try:
        rows = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
        return {name: digest for digest, name in rows}
    except ValueError:
        raise InputError(f"{path}: not a list of digests; {again(folder)}") from None


def refuse_other_digest(path: Path, contents: bytes, published: dict[str, str]) -> None:
    """Raise InputError for a file whose digest differs from the published one."""
    wanted = published.get(path.name)
    if wanted is not None and hashlib.sha256(contents).hexdigest() != wanted:
        raise InputError(f"{path}: damaged (its SHA-256 is not the one in {DIGESTS}); {again(path.parent)}")


def save_mini(folder: Path, transformer: MiniTransformer, text: MiniText, codec: Codec, limits: Limits) -> None:
    """Write an edition: weights in 8 bits, its codec as in `save_codec`, and the digests of all files."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer.config.save(folder / CONFIG)
    limits.save(folder / LIMITS)
    words = {"words": json.dumps(text.words)}
    for module, name, metadata in ((transformer, TRANSFORMER, None), (text, TEXT, words)):
        state = {k: v.detach().float().contiguous() for k, v in module.state_dict().items()}
        save_tensors(folder / name, in_8_bits(state), metadata)
    save_codec(codec, folder / CODEC)
    write_digests(folder)


def save_objects(folder: Path, field: ObjectField) -> None:
    """Write a field of objects into an edition's folder, in fp16; 8 bits would displace its outlines."""
    state = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in field.state_dict().items()}
    save_tensors(folder / OBJECTS, state, None)
    write_digests(folder)


def save_scenes(folder: Path, head: SceneReader) -> None:
    """Write a head that reads backgrounds into an edition's folder, in fp16."""
    state = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in head.state_dict().items()}
    save_tensors(folder / SCENES, state, None)
    write_digests(folder)


def write_digests(folder: Path) -> None:
    """Write the digests of an edition's files in the format of `sha256sum --check`."""
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files_of(folder)}
    (folder / DIGESTS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()), encoding="utf-8")


def save_codec(codec: Codec, path: Path) -> None:
    """Write mini's own codec in fp32, or a small Wan-type VAE with its configuration in fp16; atomic.

    Never in 8 bits: the error would be visible.
    """
    assert isinstance(codec, nn.Module)
    vae = codec.vae if isinstance(codec, WanCodec) else None
    kind = torch.float32 if vae is None else torch.float16
    state = {k: v.detach().to("cpu", kind).contiguous() for k, v in codec.state_dict().items()}
    config = None
    if vae is not None:
        config = {"vae": json.dumps({k: v for k, v in vae.config.items() if not k.startswith("_")})}
    save_tensors(path, state, config)


def read_codec(path: Path) -> MiniCodec | WanCodec:
    """A codec written by `save_codec`, on the CPU in fp32, frozen. Raises InputError."""
    text = metadata_of(path).get("vae")
    codec: MiniCodec | WanCodec
    if text is None:
        codec = _mini_codec(path)
    else:
        vae = vae_on_meta(text, path)
        load_state(vae, path, "vae.")
        codec = WanCodec(vae)
    return codec.to("cpu", torch.float32).eval().requires_grad_(False)


def _mini_codec(path: Path) -> MiniCodec:
    try:
        state = read_weights(path)
        for name, value in state.items():
            refuse_not_finite(name, value, path)
        return codec_of_state(state)
    except (SafetensorError, RuntimeError, KeyError, IndexError) as error:
        raise damaged(path, error) from None


def vae_on_meta(text: str, path: Path) -> Any:
    """diffusers' VAE with the configuration from a codec's file, without weights. Raises InputError."""
    require(str(path), "diffusers")
    from diffusers import AutoencoderKLWan  # slow to import; only such a codec needs it

    try:
        if len(text) > MAX_CODEC_CONFIG:
            raise ValueError(f"a configuration of {len(text)} characters")
        with torch.device("meta"):
            return AutoencoderKLWan.from_config(json.loads(text))
    except Exception as error:
        raise damaged(path, error) from None


def in_8_bits(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8, the other tensors as bf16. A row's values are 127ths of its scale, which is NAME.scale."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim < 2:
            packed[name] = value.bfloat16()
            continue
        scale = value.flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        steps = value / scale.view(-1, *[1] * (value.ndim - 1))
        packed |= {name: steps.round().to(torch.int8), f"{name}.scale": scale}
    return packed


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of an edition's file, 8-bit ones in fp32. Raises SafetensorError or KeyError if it is damaged."""
    state = load_file(path)
    scales = {n.removesuffix(".scale"): state.pop(n) for n in list(state) if n.endswith(".scale")}
    return state | {n: state[n].float() * s.view(-1, *[1] * (state[n].ndim - 1)) for n, s in scales.items()}
