"""LoRA: low-rank changes of weights, of all three branches together or of single branches.

`Loras` adds files to the weights while these are read. Stock Wan LoRAs have no branches and apply to all three; LoRAs
trained here name the branch before the module: `transformer.blocks.0.edit.attn1.to_q.lora_A.weight`. Key styles:
    diffusers, PEFT    transformer.blocks.0.attn1.to_q.lora_A.weight
    original release   diffusion_model.blocks.0.self_attn.q.lora_down.weight; also .diff, .diff_b and .diff_m, whole
                       changes of a weight, a bias and a block's modulation
    kohya              lora_unet_blocks_0_self_attn_q.lora_down.weight, also with two underscores or with dots
    DiffSynth          pipe.dit.blocks.0.self_attn.q.lora_A.default.weight
Dots and underscores inside a module's name are equivalent.

Training goes through PEFT: add_lora, save_lora, load_lora, merge_lora.
"""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn

from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.model.config import BRANCHES
from vera.core.model.tensors import TensorFiles, listed, save_tensors
from vera.core.model.wan.parameter_names import checkpoint_name, wan_name

TARGETS = ("attn[12].to_[qkv]", "attn[12].to_out.0", "ffn.net.0.proj", "ffn.net.2")
PREFIX = "transformer."
METADATA = "lora_adapter_metadata"  # diffusers' name for a file's ranks and alphas

_PREFIXES = re.compile(
    r"(?:(?:base_model\.model|diffusion_model|transformer|model|unet|pipe\.dit|dit)\.)+|lora_(?:unet|transformer)__?"
)
# A block's modulation in diffusers and Vera, and in the release.
_TABLE, _MODULATION = (
    "scale_shift_table",
    "modulation",
)
_KEY = re.compile(
    r"(?P<module>.+)\.(?:"
    r"lora[_.](?P<low>A|down)(?:\.default)?\.weight|lora[_.](?P<high>B|up)(?:\.default)?\.weight"
    r"|(?P<alpha>alpha)|(?P<weight>diff)|(?P<table>diff_m)|(?P<bias>diff_b|lora_B(?:\.default)?\.bias))"
)


