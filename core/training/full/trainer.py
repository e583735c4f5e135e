"""Train a full-size Vera by flow matching on layered video: on one GPU, or on many nodes with torchrun.

    vera train CONFIG                             one process
    torchrun --nproc-per-node 8 -m vera.core.cli.train CONFIG        eight GPUs

Ranks form a grid of (batch, context): those of one context group share each clip's tokens, the groups share the
batch. FSDP2 cuts the weights over all of them. All chance of a row (noise, its level, what is dropped) hangs on the
seed, the step and its place in the batch: a run is the same on any number of ranks, up to rounding, and resumes as
such.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh

from vera.core.data.datasets.layered import check_rows, read_rows, size_of_clips
from vera.core.data.datasets.layered_cache import Cache, Encoders, text_states
from vera.core.errors import InputError
from vera.core.model.config import BRANCHES, PRESETS
from vera.core.model.footprint import GIB
from vera.core.model.wan.family import read_parts
from vera.core.sampling.parallel import BACKENDS, PATIENCE, Regions
from vera.core.training.full.memory import Need, training_need, what_would_fit
from vera.core.training.full.model import FullModel
from vera.core.training.full.rows import Order, Source, Straight, split
from vera.core.training.full.state import export, load_state, log, save_state, states, tensorboard
from vera.core.training.state import trapezoid
from vera.core.training.talk import Talk

TEXT_LENGTH = 512
CHOICES = {
    "ema_on": ("gpu", "host"),
    "base": ("fp32", "bf16", "int8"),
    "swap": (True, False),
    "bf16": (True, False),
    "recompute": (True, False, "but attention"),
    "compile": (True, False),
}

# Steps in a row whose loss or gradient is not finite, after which a run ends: one is a bad row, so many are a bad run.
MOST_SKIPPED = 5


@dataclass(frozen=True)
class Settings:
    """A configuration file; docs/training.md says which values are published, and which are our choice.

    model: a Vera directory to start from. data: the dataset's folder. cache: where latents are kept (None: beside the
    run). frames: only rows of that many. batch: rows a step. weights: of the branches' losses, edit, alpha, composite.
    mask_drop, text_drop: how often mask and instruction are withheld. lora: {"rank", "alpha", "branches"}, or None
    for all weights. context: ranks that share a clip. held_out: rows kept for evaluation.
    ema: decay of the weights' average, which is what is evaluated and exported; 0 keeps none. ema_on: "gpu" or "host",
    whose memory holds it. base, of a LoRA run: the type of the weights that are not trained, "fp32", "bf16" or "int8".
    swap, of a LoRA run: whether the blocks' frozen weights wait in the host's memory. recompute: true, false, or
    "but attention", see Recomputed. compile: the blocks, by torch.compile.
    """

    train: str
    model: str
    data: str
    cache: str | None = None
    frames: int = 49
    steps: int = 8000
    batch: int = 16
    rate: float = 2e-5
    warmup: int = 200
    decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.999
    ema_on: str = "gpu"
    shift: float = 3.0
    weights: tuple[float, float, float] = (1.0, 1.0, 1.0)
    mask_drop: float = 0.5
    text_drop: float = 0.1
    lora: dict | None = None
    base: str = "bf16"
    swap: bool = False
    bf16: bool = True
    recompute: bool | str = True
    compile: bool = False
    context: int = 1
    workers: int = 4
    held_out: int = 32
    evaluate_every: int = 500
    save_every: int = 250
    seed: int = 0

    @classmethod
    def of(cls, config: dict) -> "Settings":  # noqa: C901
        """Raises InputError for what is missing, unknown or of the wrong kind."""
        known = {f.name: f for f in fields(cls)}
        for name in config:
            if name not in known:
                raise InputError(f"{name!r}: no such setting; there are {', '.join(known)}")
        for name in ("train", "model", "data"):
            if not isinstance(config.get(name), str):
                raise InputError(f"{name!r}: missing from the configuration")
        settings = cls(**config)
        for name, field in known.items():
            value, usual = getattr(settings, name), field.default
            if isinstance(usual, (int, float)) and not isinstance(usual, bool):
                kind = int if isinstance(usual, int) else (int, float)
                least = 1 if name in ("frames", "steps", "save_every", "evaluate_every") else 0
                if isinstance(value, bool) or not isinstance(value, kind) or value < least:
                    a_number = "a whole number" if kind is int else "a number"
                    raise InputError(f"{name!r}: {value!r} is not {a_number} from {least}")
        for name, allowed in CHOICES.items():
            value = getattr(settings, name)
            if not any(value is a if isinstance(a, bool) else value == a for a in allowed):
                raise InputError(f"{name!r}: {value!r} is not one of {', '.join(map(json.dumps, allowed))}")
        if settings.swap and not settings.lora:
            raise InputError("'swap': only weights that are not trained can wait in the host's memory; give 'lora' too")
        if settings.swap and settings.base == "fp32" and settings.bf16:
            raise InputError(
                '\'base\': weights that wait in the host\'s memory are kept as they work; give "bf16" or "int8"'
            )
        if not settings.lora or (settings.base == "bf16" and not settings.bf16):
            settings = replace(settings, base="fp32")  # nothing is frozen, or nothing works in bf16
        if len(settings.weights) != len(BRANCHES) or sum(settings.weights) <= 0:
            raise InputError(f"'weights': {settings.weights!r} are not three weights, of {', '.join(BRANCHES)}")
        return settings

    def check_ranks(self, ranks: int) -> None:
        groups, rest = divmod(ranks, max(self.context, 1))
        if rest or self.context < 1:
            raise InputError(f"'context': {ranks} ranks are not groups of {self.context}")
        if self.batch < 1 or self.batch % groups:
            raise InputError(f"'batch': {self.batch} rows cannot be shared evenly by {groups} groups of ranks")


@contextmanager
def world() -> Iterator[str]:
    """torchrun's process group, or one of this process alone; yields "cuda" or "cpu". One that is there is used."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dist.is_initialized():
        yield device
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as meeting:
        if "RANK" in os.environ:
            if device == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            dist.init_process_group(BACKENDS[device], timeout=PATIENCE)
        else:
            store = dist.FileStore(str(Path(meeting) / "store"), 1)
            dist.init_process_group(BACKENDS[device], store=store, rank=0, world_size=1, timeout=PATIENCE)
        try:
            yield device
        finally:
            dist.destroy_process_group()


