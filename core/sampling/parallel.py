"""One clip on several processes: Ulysses context parallelism over the token axis, which all layers share.

Hidden states (B, 3, L, D) are split at dim 2: each rank holds one region of the picture in all three layers, so only
attention needs an exchange. For attention, the ranks exchange regions for heads: each rank computes its own heads over
all 3L tokens, and a second exchange restores the regions. Neither L nor the number of heads must be divisible by the
number of ranks; a rank without a head is refused.

Where both guidance passes are in one batch and the number of ranks is even, each half of the ranks computes one pass:
a rank's region is twice as large, and attention exchanges only within a half.

After Jacobs et al., "DeepSpeed Ulysses", 2023, with regions and heads of uneven size.
"""

from __future__ import annotations

import math
import signal
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh

from vera.core.errors import InputError, OutOfMemoryError
from vera.core.model.families import family_of
from vera.core.model.load import load_model
from vera.core.model.offload import computing_device
from vera.core.model.transformer import Transformer, run_blocks
from vera.core.sampling.calls import give, take
from vera.core.sampling.sharded import refuse_unsharded, shard

if TYPE_CHECKING:
    from vera.core.model.interfaces import BlockRunner, Model
    from vera.core.sampling.speed_options import SpeedOptions

# Timeout of collectives. Other processes may decode, deliver or encode for days in between. A process that dies closes
# its connections, which ends the wait at once.
COLLECTIVE_TIMEOUT = timedelta(days=14)
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}  # cuda: not measured