class Loras:
    """LoRA files for a model whose parameters have these shapes, each at a strength.

    files: (path, strength) each. Only headers are read; `changed` reads the tensors of a parameter.
    digest: of contents and strengths; "" without files
    Raises InputError for tensors that match no module of the model, or not its shape. With skip_missing, tensors that
    match no module are left out and named in `notes`; a file without any match is still refused.
    """

    def __init__(
        self, files: Iterable[tuple[str, float]], shapes: Mapping[str, tuple[int, ...]], skip_missing: bool = False
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._skip_missing = skip_missing
        # Parameter -> functions that return the changes to add.
        self._changes: dict[str, list[Callable[[], torch.Tensor]]] = defaultdict(list)
        said = []
        for path, strength in files:
            if not Path(path).is_file():
                raise InputError(f"--lora {path}: no such file")
            self._add(Path(path), strength, shapes)
            with open(path, "rb") as file:
                said.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}:{strength!r}")
        self.digest = " ".join(said)

    def changed(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The parameter with the files' changes, in fp32; a parameter without changes is returned unchanged."""
        for change in self._changes.get(name, ()):
            tensor = tensor.float() + change().to(tensor.device)
        return tensor

    def _add(self, path, strength, shapes):
        files, modules = TensorFiles(path), stems_by_name(shapes)
        parts: dict[str, dict] = defaultdict(dict)
        strange: list[str] = []
        for key in files.shapes:
            match = _KEY.fullmatch(key)
            role = match and next(role for role, found in match.groupdict().items() if found and role != "module")
            module = match and module_name(match["module"])
            if role == "table":
                module, role = f"{module}_{_MODULATION}", "weight"
            if not match or module not in modules:
                strange.append(key)
                continue
            parts[module][role] = key
        if not parts or (strange and not self._skip_missing):
            fix = "; --lora-skip-missing leaves these out" if parts else ""
            raise InputError(
                f"--lora {path}: {len(strange)} of {len(files.shapes)} tensors match nothing in this model:"
                f" {listed(strange)}; LoRAs of Wan2.1 text-to-video of the same size are taken, and those of this"
                f" Vera{fix}"
            )
        if strange:
            self.notes += (
                f"--lora {path}: {len(strange)} of {len(files.shapes)} tensors match nothing in this model and are"
                f" left out: {listed(strange)}",
            )
        alpha = stated_alpha(path)
        for module, keys in parts.items():
            for stem in modules[module]:
                for leaf, change, size in changes_of(files, keys, alpha, strength, path):
                    name = f"{stem}{leaf}" if stem.endswith(".") else stem  # a table is itself a parameter
                    self._expect(path, keys, shapes, name, size)
                    self._changes[name].append(in_shape(change, shapes[name]))

    def _expect(self, path, keys, shapes, name, size):
        """Refuse a change whose size differs from the parameter's, (rows, columns) or (rows,)."""
        shape = shapes.get(name)
        needed = shape and ((shape[0], torch.Size(shape[1:]).numel()) if len(size) == 2 else tuple(shape))
        if needed != size:
            there = f"{tuple(shape)} in this model" if shape else "not in this model"
            raise InputError(f"--lora {path}: {listed(keys.values())} change {size} of {name}, which is {there}")


def apply_loras(transformer: nn.Module, loras: Sequence[tuple[str, float]], skip_missing: bool = False) -> Loras:
    """Add LoRAs, (path, strength) each, to a transformer in memory; see `Loras`."""
    state = transformer.state_dict()
    changes = Loras(loras, {name: tuple(value.shape) for name, value in state.items()}, skip_missing)
    for name, value in state.items():
        value.copy_(changes.changed(name, value))
    return changes


def adapted_fingerprint(fingerprint: str, loras: Loras) -> str:
    """A model's fingerprint with these LoRAs added."""
    return hashlib.sha256(f"{fingerprint} {loras.digest}".encode()).hexdigest() if loras.digest else fingerprint


def changes_of(
    files: TensorFiles, keys: Mapping[str, str], alpha: float | None, strength: float, path: Path
) -> Iterator[tuple[str, Callable[[], torch.Tensor], tuple[int, ...]]]:
    """Yield (leaf, function that gives the change in fp32, its size) of one module's tensors in a file.

    keys: role -> the tensor's name. alpha: of the whole file, or None. Raises InputError for an incomplete pair.
    """
    scale = strength
    if ("low" in keys) != ("high" in keys):
        raise InputError(f"--lora {path}: {next(iter(keys.values()))} is one of a pair, the other is missing")
    if "low" in keys:
        low, high = files.shapes[keys["low"]], files.shapes[keys["high"]]
        rank = low[0] if low else 0
        if len(low) < 2 or len(high) < 2 or torch.Size(high[1:]).numel() != rank or not rank:
            raise InputError(f"--lora {path}: {keys['low']} {low} and {keys['high']} {high} are of different rank")
        if "alpha" in keys:
            alpha = float(files.get(keys["alpha"]))
        scale = strength * (1.0 if alpha is None else alpha / rank)

        def product():
            return scale * (files.get(keys["high"]).float().flatten(1) @ files.get(keys["low"]).float().flatten(1))

        yield "weight", product, (high[0], torch.Size(low[1:]).numel())
    for role in ("weight", "bias"):
        if role in keys:
            shape = files.shapes[keys[role]]
            size = (shape[0], torch.Size(shape[1:]).numel()) if len(shape) > 1 else shape
            factor = scale if "lora_B" in keys[role] else strength  # PEFT's bias belongs to the low-rank path
            yield role, partial(_scaled, files, keys[role], factor), size


def _scaled(files: TensorFiles, key: str, factor: float) -> torch.Tensor:
    return factor * files.get(key).float()


def in_shape(change: Callable[[], torch.Tensor], shape: tuple[int, ...]) -> Callable[[], torch.Tensor]:
    """The same change, of another shape."""
    return lambda: change().reshape(shape)


def stems_by_name(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, list[str]]:
    """All names of a Vera's modules and modulation tables -> beginnings of their parameters' names in Vera.

    The keys are the names in the original release, in diffusers and in Vera, with underscores for dots. The values are
    such as "blocks.0.edit.attn1.to_q.", or a table's name.
    """
    called = defaultdict(list)
    for name in shapes:
        module, _, leaf = name.rpartition(".")
        if leaf not in ("weight", _TABLE):
            continue
        names, wan = {name}, wan_name(name)
        if wan:
            names |= {checkpoint_name(wan, layout) for layout in ("diffusers", "original")}
        if leaf == _TABLE:
            names |= {each.replace(_TABLE, _MODULATION) for each in names}
        for each in {n.removesuffix(".weight").replace(".", "_") for n in names}:
            called[each].append(f"{module}." if leaf == "weight" else name)
    return called


def module_name(key: str) -> str:
    """A module's name in a file without the prefixes of tools, with underscores for dots."""
    return (key[match.end() :] if (match := _PREFIXES.match(key)) else key).replace(".", "_")


def stated_alpha(path: Path) -> float | None:
    """The alpha of a whole file, from its metadata (diffusers) or from PEFT's adapter_config.json in its folder."""
    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(METADATA)
    beside = path.with_name("adapter_config.json")
    if text is None and path.name == "adapter_model.safetensors" and beside.is_file():
        text = beside.read_text(encoding="utf-8")
    try:
        values = {} if text is None else json.loads(text)
        alpha = values.get(PREFIX + "lora_alpha", values.get("lora_alpha"))
        odd = [k for k in values if values[k] and re.search(r"use_(?:rslora|dora)$|alpha_pattern$", k)]
        alpha = None if alpha is None else float(alpha)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"--lora {path}: its metadata are no adapter's ({error})") from None
    if odd:
        raise InputError(f"--lora {path}: made with {odd[0]}, which is not read; merge it with the tool that made it")
    return alpha