def train(config: dict, folder: Path, stop: Callable[[], bool], target: Path | None = None) -> None:
    """Run until config['steps'] or until stop() says so on any rank; with a target, export what was reached instead.

    stop() is asked after every clip: the step that it falls into is dropped, and done again when the run is resumed.
    In folder: step-NNNNNN (states), log.jsonl, tensorboard/. Raises InputError before any work for what is wrong, and
    where MOST_SKIPPED steps in a row had no finite loss.
    """
    settings = Settings.of(config)
    with world() as device:
        settings.check_ranks(dist.get_world_size())
        run = Run(settings, folder, device)
        if target is None:
            run.train(stop)
        else:
            run.load()
            export(run.model, Path(settings.model), target)


def refuse_too_large(settings: Settings, ranks: int, memory: int) -> None:
    """Raises InputError, with what would fit, where training does not fit so many bytes on each of `ranks` GPUs."""
    need = need_of(settings)
    found = need(settings, ranks)
    if found.peak > memory:
        ways = list(what_would_fit(need, settings, ranks, memory))
        fix = f"it would fit with {'; or '.join(ways)}" if ways else "see `vera plan --train` for other settings"
        raise InputError(
            f"{settings.model}: training it on {ranks} GPUs takes {found.peak / GIB:.0f} GiB of each, by a rehearsal;"
            f" they have {memory / GIB:.0f}. {fix[0].upper()}{fix[1:]}"
        )


