"""The state of a full-size run on the disk, resumable on another number of ranks, and what it is exported to."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
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
from vera.core.training.full.model import local
from vera.core.training.full.state_reader import StateReader

if TYPE_CHECKING:
    from vera.core.training.full.model import FullModel

KEPT = 2  # states; the one before the last is there if the last cannot be read


def saved_tensors(model: FullModel, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Every tensor of a run by name: weights, average, moments; those that are cut are cut."""
    tensors: dict[str, torch.Tensor] = {}
    for name, master in model.masters.items():
        state = optimizer.state[master]
        if not state:  # before the first step
            state |= {k: torch.zeros_like(master) for k in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
        shares = {"weights": master.detach()}
        if model.average:
            shares["average"] = model.average[name]
        shares |= {k: state[k] for k in ("exp_avg", "exp_avg_sq")}
        tensors |= {f"{kind}/{name}": model.as_cut(name, share) for kind, share in shares.items()}
        tensors[f"step/{name}"] = state["step"]
    return tensors


def save_state(folder: Path, step: int, model: FullModel, optimizer: torch.optim.Optimizer) -> None:
    """Write step-NNNNNN, whole or not at all, through torch.distributed.checkpoint; each rank its own share."""
    final, part = folder / f"step-{step:06d}", folder / "step.part"
    if dist.get_rank() == 0:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    dist.barrier()
    dcp.save(saved_tensors(model, optimizer), checkpoint_id=part)
    if dist.get_rank() == 0:
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
        for old in states(folder)[:-KEPT]:
            shutil.rmtree(old)
    dist.barrier()


def load_state(
    folder: Path,
    model: FullModel,
    optimizer: torch.optim.Optimizer,
    tell: Callable[..., object] = lambda **values: None,
) -> int:
    """Fill model and optimiser from the newest state that can be read, in place; its step, 0 where there is none.

    tell(unreadable_state=..., reason=...) of each newer one that could not. Raises InputError where none can be read:
    to begin again is not for a run to decide.
    """
    found, reason = states(folder), ""
    for state in reversed(found):
        tensors, reason = saved_tensors(model, optimizer), ""
        try:
            dcp.load(tensors, storage_reader=StateReader(state))
        except (
            Exception,
            CheckpointException,
        ) as error:  # whatever half a file makes of the reader; the same on every rank, or it says so
            reason = why_unreadable(error)
        if not everywhere(not reason):
            reason = reason or "another rank cannot read its share"
            tell(unreadable_state=str(state), reason=reason)
            continue
        for name, average in model.average.items():
            average.copy_(local(tensors[f"average/{name}"]))  # where it is not the same memory
        return int(state.name.removeprefix("step-"))
    if found:
        raise InputError(
            f"{found[-1]}: no state of this run can be read ({reason}); give the configuration that made it,"
            " restore one, or name another folder with --out to begin again"
        )
    return 0


def why_unreadable(error: Exception) -> str:
    """The first reason that torch.distributed.checkpoint gives, in a line."""
    failures = getattr(error, "failures", None) or {0: (error, None)}
    first = next(iter(failures.values()))[0]
    lines = str(first).strip().splitlines() or [type(first).__name__]
    return lines[-1][:200]


def everywhere(here: bool) -> bool:
    """Whether it is so on every rank."""
    so = torch.tensor(int(here))
    dist.all_reduce(so, dist.ReduceOp.MIN)
    return bool(so)


def states(folder: Path) -> list[Path]:
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir())


def export(model: FullModel, start: Path, target: Path, shard_bytes: int = 5 << 30) -> None:
    """Write the average, or the weights where none is kept, as a Vera directory (bf16, fp32 where it must be) with
    the other parts of `start`.

    Of a LoRA run the adapters are `lora.safetensors` in it, beside the weights they belong to. Every rank must call it:
    tensors are gathered one by one, the first rank writes. `target` must not be there.
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
    reached = model.average or {name: master.detach() for name, master in model.masters.items()}
    for name in [*files.shapes, *(n for n in reached if n not in files.shapes)]:
        if name in reached:
            value = model.as_cut(name, reached[name])
            value = value.full_tensor() if isinstance(value, DTensor) else value
        else:  # as it was
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
    """An adapter's name in PEFT's model -> in a file."""
    return "transformer." + adapter.replace(".default.", ".")


def log(folder: Path, board: Any, **values: Any) -> None:
    """A line of log.jsonl, and TensorBoard's curves where it is installed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps(values) + "\n")
    if board is not None:
        for name, value in values.items():
            if isinstance(value, dict):
                for part, number in value.items():
                    board.add_scalar(f"{name}/{part}", number, values["step"])
            elif isinstance(value, (int, float)) and name != "step":
                board.add_scalar(name, value, values["step"])


def tensorboard(folder: Path) -> Any:
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
