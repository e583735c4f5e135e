"""A Vera directory's transformer cut over ranks: fp32 masters in shards, bf16 at work."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from vera.core.model.config import TransformerConfig
from vera.core.model.load import fill
from vera.core.model.tensors import TensorFiles, check_shapes
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.checkpoint import NEW, parameter_shapes


class FullModel:
    """The transformer under FSDP2; by name, its trained parameters, this rank's shares of them, and of their average.

    Each block is a unit of its own, gathered when it works; the rest is one. What must compute in fp32 (modulation,
    time embedder, text's norm) stays whole and fp32 on every rank: FSDP2 has one working type a unit.
    """

    def __init__(self, root: Path, mesh, bf16: bool, lora: dict | None, seed: int):
        device = mesh.device_type
        self.transformer = transformer = from_directory(root)
        if lora:
            from vera.core.model.lora import add_lora

            torch.manual_seed(seed)  # the same adapters on every rank
            transformer.requires_grad_(False)
            add_lora(transformer, **lora)
            for name, parameter in transformer.named_parameters():
                if name.startswith(NEW):  # what Wan does not have must be learned whole
                    parameter.requires_grad_(True)
        self.shown = torch.ones((), device=device)
        if transformer.mask_embedding is not None:
            transformer.mask_embedding.register_forward_hook(lambda module, given, out: out * self.shown.to(out.dtype))

        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
        islands = {p for name, p in transformer.named_parameters() if kept_in_float32(name)}
        for unit in (*transformer.blocks, transformer):
            # Only now onto the device and to fp32: one unit at a time is whole there.
            for parameter in unit.parameters():
                if not isinstance(parameter, DTensor):
                    parameter.data = parameter.data.to(device, torch.float32)
            fully_shard(unit, mesh=mesh, mp_policy=policy, ignored_params=islands, reshard_after_forward=True)
        self.parameters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
        # The optimiser works on this rank's shares as plain tensors: to DTensor each of its operations is a new one.
        self.masters = {name: nn.Parameter(local(p.detach())) for name, p in self.parameters.items()}
        self.average = {name: p.detach().clone() for name, p in self.masters.items()}

    def as_cut(self, name: str, share: torch.Tensor) -> torch.Tensor:
        """A tensor of a parameter's shape, of which this rank holds `share`; the same memory."""
        whole = self.parameters[name]
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
        cut, whole = [], []
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

    @torch.no_grad()
    def follow(self, step: int, decay: float) -> None:
        """Let the average follow the weights; it forgets its start sooner in the first steps."""
        weight = 1 - min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), list(self.masters.values()), weight)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Put the average in place of the weights, and the weights in place of the average."""
        for average, weights in zip(self.average.values(), self.masters.values()):
            kept = weights.clone()
            weights.copy_(average)
            average.copy_(kept)


def local(tensor):
    """This rank's share of a tensor, or the whole of one that is not cut; the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def from_directory(root: Path) -> Transformer:
    """A Vera directory's transformer, mapped from its files. Raises InputError if they do not fit."""
    config = TransformerConfig.load(root / "transformer" / "config.json")
    files = TensorFiles(root / "transformer")
    check_shapes(files.shapes, parameter_shapes(config), root / "transformer")
    with torch.device("meta"):
        transformer = Transformer(config)
    fill(transformer, files, None)
    return transformer


class Recomputed:
    """Runs the blocks keeping their inputs only; what is inside is computed again for the gradient."""

    def run(self, blocks, hidden, *given):
        for block in blocks:
            if torch.is_grad_enabled():
                hidden = checkpoint(block, hidden, *given, use_reentrant=False)
            else:
                hidden = block(hidden, *given)
        return hidden
