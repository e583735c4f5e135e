"""A model directory's transformer sharded over ranks for training.

Each rank holds its shards of the trained weights in fp32 (masters). Blocks compute in bf16, and frozen weights are
stored in fewer bytes.
"""

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
from vera.core.model.wan.parameter_names import NEW_PARAMETERS
from vera.core.training.full.frozen import freeze_in_8_bits, run_on_device

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from vera.core.model.interfaces import BlockRunner
    from vera.core.training.full.full_settings import Settings
    from vera.core.training.full.memory_estimate import Rehearsal

# Operations whose results "but attention" keeps for the backward pass; torch recomputes all others.
ATTENTION_OPERATIONS = {
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::_scaled_dot_product_efficient_attention",
}


class FullModel:
    """The transformer under FSDP2.

    parameters: trained parameters by name. masters: this rank's shards of the parameters, as plain tensors.
    average: this rank's shards of the weights' average; empty if no average is kept.

    Each block is one FSDP unit, gathered while it runs; the other modules form one more unit. Modules that must compute
    in fp32 (modulation, time embedder, the text's norm) are whole and fp32 on every rank, because FSDP2 has one compute
    dtype per unit. The frozen weights of a LoRA run have the type `base`. In int8 or in host memory they are whole on
    every rank.
    """

    def __init__(self, root: Path, mesh: DeviceMesh, settings: Settings) -> None:
        self.device = device = torch.device(mesh.device_type)
        self.transformer = transformer = with_adapters(load_transformer(root), settings)
        self.mask_shown = torch.ones((), device=device)
        if transformer.mask_embedding is not None:
            transformer.mask_embedding.register_forward_hook(
                lambda module, inputs, out: out * self.mask_shown.to(out.dtype)
            )

        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if settings.bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        names = {id(p): name for name, p in transformer.named_parameters()}
        whole = {p for name, p in transformer.named_parameters() if kept_in_float32(name)}
        if settings.base == "int8" or settings.swap:
            whole |= {p for p in transformer.blocks.parameters() if not p.requires_grad}
        for unit in (*transformer.blocks, transformer):
            # Move one unit at a time to the device, so that only one unit is whole there.
            for parameter in unit.parameters():
                if not isinstance(parameter, DTensor):
                    name = names[id(parameter)]
                    on_host = settings.swap and name.startswith("blocks.") and not parameter.requires_grad
                    parameter.data = stored(
                        parameter.data, name, parameter.requires_grad, settings, None if on_host else device
                    )
            fully_shard(unit, mesh=mesh, mp_policy=policy, ignored_params=whole, reshard_after_forward=True)
        self.parameters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
        # The optimiser works on plain tensors, because every operation on a DTensor has a large overhead.
        self.masters = {name: nn.Parameter(local_shard(p.detach())) for name, p in self.parameters.items()}
        average_device = "cpu" if settings.ema_on == "host" else device
        averaged = self.masters.items() if settings.ema else ()
        self.average = {name: p.detach().clone().to(average_device) for name, p in averaged}

    def as_sharded(self, name: str, shard: torch.Tensor) -> torch.Tensor:
        """A tensor with the shape and the sharding of parameter `name`, from this rank's shard.

        It shares memory with a shard that is on the device.
        """
        parameter = self.parameters[name]
        shard = shard.to(self.device)
        if not isinstance(parameter, DTensor):
            return shard
        layout = {"shape": parameter.shape, "stride": parameter.stride(), "run_check": False}
        return DTensor.from_local(shard, parameter.device_mesh, parameter.placements, **layout)

    def show_mask(self, shown: bool) -> None:
        """Show or hide the mask. A hidden mask has the effect of no mask; it is embedded and multiplied by 0, because
        all ranks must have gradients for the same parameters."""
        self.mask_shown.fill_(float(shown))

    def reduce_gradients(self, max_norm: float) -> torch.Tensor:
        """Move the parameters' gradients to the masters, averaged over the ranks and clipped to a joint `max_norm`.

        FSDP has already averaged the gradients of sharded parameters. Returns the norm before clipping.
        """
        sharded: list[torch.Tensor] = []
        whole: list[torch.Tensor] = []
        for name, parameter in self.parameters.items():
            self.masters[name].grad = gradient = local_shard(parameter.grad)
            (sharded if isinstance(parameter, DTensor) else whole).append(gradient)
            parameter.grad = None
        for gradient in whole:
            dist.all_reduce(gradient.div_(dist.get_world_size()))
        square = torch.nn.utils.get_total_norm(sharded) ** 2
        dist.all_reduce(square)
        norm = (square + torch.nn.utils.get_total_norm(whole).to(square) ** 2).sqrt()
        torch._foreach_mul_(sharded + whole, (max_norm / norm).clamp(max=1.0))
        return norm

    def clear_gradients(self) -> None:
        """Drop the gradients of parameters and masters."""
        for parameter in (*self.parameters.values(), *self.masters.values()):
            parameter.grad = None

    @torch.no_grad()
    def update_average(self, step: int, decay: float) -> None:
        """Move the average towards the weights; the decay is smaller in the first steps."""
        weight = 1 - min(decay, (1 + step) / (10 + step))
        averages = list(self.average.values())
        if not averages:
            return
        torch._foreach_lerp_(averages, [self.masters[name].to(a.device) for name, a in self.average.items()], weight)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchange the weights with their average; without an average nothing happens."""
        for name, average in self.average.items():
            weights = self.masters[name]
            previous = weights.to(average.device, copy=True)
            weights.copy_(average)
            average.copy_(previous)

    def block_runner(self, settings: Settings) -> BlockRunner | None:
        """The runner of the blocks for the `cache` argument of Transformer.forward; compiles them if asked to."""
        if settings.compile:
            for block in self.transformer.blocks:
                block.compile(dynamic=False)
        return RecomputingRunner(settings.recompute, self.device if settings.swap else None)


def with_adapters(transformer: Transformer, settings: Settings | Rehearsal) -> Transformer:
    """Add the adapters of a LoRA run and freeze the weights that Wan has, as int8 if `base` says so.

    Without `lora` the transformer is returned unchanged.
    """
    if not settings.lora:
        return transformer
    from vera.core.model.lora import add_lora

    torch.manual_seed(settings.seed)  # the same adapters on every rank
    transformer.requires_grad_(False)
    add_lora(transformer, **settings.lora)
    for name, parameter in transformer.named_parameters():
        if name.startswith(NEW_PARAMETERS):  # weights that Wan does not have are trained fully
            parameter.requires_grad_(True)
    if settings.base == "int8":
        freeze_in_8_bits(transformer.blocks)
    return transformer


def stored(
    value: torch.Tensor, name: str, trained: bool, settings: Settings, device: torch.device | None
) -> torch.Tensor:
    """A parameter in its storage dtype on the device; with device None in pinned host memory."""
    if not value.is_floating_point():
        dtype = value.dtype
    elif trained or kept_in_float32(name) or settings.base == "fp32" or not settings.bf16 or name.endswith(".scale"):
        dtype = torch.float32
    else:
        dtype = torch.bfloat16
    if device is not None:
        return value.to(device, dtype)
    value = value.to(dtype, copy=True)  # a copy, since a memory-mapped tensor cannot be pinned
    return value.pin_memory() if torch.cuda.is_available() else value


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a tensor, or the tensor itself if it is not sharded; shares memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def load_transformer(root: Path) -> Transformer:
    """A model directory's transformer, memory-mapped from its files. Raises InputError if the shapes do not fit."""
    config = TransformerConfig.load(root / "transformer" / "config.json")
    files = TensorFiles(root / "transformer")
    check_shapes(files.shapes, parameter_shapes(config), root / "transformer")
    with torch.device("meta"):
        transformer = Transformer(config)
    load_weights(transformer, files, None)
    return transformer


