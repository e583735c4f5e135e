"""Train mini's transformer and text encoder by flow matching on layered clips.

Clips are 49 frames long, 13 latent frames; a training sample holds a few of
them at their true positions in time, next to each other or far apart. So the
model meets every distance in time that a whole clip has, at a part of the cost.
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
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vera.core.data.engine.clips import OBJECT_SHARE, SPAN, draw_labels, make_clip
from vera.core.data.engine.phrases import vocabulary
from vera.core.data.engine.rendered import folders, read_clip
from vera.core.errors import InputError
from vera.core.model.codec import SPACE_STRIDE as SPACE
from vera.core.model.codec import TIME_STRIDE as TIME
from vera.core.model.codec import WanCodec
from vera.core.model.config import BRANCHES
from vera.core.model.device import mixed_precision
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.edition import CODEC, MiniFamily, read_codec, read_weights, save_codec
from vera.core.model.mini.mini_codec import MiniCodec
from vera.core.model.mini.mini_config import MINI, MiniConfig
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.training.curve import NAMES, draw_curve
from vera.core.training.mini.aim import aim_error, lesson, lesson_error, teach_aim
from vera.core.training.mini.codec import FRAMES, layers_of
from vera.core.training.mini.fit_camera import fit_camera
from vera.core.training.mini.fit_latent_over import fit_blend
from vera.core.training.mini.samples import sample_sheet
from vera.core.training.mini.settings import Stage, TransformerSettings, read_transformer
from vera.core.training.state import STATE, Ema, load_state, log_line, save_state, trapezoid
from vera.core.training.talk import Talk
from vera.core.training.undisturbed import ignore_stopping
from vera.core.training.watch import WRITE_SECONDS, write_page

if TYPE_CHECKING:
    from vera.core.model.mini.drawing import Drawing

DRAWING_WEIGHTS = (0.5, 0.5)  # of the drawing's error and its aim's beside the mean of the branches' losses
LESSON_SIZE = 32  # instructions beside each round's clips; more teach the aim faster and cost time
MIN_WEIGHTED_LEVEL = 0.4  # noise level below which a loss counts no more; lower: finer detail counts more
AIM = NAMES.index("aim")
LAST = SPAN // TIME  # index of the last latent frame of a clip
Clips = tuple[Tensor, Tensor, list[str], list[int]]  # pictures, paths, instructions, latent times, see Rounds
SHAPES = ((80, 144), (80, 144), (112, 112), (144, 80))  # height, width; a stage may have others


def frames_of(latent: int) -> list[int]:
    """The four frame times behind a latent frame; the first holds frame 0."""
    return [0] * 4 if latent == 0 else list(range(4 * latent - 3, 4 * latent + 1))


def pick_times(rng: random.Random, count: int) -> list[int]:
    """Latent frames of one sample: a run, or scattered; the first one often among them."""
    if rng.random() < 0.5:
        start = 0 if rng.random() < 0.5 else rng.randint(0, LAST + 1 - count)
        return list(range(start, start + count))
    scattered = rng.sample(range(1, LAST + 1), count - 1)
    return sorted(
        [0 if rng.random() < 0.5 else rng.choice([i for i in range(LAST + 1) if i not in scattered])] + scattered
    )


class Rounds(IterableDataset):
    """The clips of the rounds from `step` on, made where they are asked for: in this process, or in a loader's workers.

    Yields, a round: pictures (count, 5, 3, 4 t, H, W) of source, edit, alpha, composite, mask; where the object is as
    each latent frame begins and ends, (count, t, 2, 3), as `LayeredClip.path`; instructions; latent times; a lesson of
    the aim. A round follows from the number of its first clip alone. whole: latent times are the clip's first ones,
    without
    a gap, as a codec that remembers needs them.
    """

    def __init__(
        self, settings: TransformerSettings, step: int, clips: int, rank: int, ranks: int, whole: bool = False
    ) -> None:
        self.settings, self.step, self.clips, self.rank, self.ranks, self.whole = (
            settings,
            step,
            clips,
            rank,
            ranks,
            whole,
        )

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
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
                    made = clips_of(first, mine, stage.latents, objects, stage.shapes or SHAPES, self.whole)
                yield *made, lesson(first, LESSON_SIZE // self.ranks)
            step, clips = step + stage.repeats, clips + stage.batch


def stage_of(settings: TransformerSettings, step: int) -> Stage:
    """The stage that a step belongs to."""
    return next(stage for stage in settings.stages if step < stage.until)


def clips_of(
    seed: int,
    count: int,
    latents: int,
    objects: float = OBJECT_SHARE,
    shapes: Sequence[tuple[int, int]] = SHAPES,
    whole: bool = False,
) -> Clips:
    """Clips seed .. seed + count - 1 of one of the shapes (height, width) and one choice of times, as Rounds
    yields them;
    this share of them adds objects."""
    rng = random.Random(seed)
    height, width = rng.choice(shapes)
    times = list(range(latents)) if whole else pick_times(rng, latents)
    frames = [f for t in times for f in frames_of(t)]
    clips = (
        make_clip(k, height, width, frames, draw_labels(random.Random(k), objects)) for k in range(seed, seed + count)
    )
    return *_stacked(clips, slice(None)), times


def rendered_clips(root: Path, seed: int, count: int, latents: int, whole: bool = False) -> Clips:
    """The same of clips under a folder, as core/data/engine/with_cycles.py renders them: of what latent frames
    they have."""
    rng, there = random.Random(seed), folders(root)
    clips = [read_clip(folder) for folder in rng.sample(there, min(count, len(there)))]
    last = (min(len(clip.path) for clip in clips) - 1) // TIME
    start = 0 if whole else rng.randint(0, max(0, last + 1 - latents))
    times = list(range(start, min(last + 1, start + latents)))
    return *_stacked(clips, [f for t in times for f in frames_of(t)]), times


def _stacked(clips, frames):
    stacks, paths, texts = [], [], []
    for clip in clips:
        layers = torch.stack(
            [x.expand(-1, 3, -1, -1) for x in (clip.source, clip.edit, clip.alpha, clip.composite, clip.mask)]
        )
        stacks.append(layers[:, frames].transpose(1, 2))
        paths.append(clip.path[frames].unflatten(0, (-1, TIME))[:, [0, -1]])
        texts.append(clip.instruction)
    return torch.stack(stacks), torch.stack(paths), texts


@torch.inference_mode()
def latents_of(codec: MiniCodec | WanCodec, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of clips as Rounds yields them: latents (count, 5, C, t, h, w), and each latent pixel's largest alpha
    (count, t, h, w)."""
    seen = F.max_pool3d(pictures[:, 2, 0], (TIME, SPACE, SPACE))
    if codec.remembers:  # of the first frame, held four times, it wants one
        return torch.stack([codec.encode(clip[:, :, TIME - 1 :]) for clip in pictures]), seen
    return torch.stack([codec.encode_groups(clip) for clip in pictures]), seen


