"""Read safetensors files: names and shapes before any weight, weights one at a time.

Pickled checkpoints can run code when they are opened, so they are refused with a message on how to convert them.
"""

import json
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from vera.core.errors import InputError
from vera.core.files import replacing
from vera.core.model.device import indexed

PICKLES = (".pth", ".pt", ".bin", ".ckpt")


class TensorFiles:
    """The tensors of one safetensors file, or of a folder's files (the shards of one model).

    shapes, types: shape and type by name, from the headers
    `get` reads one tensor onto the device. On the CPU the tensor maps the file privately: pages are read when they are
    first used and released with the file. Only one file is open at a time, so pages of the others stay in memory only
    as long as their tensors do.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu", excluded: Iterable[str] = ()):
        self.path, self.device = Path(path), indexed(device)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, torch.dtype] = {}
        self._at: dict[str, tuple[Path, str]] = {}  # name -> (file, name in it)
        self._open: tuple[Path | None, Any] = (None, None)
        for file in weight_files(self.path, excluded):
            handle = self._opened(file)
            for name in handle.keys():
                if name in self.shapes:
                    raise InputError(f"{file}: '{name}' is in another file of the folder too; keep one checkpoint")
                part = handle.get_slice(name)
                self.shapes[name] = tuple(part.get_shape())
                self.types[name] = torch_type(file, part.get_dtype())
                self._at[name] = (file, name)
        self._open = (None, None)

    def get(self, name: str) -> torch.Tensor:
        """One tensor, on the device, in the file's own type."""
        file, stored = self._at[name]
        return self._opened(file).get_tensor(stored)

    def by_file(self, names: Iterable[str]) -> Iterator[str]:
        """The names grouped by file, so that no file is opened twice."""
        return iter(sorted(names, key=lambda name: self._at[name][0]))

    def alias(self, name: str, of: str) -> None:
        """Give a tensor a second name."""
        self.shapes[name] = self.shapes[of]
        self.types[name] = self.types[of]
        self._at[name] = self._at[of]

    def drop_prefix(self, prefixes: Iterable[str]) -> None:
        """Remove the first of these prefixes that all names share, if any."""
        prefix = next((p for p in prefixes if all(name.startswith(p) for name in self.shapes)), "")
        self.shapes = {name.removeprefix(prefix): shape for name, shape in self.shapes.items()}
        self.types = {name.removeprefix(prefix): kind for name, kind in self.types.items()}
        self._at = {name.removeprefix(prefix): place for name, place in self._at.items()}

    def _opened(self, file: Path) -> Any:
        if self._open[0] != file:
            self._open = (None, None)
            try:
                self._open = (file, safe_open(file, "pt", device=self.device))
            except (SafetensorError, OSError) as error:
                raise InputError(f"{file}: not a readable safetensors file ({error})") from None
        return self._open[1]


def weight_files(path: Path, excluded: Iterable[str] = ()) -> list[Path]:
    """The safetensors files of a path: the file itself, or those of a folder (by its index, if it has one).

    excluded: stems of files that belong to something else
    Raises InputError if there are none, or if files named by the index are missing.
    """
    if path.is_file():
        if path.suffix in PICKLES:
            raise refused_pickle(path)
        return [path]
    files = sorted(f for f in path.glob("*.safetensors") if f.stem not in excluded) if path.is_dir() else []
    if not files:
        pickles = [f for f in sorted(path.glob("*")) if f.suffix in PICKLES and f.stem not in excluded]
        raise refused_pickle(pickles[0]) if pickles else InputError(f"{path}: no safetensors files here")
    indices = sorted(path.glob("*.safetensors.index.json"))
    if len(indices) > 1:
        raise InputError(f"{path}: two indices, {indices[0].name} and {indices[1].name}; keep one checkpoint")
    return shards_of(indices[0]) if indices else files


def shards_of(index: Path) -> list[Path]:
    """The files named by an index, in the index's folder."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{index}: not an index of safetensors files; copy it again") from None
    missing = outside or [name for name in names if not (index.parent / name).is_file()]
    if missing or not names:
        raise InputError(
            f"{index}: names {listed(missing) or 'no file'}, not beside it; copy all files of the checkpoint"
        )
    return [index.parent / name for name in names]


def refused_pickle(path: Path) -> InputError:
    """The error for weights that could run code, with the way to convert them."""
    return InputError(
        f"{path}: pickled weights are not read; convert them where you trust them: "
        "safetensors.torch.save_file(torch.load(path, weights_only=True), 'model.safetensors')"
    )


def torch_type(file: Path, name: str) -> torch.dtype:
    """The torch type of a type's name in a safetensors header. Raises InputError for types that weights cannot have."""
    types = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    if name not in types:
        raise InputError(f"{file}: holds {name} tensors; quantised weights are not read, only F16, BF16, F32 and F64")
    return types[name]


def check_shapes(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: Path | str, hint: str = ""
) -> None:
    """Raise InputError for missing, surplus and misshapen tensors, with the first few of each."""
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


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a module's parameters and buffers."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def load_weights(
    module: nn.Module,
    files: TensorFiles,
    dtype: torch.dtype | None,
    in_float32: Callable[[str], bool] = lambda name: False,
    changed: Callable[[str, Tensor], Tensor] | None = None,
    quantise_linear: Callable[[nn.Module, str], None] | None = None,
) -> None:
    """Load the weights of a module built on `meta`, one tensor at a time.

    dtype: of the weights; None keeps the files' types
    in_float32: whether a parameter of this name stays fp32 although dtype is set
    changed: maps (name, tensor) to the tensor that is stored
    quantise_linear: called with (owner, name) as soon as a parameter is loaded
    If nothing changes the tensors, they stay mapped to their files. Otherwise they are copies, because a mapped tensor
    keeps its whole file open. Raises InputError for weights that are not finite.
    """
    for name in files.by_file(module.state_dict()):
        tensor = files.get(name)
        refuse_not_finite(name, tensor, files.path)
        kind = tensor.dtype if dtype is None else torch.float32 if in_float32(name) else dtype
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        tensor = changed(name, tensor) if changed else tensor
        tensor = tensor.to(kind, copy=bool(dtype or changed))
        owner.load_state_dict({leaf: tensor}, strict=False, assign=True)
        if quantise_linear:
            quantise_linear(owner, name)
        del tensor
    module.eval()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically, with the usual permissions of new files in its folder. Raises OSError.

    The library itself writes files that only their owner can read.
    """
    with replacing(path) as part:
        mode = stat.S_IMODE(part.stat().st_mode)
        save_file(dict(tensors), part, metadata)
        part.chmod(mode)


def refuse_not_finite(name: str, tensor: Tensor, where: Path) -> None:
    """Raise InputError for a weight that holds a NaN or an infinity: every pixel would be one."""
    if tensor.is_floating_point() and not bool(tensor.sum(dtype=torch.float32).isfinite()):
        raise InputError(f"{where}: '{name}' holds values that are not finite; the file is damaged, copy it again")


def read_json(path: Path) -> dict[str, Any]:
    """A configuration file of a model directory. Raises InputError."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; a model directory needs it") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({str(error)[:200]})") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a JSON object")
    return values


def listed(names: Iterable[str], limit: int = 3) -> str:
    """The first few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
