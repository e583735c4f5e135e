"""A Vera directory's transformer cut over ranks: fp32 masters in shards, bf16 at work."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint

from core.model.config import TransformerConfig
from core.model.load import fill
from core.model.tensors import TensorFiles, check_shapes
from core.model.transformer import Transformer, kept_in_float32
from core.model.wan import NEW, parameter_shapes


class FullModel:
    """The transformer under FSDP2, its trained parameters by name, and their moving average.

    Each block is a unit of its own, gathered when it works; the rest is one. What must compute in fp32 (modulation,
    time embedder, text's norm) stays whole and fp32 on every rank: FSDP2 has one working type a unit.
    """

    def __init__(self, root: Path, mesh, bf16: bool, lora: dict | None, seed: int):
        device = mesh.device_type
        self.transformer = transformer = from_directory(root)
        if lora:
            from core.model.lora import add_lora

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
                if not isinstance(parameter, dist.tensor.DTensor):
                    parameter.data = parameter.data.to(device, torch.float32)
            fully_shard(unit, mesh=mesh, mp_policy=policy, ignored_params=islands, reshard_after_forward=True)
        trained = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
        self.whole = {name: p for name, p in trained.items() if p in islands}
        self.cut = {name: p for name, p in trained.items() if p not in islands}
        self.trained = self.cut | self.whole
        self.average = {name: p.detach().clone() for name, p in self.trained.items()}

    def show_mask(self, shown: bool) -> None:
        """Whether the mask given is seen. Not to see it is to the model as none given; it is embedded all the
        same, because all ranks must have gradients of the same parameters."""
        self.shown.fill_(float(shown))

    def clip_gradients(self, most: float) -> torch.Tensor:
        """Average the whole parameters' gradients over the ranks (FSDP did the others'), then cut all of them to a
        norm of `most` together; the norm they had."""
        for parameter in self.whole.values():
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
        cut = torch.nn.utils.get_total_norm([p.grad for p in self.cut.values()]).full_tensor()
        whole = torch.nn.utils.get_total_norm([p.grad for p in self.whole.values()]) if self.whole else 0 * cut
        norm = (cut**2 + whole**2).sqrt()
        for group in (self.cut, self.whole):
            for parameter in group.values():
                parameter.grad.mul_((most / norm).clamp(max=1.0))
        return norm

    @torch.no_grad()
    def follow(self, step: int, decay: float) -> None:
        """Let the average follow the weights; it forgets its start sooner in the first steps."""
        weight = 1 - min(decay, (1 + step) / (10 + step))
        for name, parameter in self.trained.items():
            self.average[name].lerp_(parameter, weight)

    @torch.no_grad()
    def swap_average(self) -> None:
        """Put the average in place of the weights, and the weights in place of the average."""
        for name, parameter in self.trained.items():
            weights = parameter.detach().clone()
            parameter.copy_(self.average[name])
            self.average[name].copy_(weights)


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