def flow_loss(
    transformer: MiniTransformer,
    states: torch.Tensor,
    latents: torch.Tensor,
    seen: torch.Tensor,
    shot: MiniShot | None,
    with_mask: bool,
    shift: float,
    scale: torch.Tensor,
) -> torch.Tensor:
    """Mean squared error of the clean latents, a branch -> (3,); latents and seen as `latents_of` gives them;
    shot: a MiniShot.

    scale (C,): what an error of each channel is counted by, see `in_pixels`. By 1 / s^2 of the
    noise level s, as a velocity's error is, down to MIN_WEIGHTED_LEVEL.
    Of the edit branch, what alpha hides counts a fifth. Noise levels are spread evenly over the batch.
    """
    source, clean, mask = latents[:, 0], latents[:, 1:4], latents[:, 4]
    u = ((torch.arange(len(latents)) + torch.rand(len(latents))) / len(latents)).to(latents.device)
    sigma = shift * u / (1 + (shift - 1) * u)
    noise = torch.randn_like(clean)
    s = sigma[:, None, None, None, None, None]
    noisy = (1 - s) * clean + s * noise
    velocity = transformer(noisy, sigma * 1000, states, source, mask if with_mask else None, shot)
    s = s[:, 0]
    error = (velocity.float() - (noise - clean)) * scale.view(1, 1, -1, 1, 1, 1)
    error = error.pow(2).mean(2) * (s / s.clamp_min(MIN_WEIGHTED_LEVEL)) ** 2
    visible = 0.2 + 0.8 * seen
    weight = torch.stack([visible / visible.mean(), torch.ones_like(seen), torch.ones_like(seen)], dim=1)
    return (error * weight).mean((0, 2, 3, 4))