def shares(count: int, ranks: int) -> list[int]:
    """Number of items per rank if `count` items are shared; the numbers differ by at most one."""
    return [count // ranks + (r < count % ranks) for r in range(ranks)]


class Exchange(torch.autograd.Function):
    """Send part i to rank i and return the parts received from all ranks; the gradient is exchanged back."""

    @staticmethod
    def forward(
        ctx: Any, group: Any, shapes: Sequence[tuple[int, ...]], *parts: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """shapes: the shapes of the parts that the ranks send here."""
        ctx.group, ctx.shapes = group, [part.shape for part in parts]
        sizes = [math.prod(shape) for shape in shapes]
        sent = torch.cat([part.reshape(-1) for part in parts])
        got = sent.new_empty(sum(sizes))
        dist.all_to_all_single(got, sent, sizes, [part.numel() for part in parts], group=group)
        return tuple(part.view(shape) for part, shape in zip(got.split(sizes), shapes))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *Exchange.apply(ctx.group, ctx.shapes, *gradients)


class Regions:
    """A block runner that computes this rank's region; passed as the `cache` of Transformer.forward.

    inner: another runner, such as a first-block cache, or None. All ranks of the group must call it together with
    equal inputs, and all get the whole result. If every rank computes the same loss from the result, the average of
    the gradients over the ranks is the gradient of the loss.
    """

    def __init__(self, group: Any = None, inner: BlockRunner | None = None, half: Any = None) -> None:
        """half: the group of this rank's half of the ranks, used for a batch of both guidance passes; or None."""
        self.group, self.inner, self.half = group, inner, half
        self.ranks = dist.get_world_size(group)
        cache = cache_of(inner)
        if cache is not None:
            cache.total = self._total  # the cache decides with the sums over all regions

    def run(
        self,
        blocks: Sequence[Callable[..., torch.Tensor]],
        hidden: torch.Tensor,
        texts: Any,
        modulation: Any,
        rotary: tuple[torch.Tensor, ...],
        attend: Callable[..., torch.Tensor],
    ) -> torch.Tensor:
        """Run the blocks; hidden states (B, 3, L, D) are complete on input and output."""
        halved = self.half is not None and hidden.shape[0] == 2
        group = self.half if halved else self.group
        rank, ranks = self.rank_and_size(group)
        lengths = shares(hidden.shape[2], ranks)
        start = sum(lengths[:rank])
        region = slice(start, start + lengths[rank])
        passes = slice(None)
        if halved:
            number = dist.get_rank(self.group) // ranks
            passes = slice(number, number + 1)
        run = run_blocks if self.inner is None else self.inner.run
        own_part = run(
            blocks,
            hidden[passes, :, region],
            [None if text is None else text[passes] for text in texts],
            modulation[passes],
            tuple(table[region] for table in rotary),
            partial(attend_over_ranks, attend, Share(lengths, rank, partial(self.exchange, group))),
        )
        _, layers, _, width = hidden.shape
        shapes = [(len(own_part), layers, length, width) for length in lengths] * (2 if halved else 1)
        parts = self.exchange(self.group, shapes, *[own_part] * self.ranks)
        each_pass = [torch.cat(parts[i : i + ranks], dim=2) for i in range(0, self.ranks, ranks)]
        return torch.cat(each_pass)

    def rank_and_size(self, group: Any) -> tuple[int, int]:
        """(rank of this process in a group, number of its ranks)."""
        return dist.get_rank(group), dist.get_world_size(group)

    def exchange(self, group: Any, shapes: Sequence[tuple[int, ...]], *parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Send part i to rank i of a group and return the parts received from all ranks, which have these shapes."""
        return Exchange.apply(group, shapes, *parts)

    def _total(self, sums: torch.Tensor) -> torch.Tensor:
        """The sums over all ranks."""
        dist.all_reduce(sums, group=self.group)
        return sums


@dataclass(frozen=True)
class Share:
    """This rank's part of the tokens within a group.

    lengths: tokens in the region of each rank. exchange(shapes, *parts): as `Regions.exchange` within the group
    """

    lengths: Sequence[int]
    rank: int
    exchange: Callable[..., tuple[torch.Tensor, ...]]


def attend_over_ranks(
    attend: Callable[..., torch.Tensor],
    share: Share,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
) -> torch.Tensor:
    """Attention for this rank's region: query, key, value (B, 3, l, H, K) with all heads -> (B, 3, l, H, K)."""
    lengths, exchange = share.lengths, share.exchange
    packed = torch.stack([query, key, value])
    three, batch, layers, length, all_heads, dim = packed.shape
    heads = shares(all_heads, len(lengths))
    own_heads = heads[share.rank]
    shapes = [(three, batch, layers, n, own_heads, dim) for n in lengths]
    whole = torch.cat(exchange(shapes, *packed.split(heads, dim=4)), dim=3)
    attended = attend(*whole.unbind(0))
    own_shapes = [(batch, layers, length, n, dim) for n in heads]
    return torch.cat(exchange(own_shapes, *attended.split(lengths, dim=2)), dim=3)


def cache_of(runner: BlockRunner | None) -> Any:
    """The first-block cache of a block runner, or None."""
    cache = getattr(runner, "cache", runner)
    return cache if hasattr(cache, "total") else None


class WorkerProcesses:
    """Processes on this machine that compute each call of one transformer together; this process leads.

    Only the leader reads, samples and writes. The followers wait for the inputs of the next call. Use it as a context
    manager, with `load` in place of load_model. Each follower loads the transformer itself, onto the GPU with its
    number or onto the CPU.

    sharded: each process holds only its share of the blocks' weights
    half: the group of this process's half of the ranks, see `Regions`
    cache_numbers: first-block caches of the leader -> numbers by which the followers know theirs
    """

    def __init__(self, count: int, speed: SpeedOptions, sharded: bool = False) -> None:
        self.count, self.speed, self.sharded = count, speed, sharded
        self.half: Any = None
        self.followers: Any = None
        self.cache_numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self.last_number = 0

    def __enter__(self) -> WorkerProcesses:
        self.rendezvous = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        return self

    def load(self, name: str, device: str, **options: Any) -> Model:
        """Load a model as load_model does, and start the followers. Raises InputError if they cannot share it."""
        if self.followers:
            raise OutOfMemoryError(f"out of memory on {self.count} processes; use more processes, or give fewer frames")
        if self.sharded:
            refuse_unsharded(options.get("weights", "auto"), options.get("offload", "auto"), family_of(name).planned)
            model = _in_host_memory(name, device_of(0, device), options)
        else:
            model = load_model(name, device_of(0, device), **options)
        self._check(model.transformer, device)
        follower = Follower(name, device, options, self.speed, self.sharded)
        arguments = (self.count, self.rendezvous.name, follower)
        self.followers = mp.spawn(_follow, arguments, self.count - 1, join=False, daemon=True)
        self.half = _join_group(0, self.count, device, self.rendezvous.name)
        if self.sharded:
            _shard_here(model.transformer, 0, device)
        model.transformer.register_forward_pre_hook(self._lead, with_kwargs=True)
        return model

    def _check(self, transformer: Transformer, device: str) -> None:
        """Raise InputError if the transformer cannot be computed by this many processes."""
        if transformer.config.heads < self.count:
            raise InputError(
                f"--processes {self.count}: the model has {transformer.config.heads} heads to share; use no more"
            )
        if device == "cuda" and torch.cuda.device_count() < self.count:
            raise InputError(f"--processes {self.count}: there are {torch.cuda.device_count()} GPUs; use no more")
        if self.speed.compile:
            raise InputError("--processes: compiled blocks cannot run on several processes; leave out --compile")

    def _lead(self, module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """A hook before each call of the transformer: send its inputs to the followers, and share the work."""
        runner = options.get("cache")
        cache = cache_of(runner)
        if cache is not None and cache not in self.cache_numbers:
            self.cache_numbers[cache] = self.last_number = self.last_number + 1
        number = self.cache_numbers.get(cache) if cache is not None else None
        others = {name: value for name, value in options.items() if name != "cache"}
        give((inputs, others, number, list(self.cache_numbers.values())), computing_device(module))
        return inputs, {**others, "cache": Regions(inner=runner, half=self.half)}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.followers:
            if error is None:
                give(None, torch.device("cpu"))
                self.followers.join()
            for process in self.followers.processes:
                process.kill()
                process.join()
            dist.destroy_process_group()
        self.rendezvous.cleanup()


@dataclass(frozen=True)
class Follower:
    """How a follower loads the model: name, device and options of `load_model`; sharded: only its share of it."""

    name: str
    device: str
    options: dict[str, Any]
    speed: SpeedOptions
    sharded: bool


def _follow(index: int, count: int, rendezvous: str, follower: Follower) -> None:
    """The main loop of a follower: compute the leader's calls until the leader sends None."""
    name, device, options = follower.name, follower.device, follower.options
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the leader handles signals and ends its followers
    half = _join_group(index + 1, count, device, rendezvous)
    if follower.sharded:
        transformer = load_model(name, "cpu", **options).transformer
        _shard_here(transformer, index + 1, device)
    else:
        transformer = load_model(name, device_of(index + 1, device), **options).transformer
    follower.speed.prepare(transformer)
    computing = computing_device(transformer)
    caches: dict[int, Any] = {}
    with torch.inference_mode():
        while (call := take(computing)) is not None:
            inputs, others, number, cache_numbers = call
            caches = {n: cache for n, cache in caches.items() if n in cache_numbers}
            if number is not None and number not in caches:
                caches[number] = follower.speed.new_cache()
            transformer(*inputs, **others, cache=Regions(inner=caches.get(number), half=half))
    dist.destroy_process_group()


def device_of(rank: int, device: str) -> str:
    """The device of a rank on this machine. GPUs are named by number, because "cuda" may mean the first GPU."""
    return f"cuda:{rank}" if device == "cuda" else device


def _in_host_memory(name: str, device: str, options: dict[str, Any]) -> Model:
    """Load a model with a memory-mapped transformer, and its text encoder and codec on the device."""
    model = load_model(name, "cpu", **options)
    for part in (model.codec, getattr(model.text, "encoder", None)):
        if isinstance(part, torch.nn.Module):
            part.to(device)
    return model


def _shard_here(transformer: Transformer, rank: int, device: str) -> None:
    """Keep only this rank's share of the blocks' weights, on its device."""
    mesh = init_device_mesh(device, (dist.get_world_size(),))
    shard(transformer, mesh, torch.device(device_of(rank, device)), torch.bfloat16 if device == "cuda" else None)


def _join_group(rank: int, count: int, device: str, rendezvous: str) -> Any:
    """Join the process group; return the group of this rank's half of the ranks, None for an odd number of ranks."""
    if device == "cuda":
        torch.cuda.set_device(rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    store = dist.FileStore(str(Path(rendezvous) / "store"), count)
    dist.init_process_group(BACKENDS[device], store=store, rank=rank, world_size=count, timeout=COLLECTIVE_TIMEOUT)
    if count % 2:
        return None
    halves = [dist.new_group(ranks, timeout=COLLECTIVE_TIMEOUT) for ranks in torch.arange(count).view(2, -1).tolist()]
    return halves[rank // (count // 2)]
