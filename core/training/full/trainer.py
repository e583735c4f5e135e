"""Train a full-size Vera by flow matching on layered video: on one GPU, or on many nodes with torchrun.

    vera train CONFIG                             one process
    torchrun --nproc-per-node 8 -m vera.core.cli.train CONFIG        eight GPUs

Ranks form a grid of (batch, context). The ranks of one context group share the tokens of each clip, and the groups
share the batch. FSDP2 shards the weights over all ranks. The seed, the step and the position in the batch determine
all random numbers of a row (noise, noise level, dropped inputs). So a run gives the same result on any number of
ranks, up to rounding, and resumes on another number.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.distributed.device_mesh import init_device_mesh

from vera.core.data.datasets.layered import check_rows, read_rows, size_of_clips
from vera.core.data.datasets.layered_cache import Cache, Encoders, text_states
from vera.core.errors import InputError, printable
from vera.core.model.config import BRANCHES, PRESETS
from vera.core.model.footprint import GIB
from vera.core.model.wan.wan_directory import read_parts
from vera.core.sampling.parallel import BACKENDS, COLLECTIVE_TIMEOUT, Regions
from vera.core.training.console import Console
from vera.core.training.full.boards import boards
from vera.core.training.full.full_settings import Settings
from vera.core.training.full.memory_estimate import Need, training_need, what_would_fit
from vera.core.training.full.rows import Order, SampleSource, SequentialOrder, split
from vera.core.training.full.sample_movies import (
    FOLDER,
    GUIDANCE,
    SampledRow,
    pictures_of,
    sample_layers,
    write_samples,
)
from vera.core.training.full.sharded_model import FullModel
from vera.core.training.full.sharded_state import export, load_state, log, save_state, states
from vera.core.training.state import trapezoid

TEXT_LENGTH = 512  # tokens that text states are padded to

# A run ends after this many consecutive steps without a finite loss and gradient. Raising it tolerates more bad rows
# in succession and wastes more time on a run that diverged.
MAX_SKIPPED_STEPS = 5


@contextmanager
def world() -> Iterator[str]:
    """Yield "cuda" or "cpu" inside a process group: the existing one, torchrun's, or one of this process alone."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if dist.is_initialized():
        yield device
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as rendezvous:
        if "RANK" in os.environ:
            if device == "cuda":
                torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
            dist.init_process_group(BACKENDS[device], timeout=COLLECTIVE_TIMEOUT)
        else:
            store = dist.FileStore(str(Path(rendezvous) / "store"), 1)
            dist.init_process_group(BACKENDS[device], store=store, rank=0, world_size=1, timeout=COLLECTIVE_TIMEOUT)
        try:
            yield device
        finally:
            dist.destroy_process_group()


