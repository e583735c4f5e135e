"""Safetensors files: names and shapes before any weight, weights one at a time.

Only safetensors are read. Pickled checkpoints can run code when they are opened,
so they are refused, with the way to convert them.
"""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from core.errors import InputError

PICKLES = (".pth", ".pt", ".bin", ".ckpt")


class TensorFiles:
    """The tensors of one safetensors file, or of all of a folder's (the shards of one model).

    shapes maps each name to its shape; only headers have been read then. get(name)
    reads one tensor onto the device. On the CPU it is a private mapping of the file:
    pages are read when they are first used.
    """

    def __init__(self, path: Path, device="cpu"):
        self.path = Path(path)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, torch.dtype] = {}
        self._holder = {}  # name -> (open file, name in it)
        for file in weight_files(self.path):
            try:
                handle = safe_open(file, "pt", device=str(device))
            except (SafetensorError, OSError) as error:
                raise InputError(f"{file}: not a readable safetensors file ({error})") from None
            for name in handle.keys():
                if name in self.shapes:
                    raise InputError(f"{file}: '{name}' is in another file of the folder too; keep one checkpoint")
                part = handle.get_slice(name)
                self.shapes[name] = tuple(part.get_shape())
                self.types[name] = torch_type(file, part.get_dtype())
                self._holder[name] = (handle, name)

    def get(self, name: str) -> torch.Tensor:
        handle, stored = self._holder[name]
        return handle.get_tensor(stored)

    def alias(self, name: str, of: str) -> None:
        """Let a tensor be found under another name too."""
        for table in (self.shapes, self.types, self._holder):
            table[name] = table[of]


def weight_files(path: Path) -> list[Path]:
    """The safetensors of a folder, or the one file; InputError where there are none."""
    if path.is_file():
        if path.suffix in PICKLES:
            raise refused_pickle(path)
        return [path]
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if not files:
        pickles = [f for f in sorted(path.glob("*")) if f.suffix in PICKLES]
        raise refused_pickle(pickles[0]) if pickles else InputError(f"{path}: no safetensors files here")
    return files


def refused_pickle(path: Path) -> InputError:
    return InputError(
        f"{path}: pickled weights are not read; convert them where you trust them: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
    )


def torch_type(file: Path, name: str) -> torch.dtype:
    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    if name not in types:
        raise InputError(f"{file}: holds {name} tensors; quantised weights are not read, only F16, BF16, F32 and F64")
    return types[name]


def check_shapes(found: Mapping[str, tuple], expected: Mapping[str, tuple], where, hint: str = "") -> None:
    """Refuse missing, surplus and misshapen tensors: one InputError naming the first few of each."""
    missing = [n for n in expected if n not in found]
    surplus = [n for n in found if n not in expected]
    shaped = [
        f"{n} {tuple(found[n])} where {tuple(expected[n])} is needed"
        for n in expected
        if n in found and tuple(found[n]) != tuple(expected[n])
    ]
    kinds = (("missing", missing), ("surplus", surplus), ("misshapen", shaped))
    faults = [f"{len(names)} {kind}: {listed(names)}" for kind, names in kinds if names]
    if faults:
        raise InputError(f"{where}: tensors do not fit the model; " + "; ".join(faults) + hint)


def listed(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def byte_count(shape: tuple, dtype: torch.dtype) -> int:
    return math.prod(shape) * dtype.itemsize
