"""A Vera directory's transformer cut over ranks: fp32 masters in shards, bf16 at work, what is frozen in fewer
bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from vera.core.model.config import TransformerConfig
from vera.core.model.tensors import TensorFiles, check_shapes, load_weights
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.checkpoint import parameter_shapes
from vera.core.model.wan.names import NEW
from vera.core.training.full.frozen import freeze_in_8_bits, visit

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from vera.core.model.interfaces import BlockRunner
    from vera.core.training.full.memory import Rehearsal
    from vera.core.training.full.trainer import Settings

# What attention's forward pass is called in torch and here; their results are worth keeping, nothing else is.
ATTENTIONS = {
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
}


class FullModel:
    """The transformer under FSDP2; by name, its trained parameters, this rank's shares of them, and of their average.

    Each block is a unit of its own, gathered when it works; the rest is one. What must compute in fp32 (modulation,
    time embedder, text's norm) stays whole and fp32 on every rank: FSDP2 has one working type a unit. Of a LoRA run
    the weights it starts from are of the type `base`; in 8 bits, or waiting in the host's memory, they are whole on
    every rank. `average` is empty where none is kept.
    """

    def __init__(self, root: Path, mesh: DeviceMesh, settings: Settings) -> None:
        self.device = device = torch.device(mesh.device_type)
        self.transformer = transformer = adapted(from_directory(root), settings)
        self.shown = torch.ones((), device=device)
        if transformer.mask_embedding is not None:
            transformer.mask_embedding.register_forward_hook(lambda module, given, out: out * self.shown.to(out.dtype))

        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if settings.bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        names = {id(p): name for name, p in transformer.named_parameters()}
        whole = {p for name, p in transformer.named_parameters() if kept_in_float32(name)}
        if settings.base == "int8" or settings.swap:
            whole |= {p for p in transformer.blocks.parameters() if not p.requires_grad}
        for unit in (*transformer.blocks, transformer):
            # Only now onto the device and into its type: one unit at a time is whole there.
            for parameter in unit.parameters():
                if not isinstance(parameter, DTensor):
                    name = names[id(parameter)]
                    waits = settings.swap and name.startswith("blocks.") and not parameter.requires_grad
                    parameter.data = placed(
                        parameter.data, name, parameter.requires_grad, settings, None if waits else device
                    )
            fully_shard(unit, mesh=mesh, mp_policy=policy, ignored_params=whole, reshard_after_forward=True)
        self.parameters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
        # The optimiser works on this rank's shares as plain tensors: to DTensor each of its operations is a new one.
        self.masters = {name: nn.Parameter(local(p.detach())) for name, p in self.parameters.items()}
        where = "cpu" if settings.ema_on == "host" else device
        kept = self.masters.items() if settings.ema else ()
        self.average = {name: p.detach().clone().to(where) for name, p in kept}

    def as_cut(self, name: str, share: torch.Tensor) -> torch.Tensor:
        """A tensor of a parameter's shape, of which this rank holds `share`; the same memory if that is on the
        device."""
        whole = self.parameters[name]
        share = share.to(self.device)
        if not isinstance(whole, DTensor):
            return share
        how = {"shape": whole.shape, "stride": whole.stride(), "run_check": False}
        return DTensor.from_local(share, whole.device_mesh, whole.placements, **how)

    def show_mask(self, shown: bool) -> None:
        """Whether the mask given is seen. Not to see it is to the model as none given; it is embedded all the
        same, because all ranks must have gradients of the same parameters."""
        self.shown.fill_(float(shown))

    def take_gradients(self, most: float) -> torch.Tensor:
        """Hand the parameters' gradients to the masters, averaged over the ranks and cut to a norm of `most` together;
        the norm they had. FSDP has averaged those of the parameters that are cut."""
        cut: list[torch.Tensor] = []
        whole: list[torch.Tensor] = []
        for name, parameter in self.parameters.items():
            self.masters[name].grad = gradient = local(parameter.grad)
            (cut if isinstance(parameter, DTensor) else whole).append(gradient)
            parameter.grad = None
        for gradient in whole:
            dist.all_reduce(gradient.div_(dist.get_world_size()))
        square = torch.nn.utils.get_total_norm(cut) ** 2
        dist.all_reduce(square)
        norm = (square + torch.nn.utils.get_total_norm(whole).to(square) ** 2).sqrt()
        torch._foreach_mul_(cut + whole, (most / norm).clamp(max=1.0))
        return norm

    def forget_gradients(self) -> None:
        """Of a step that is not to be taken, or that has been."""
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None

    @torch.no_grad()
    def follow(self, step: int, decay: float) -> None:
        """Let the average follow the weights; it forgets its start sooner in the first steps."""
        weight = 1 - min(decay, (1 + step) / (10 + step))
        mine = list(self.average.values())
        if not mine:
            return
        torch._foreach_lerp_(mine, [self.masters[name].to(a.device) for name, a in self.average.items()], weight)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Put the average, where there is one, in place of the weights, and the weights in place of the average."""
        for name, average in self.average.items():
            weights = self.masters[name]
            kept = weights.to(average.device, copy=True)
            weights.copy_(average)
            average.copy_(kept)

    def blocks_runner(self, settings: Settings) -> BlockRunner | None:
        """What runs the blocks in training, as the `cache` of Transformer.forward; None runs them plainly."""
        if settings.compile:
            for block in self.transformer.blocks:
                block.compile(dynamic=False)
        return Recomputed(settings.recompute, self.device if settings.swap else None)


def adapted(transformer: Transformer, settings: Settings | Rehearsal) -> Transformer:
    """With the adapters of a LoRA run, everything else but what Wan does not have frozen, in 8 bits where that is
    asked."""
    if not settings.lora:
        return transformer
    from vera.core.model.lora import add_lora

    torch.manual_seed(settings.seed)  # the same adapters on every rank
    transformer.requires_grad_(False)
    add_lora(transformer, **settings.lora)
    for name, parameter in transformer.named_parameters():
        if name.startswith(NEW):  # what Wan does not have must be learned whole
            parameter.requires_grad_(True)
    if settings.base == "int8":
        freeze_in_8_bits(transformer.blocks)
    return transformer


def placed(
    value: torch.Tensor, name: str, trained: bool, settings: Settings, device: torch.device | None
) -> torch.Tensor:
    """A parameter in the type that it is kept in, on the device; with None in the host's memory, ready to be
    fetched."""
    if not value.is_floating_point():
        kind = value.dtype
    elif trained or kept_in_float32(name) or settings.base == "fp32" or not settings.bf16 or name.endswith(".scale"):
        kind = torch.float32
    else:
        kind = torch.bfloat16
    if device is not None:
        return value.to(device, kind)
    value = value.to(kind, copy=True)  # not mapped to its file any longer
    return value.pin_memory() if torch.cuda.is_available() else value


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's share of a tensor, or the whole of one that is not cut; the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def from_directory(root: Path) -> Transformer:
    """A Vera directory's transformer, mapped from its files. Raises InputError if they do not fit."""
    config = TransformerConfig.load(root / "transformer" / "config.json")
    files = TensorFiles(root / "transformer")
    check_shapes(files.shapes, parameter_shapes(config), root / "transformer")
    with torch.device("meta"):
        transformer = Transformer(config)
    load_weights(transformer, files, None)
    return transformer


class Recomputed:
    """Runs the blocks keeping their inputs only; what is inside is computed again for the gradient.

    how: True, all of it again; "but attention", all but attention, most of the work, whose results are kept too;
    False, nothing. device: where the blocks compute whose frozen weights wait in the host's memory, or None.
    """

    def __init__(self, how: bool | str = True, device: torch.device | None = None) -> None:
        self.how, self.device = how, device

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *given: Any) -> torch.Tensor:
        for block in blocks:
            call = block if self.device is None else partial(visit, block, self.device)
            if torch.is_grad_enabled() and self.how:
                hidden = checkpoint(call, hidden, *given, use_reentrant=False, **self._keeping())
            else:
                hidden = call(hidden, *given)
        return hidden

    def _keeping(self):
        if self.how != "but attention":
            return {}
        return {"context_fn": partial(create_selective_checkpoint_contexts, keep_attention)}


def keep_attention(context: Any, operation: Any, *given: Any, **named: Any) -> CheckpointPolicy:
    """Which results are kept of what is computed again, for torch's selective checkpointing."""
    kept = operation.name().partition(".")[0] in ATTENTIONS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