def drawing_losses(
    drawing: Drawing,
    states: torch.Tensor,
    latents: torch.Tensor,
    seen: torch.Tensor,
    mask: torch.Tensor | None,
    progress: torch.Tensor,
    path: torch.Tensor,
    scale: torch.Tensor,
) -> torch.Tensor:
    """What is drawn around the true path, and where the mask aims (0 without one): errors (2,), of a clip's drawing the
    root mean square, so that clips of which the words tell little do not drown the others; latents and seen as
    `latents_of` gives them, mask (B, C, t, h, w) or None, progress (t, 2), path (B, t, 2, 3), scale as in flow_loss.

    Only a third of the cells is drawn, more of those near the layer.
    Clips whose text was dropped count for neither.
    """
    told = (states != 0).flatten(1).any(1)
    near = F.max_pool3d(seen, (1, 3, 3), 1, (0, 1, 1)).flatten(1)
    cells = (torch.rand_like(near) + near).topk(near.shape[1] // 3).indices
    drawn = drawing(states, mask, progress, latents.shape[-3:], path, cells)
    wanted = latents[:, 1:3].flatten(3).gather(3, cells[:, None, None].expand(-1, *drawn.shape[1:3], -1))
    error = ((drawn - wanted) * scale.view(1, 1, -1, 1)).pow(2).mean(2)
    visible = 0.2 + 0.8 * seen.flatten(1).gather(1, cells)
    weight = torch.stack([visible / visible.mean(), torch.ones_like(visible)], dim=1) * told.view(-1, 1, 1)
    error = ((error * weight).mean((1, 2)) + 1e-4).sqrt().mean()
    if mask is None:
        return torch.stack([error, error.new_zeros(())])
    aspect = latents.shape[-1] / latents.shape[-2]
    return torch.stack([error, aim_error(drawing.aim.path(states, mask, progress, aspect), path, told)])


@torch.no_grad()
def in_pixels(codec: MiniCodec | WanCodec, std: float, step: float = 0.1) -> torch.Tensor:
    """(C,): scales under which a squared error of latents is one of pixels, whose mean is 1 / std.

    Measured, by a step in each channel of a clip's latents.
    Where a thing is stands in mini's coarsest channel; without these the finest ones drown it.
    """
    device = next(codec.parameters()).device
    latents = codec.encode(layers_of(0, 80).to(device))
    steps = step * torch.eye(latents.shape[1], device=device).view(latents.shape[1], 1, -1, 1, 1, 1)
    still, *moved = (codec.decode(z, FRAMES)[:, :, 1:] for z in (latents, *(latents + steps)))
    scale = torch.stack([(m - still).pow(2).mean().sqrt() for m in moved])
    return scale / scale.pow(2).mean().sqrt() / std


def start_from(edition: Path, transformer: MiniTransformer, text: MiniText) -> None:
    """Weights of an edition. Words that it does not know keep the embedding they have."""
    transformer.load_state_dict(read_weights(edition / "transformer.safetensors"))
    weights = read_weights(edition / "text.safetensors")
    with safe_open(edition / "text.safetensors", "pt") as file:
        known = json.loads(file.metadata()["words"])
    rows = text.embedding.weight.detach().clone()
    rows[:2] = weights["embedding.weight"][:2]  # padding, unknown
    for word, row in zip(known, weights["embedding.weight"][2:]):
        if word in text.index:
            rows[text.index[word]] = row
    text.load_state_dict(weights | {"embedding.weight": rows})


def load_codec(folder: Path) -> MiniCodec | WanCodec:
    """The codec of an edition or of a VAE's run; or of the training state of mini's own. Raises InputError."""
    if (folder / CODEC).exists():
        return read_codec(folder / CODEC)
    if not (folder / STATE).exists():
        raise InputError(f"{folder}: holds neither {CODEC} nor {STATE}; name a codec's run, or an edition of mini")
    codec = MiniCodec()
    try:
        tensors = load_file(folder / STATE)
        codec.load_state_dict(
            {k.removeprefix("codec/"): v for k, v in tensors.items() if not k.startswith("optimizer/")}
        )
    except (SafetensorError, RuntimeError) as error:
        raise InputError(f"{folder / STATE}: not the state of a codec ({str(error).splitlines()[0][:200]})") from None
    return codec.eval().requires_grad_(False)


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], talk: Talk | None = None) -> None:
    """Run until config['steps'] or until stop() says so; weights, EMA and samples are in folder. config: see
    TransformerSettings.

    On a CPU, `processes` of one thread each share a batch: that is far quicker than one process of several threads,
    which wait for one another all the time. On a GPU one process trains, and `workers` make the clips.
    Raises InputError before any work.
    """
    settings, talk = read_transformer(config), talk or Talk()
    refuse_missing(settings)
    folder.mkdir(parents=True, exist_ok=True)
    shared = f"{settings.processes} processes share each batch" if settings.processes > 1 else "one process"
    talk.say(f"training mini for {settings.steps:,} steps, codec of {settings.codec}, {shared}")
    asked = mp.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as meeting:
        given = (settings, folder, meeting, asked, talk.silent)
        ranks = mp.spawn(_train_rank, given, settings.processes, join=False)
        while not ranks.join(timeout=0.5):
            if stop():
                asked.set()


