"""Train mini's transformer and text encoder by flow matching on layered clips.

A clip has 49 frames, 13 latent frames. A training sample holds a few of the latent
frames at their true positions in time, adjacent or scattered. So the model sees
every time distance of a whole clip at a fraction of the cost.
"""

from __future__ import annotations

import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vera.core.data.engine.clips import OBJECT_SHARE, SPAN, LayeredClip, draw_labels, make_clip
from vera.core.data.engine.instructions import vocabulary
from vera.core.data.engine.rendered import folders, read_clip
from vera.core.errors import InputError
from vera.core.model.codec import SPACE_STRIDE as SPACE
from vera.core.model.codec import TIME_STRIDE as TIME
from vera.core.model.codec import WanCodec
from vera.core.model.config import BRANCHES
from vera.core.model.device import mixed_precision
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.edition import read_codec, read_weights, save_codec
from vera.core.model.mini.edition_files import CODEC
from vera.core.model.mini.mini_codec import MiniCodec, codec_of_state
from vera.core.model.mini.mini_config import MINI, MiniConfig
from vera.core.model.mini.mini_family import MiniFamily
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.training.console import Console
from vera.core.training.curve import NAMES, draw_curve
from vera.core.training.mini.aim import Lesson, Lessons, lesson, lesson_error, teach_aim
from vera.core.training.mini.extension import widened
from vera.core.training.mini.fit_camera import fit_camera
from vera.core.training.mini.fit_latent_over import fit_blend
from vera.core.training.mini.flow import EncodedClips, drawing_losses, flow_loss, pixel_scale
from vera.core.training.mini.samples import sample_sheet
from vera.core.training.mini.settings import Stage, TransformerSettings, read_transformer
from vera.core.training.state import STATE, Ema, load_state, log_line, save_state, trapezoid
from vera.core.training.stop_signals import ignore_stop_signals
from vera.core.training.watch import WRITE_SECONDS, write_page

if TYPE_CHECKING:
    pass

# Loss weights of the drawing and of its aim; the mean of the branches' losses has weight 1.
DRAWING_WEIGHTS = (0.5, 0.5)
LESSON_SIZE = 32  # extra instructions per round that train the aim; more teach it faster and cost time
AIM_INDEX = NAMES.index("aim")
LAST_LATENT = SPAN // TIME  # index of the last latent frame of a clip
SHAPES = ((80, 144), (80, 144), (112, 112), (144, 80))  # (height, width) in pixels, unless a stage names others


class Clips(NamedTuple):
    """Clips of one shape at one choice of latent times.

    pictures: (count, 5, 3, 4 t, H, W), the layers source, edit, alpha, composite, mask.
    paths: (count, t, 2, 3), as `LayeredClip.path`, at the first and the last frame of each latent frame.
    texts: the instructions. times: indices of the t latent frames.
    """

    pictures: Tensor
    paths: Tensor
    texts: list[str]
    times: list[int]


def frames_of(latent: int) -> list[int]:
    """The four frame times of a latent frame; latent frame 0 is frame 0 repeated four times."""
    return [0] * 4 if latent == 0 else list(range(4 * latent - 3, 4 * latent + 1))


def pick_times(rng: random.Random, count: int) -> list[int]:
    """Random latent frames of one sample, adjacent or scattered; latent frame 0 is often included."""
    if rng.random() < 0.5:
        start = 0 if rng.random() < 0.5 else rng.randint(0, LAST_LATENT + 1 - count)
        return list(range(start, start + count))
    scattered = rng.sample(range(1, LAST_LATENT + 1), count - 1)
    return sorted(
        [0 if rng.random() < 0.5 else rng.choice([i for i in range(LAST_LATENT + 1) if i not in scattered])] + scattered
    )


