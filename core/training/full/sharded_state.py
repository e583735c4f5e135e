"""States of a full-size run on disk, resumable on another number of ranks, and the export as a model directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.tensor import DTensor

from vera.core.errors import InputError
from vera.core.model.tensors import TensorFiles, save_tensors
from vera.core.model.transformer import kept_in_float32
from vera.core.training.full.sharded_model import local_shard
from vera.core.training.full.state_reader import StateReader

if TYPE_CHECKING:
    from vera.core.training.full.boards import Board
    from vera.core.training.full.sharded_model import FullModel

STATES_KEPT = 2  # newest states on disk; the older one serves if the newest is damaged. Raising it takes more disk
SHARD_BYTES = 5 << 30  # bytes after which an export begins a new file of weights; raising it makes fewer files


def saved_tensors(model: FullModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """All tensors of a run by name: weights, average, moments, step; sharded parameters stay sharded."""
    tensors: dict[str, torch.Tensor] = {}
    for name, master in model.masters.items():
        state = optimizer.state[master]
        if not state:  # before the first step
            state |= {k: torch.zeros_like(master) for k in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
        parts = {"weights": master.detach()}
        if model.average:
            parts["average"] = model.average[name]
        parts |= {k: state[k] for k in ("exp_avg", "exp_avg_sq")}
        tensors |= {f"{kind}/{name}": model.as_sharded(name, part) for kind, part in parts.items()}
        tensors[f"step/{name}"] = state["step"]
    return tensors


def save_state(folder: Path, step: int, model: FullModel, optimizer: torch.optim.Optimizer) -> None:
    """Write step-NNNNNN atomically with torch.distributed.checkpoint; each rank writes its own shards."""
    final, part = folder / f"step-{step:06d}", folder / "step.part"
    if dist.get_rank() == 0:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    dist.barrier()
    dcp.save(saved_tensors(model, optimizer), checkpoint_id=part)
    if dist.get_rank() == 0:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
        for old in states(folder)[:-STATES_KEPT]:
            shutil.rmtree(old)
    dist.barrier()


def load_state(
    folder: Path,
    model: FullModel,
    optimizer: torch.optim.Optimizer,
    report_unreadable: Callable[[str, str], object] = lambda state, reason: None,
) -> int:
    """Load model and optimiser in place from the newest readable state; return its step, 0 if there is no state.

    report_unreadable(state, reason) is called for each newer state that cannot be read. Raises InputError if states
    exist and none can be read, since a run must not restart without the user's decision.
    """
    candidates, reason = states(folder), ""
    for state in reversed(candidates):
        tensors, reason = saved_tensors(model, optimizer), ""
        try:
            dcp.load(tensors, storage_reader=StateReader(state))
        except (Exception, CheckpointException) as error:  # a truncated file can make the reader raise anything
            reason = why_unreadable(error)
        if not true_on_all_ranks(not reason):
            reason = reason or "another rank cannot read its share"
            report_unreadable(str(state), reason)
            continue
        for name, average in model.average.items():
            average.copy_(local_shard(tensors[f"average/{name}"]))  # an average in host memory was loaded to a copy
        return int(state.name.removeprefix("step-"))
    if candidates:
        raise InputError(
            f"{candidates[-1]}: no state of this run can be read ({reason}); use the run's own configuration,"
            " restore a state from a backup, or start a new run in another folder with --out"
        )
    return 0


def why_unreadable(error: Exception) -> str:
    """The first reason that torch.distributed.checkpoint gives, as one line."""
    failures = getattr(error, "failures", None) or {0: (error, None)}
    first = next(iter(failures.values()))[0]
    lines = str(first).strip().splitlines() or [type(first).__name__]
    return lines[-1][:200]


def true_on_all_ranks(value: bool) -> bool:
    """Whether `value` is True on every rank."""
    flag = torch.tensor(int(value))
    dist.all_reduce(flag, dist.ReduceOp.MIN)
    return bool(flag)


def states(folder: Path) -> list[Path]:
    """The folders of a run's states, oldest first."""
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir())


def export(model: FullModel, start: Path, target: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write the averaged weights, or the weights if no average is kept, as a model directory.

    The transformer is bf16, and fp32 where it must be. The other parts are copied from `start`,
    the directory of the model that the run began with. The adapters of a
    LoRA run become `lora.safetensors` in the directory. Every rank must call this function: tensors are gathered one
    by one and the first rank writes them. `target` must not exist.
    """
    first, work = dist.get_rank() == 0, target.with_name(target.name + ".part")
    if first:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(
            start, work, ignore=lambda folder, names: [n for n in names if (Path(folder) / n) == start / "transformer"]
        )
        (work / "transformer").mkdir()
        shutil.copy(start / "transformer/config.json", work / "transformer/config.json")
    files, shards = TensorFiles(start / "transformer"), 0
    shard: dict[str, torch.Tensor] = {}
    adapters: dict[str, torch.Tensor] = {}
    trained = model.average or {name: master.detach() for name, master in model.masters.items()}
    for name in [*files.shapes, *(n for n in trained if n not in files.shapes)]:
        if name in trained:
            value = model.as_sharded(name, trained[name])
            value = value.full_tensor() if isinstance(value, DTensor) else value
        else:  # not trained
            value = files.get(name)
        if not first:
            continue
        if name not in files.shapes:
            adapters[name] = value.to("cpu").contiguous()
            continue
        if sum(v.nbytes for v in shard.values()) > shard_bytes:
            save_tensors(work / f"transformer/model-{(shards := shards + 1):05}.safetensors", shard, {"format": "pt"})
            shard = {}
        shard[name] = value.to("cpu", torch.float32 if kept_in_float32(name) else torch.bfloat16).contiguous()
    if first:
        save_tensors(work / f"transformer/model-{shards + 1:05}.safetensors", shard, {"format": "pt"})
        if adapters:
            from vera.core.model.lora import save_lora

            save_lora(model.transformer, work / "lora.safetensors", {file_name(n): v for n, v in adapters.items()})
        os.replace(work, target)
    dist.barrier()


def file_name(adapter: str) -> str:
    """The name of an adapter in a file, from its name in PEFT's model."""
    return "transformer." + adapter.replace(".default.", ".")


def log(folder: Path, boards: Sequence[Board], **values: Any) -> None:
    """Append a line to log.jsonl, and a point to each curve of each board."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
    numbers = {
        f"{name}/{part}": x for name, value in values.items() if isinstance(value, dict) for part, x in value.items()
    }
    numbers |= {name: value for name, value in values.items() if isinstance(value, (int, float)) and name != "step"}
    for board in boards:
        for name, number in numbers.items():
            board.add_scalar(name, number, values["step"])