def train(config: dict, folder: Path, stop: Callable[[], bool], target: Path | None = None) -> None:
    """Train until config['steps'], or until stop() returns True on any rank. With a target, only export the newest
    state.

    stop() is called after every clip. An unfinished step is dropped and repeated when the run resumes. folder holds
    step-NNNNNN (states), log.jsonl and tensorboard/. Raises InputError for wrong settings before any work, and after
    MAX_SKIPPED_STEPS consecutive steps without a finite loss.
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
    """Raise InputError, with settings that would fit, if training needs more than `memory` bytes on each GPU."""
    need = need_of(settings)
    found = need(settings, ranks)
    if found.peak > memory:
        ways = list(what_would_fit(need, settings, ranks, memory))
        fix = f"it would fit with {'; or '.join(ways)}" if ways else "see `vera plan --train` for other settings"
        raise InputError(
            f"{settings.model}: training on {ranks} GPUs needs {found.peak / GIB:.0f} GiB on each (estimated);"
            f" each has {memory / GIB:.0f} GiB. {fix[0].upper()}{fix[1:]}"
        )


def need_of(settings: Settings) -> Callable[[Settings, int], Need]:
    """A function of (settings, ranks) that returns the memory that training needs.

    The clip size is the largest among the dataset's first rows, or the published size if there are no rows yet.
    """
    from vera.core.job.gpu_plan import wans_parts  # imported here, since only runs without a model need it

    if settings.model in PRESETS:
        config, (vae, encoder) = PRESETS[settings.model], wans_parts()
    else:
        start = read_parts(Path(settings.model))
        config, vae, encoder = start.config, start.vae, start.encoder
    size = size_of_clips(Path(settings.data), settings.frames)
    return lambda given, ranks: training_need(config, given, ranks, size, (vae, encoder))


class Run:
    """One run on this rank: rows and, after `load`, the model, its optimiser and the present step."""

    def __init__(self, settings: Settings, folder: Path, device: str) -> None:
        self.settings, self.folder, self.device = settings, folder, device
        ranks, rank = dist.get_world_size(), dist.get_rank()
        self.first = rank == 0
        # The context group of this rank, the number of groups, and whether this rank reads the group's samples.
        self.group, within = divmod(rank, settings.context)
        self.groups, self.leads_group = ranks // settings.context, within == 0
        self.context = (
            dist.new_subgroups(settings.context, timeout=COLLECTIVE_TIMEOUT)[0] if settings.context > 1 else None
        )
        self.step = int(found[-1].name.removeprefix("step-")) if (found := states(folder)) else 0
        self.encoders = Encoders(Path(settings.model), device)
        self.cache = Cache(Path(settings.cache or folder / "cache"), self.encoders.fingerprint)
        if device == "cuda":
            refuse_too_large(
                settings, ranks, torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            )
        self.console = Console(silent=not self.first)
        self.boards = boards(folder, asdict(settings), self.console.say) if self.first else []

    def load(self) -> None:
        """Load the model and the optimiser from the newest state."""
        settings = self.settings
        self.model = FullModel(Path(settings.model), init_device_mesh(self.device, (dist.get_world_size(),)), settings)
        self.model.transformer.attention = settings.attention
        # Fused on a GPU: foreach would hold a temporary copy of all parameters.
        kernels = {"fused": True} if self.device == "cuda" else {"foreach": True}
        self.optimizer = torch.optim.AdamW(
            self.model.masters.values(),
            lr=settings.rate,
            betas=tuple(settings.betas),
            weight_decay=settings.weight_decay,
            **kernels,
        )
        self.step = load_state(self.folder, self.model, self.optimizer, self._report_unreadable)
        inner = self.model.block_runner(settings)
        self.blocks = Regions(self.context, inner) if settings.context > 1 else inner

    def train(self, stop: Callable[[], bool]) -> None:
        """Train to the last step, or until stop() returns True on any rank; log, evaluate and save when it is due."""
        settings = self.settings
        rows = self.rows(stop)
        if rows is None:
            return
        source, held = rows
        self.load()
        positions = range(self.group, settings.batch, self.groups)
        samples, start_time = self._samples(source, positions), time.monotonic()
        skipped = 0  # consecutive steps that were not taken
        self.console.say(f"training from step {self.step:,}; states, log.jsonl and tensorboard/ are in {self.folder}")
        while self.step < settings.steps:
            computed = self._compute_gradients(samples, positions, stop)
            if computed is None:
                self._stop()
                return
            errors, bad = computed
            norm, taken = self._take_step(errors)
            skipped = 0 if taken else skipped + 1
            self.encoders.release()  # loaded if a damaged cache entry had to be encoded again
            self.step += 1
            if taken:
                self._report_step(errors, norm, start_time)
            else:
                self._report_skipped(skipped, bad)
            if self._any_rank(bool(source.new_broken)):
                self._report_broken(source)
            if held and self.step % settings.evaluate_every == 0:
                self._log(held_out=dict(zip(BRANCHES, self._evaluate(held))))
                self._write_samples(held, stop)
            if self.step % settings.save_every == 0 or self.step == settings.steps:
                save_state(self.folder, self.step, self.model, self.optimizer)

    def _compute_gradients(self, samples, positions, stop) -> tuple[torch.Tensor, list[str]] | None:
        """Accumulate the gradients of this group's clips of one step.

        Returns (this rank's share of the branches' errors, names of the rows whose error is not finite), or None if
        stop() returned True on any rank.
        """
        settings = self.settings
        errors, bad = torch.zeros(len(BRANCHES), device=self.device), []
        for position in positions:
            sample = self._shared(next(samples) if self.leads_group else None)
            clip_errors = self._errors_of_draw(sample, position)
            self._loss(clip_errors).div(len(positions)).backward()
            errors += clip_errors.detach() / settings.batch / settings.context
            if not clip_errors.detach().isfinite().all():
                bad.append(sample.row)
            if self._any_rank(stop()):
                return None
        return errors, bad

    def _take_step(self, errors: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """Sum the errors over the ranks in place and step the optimiser if they and the gradients are finite.

        Returns (gradient norm, whether the step was taken).
        """
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = trapezoid(self.step, settings.steps, settings.rate, settings.warmup, settings.decay)
        norm = self.model.reduce_gradients(settings.clip)
        dist.all_reduce(errors)
        taken = bool(norm.isfinite() and errors.isfinite().all())
        if taken:
            self.optimizer.step()
            self.model.update_average(self.step, settings.ema)
        self.model.clear_gradients()
        return norm, taken

    def _stop(self) -> None:
        """Save the last finished step; gradients of an unfinished step are dropped."""
        self.model.clear_gradients()
        self.console.say(f"stopping: saving step {self.step:,}; the same command resumes there")
        if self.step == 0 or not (self.folder / f"step-{self.step:06d}").exists():
            save_state(self.folder, self.step, self.model, self.optimizer)

    def _report_skipped(self, skipped: int, bad: list[str]) -> None:
        """Report a step that was not taken because its loss or gradient was not finite.

        Raises InputError after MAX_SKIPPED_STEPS consecutive ones.
        """
        gathered: list = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, bad)
        names = sorted({name for rows in gathered for name in rows})
        self._log(skipped=skipped, rows=names)
        self.console.say(
            f"step {self.step:,} skipped: its loss or gradient is not finite (rows {', '.join(names) or 'none alone'})"
        )
        if skipped >= MAX_SKIPPED_STEPS:
            save_state(self.folder, self.step, self.model, self.optimizer)  # weights from before the skipped steps
            raise InputError(
                f"{skipped} steps in a row, up to step {self.step:,}, had a loss or gradient "
                "that is not finite and were skipped; rows with such a loss:"
                f" {', '.join(names) or 'none'}. Lower 'rate', or check the rows with `vera data check --pixels`"
            )

    def _report_step(self, errors, norm, start_time) -> None:
        rate, losses = self.optimizer.param_groups[0]["lr"], dict(zip(BRANCHES, errors.tolist()))
        self._log(losses=losses, norm=norm.item(), rate=rate, seconds=round(time.monotonic() - start_time, 1))
        self.console.step(self.step, self.settings.steps, losses, rate, self.settings.batch)

    def _report_unreadable(self, state: str, reason: str) -> None:
        self._log(unreadable_state=state, reason=reason)
        self.console.say(f"{state}: cannot be read ({reason}); trying the previous state")

    @staticmethod
    def _any_rank(value: bool) -> bool:
        """Whether `value` is True on any rank; the exchange runs on the CPUs, so no GPU waits."""
        flag = torch.tensor(int(value))
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def _samples(self, source, positions):
        """The samples of this group for all steps to come, read by the group's first rank only."""
        steps = range(self.step, self.settings.steps)
        draws = [step * self.settings.batch + position for step in steps for position in positions]
        return source.samples(draws if self.leads_group else [])

    def rows(self, stop: Callable[[], bool] = lambda: False) -> tuple[SampleSource, list[Any]] | None:
        """Encode all rows; return (source of the training samples, this group's held-out samples).

        Returns None if stop() returned True.
        """
        settings, root = self.settings, Path(self.settings.data)
        rows, broken = self._from_first_rank(self._find_rows)
        self._report_rows(rows, broken)
        if not self._encode(rows, broken, stop):
            return None
        self.empty_states = text_states("", self.cache, self.encoders)
        trained, held = split(rows, settings.held_out, root)
        held = [row for row in held if row.name not in broken]
        if not any(row.name not in broken for row in trained):
            raise InputError(f"{root}: leaves no row to train on; see `vera data check`, and 'held_out'")
        samples = self._held_out_samples(held, broken)
        source = SampleSource(Order(trained, settings.seed), self.cache, self.encoders, broken, settings.workers)
        return source, samples

    def _report_rows(self, rows, broken) -> None:
        usable = sum(row.name not in broken for row in rows)
        self.console.say(
            f"{self.settings.data}: {usable:,} rows of {self.settings.frames} frames, and"
            f" {len(broken):,} that cannot be used" + (", named in log.jsonl" if broken else "")
        )

    def _encode(self, rows, broken, stop) -> bool:
        """Encode this rank's share of the rows into the cache. False if stop() returned True on any rank."""
        source = SampleSource(
            SequentialOrder(rows), self.cache, self.encoders, broken, self.settings.workers, fill_only=True
        )
        usable = [i for i, row in enumerate(rows) if row.name not in broken]
        share = usable[dist.get_rank() :: dist.get_world_size()]
        stopped = False
        for number, _ in enumerate(source.samples(share), 1):
            self.console.progress("encoding", number, len(share), "rows")
            if number % 100 == 0:
                self._log(encoded=number, of=len(share))
            if stop():
                stopped = True
                break
        if self._any_rank(stopped):
            self.console.say("stopped while encoding; encoded rows are cached, and the same command resumes there")
            return False
        self._report_broken(source)
        return True

    def _held_out_samples(self, held, broken) -> list[Any]:
        """This group's share of the held-out samples; equally many on every rank, so that all evaluate together.

        `self.counts` is 1 for each sample, or 0 for a repeated one that fills up a group's share.
        """
        numbers = range(self.group, -(-len(held) // self.groups) * self.groups, self.groups)
        here = [held[i % len(held)] for i in numbers]
        source = SampleSource(SequentialOrder(here), self.cache, self.encoders, broken, 0)
        samples = list(source.samples(range(len(here))))
        fewest = torch.tensor(len(samples))  # a row may have become unreadable on one rank
        dist.all_reduce(fewest, dist.ReduceOp.MIN)
        samples = samples[: int(fewest)]
        self.encoders.release()
        self.counts = [1.0 if self.group + k * self.groups < len(held) else 0.0 for k in range(len(samples))]
        return samples

    def _find_rows(self):
        """(train rows with `frames` frames, names of the broken ones and of those that could not be read)."""
        rows, unread = read_rows(Path(self.settings.data))
        wanted = self.settings.frames
        rows = [replace(row, frames=(wanted,)) for row in rows if not row.test and wanted in row.frames]
        if not rows:
            raise InputError(f"{self.settings.data}: holds no train rows of {wanted} frames")
        broken = check_rows(rows)
        for error in unread + broken:
            self._log(broken_row=error.row, file=error.file, reason=error.reason)
        return rows, {error.row for error in unread + broken}

    def _from_first_rank(self, make):
        """Call make() on the first rank and return its result, or raise its InputError, on every rank."""
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

    def _report_broken(self, source) -> None:
        """Share the rows that any rank found broken since the last call with all ranks, and log them."""
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, source.new_broken)
        source.new_broken = []
        found = {error.row: error for errors in gathered for error in errors}
        for error in found.values():
            source.broken.add(error.row)
            self._log(broken_row=error.row, file=error.file, reason=error.reason)
        if found:
            more = f", and {len(found) - 1:,} more, named in log.jsonl" if len(found) > 1 else ""
            self.console.say(f"cannot be used: {printable(next(iter(found.values())))}{more}")

    def _shared(self, sample):
        """Send the sample of the context group's first rank to all ranks of the group."""
        box = [sample]
        if self.settings.context > 1:
            dist.broadcast_object_list(box, group=self.context, group_src=0, device=torch.device("cpu"))
        return box[0]

    def _errors_of_draw(self, sample, position):
        """Errors (3,) of the sample at this position of the batch; noise levels are stratified over the batch."""
        settings, rng = self.settings, np.random.default_rng([self.settings.seed, self.step, position])
        level = noise_level((position + rng.random()) / settings.batch, settings.shift)
        with_mask, with_text = rng.random() >= settings.mask_drop, rng.random() >= settings.text_drop
        states = sample.states if with_text else self.empty_states
        return self._errors(sample.latents, states, level, with_mask, int(rng.integers(2**62)))

    def _errors(self, latents, states, level, with_mask, seed):
        """Mean squared error of the velocity per branch, (3,) fp32."""
        layers = latents.to(self.device, torch.float32)
        clean, given = layers[None, 1:4], self._given(layers, with_mask)
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).to(self.device)
        timestep = torch.tensor([1000 * level], device=self.device)
        noisy = (1 - level) * clean + level * noise
        velocity = self._velocity(noisy, timestep, states, given)
        return (velocity - (noise - clean)).pow(2).mean((0, 2, 3, 4, 5))

    def _given(self, layers, with_mask):
        """The plate's latents and the mask's, (1, C, t, h, w), of a row's; shows or hides the mask."""
        source, mask = layers[:1], layers[4:]
        self.model.show_mask(with_mask and len(mask) > 0)
        return source, mask if len(mask) else torch.zeros_like(source)

    def _velocity(self, noisy, timestep, states, given):
        """The model's prediction (1, 3, C, t, h, w). states (N, D): without padding. given: see `_given`."""
        states = F.pad(states.to(self.device), (0, 0, 0, TEXT_LENGTH - len(states)))[None]
        return self.model.transformer(noisy, timestep, states, *given, cache=self.blocks)

    def _loss(self, errors):
        weights = torch.tensor(self.settings.weights, device=self.device)
        return (weights * errors).sum() / weights.sum()

    @torch.no_grad()
    def _evaluate(self, held) -> list[float]:
        """Errors (3,) of the averaged weights on the held-out rows, with the same noise and levels at every call."""
        self.model.swap_average()
        sums = torch.zeros(len(BRANCHES) + 1, device=self.device)
        for k, (sample, counts) in enumerate(zip(held, self.counts)):
            sample, number = self._shared(sample), self.group + k * self.groups
            level = noise_level((number % 8 + 0.5) / 8, self.settings.shift)
            errors = self._errors(sample.latents, sample.states, level, True, number)
            sums += counts * torch.cat([errors, torch.ones_like(errors[:1])])
        dist.all_reduce(sums)
        self.model.swap_average()
        return (sums[:-1] / sums[-1]).tolist()

    def _write_samples(self, held, stop) -> None:
        """Sample held-out rows with the averaged weights, all ranks together; the first rank writes the movies.

        Ends early, without movies, if stop() returns True on any rank.
        """
        passes = min(len(held), -(-self.settings.samples // self.groups))  # the same on every rank
        if not passes:
            return
        self.model.swap_average()
        mine = self._sample_rows(held[:passes], stop)
        self.model.swap_average()
        if mine is None:
            return
        gathered: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, mine if self.leads_group else {})
        if not self.first:
            return
        sampled = {number: row for rows in gathered for number, row in rows.items()}
        rows = [sampled[number] for number in sorted(sampled)]
        frames = self.settings.frames
        try:
            pictures = [pictures_of(row, self.encoders.decode, frames) for row in rows]
            sheet = write_samples(self.folder / FOLDER, self.step, pictures)
        except (OSError, torch.OutOfMemoryError) as error:  # samples are no reason to end a run
            self.console.say(f"step {self.step:,}: no samples ({' '.join(str(error).split())[:200]})")
        else:
            self._log(samples=f"{FOLDER}/{sheet.name}", rows=[row.row for row in rows])
        finally:
            self.encoders.release()

    @torch.no_grad()
    def _sample_rows(self, held, stop) -> dict[int, SampledRow] | None:
        """This group's sampled rows by their number among the held-out ones; None if stop() returned True on any rank.

        Every rank makes as many passes, whether its row is wanted or not.
        """
        found = {}
        for k, sample in enumerate(held):
            sample, number = self._shared(sample), self.group + k * self.groups
            layers = sample.latents.to(self.device, torch.float32)
            given, shape = self._given(layers, True), (1, 3, *layers.shape[1:])
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(number)).to(self.device)

            def guided(noisy, timestep, states=sample.states, given=given):
                if self._any_rank(stop()):
                    return None
                without = self._velocity(noisy, timestep, self.empty_states, given)
                return without + GUIDANCE * (self._velocity(noisy, timestep, states, given) - without)

            sampled = sample_layers(guided, noise, self.settings.shift)
            if sampled is None:
                return None
            if self.counts[k] and number < self.settings.samples:
                found[number] = SampledRow(sample.row, sample.latents[0], sampled[0].to("cpu", torch.float16))
        return found

    def _log(self, **values) -> None:
        if self.first:
            log(self.folder, self.boards, step=self.step, **values)


def noise_level(u: float, shift: float) -> float:
    """Apply the sampler's timestep shift to a uniform u in [0, 1); returns a noise level in [0, 1)."""
    return shift * u / (1 + (shift - 1) * u)