class Rounds(IterableDataset):
    """The training data of the rounds from `step` on, generated in this process or in a loader's workers.

    Yields (Clips, Lesson) per round. A round depends only on the number of its first clip, so a resumed run sees the
    same data. clips: number of clips before `step`. whole: use consecutive latent frames from the clip's start, as a
    causal codec requires.
    """

    def __init__(
        self, settings: TransformerSettings, step: int, clips: int, rank: int, ranks: int, whole: bool = False
    ) -> None:
        self.settings, self.step, self.clips = settings, step, clips
        self.rank, self.ranks, self.whole = rank, ranks, whole

    def __iter__(self) -> Iterator[tuple[Clips, Lesson]]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        step, clips = self.step, self.clips
        for turn in itertools.count():
            if step >= self.settings.steps:
                return
            stage = stage_of(self.settings, step)
            if turn % of == number:
                mine = stage.batch // self.ranks
                first = self.settings.seed + clips + self.rank * mine
                if random.Random(-first).random() < stage.rendered:
                    made = rendered_clips(Path(self.settings.rendered or ""), first, mine, stage.latents, self.whole)
                else:
                    objects = OBJECT_SHARE if stage.objects is None else stage.objects
                    made = generated_clips(first, mine, stage.latents, objects, stage.shapes or SHAPES, self.whole)
                yield made, lesson(first, LESSON_SIZE // self.ranks)
            step, clips = step + stage.repeats, clips + stage.batch


def stage_of(settings: TransformerSettings, step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(stage for stage in settings.stages if step < stage.until)


def generated_clips(
    seed: int,
    count: int,
    latents: int,
    objects: float = OBJECT_SHARE,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    whole: bool = False,
) -> Clips:
    """Clips seed .. seed + count - 1, all of one shape drawn from `shapes` (height, width) and one choice of times.

    objects: probability that a clip adds an object. whole: see `Rounds`.
    """
    rng = random.Random(seed)
    height, width = rng.choice(shapes)
    times = list(range(latents)) if whole else pick_times(rng, latents)
    frames = [f for t in times for f in frames_of(t)]
    clips = (
        make_clip(k, height, width, frames, draw_labels(random.Random(k), objects)) for k in range(seed, seed + count)
    )
    return _stacked(clips, slice(None), times)


def rendered_clips(root: Path, seed: int, count: int, latents: int, whole: bool = False) -> Clips:
    """Random clips from a folder written by core/data/engine/with_cycles.py, with at most `latents` latent frames."""
    rng, there = random.Random(seed), folders(root)
    clips = [read_clip(folder) for folder in rng.sample(there, min(count, len(there)))]
    last = (min(len(clip.path) for clip in clips) - 1) // TIME
    start = 0 if whole else rng.randint(0, max(0, last + 1 - latents))
    times = list(range(start, min(last + 1, start + latents)))
    return _stacked(clips, [f for t in times for f in frames_of(t)], times)


def _stacked(clips: Iterable[LayeredClip], frames: slice | list[int], times: list[int]) -> Clips:
    """Stack these frames of the clips."""
    stacks, paths, texts = [], [], []
    for clip in clips:
        layers = torch.stack(
            [x.expand(-1, 3, -1, -1) for x in (clip.source, clip.edit, clip.alpha, clip.composite, clip.mask)]
        )
        stacks.append(layers[:, frames].transpose(1, 2))
        paths.append(clip.path[frames].unflatten(0, (-1, TIME))[:, [0, -1]])
        texts.append(clip.instruction)
    return Clips(torch.stack(stacks), torch.stack(paths), texts, times)


@torch.inference_mode()
def latents_of(codec: MiniCodec | WanCodec, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode `Clips.pictures`: latents (count, 5, C, t, h, w), and `seen` (count, t, h, w), the largest alpha in each
    latent pixel."""
    seen = F.max_pool3d(pictures[:, 2, 0], (TIME, SPACE, SPACE))
    if codec.remembers:  # a causal codec takes the first frame once, not four times
        return torch.stack([codec.encode(clip[:, :, TIME - 1 :]) for clip in pictures]), seen
    return torch.stack([codec.encode_groups(clip) for clip in pictures]), seen


def start_from(edition: Path, transformer: MiniTransformer, text: MiniText) -> None:
    """Load the weights of an edition. Words that the edition does not know keep their present embedding.

    The edition may have fewer latent channels, see extension.py. The weights of further ones are then 0, but for the
    blend's, which keep their present values.
    """
    state = read_weights(edition / "transformer.safetensors")
    there, here = (x.config.latent_channels for x in (MiniFamily().describe(edition), transformer))
    if there < here:
        mine = transformer.state_dict()
        fine = [k for k in mine if k.startswith("drawing.blend.") and not k.endswith(".weight")]
        state = widened(state, there, here) | {k: mine[k] for k in fine}
    transformer.load_state_dict(state)
    weights = read_weights(edition / "text.safetensors")
    with safe_open(edition / "text.safetensors", "pt") as file:
        known = json.loads(file.metadata()["words"])
    rows = text.embedding.weight.detach().clone()
    rows[:2] = weights["embedding.weight"][:2]  # the tokens "padding" and "unknown"
    for word, row in zip(known, weights["embedding.weight"][2:]):
        if word in text.index:
            rows[text.index[word]] = row
    text.load_state_dict(weights | {"embedding.weight": rows})


def load_codec(folder: Path) -> MiniCodec | WanCodec:
    """Load the codec of an edition, of a VAE run, or of the training state of mini's own codec. Raises InputError."""
    if (folder / CODEC).exists():
        return read_codec(folder / CODEC)
    if not (folder / STATE).exists():
        raise InputError(f"{folder}: has neither {CODEC} nor {STATE}; give the run of a codec, or an edition of mini")
    try:
        tensors = load_file(folder / STATE)
        state = {k.removeprefix("codec/"): v for k, v in tensors.items() if not k.startswith("optimizer/")}
        return codec_of_state(state).eval()
    except (SafetensorError, RuntimeError, KeyError, IndexError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError(f"{folder / STATE}: not the state of a codec ({reason})") from None


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Train until config['steps'], or until stop() returns True; folder then holds weights, EMA and samples.

    config: see TransformerSettings. On a CPU, `processes` single-threaded processes share each batch, which is much
    faster than one process with several threads. On a GPU one process trains and `workers` generate the clips.
    Raises InputError before any work.
    """
    settings, console = read_transformer(config), console or Console()
    refuse_missing(settings)
    folder.mkdir(parents=True, exist_ok=True)
    shared = f"{settings.processes} processes share each batch" if settings.processes > 1 else "one process"
    console.say(f"training mini for {settings.steps:,} steps, codec of {settings.codec}, {shared}")
    stop_requested = mp.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as rendezvous:
        arguments = (settings, folder, rendezvous, stop_requested, console.silent)
        ranks = mp.spawn(_train_rank, arguments, settings.processes, join=False)
        while not ranks.join(timeout=0.5):
            if stop():
                stop_requested.set()


def refuse_missing(settings: TransformerSettings) -> None:
    """Raise InputError if an input of a run is missing or unusable."""
    if any(stage.rendered for stage in settings.stages) and not folders(Path(settings.rendered or "")):
        raise InputError(
            "a stage uses rendered clips, and the folder `rendered` has none; "
            "core/data/engine/with_cycles.py renders them"
        )
    load_codec(Path(settings.codec))
    if settings.start:
        MiniFamily().describe(Path(settings.start))


def geometry_of(settings: TransformerSettings, codec: MiniCodec | WanCodec) -> MiniConfig:
    """The transformer's configuration for a codec."""
    changes = {name: value for name, value in asdict(settings.geometry).items() if value is not None}
    nested = isinstance(codec, MiniCodec) and codec.coarse < codec.channels
    coarse = codec.coarse if nested else None
    return replace(MINI, latent_channels=codec.channels, coarse_channels=coarse, **changes)


def _train_rank(
    rank: int, settings: TransformerSettings, folder: Path, rendezvous: str, stop_requested: Any, silent: bool
) -> None:
    """Run one of the processes that share a run."""
    ignore_stop_signals()  # the parent process handles signals and sets stop_requested
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # sharp attention produces many denormals, which are slow
    count = settings.processes
    store = dist.FileStore(str(Path(rendezvous) / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    run = Run(settings, folder, rank, Console(silent=silent or rank > 0))
    run.load()
    run.train(stop_requested)
    run.finish()
    dist.barrier()
    dist.destroy_process_group()


class Run:
    """One process of a run: modules, their average (EMA), the optimiser, and the present step."""

    def __init__(self, settings: TransformerSettings, folder: Path, rank: int, console: Console) -> None:
        self.settings, self.folder, self.rank, self.console = settings, folder, rank, console
        self.device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(0)
        self.codec = load_codec(Path(settings.codec)).to(self.device)
        geometry = geometry_of(settings, self.codec)
        self.transformer = MiniTransformer(geometry)
        self.drawing: Any = self.transformer.drawing  # present in every geometry that this module trains
        if geometry.coarse_channels and self.drawing is not None:
            self.drawing.blend.copy_codec(self.codec)
        self.text = MiniText(vocabulary(), geometry.text_dim)
        self.modules: dict[str, Any] = {"transformer": self.transformer, "text": self.text}
        if settings.start:  # an edition; `load` overwrites it with a saved state if there is one
            start_from(Path(settings.start), self.transformer, self.text)
        for module in self.modules.values():
            module.to(self.device)
        self.scale = pixel_scale(self.codec, geometry.latent_std)
        self.ema = Ema(self.modules, settings.ema)
        self.saved = self.modules | {f"ema_{name}": module for name, module in self.ema.modules.items()}
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.step = self.clips = 0

    def load(self) -> None:
        """Resume from the folder's state; a new run instead fits the drawing in closed form and teaches the aim."""
        settings, drawing = self.settings, self.drawing
        self.step, extra = load_state(self.folder, self.saved, self.optimizer, self.console)
        self.clips = extra.get("clips", 0)
        if self.rank == 0:
            save_codec(self.codec, self.folder / CODEC)  # makes the run complete for an export
        if self.step > 0:
            self.console.say(f"resuming at step {self.step:,} of {settings.steps:,}")
            return
        if not settings.start:  # the same result on every rank
            self.console.say(
                f"fitting compositing and camera to the codec: {settings.blend_clips} "
                f"clips, {settings.camera_plates} plates"
            )
            fit_blend(drawing.blend, self.codec, settings.seed - 30_000_000, settings.blend_clips)
            fit_camera(drawing.camera, self.codec, settings.seed - 20_000_000, settings.camera_plates)
            self.ema.copy(self.modules)
        if settings.aim_steps:
            self.console.say(f"teaching where instructions aim: {settings.aim_steps} steps")
            lessons = Lessons(settings.seed - 10_000_000, settings.aim_steps)
            teach_aim(drawing.aim, self.text, lessons, console=self.console)
            self.ema.copy(self.modules)

    def train(self, stop_requested: Any) -> None:
        """Train to the last step. All ranks stop after the same round once stop_requested is set on any rank."""
        settings = self.settings
        self.console.say(f"state, log.jsonl, curve.png and samples-*.png are in {self.folder}")
        rounds = Rounds(settings, self.step, self.clips, self.rank, settings.processes, self.codec.remembers)
        loader = DataLoader(
            rounds, batch_size=None, num_workers=settings.workers, pin_memory=self.device.type == "cuda"
        )
        self.first_step, self.start_time = self.step, time.monotonic()
        self.page_written = -WRITE_SECONDS  # time of the page's last write
        for clips, taught in loader:
            before = self.step
            losses = self.round(clips, taught)
            if self.rank == 0:
                self.report(before, losses)
            flag = torch.tensor([int(stop_requested.is_set())])
            dist.all_reduce(flag)
            if flag:
                self.console.say(f"stopping: saving step {self.step:,}; the same command resumes there")
                break

    def round(self, clips: Clips, taught: Lesson) -> Tensor:
        """Train the steps of one round; return the mean of each loss, (5,), in the order of curve.NAMES."""
        # The first step seeds all random numbers of the round, so a resumed run equals an uninterrupted one.
        torch.manual_seed(self.step * self.settings.processes + self.rank)
        stage, texts, times = stage_of(self.settings, self.step), clips.texts, clips.times
        latents, seen = latents_of(self.codec, clips.pictures.to(self.device, non_blocking=True))
        path, sums = clips.paths.to(self.device), torch.zeros(len(NAMES), device=self.device)
        self.clips += stage.batch
        for _ in range(stage.repeats):
            rng = random.Random(self.step)
            with_mask = rng.random() < self.settings.mask_keep  # equal on every rank, so all have the same gradients
            chosen = sorted(rng.sample(range(len(times)), min(stage.keep, len(times))))
            dropped = ["" if torch.rand(()) < self.settings.text_drop else t for t in texts]
            at = [times[i] for i in chosen]
            shot = MiniShot(moments(at, LAST_LATENT + 1), path=path[:, chosen], times=torch.tensor(at))
            with mixed_precision(self.device):
                states = self.text.encode(dropped)
                encoded = EncodedClips(states, latents[:, :, :, chosen], seen[:, chosen], shot)
                losses = self.losses(encoded, with_mask, stage.only == "drawing")
                aim = lesson_error(self.drawing.aim, self.text, *taught)
            losses = losses + F.one_hot(torch.tensor(AIM_INDEX), len(NAMES)).to(losses) * aim
            self.update(losses)
            sums += losses.detach()
        return sums / stage.repeats

    def losses(self, clips: EncodedClips, with_mask: bool, only_drawing: bool) -> Tensor:
        """Losses of the three branches, the drawing and the aim, (5,), in the order of curve.NAMES."""
        drawn = drawing_losses(self.drawing, clips, with_mask, self.scale)
        if only_drawing:
            return torch.cat([drawn.new_zeros(len(BRANCHES)), drawn])
        flow = flow_loss(self.transformer, clips, with_mask, self.settings.shift, self.scale)
        return torch.cat([flow, drawn])

    def update(self, losses: Tensor) -> None:
        """Take one step of the optimiser and update the average."""
        self.optimizer.zero_grad()
        branches, drawn = losses.split([len(BRANCHES), len(DRAWING_WEIGHTS)])
        (branches.mean() + drawn @ drawn.new_tensor(DRAWING_WEIGHTS)).backward()
        average_gradients(self.parameters, self.settings.processes)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = trapezoid(self.step, self.settings.steps, self.settings.rate)
        self.optimizer.step()
        self.step += 1
        self.ema.update(self.modules, self.step)

    def report(self, before: int, losses: Tensor) -> None:
        """Log and print a finished round; save the state and draw samples when they are due."""
        settings, stage = self.settings, stage_of(self.settings, before)
        means = dict(zip(NAMES, losses.tolist()))
        rate = self.optimizer.param_groups[0]["lr"]
        seconds = round(time.monotonic() - self.start_time, 1)
        position = {"step": self.step, "steps": settings.steps}
        log_line(self.folder, **position, losses=means, rate=rate, clips=self.clips, seconds=seconds)
        if time.monotonic() - self.page_written > WRITE_SECONDS:
            write_page(self.folder)
            self.page_written = time.monotonic()
        self.console.step(self.step, settings.steps, means, rate, stage.batch / stage.repeats)
        if crossed(before, self.step, settings.save_every):
            self.save()
        if crossed(before, self.step, settings.sample_every):
            average = self.ema.modules
            sample_sheet(
                average["transformer"], average["text"], self.codec, self.folder / f"samples-{self.step:06d}.png"
            )

    def save(self) -> None:
        """Write the state with the metadata that an export needs, the curve and the page."""
        metadata = {"clips": self.clips, "geometry": asdict(self.transformer.config), "words": self.text.words}
        save_state(self.folder, self.step, self.saved, self.optimizer, metadata)
        draw_curve(self.folder / "log.jsonl", self.folder / "curve.png")
        write_page(self.folder)

    def finish(self) -> None:
        """Teach the averaged aim again with the trained text encoder, if this run reached the last step; save."""
        settings = self.settings
        if self.rank > 0:
            return
        if self.first_step < settings.steps <= self.step and settings.last_aim_steps:
            aim, text = self.ema.modules["transformer"].drawing.aim, self.ema.modules["text"]
            seed = settings.seed - 5_000_000
            teach_aim(aim, text, Lessons(seed, settings.last_aim_steps), aim_only=True, console=self.console)
        self.save()
        self.console.say(
            f"step {self.step:,} of {settings.steps:,} is saved in {self.folder}; vera model export "
            f"{self.folder} --to DIR writes a model from it"
        )


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def average_gradients(parameters: Iterable[torch.nn.Parameter], count: int) -> None:
    """Average every gradient over the ranks. Parameters without a gradient are the same on every rank."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if count > 1:
        flat = torch._utils._flatten_dense_tensors(grads)
        dist.all_reduce(flat.div_(count))
        for mine, mean in zip(grads, torch._utils._unflatten_dense_tensors(flat, grads)):
            mine.copy_(mean)