# Training


def add_lora(
    transformer: nn.Module,
    rank: int,
    alpha: float | None = None,
    branches: Sequence[str] = BRANCHES,
    targets: Sequence[str] = TARGETS,
) -> list[nn.Parameter]:
    """Add adapters to these branches' projections and freeze all other parameters. New adapters change nothing.

    alpha: changes are scaled by alpha / rank; None means rank
    targets: patterns of module names within a branch's block
    Returns the trained parameters, fp32. Raises InputError without PEFT.
    """
    pattern = rf"blocks\.\d+\.(?:{'|'.join(branches)})\.(?:{'|'.join(t.replace('.', '[.]') for t in targets)})"
    return _inject(transformer, pattern, rank, rank if alpha is None else alpha)


def lora_state(transformer: nn.Module) -> dict[str, torch.Tensor]:
    """The adapters' tensors, under the names they have in a file."""
    from peft import get_peft_model_state_dict

    return {PREFIX + name: value for name, value in get_peft_model_state_dict(transformer).items()}


def save_lora(transformer: nn.Module, path: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write the adapters. state: lora_state, where a trainer has gathered it from several ranks."""
    config = transformer.peft_config["default"]
    facts = {PREFIX + "r": config.r, PREFIX + "lora_alpha": config.lora_alpha}
    state = {n: t.detach().cpu().contiguous() for n, t in (state or lora_state(transformer)).items()}
    save_tensors(Path(path), state, {"format": "pt", METADATA: json.dumps(facts)})


def load_lora(transformer: nn.Module, path: Path) -> list[nn.Parameter]:
    """Add the adapters that save_lora wrote, to train on; returns the trained parameters. Raises InputError."""
    from peft import set_peft_model_state_dict

    files, modules = TensorFiles(path), set(dict(transformer.named_modules()))
    state = {n.removeprefix(PREFIX): files.get(n) for n in files.shapes}
    adapted = {n.removesuffix(".lora_A.weight") for n in state if n.endswith(".lora_A.weight")}
    strange = sorted(adapted - modules) or [n for n in state if n.partition(".lora_")[0] not in adapted]
    if strange or not adapted:
        raise InputError(f"{path}: not adapters of this model's branches: {listed(strange or files.shapes)}")
    rank = next(t.shape[0] for n, t in state.items() if n.endswith(".lora_A.weight"))
    alpha = stated_alpha(Path(path))
    parameters = _inject(transformer, "|".join(map(re.escape, sorted(adapted))), rank, rank if alpha is None else alpha)
    try:
        set_peft_model_state_dict(transformer, state)
    except RuntimeError as error:
        raise InputError(f"{path}: does not fit this model ({' '.join(str(error).split())[:200]})") from None
    return parameters


def merge_lora(transformer: nn.Module) -> None:
    """Add the adapters' changes to the weights and remove the adapters."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(transformer.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge(safe_merge=True)
            transformer.set_submodule(name, module.get_base_layer())
    del transformer.peft_config


def _inject(transformer, pattern, rank, alpha):
    require("training LoRA", "peft")
    from peft import LoraConfig, inject_adapter_in_model

    if getattr(transformer, "peft_config", None):
        raise InputError("this model has adapters already; merge them first")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern), transformer)
    trained = [p for p in transformer.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    return trained
