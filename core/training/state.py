"""Training state on disk: saved whole, replaced at once, resumed to the same loss."""

import json
import os
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

STATE = "state.safetensors"


def save_state(folder: Path, step: int, modules: dict, optimizer, extra: dict | None = None) -> None:
    """Weights of `modules` (name -> Module), the optimiser's moments and the step, in one file."""
    tensors = {}
    for name, module in modules.items():
        tensors |= {f"{name}/{k}": v.detach().contiguous() for k, v in module.state_dict().items()}
    for index, entry in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{k}": torch.as_tensor(v).contiguous() for k, v in entry.items()}
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / (STATE + ".part")
    save_file(tensors, part, {"step": str(step), "extra": json.dumps(extra or {})})
    os.replace(part, folder / STATE)


def load_state(folder: Path, modules: dict, optimizer) -> tuple[int, dict]:
    """Fill modules and optimiser from the last save; (step, extra), step 0 where there is none."""
    path = folder / STATE
    if not path.exists():
        return 0, {}
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for name, module in modules.items():
        module.load_state_dict({k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + "/")})
    state = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["step"]), json.loads(metadata["extra"])


class Ema:
    """An exponential moving average of modules' weights, in copies of the modules."""

    def __init__(self, modules: dict, decay: float):
        import copy

        self.decay = decay
        self.modules = {name: copy.deepcopy(m).eval().requires_grad_(False) for name, m in modules.items()}

    def copy(self, modules: dict) -> None:
        """Begin again from the modules as they are."""
        for name, module in modules.items():
            self.modules[name].load_state_dict(module.state_dict())

    @torch.no_grad()
    def update(self, modules: dict, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, module in modules.items():
            mine, theirs = list(self.modules[name].parameters()), list(module.parameters())
            torch._foreach_lerp_(mine, theirs, 1 - decay)
            for a, b in zip(self.modules[name].buffers(), module.buffers()):
                a.copy_(b)


def trapezoid(step: int, total: int, peak: float, warmup: int = 200, decay: float = 0.25) -> float:
    """Learning rate: a short warm-up, then level, then straight down over the last `decay` of the steps."""
    left = (total - step) / max(1, decay * total)
    return peak * min(1.0, (step + 1) / warmup, max(0.02, left))


def log_line(folder: Path, **values) -> None:
    """One JSON line to log.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
