"""The training state on disk, written atomically, from which a run resumes to the same losses."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from vera.core.errors import InputError
from vera.core.model.tensors import save_tensors
from vera.core.training.console import Console

STATE = "state.safetensors"
MAX_REASON = 200  # characters of another library's error that a message repeats


def save_state(
    folder: Path,
    step: int,
    modules: dict[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write the weights of `modules` (name -> Module), the optimiser's moments and the step to one file."""
    tensors: dict[str, torch.Tensor] = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v).contiguous() for k, v in entry.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / STATE, tensors, {"step": str(step), "extra": json.dumps(extra or {})})


def load_state(
    folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, console: Console | None = None
) -> tuple[int, dict[str, Any]]:
    """Load modules and optimiser from the saved state; return (step, extra), with step 0 if there is no state.

    The moments are reset if their shapes differ, as in states of versions with another order of parameters. Raises
    InputError for a state that cannot be read or belongs to another model.
    """
    path = folder / STATE
    if not path.exists():
        return 0, {}
    tensors, step, extra = read_state(path)
    try:
        for name, module in modules.items():
            module.load_state_dict({k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + "/")})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise InputError(f"{path}: the state of another model ({reason}); train into another folder") from None
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if any("exp_avg" in each and each["exp_avg"].shape != parameters[index].shape for index, each in state.items()):
        if console:
            console.say(f"{path}: the optimiser's moments belong to another version and are reset")
        state = {}
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step, extra


def read_state(path: Path) -> tuple[dict[str, Tensor], int, dict[str, Any]]:
    """(tensors by name, step, extra) of a saved state. Raises InputError."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        return load_file(path), int(metadata["step"]), json.loads(metadata["extra"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:MAX_REASON]
        raise InputError(f"{path}: not a readable state of training ({reason})") from None


class Ema:
    """An exponential moving average of the modules' weights, held in copies of the modules."""

    def __init__(self, modules: dict[str, nn.Module], decay: float) -> None:
        import copy

        self.decay = decay
        self.modules = {name: copy.deepcopy(m).eval().requires_grad_(False) for name, m in modules.items()}

    def copy(self, modules: dict[str, nn.Module]) -> None:
        """Reset the average to the modules' present weights."""
        for name, module in modules.items():
            self.modules[name].load_state_dict(module.state_dict())

    @torch.no_grad()
    def update(self, modules: dict[str, nn.Module], step: int) -> None:
        """Move the average towards the modules; the decay is smaller in the first steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, module in modules.items():
            mine, theirs = list(self.modules[name].parameters()), list(module.parameters())
            torch._foreach_lerp_(mine, theirs, 1 - decay)
            for a, b in zip(self.modules[name].buffers(), module.buffers()):
                a.copy_(b)


def trapezoid(step: int, total: int, peak: float, warmup: int = 200, decay: float = 0.25) -> float:
    """Learning rate: linear warm-up over `warmup` steps, constant, then linear decay over the last `decay` share."""
    left = (total - step) / max(1, decay * total)
    return peak * min(1.0, (step + 1) / warmup, max(0.02, left))


def log_line(folder: Path, **values: object) -> None:
    """Append one JSON line to log.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
