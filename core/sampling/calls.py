"""Send calls from rank 0 to all other processes: any structure of tensors and picklable values."""

import io
import pickle
from typing import Any

import torch
import torch.distributed as dist


def give(call: Any, device: torch.device) -> None:
    """Send `call` from rank 0 to every other rank, each of which must call `take`.

    call: any structure of tuples, dictionaries, dataclasses, tensors, ... Tensors in CPU memory arrive in CPU memory,
    all others on the receiver's device. device: the sender's device, which holds the other tensors.
    """
    packer = _Packer()
    packed = packer.packed(call)
    shapes = [(t.shape, t.dtype, t.device.type == "cpu") for t in packer.tensors]
    dist.broadcast_object_list([packed, shapes], src=0, device=torch.device("cpu"))
    for tensor, (_, _, in_host) in zip(packer.tensors, shapes):
        _broadcast(tensor.detach() if in_host else tensor.detach().to(device))


def take(device: torch.device) -> Any:
    """Wait for the next call from rank 0 and return it. Tensors that were not in CPU memory arrive on `device`."""
    box: list[Any] = [None, None]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    packed, shapes = box
    tensors = [_broadcast(torch.empty(s, dtype=t, device="cpu" if host else device)) for s, t, host in shapes]
    return _Unpacker(packed, tensors).load()


def _broadcast(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous()
    if tensor.numel():
        dist.broadcast(tensor, src=0)
    return tensor


class _Packer(pickle.Pickler):
    """Pickles everything except tensors, and collects the tensors in order."""

    def __init__(self):
        self.file = io.BytesIO()
        super().__init__(self.file, pickle.HIGHEST_PROTOCOL)
        self.tensors: list[torch.Tensor] = []

    def packed(self, call) -> bytes:
        self.dump(call)
        return self.file.getvalue()

    def persistent_id(self, thing):
        if not isinstance(thing, torch.Tensor):
            return None
        self.tensors.append(thing)
        return len(self.tensors) - 1


class _Unpacker(pickle.Unpickler):
    def __init__(self, packed: bytes, tensors: list[torch.Tensor]):
        super().__init__(io.BytesIO(packed))
        self.tensors = tensors

    def persistent_load(self, number):
        return self.tensors[number]
