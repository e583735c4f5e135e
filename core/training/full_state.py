"""The state of a full-size run on the disk, resumable on another number of ranks, and what it is exported to."""

import json
import os
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from core.model.transformer import kept_in_float32

KEPT = 2  # states; the one before the last is there if the last cannot be read


def saved_tensors(model, optimizer) -> dict[str, torch.Tensor]:
    """Every tensor of a run by name: weights, average, moments; those that are cut are cut."""
    tensors = {}
    for name, master in model.masters.items():
        state = optimizer.state[master]
        if not state:  # before the first step
            state |= {k: torch.zeros_like(master) for k in ("exp_avg", "exp_avg_sq")} | {"step": torch.zeros(())}
        shares = {"weights": master.detach(), "average": model.average[name]}
        shares |= {k: state[k] for k in ("exp_avg", "exp_avg_sq")}
        tensors |= {f"{kind}/{name}": model.as_cut(name, share) for kind, share in shares.items()}
        tensors[f"step/{name}"] = state["step"]
    return tensors


def save_state(folder: Path, step: int, model, optimizer) -> None:
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


def load_state(folder: Path, model, optimizer) -> int:
    """Fill model and optimiser from the newest state, in place; its step, 0 where there is none."""
    found = states(folder)
    if not found:
        return 0
    tensors = saved_tensors(model, optimizer)
    dcp.load(tensors, checkpoint_id=found[-1])
    return int(found[-1].name.removeprefix("step-"))


def states(folder: Path) -> list[Path]:
    return sorted(p for p in Path(folder).glob("step-*") if p.is_dir())


def export(model, start: Path, target: Path, shard_bytes: int = 5 << 30) -> None:
    """Write the average as a Vera directory (bf16, fp32 where it must be), with the other parts of `start`; of a LoRA
    run, `transformer/lora.safetensors` of what was trained beside the start's own weights.

    Every rank must call it, tensors are gathered one by one; the first writes. `target` must not be there.
    """
    first = dist.get_rank() == 0
    whole = len(model.masters) == len(list(model.transformer.parameters()))
    work = target.with_name(target.name + ".part")
    if first:
        shutil.rmtree(work, ignore_errors=True)
        skipped = shutil.ignore_patterns("transformer") if whole else None
        shutil.copytree(start, work, ignore=skipped)
        (work / "transformer").mkdir(exist_ok=True)
        shutil.copy(start / "transformer/config.json", work / "transformer/config.json")
    shards, size = [{}], 0
    for name, share in model.average.items():
        value = model.as_cut(name, share)
        value = value.full_tensor() if isinstance(value, DTensor) else value
        value = value.to("cpu", torch.float32 if kept_in_float32(name) else torch.bfloat16)
        if not first:
            continue
        if whole and shards[-1] and size + value.nbytes > shard_bytes:
            write_shard(work, shards)
            shards.append({})
            size = 0
        shards[-1][name] = value.contiguous()
        size += value.nbytes
    if first:
        if whole:
            write_shard(work, shards)
        else:
            save_file(shards[-1], work / "transformer/lora.safetensors", {"format": "pt"})
        os.replace(work, target)
    dist.barrier()


def write_shard(work, shards):
    save_file(shards[-1], work / f"transformer/model-{len(shards):05}.safetensors", {"format": "pt"})
    shards[-1] = {}


def log(folder: Path, board, **values) -> None:
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


def tensorboard(folder: Path):
    """TensorBoard's writer, or None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