def need_of(settings: Settings) -> Callable[[Settings, int], Need]:
    """What training takes of each GPU's memory, as a function of the settings and the number of ranks.

    Clips are as large as the largest of the dataset's first rows, or of the published size where there are none yet.
    """
    from vera.core.job.plan import wans_parts  # it, and what it imports, for those alone who have no model yet

    if settings.model in PRESETS:
        config, (vae, encoder) = PRESETS[settings.model], wans_parts()
    else:
        start = read_parts(Path(settings.model))
        config, vae, encoder = start.config, start.vae, start.encoder
    size = size_of_clips(Path(settings.data), settings.frames)
    return lambda given, ranks: training_need(config, given, ranks, size, (vae, encoder))


class Run:
    """One run: rows, and after `load` the model, its optimiser, and the step where they stand."""

    def __init__(self, settings: Settings, folder: Path, device: str) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        ranks, rank = dist.get_world_size(), dist.get_rank()
        self.first = rank == 0
        self.place, within = divmod(rank, settings.context)
        self.places, self.leads = ranks // settings.context, within == 0
        self.context = dist.new_subgroups(settings.context, timeout=PATIENCE)[0] if settings.context > 1 else None
        self.step = int(found[-1].name.removeprefix("step-")) if (found := states(folder)) else 0
        self.encoders = Encoders(Path(settings.model), device)
        self.cache = Cache(Path(settings.cache or folder / "cache"), self.encoders.fingerprint)
        if device == "cuda":
            refuse_too_large(
                settings, ranks, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            )
        self.board = tensorboard(folder) if self.first else None
        self.talk = Talk(silent=not self.first)

    def load(self) -> None:
        """Bring model and optimiser into memory, as the newest state has them."""
        settings = self.settings
        self.model = FullModel(Path(settings.model), init_device_mesh(self.device, (dist.get_world_size(),)), settings)
        # Fused on a GPU: the other way holds a temporary copy of all it steps.
        how = {"fused": True} if self.device == "cuda" else {"foreach": True}
        self.optimizer = torch.optim.AdamW(
            self.model.masters.values(),
            lr=settings.rate,
            betas=tuple(settings.betas),
            weight_decay=settings.weight_decay,
            **how,
        )
        self.step = load_state(self.folder, self.model, self.optimizer, self._tell_unreadable)
        inner = self.model.blocks_runner(settings)
        self.blocks = Regions(self.context, inner) if settings.context > 1 else inner

    def train(self, stop: Callable[[], bool]) -> None:
        settings = self.settings
        rows = self.rows(stop)
        if rows is None:
            return
        source, held = rows
        self.load()
        mine = range(self.place, settings.batch, self.places)
        coming, started, skipped = self._draws(source, mine), time.monotonic(), 0
        self.talk.say(f"training from step {self.step:,}; states, log.jsonl and tensorboard/ are in {self.folder}")
        while self.step < settings.steps:
            for group in self.optimizer.param_groups:
                group["lr"] = trapezoid(self.step, settings.steps, settings.rate, settings.warmup, settings.decay)
            errors, bad = torch.zeros(len(BRANCHES), device=self.device), []
            for at in mine:
                sample = self._shared(next(coming) if self.leads else None)
                of_clip = self._errors_of_draw(sample, at)
                self._loss(of_clip).div(len(mine)).backward()
                errors += of_clip.detach() / settings.batch / settings.context
                if not of_clip.detach().isfinite().all():
                    bad.append(sample.row)
                if self._anywhere(stop()):
                    self._stop()
                    return
            norm = self.model.take_gradients(settings.clip)
            dist.all_reduce(errors)
            if norm.isfinite() and errors.isfinite().all():
                self.optimizer.step()
                self.model.follow(self.step, settings.ema)
                skipped = 0
            else:
                skipped += 1
            self.model.forget_gradients()
            self.encoders.release()  # if an entry had to be made again
            self.step += 1
            if skipped:
                self._skipped(skipped, bad)
            else:
                self._tell_step(errors, norm, started)
            if self._anywhere(bool(source.faults)):
                self._tell_faults(source)
            if held and self.step % settings.evaluate_every == 0:
                self._log(held_out=dict(zip(BRANCHES, self._evaluate(held))))
            if self.step % settings.save_every == 0 or self.step == settings.steps:
                save_state(self.folder, self.step, self.model, self.optimizer)

    def _stop(self) -> None:
        """Save where the run stands; what was done of a step is dropped, for its gradients are not kept."""
        self.model.forget_gradients()
        self.talk.say(f"stopping: saving step {self.step:,}; the same command goes on from there")
        if self.step == 0 or not (self.folder / f"step-{self.step:06d}").exists():
            save_state(self.folder, self.step, self.model, self.optimizer)

    def _skipped(self, skipped: int, bad: list[str]) -> None:
        """Tell of a step whose loss or gradient was not finite, and was not taken; end the run after several."""
        told: list = [None] * dist.get_world_size()
        dist.all_gather_object(told, bad)
        names = sorted({name for rows in told for name in rows})
        self._log(skipped=skipped, rows=names)
        self.talk.say(
            f"step {self.step:,} skipped: its loss or gradient is not finite (rows {', '.join(names) or 'none alone'})"
        )
        if skipped >= MOST_SKIPPED:
            save_state(self.folder, self.step, self.model, self.optimizer)  # as it was before the first of them
            raise InputError(
                f"{skipped} steps in a row, the last {self.step:,}, had a loss or gradient "
                "that is not finite; their rows:"
                f" {', '.join(names) or 'none alone'}. Lower 'rate', or see `vera data check "
                "--pixels`; no such step was taken"
            )

    def _tell_step(self, errors, norm, started) -> None:
        rate, losses = self.optimizer.param_groups[0]["lr"], dict(zip(BRANCHES, errors.tolist()))
        self._log(losses=losses, norm=norm.item(), rate=rate, seconds=round(time.monotonic() - started, 1))
        self.talk.step(self.step, self.settings.steps, losses, rate, self.settings.batch)

    def _tell_unreadable(self, **what) -> None:
        self._log(**what)
        self.talk.say(f"{what['unreadable_state']}: cannot be read ({what['reason']}); trying the one before")

    @staticmethod
    def _anywhere(so: bool) -> bool:
        """Whether it is so on any rank; the CPUs ask each other, so that no GPU waits."""
        flag = torch.tensor(int(so))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def _draws(self, source, mine):
        """The samples of this group's places in the steps to come."""
        steps = range(self.step, self.settings.steps)
        return source.samples([step * self.settings.batch + at for step in steps for at in mine] if self.leads else [])

    def rows(self, stop: Callable[[], bool] = lambda: False) -> tuple[Source, list[Any]] | None:
        """(source of the rows to train on, this group's held-out samples), all rows encoded; None if stop() said so."""
        settings, root = self.settings, Path(self.settings.data)
        rows, broken = self._told_by_first(self._find_rows)
        self.talk.say(f"{root}: {len(rows):,} rows of {settings.frames} frames, {len(broken)} of them broken")
        source = Source(Straight(rows), self.cache, self.encoders, broken, settings.workers, only_make=True)
        whole = [i for i, row in enumerate(rows) if row.name not in broken]
        share = whole[dist.get_rank() :: dist.get_world_size()]
        stopped = False
        for number, _ in enumerate(source.samples(share), 1):
            self.talk.progress("encoding", number, len(share), "rows")
            if number % 100 == 0:
                self._log(encoded=number, of=len(share))
            if stop():
                stopped = True
                break
        if self._anywhere(stopped):
            self.talk.say("stopped while encoding; what was encoded is kept, the same command goes on from there")
            return None
        self.nothing = text_states("", self.cache, self.encoders)
        self._tell_faults(source)
        trained, held = split(rows, settings.held_out, root)
        held = [row for row in held if row.name not in broken]
        if not any(row.name not in broken for row in trained):
            raise InputError(f"{root}: leaves no row to train on; see `vera data check`, and 'held_out'")
        here = [held[i % len(held)] for i in range(self.place, -(-len(held) // self.places) * self.places, self.places)]
        samples = list(Source(Straight(here), self.cache, self.encoders, broken, 0).samples(range(len(here))))
        least = torch.tensor(len(samples))  # one may have vanished on a rank just now
        dist.all_reduce(least, dist.ReduceOp.MIN)
        samples = samples[: int(least)]
        self.encoders.release()
        self.counts = [1.0 if self.place + k * self.places < len(held) else 0.0 for k in range(len(samples))]
        return Source(Order(trained, settings.seed), self.cache, self.encoders, broken, settings.workers), samples

    def _find_rows(self):
        """(train rows of the wanted length, names of the broken ones among them)."""
        rows, unread = read_rows(Path(self.settings.data))
        wanted = self.settings.frames
        rows = [replace(row, frames=(wanted,)) for row in rows if not row.test and wanted in row.frames]
        if not rows:
            raise InputError(f"{self.settings.data}: holds no train rows of {wanted} frames")
        faults = check_rows(rows)
        for fault in unread + faults:
            self._log(broken_row=fault.row, file=fault.file, reason=fault.reason)
        return rows, {fault.row for fault in faults}

    def _told_by_first(self, make):
        """make() of the first rank, on all; so is the InputError that it raises."""
        box: list[Any] = [None]
        if self.first:
            try:
                box = [make()]
            except InputError as error:
                box = [error]
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        if isinstance(box[0], InputError):
            raise box[0]
        return box[0]

    def _tell_faults(self, source) -> None:
        """Let all ranks know, and the log name, the rows that were found broken on any since the last time."""
        told: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(told, source.faults)
        source.faults = []
        for fault in {fault.row: fault for faults in told for fault in faults}.values():
            source.broken.add(fault.row)
            self._log(broken_row=fault.row, file=fault.file, reason=fault.reason)

    def _shared(self, sample):
        """The sample of the context group's first rank, on all of the group."""
        box = [sample]
        if self.settings.context > 1:
            dist.broadcast_object_list(box, group=self.context, group_src=0, device=torch.device("cpu"))
        return box[0]

    def _errors_of_draw(self, sample, at):
        """Of place `at` in this step's batch; noise levels are spread evenly over the batch."""
        settings, chance = self.settings, np.random.default_rng([self.settings.seed, self.step, at])
        level = noise_level((at + chance.random()) / settings.batch, settings.shift)
        masked, told = chance.random() >= settings.mask_drop, chance.random() >= settings.text_drop
        states = sample.states if told else self.nothing
        return self._errors(sample.latents, states, level, masked, int(chance.integers(2**62)))

    def _errors(self, latents, states, level, masked, seed):
        """Mean squared error of the velocity, a branch: (3,) fp32."""
        layers = latents.to(self.device, torch.float32)
        source, clean, mask = layers[:1], layers[None, 1:4], layers[4:]
        self.model.show_mask(masked and len(mask) > 0)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
        timestep = torch.tensor([1000 * level], device=self.device)
        states = F.pad(states.to(self.device), (0, 0, 0, TEXT_LENGTH - len(states)))[None]
        noisy, mask = (1 - level) * clean + level * noise, mask if len(mask) else torch.zeros_like(source)
        velocity = self.model.transformer(noisy, timestep, states, source, mask, cache=self.blocks)
        return (velocity - (noise - clean)).pow(2).mean((0, 2, 3, 4, 5))

    def _loss(self, errors):
        weights = torch.tensor(self.settings.weights, device=self.device)
        return (weights * errors).sum() / weights.sum()

    @torch.no_grad()
    def _evaluate(self, held) -> list[float]:
        """Errors of the averaged weights on the held-out rows, at noise and levels that are the same every time."""
        self.model.swap_average()
        sums = torch.zeros(len(BRANCHES) + 1, device=self.device)
        for k, (sample, counts) in enumerate(zip(held, self.counts)):
            sample, number = self._shared(sample), self.place + k * self.places
            level = noise_level((number % 8 + 0.5) / 8, self.settings.shift)
            errors = self._errors(sample.latents, sample.states, level, True, number)
            sums += counts * torch.cat([errors, torch.ones_like(errors[:1])])
        dist.all_reduce(sums)
        self.model.swap_average()
        return (sums[:-1] / sums[-1]).tolist()

    def _log(self, **values) -> None:
        if self.first:
            log(self.folder, self.board, step=self.step, **values)


def noise_level(u: float, shift: float) -> float:
    """Evenly spread u in [0, 1) -> a noise level, as the sampler's schedule shifts them."""
    return shift * u / (1 + (shift - 1) * u)