def refuse_missing(settings: TransformerSettings) -> None:
    """Raise InputError where what a run reads is not there, or is not what it is to be."""
    if any(stage.rendered for stage in settings.stages) and not folders(Path(settings.rendered or "")):
        raise InputError(
            "a stage wants rendered clips and there are none in the folder `rendered`; "
            "see core/data/engine/with_cycles.py"
        )
    load_codec(Path(settings.codec))
    if settings.start:
        MiniFamily().describe(Path(settings.start))


def geometry_of(settings: TransformerSettings, channels: int) -> MiniConfig:
    """The transformer's, for a codec of so many channels."""
    changes = {name: value for name, value in asdict(settings.geometry).items() if value is not None}
    return replace(MINI, latent_channels=channels, **changes)


def _train_rank(rank: int, settings: TransformerSettings, folder: Path, meeting: str, asked: Any, silent: bool) -> None:
    """One of the processes that share a run."""
    ignore_stopping()  # the first process hears it, and asks
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # sharp attention is full of them, and they are slow
    count = settings.processes
    store = dist.FileStore(str(Path(meeting) / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
    run = Run(settings, folder, rank, Talk(silent=silent or rank > 0))
    run.load()
    run.train(asked)
    run.finish()
    dist.barrier()
    dist.destroy_process_group()


class Run:
    """One process's part of a run: its modules, their average, the optimiser, and where they stand."""

    def __init__(self, settings: TransformerSettings, folder: Path, rank: int, talk: Talk) -> None:
        self.settings, self.folder, self.rank, self.talk = settings, folder, rank, talk
        self.device = torch.device(settings.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(0)
        self.codec = load_codec(Path(settings.codec)).to(self.device)
        geometry = geometry_of(settings, self.codec.channels)
        self.transformer = MiniTransformer(geometry)
        self.drawing: Any = self.transformer.drawing  # a geometry that is trained here has one
        self.text = MiniText(vocabulary(), geometry.text_dim)
        self.modules: dict[str, Any] = {"transformer": self.transformer, "text": self.text}
        if settings.start:  # an edition; a state that is there already goes before it
            start_from(Path(settings.start), self.transformer, self.text)
        for module in self.modules.values():
            module.to(self.device)
        self.scale = in_pixels(self.codec, geometry.latent_std)
        self.ema = Ema(self.modules, settings.ema)
        self.saved = self.modules | {f"ema_{name}": module for name, module in self.ema.modules.items()}
        self.parameters = [p for module in self.modules.values() for p in module.parameters()]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01)
        self.step = self.clips = 0

    def load(self) -> None:
        """Go on from the folder's state, or fit in closed form and teach what comes before the first step."""
        settings, drawing = self.settings, self.drawing
        self.step, extra = load_state(self.folder, self.saved, self.optimizer, self.talk)
        self.clips = extra.get("clips", 0)
        if self.rank == 0:
            save_codec(self.codec, self.folder / CODEC)  # so that the run can be exported by itself
        if self.step > 0:
            self.talk.say(f"goes on from step {self.step:,} of {settings.steps:,}")
            return
        if not settings.start:  # the same on every rank
            self.talk.say(
                f"fitting compositing and camera to the codec: {settings.blend_clips} "
                f"clips, {settings.camera_plates} plates"
            )
            fit_blend(drawing.blend, self.codec, settings.seed - 30_000_000, settings.blend_clips)
            fit_camera(drawing.camera, self.codec, settings.seed - 20_000_000, settings.camera_plates)
            self.ema.copy(self.modules)
        if settings.aim_steps:
            self.talk.say(f"teaching where instructions aim: {settings.aim_steps} steps")
            teach_aim(drawing.aim, self.text, settings.seed - 10_000_000, settings.aim_steps, talk=self.talk)
            self.ema.copy(self.modules)

    def train(self, asked: Any) -> None:
        """Rounds until the last step, or until every rank has seen that one of them was asked to stop."""
        settings = self.settings
        self.talk.say(f"state, log.jsonl, curve.png and samples-*.png are in {self.folder}")
        rounds = Rounds(settings, self.step, self.clips, self.rank, settings.processes, self.codec.remembers)
        loader = DataLoader(
            rounds, batch_size=None, num_workers=settings.workers, pin_memory=self.device.type == "cuda"
        )
        self.begun, self.started = self.step, time.monotonic()
        self.shown = -WRITE_SECONDS  # when the page was last written
        for made in loader:
            before = self.step
            losses = self.round(*made)
            if self.rank == 0:
                self.report(before, losses)
            flag = torch.tensor([int(asked.is_set())])
            dist.all_reduce(flag)
            if flag:
                self.talk.say(f"stopping: saving step {self.step:,}; the same command goes on from there")
                break

    def round(
        self, pictures: Tensor, path: Tensor, texts: list[str], times: list[int], taught: tuple[Any, ...]
    ) -> Tensor:
        """The steps of one round, as Rounds yields it; the mean of each loss, (5,)."""
        # All chance of a round follows from its first step: a resumed run is the uninterrupted one.
        torch.manual_seed(self.step * self.settings.processes + self.rank)
        stage = stage_of(self.settings, self.step)
        latents, seen = latents_of(self.codec, pictures.to(self.device, non_blocking=True))
        path, sums = path.to(self.device), torch.zeros(len(NAMES), device=self.device)
        self.clips += stage.batch
        for _ in range(stage.repeats):
            rng = random.Random(self.step)
            with_mask = rng.random() < self.settings.mask_keep  # the same on every rank, as are the gradients there are
            chosen = sorted(rng.sample(range(len(times)), min(stage.keep, len(times))))
            dropped = ["" if torch.rand(()) < self.settings.text_drop else t for t in texts]
            at = [times[i] for i in chosen]
            shot = MiniShot(moments(at, LAST + 1), path=path[:, chosen], times=torch.tensor(at))
            with mixed_precision(self.device):
                states = self.text.encode(dropped)
                part = latents[:, :, :, chosen], seen[:, chosen]
                losses = self.losses(states, *part, shot, with_mask, stage.only == "drawing")
                aim = lesson_error(self.drawing.aim, self.text, *taught)
            losses = losses + F.one_hot(torch.tensor(AIM), len(NAMES)).to(losses) * aim
            self.update(losses)
            sums += losses.detach()
        return sums / stage.repeats

    def losses(
        self, states: Tensor, latents: Tensor, seen: Tensor, shot: MiniShot, with_mask: bool, only_drawing: bool
    ) -> Tensor:
        """Of the branches, of the drawing, and of where the mask aims, (5,), in the order of curve.NAMES."""
        mask = latents[:, 4] if with_mask else None
        drawn = drawing_losses(self.drawing, states, latents, seen, mask, shot.progress, shot.path, self.scale)
        if only_drawing:  # it is quick to learn by itself
            return torch.cat([drawn.new_zeros(len(BRANCHES)), drawn])
        given = shot, with_mask, self.settings.shift, self.scale
        return torch.cat([flow_loss(self.transformer, states, latents, seen, *given), drawn])

    def update(self, losses: Tensor) -> None:
        """One step of the optimiser, and of the average."""
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
        """Log a round, say it, and save and draw what is due."""
        settings, stage = self.settings, stage_of(self.settings, before)
        means = dict(zip(NAMES, losses.tolist()))
        rate = self.optimizer.param_groups[0]["lr"]
        seconds = round(time.monotonic() - self.started, 1)
        of = {"step": self.step, "steps": settings.steps}
        log_line(self.folder, **of, losses=means, rate=rate, clips=self.clips, seconds=seconds)
        if time.monotonic() - self.shown > WRITE_SECONDS:
            write_page(self.folder)
            self.shown = time.monotonic()
        self.talk.step(self.step, settings.steps, means, rate, stage.batch / stage.repeats)
        if crossed(before, self.step, settings.save_every):
            self.save()
        if crossed(before, self.step, settings.sample_every):
            average = self.ema.modules
            sample_sheet(
                average["transformer"], average["text"], self.codec, self.folder / f"samples-{self.step:06d}.png"
            )

    def save(self) -> None:
        """Write the state, with what an export needs to know, the curve and the page."""
        about = {"clips": self.clips, "geometry": asdict(self.transformer.config), "words": self.text.words}
        save_state(self.folder, self.step, self.saved, self.optimizer, about)
        draw_curve(self.folder / "log.jsonl", self.folder / "curve.png")
        write_page(self.folder)

    def finish(self) -> None:
        """Teach the averaged aim once more, to the text encoder as it has become, and save."""
        settings = self.settings
        if self.rank > 0:
            return
        if self.begun < settings.steps <= self.step and settings.last_aim_steps:
            last = self.ema.modules["transformer"].drawing.aim, self.ema.modules["text"]
            seed = settings.seed - 5_000_000
            teach_aim(*last, seed, settings.last_aim_steps, aim_only=True, talk=self.talk)
        self.save()
        self.talk.say(
            f"step {self.step:,} of {settings.steps:,} is saved in {self.folder}; vera model export "
            f"{self.folder} --to DIR makes a model of it"
        )


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def average_gradients(parameters: Iterable[torch.nn.Parameter], count: int) -> None:
    """Mean of every gradient over the ranks. What a step leaves out has none, on every rank the same."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if count > 1:
        flat = torch._utils._flatten_dense_tensors(grads)
        dist.all_reduce(flat.div_(count))
        for mine, mean in zip(grads, torch._utils._unflatten_dense_tensors(flat, grads)):
            mine.copy_(mean)