class RecomputingRunner:
    """Runs blocks with activation checkpointing: only the blocks' inputs are kept for the backward pass.

    recompute: True recomputes each block. "but attention" also keeps the results of attention, which is most of the
    work. False keeps all activations. device: where blocks with frozen weights in host memory compute, or None.
    """

    def __init__(self, recompute: bool | str = True, device: torch.device | None = None) -> None:
        self.recompute, self.device = recompute, device

    def run(self, blocks: Sequence[Callable[..., torch.Tensor]], hidden: torch.Tensor, *inputs: Any) -> torch.Tensor:
        """Run the blocks one after the other on `hidden`; `inputs` go to each block."""
        for block in blocks:
            call = block if self.device is None else partial(run_on_device, block, self.device)
            if torch.is_grad_enabled() and self.recompute:
                hidden = checkpoint(call, hidden, *inputs, use_reentrant=False, **self._checkpoint_options())
            else:
                hidden = call(hidden, *inputs)
        return hidden

    def _checkpoint_options(self):
        if self.recompute != "but attention":
            return {}
        return {"context_fn": partial(create_selective_checkpoint_contexts, keep_attention)}


def keep_attention(context: Any, operation: Any, *arguments: Any, **named: Any) -> CheckpointPolicy:
    """The policy for torch's selective checkpointing that keeps the results of attention."""
    kept = operation.name().partition(".")[0] in ATTENTION_OPERATIONS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
