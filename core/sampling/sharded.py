"""A transformer whose blocks are cut over processes: each holds its share of the weights, and gathers one block while
it works (FSDP2). For models that do not fit one GPU whole.
"""

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from vera.core.errors import InputError
from vera.core.model.offload import COMPUTES_ON
from vera.core.model.transformer import Transformer, kept_in_float32


def shard(transformer: Transformer, mesh: DeviceMesh, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Cut the blocks' weights evenly over the ranks of the mesh, in place.

    transformer: in the host's memory, mapped to its files if they are on a disk that all ranks read. Only one block
    at a time is whole on the device while this works. dtype: of the weights; None keeps the files' own. What computes
    in fp32, and all that is outside the blocks, stays whole on each rank.
    """
    outside = set(transformer.parameters()) - set(transformer.blocks.parameters())
    fp32 = {value for name, value in transformer.named_parameters() if kept_in_float32(name)}
    for parameter in outside:
        _place(parameter, device, None if parameter in fp32 else dtype)
    for buffer in transformer.buffers():
        buffer.data = buffer.data.to(device)
    for block in transformer.blocks:
        for parameter in block.parameters():
            _place(parameter, device, None if parameter in fp32 else dtype)
        fully_shard(block, mesh=mesh, ignored_params=fp32, reshard_after_forward=True)
    fully_shard(transformer, mesh=mesh, ignored_params=outside | fp32, reshard_after_forward=True)
    setattr(transformer, COMPUTES_ON, device)


def refuse_unsharded(weights: str, offload: str, planned: bool) -> None:
    """Raise InputError for what cannot be combined with weights that are shared out."""
    if not planned:
        raise InputError("--shard: this model is small and fits everywhere; leave it out")
    if weights not in ("auto", "bf16"):
        raise InputError(f"--shard: weights of {weights} stay whole in each process; leave out --weights or --shard")
    if offload not in ("auto", "none"):
        raise InputError(f"--shard: {offload} cannot wait in the host's memory then; leave out --offload or --shard")


def _place(parameter: torch.nn.Parameter, device: torch.device, dtype: torch.dtype | None) -> None:
    parameter.data = parameter.data.to(device, dtype or parameter.dtype)
