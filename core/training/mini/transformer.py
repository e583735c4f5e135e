"""Train mini's transformer and text encoder by flow matching on layered clips.

Clips are 49 frames long, 13 latent frames; a training sample holds a few of
them at their true positions in time, next to each other or far apart. So the
model meets every distance in time that a whole clip has, at a part of the cost.
"""

import itertools
import json
import random
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vera.core.data.engine.clips import OBJECTS, SPAN, draw_labels, make_clip
from vera.core.data.engine.phrases import vocabulary
from vera.core.data.engine.rendered import folders, read_clip
from vera.core.errors import InputError
from vera.core.model.codec import SPACE_STRIDE as SPACE
from vera.core.model.codec import TIME_STRIDE as TIME
from vera.core.model.device import mixed_precision
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.edition import CODEC, read_codec, read_weights
from vera.core.model.mini.mini_codec import MiniCodec
from vera.core.model.mini.mini_config import MINI
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.training.mini.aim import aim_error, lesson, lesson_error, teach_aim
from vera.core.training.mini.fit_latent_over import fit_blend
from vera.core.training.mini.fit_camera import fit_camera
from vera.core.training.mini.codec import FRAMES, layers_of
from vera.core.training.curve import draw_curve
from vera.core.training.state import STATE, Ema, load_state, log_line, save_state, trapezoid
from vera.core.training.mini.samples import sample_sheet

DRAWING_WEIGHTS = (0.5, 0.5)  # of the drawing's error and its aim's beside the mean of the branches' losses
LESSON = 32  # instructions beside each round's clips
LOUDEST = 0.4  # a loss counts no more at lower noise levels
LAST = SPAN // TIME  # index of the last latent frame of a clip
SHAPES = ((80, 144), (80, 144), (112, 112), (144, 80))  # height, width; a stage may have others


def frames_of(latent: int) -> list[int]:
    """The four frame times behind a latent frame; the first holds frame 0."""
    return [0] * 4 if latent == 0 else list(range(4 * latent - 3, 4 * latent + 1))


def pick_times(rng, count: int) -> list[int]:
    """Latent frames of one sample: a run, or scattered; the first one often among them."""
    if rng.random() < 0.5:
        start = 0 if rng.random() < 0.5 else rng.randint(0, LAST + 1 - count)
        return list(range(start, start + count))
    scattered = rng.sample(range(1, LAST + 1), count - 1)
    return sorted([0 if rng.random() < 0.5 else rng.choice([i for i in range(LAST + 1) if i not in scattered])] + scattered)


class Rounds(IterableDataset):
    """The clips of the rounds from `step` on, made where they are asked for: in this process, or in a loader's workers.

    Yields, a round: pictures (count, 5, 3, 4 t, H, W) of source, edit, alpha, composite, mask; where the object is as
    each latent frame begins and ends, (count, t, 2, 3), as `LayeredClip.path`; instructions; latent times; a lesson of
    the aim. All of a round hangs on the number of its first clip. whole: latent times are the clip's first ones, without
    a gap, for a codec that remembers.
    """

    def __init__(self, config: dict, step: int, clips: int, rank: int, ranks: int, whole: bool = False):
        self.config, self.step, self.clips, self.rank, self.ranks, self.whole = config, step, clips, rank, ranks, whole

    def __iter__(self):
        torch.set_num_threads(1)
        worker = get_worker_info()
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        step, clips = self.step, self.clips
        for turn in itertools.count():
            if step >= self.config["steps"]:
                return
            stage = stage_of(self.config, step)
            if turn % of == number:
                mine = stage["batch"] // self.ranks
                first = self.config["seed"] + clips + self.rank * mine
                if random.Random(-first).random() < stage.get("rendered", 0):
                    made = rendered_clips(Path(self.config["rendered"]), first, mine, stage["latents"], self.whole)
                else:
                    of_stage = stage.get("objects", OBJECTS), stage.get("shapes", SHAPES)
                    made = clips_of(first, mine, stage["latents"], *of_stage, self.whole)
                yield *made, lesson(first, LESSON // self.ranks)
            step, clips = step + stage["repeats"], clips + stage["batch"]


def stage_of(config: dict, step: int) -> dict:
    return next(s for s in config["stages"] if step < s["until"])


def clips_of(seed: int, count: int, latents: int, objects: float = OBJECTS, shapes=SHAPES, whole=False):
    """Clips seed .. seed + count - 1 of one of the shapes (height, width) and one choice of times, as Rounds yields them;
    this share of them adds objects."""
    rng = random.Random(seed)
    height, width = rng.choice(shapes)
    times = list(range(latents)) if whole else pick_times(rng, latents)
    frames = [f for t in times for f in frames_of(t)]
    clips = (make_clip(k, height, width, frames, draw_labels(random.Random(k), objects)) for k in range(seed, seed + count))
    return *_stacked(clips, slice(None)), times


def rendered_clips(root: Path, seed: int, count: int, latents: int, whole=False):
    """The same of clips under a folder, as core/data/engine/with_cycles.py renders them: of what latent frames they have."""
    rng, there = random.Random(seed), folders(root)
    clips = [read_clip(folder) for folder in rng.sample(there, min(count, len(there)))]
    last = (min(len(clip.path) for clip in clips) - 1) // TIME
    start = 0 if whole else rng.randint(0, max(0, last + 1 - latents))
    times = list(range(start, min(last + 1, start + latents)))
    return *_stacked(clips, [f for t in times for f in frames_of(t)]), times


def _stacked(clips, frames):
    stacks, paths, texts = [], [], []
    for clip in clips:
        layers = torch.stack([x.expand(-1, 3, -1, -1) for x in (clip.source, clip.edit, clip.alpha, clip.composite, clip.mask)])
        stacks.append(layers[:, frames].transpose(1, 2))
        paths.append(clip.path[frames].unflatten(0, (-1, TIME))[:, [0, -1]])
        texts.append(clip.instruction)
    return torch.stack(stacks), torch.stack(paths), texts


@torch.inference_mode()
def latents_of(codec, pictures):
    """Of clips as Rounds yields them: latents (count, 5, C, t, h, w), and each latent pixel's largest alpha (count, t, h, w)."""
    seen = F.max_pool3d(pictures[:, 2, 0], (TIME, SPACE, SPACE))
    if codec.remembers:  # of the first frame, held four times, it wants one
        return torch.stack([codec.encode(clip[:, :, TIME - 1 :]) for clip in pictures]), seen
    return torch.stack([codec.encode_groups(clip) for clip in pictures]), seen


def flow_loss(transformer, states, latents, seen, shot, with_mask, shift, scale):
    """Mean squared error of the clean latents, a branch -> (3,); latents and seen as `latents_of` gives them;
    shot: a MiniShot.

    scale (C,): what an error of each channel is counted by, see `in_pixels`. By 1 / s^2 of the
    noise level s, as a velocity's error is, down to LOUDEST.
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
    error = error.pow(2).mean(2) * (s / s.clamp_min(LOUDEST)) ** 2
    visible = 0.2 + 0.8 * seen
    weight = torch.stack([visible / visible.mean(), torch.ones_like(seen), torch.ones_like(seen)], dim=1)
    return (error * weight).mean((0, 2, 3, 4))


def drawing_losses(drawing, states, latents, seen, mask, progress, path, scale):
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
def in_pixels(codec, std, step=0.1):
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


def start_from(edition: Path, transformer, text) -> None:
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


def load_codec(folder: Path):
    """The codec of an edition or of a VAE's run; or of the training state of mini's own."""
    if (folder / CODEC).exists():
        return read_codec(folder / CODEC)
    codec = MiniCodec()
    tensors = load_file(folder / STATE)
    codec.load_state_dict({k.removeprefix("codec/"): v for k, v in tensors.items() if not k.startswith("optimizer/")})
    return codec.eval().requires_grad_(False)


def train(config: dict, folder: Path, stop) -> None:
    """Run until config['steps'] or until stop() says so; weights, EMA and samples are in folder.

    config['device'] is cpu or cuda, by default cuda where there is one. On a CPU, config['processes'] of one
    thread each share a batch: that is far quicker than one process of several threads, which wait for one
    another all the time. On a GPU one process trains, and config['workers'] make the clips. Raises InputError.
    """
    if any(stage.get("rendered") for stage in config.get("stages", ())) and not folders(Path(config.get("rendered", ""))):
        raise InputError("a stage wants rendered clips and there are none in the folder `rendered`; see core/data/engine/with_cycles.py")
    count = config["processes"]
    asked = mp.get_context("spawn").Event()
    with tempfile.TemporaryDirectory() as meeting:
        ranks = mp.spawn(_train_rank, (count, config, folder, meeting, asked), count, join=False)
        while not ranks.join(timeout=0.5):
            if stop():
                asked.set()


def _train_rank(rank: int, count: int, config: dict, folder: Path, meeting: str, asked) -> None:  # noqa: C901
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the first process hears it, and asks
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # sharp attention is full of them, and they are slow
    store = dist.FileStore(str(Path(meeting) / "store"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count)

    device = torch.device(config.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))

    torch.manual_seed(0)
    codec = load_codec(Path(config["codec"])).to(device)
    geometry = replace(MINI, latent_channels=codec.channels, **config.get("geometry", {}))
    modules = {
        "transformer": MiniTransformer(geometry),
        "text": MiniText(vocabulary(), geometry.text_dim),
    }
    transformer, text = modules["transformer"], modules["text"]
    if config.get("start"):  # an edition; a state that is there already goes before it
        start_from(Path(config["start"]), transformer, text)
    for module in modules.values():
        module.to(device)
    scale = in_pixels(codec, geometry.latent_std)
    ema = Ema(modules, config["ema"])
    saved = modules | {f"ema_{k}": m for k, m in ema.modules.items()}
    parameters = [p for m in modules.values() for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config["rate"], betas=(0.9, 0.98), weight_decay=0.01)
    step, extra = load_state(folder, saved, optimizer)
    clips = extra.get("clips", 0)
    if step == 0 and not config.get("start"):  # in closed form, the same on every rank
        fit_blend(transformer.drawing.blend, codec, config["seed"] - 30_000_000, config.get("blend_clips", 300))
        fit_camera(transformer.drawing.camera, codec, config["seed"] - 20_000_000, config.get("camera_plates", 400))
        ema.copy(modules)
    if step == 0 and config.get("aim_steps"):
        teach_aim(transformer.drawing.aim, text, config["seed"] - 10_000_000, config["aim_steps"])
        ema.copy(modules)

    rounds = Rounds(config, step, clips, rank, count, codec.remembers)
    rounds = DataLoader(rounds, batch_size=None, num_workers=config.get("workers", 0), pin_memory=device.type == "cuda")
    begun, started = step, time.time()
    for pictures, path, texts, times, taught in rounds:
        # All chance of a round hangs on its first step: a resumed run is the uninterrupted one.
        torch.manual_seed(step * count + rank)
        stage = stage_of(config, step)
        latents, seen = latents_of(codec, pictures.to(device, non_blocking=True))
        path = path.to(device)
        clips += stage["batch"]
        before, sums = step, torch.zeros(5, device=device)
        for _ in range(stage["repeats"]):
            rng = random.Random(step)
            with_mask = rng.random() < config["mask_keep"]  # the same on every rank, as what has gradients hangs on it
            chosen = sorted(rng.sample(range(len(times)), min(stage["keep"], len(times))))
            dropped = ["" if torch.rand(()) < config["text_drop"] else t for t in texts]
            with mixed_precision(device):
                part, at = latents[:, :, :, chosen], [times[i] for i in chosen]
                progress = moments(at, LAST + 1)
                states = text.encode(dropped)
                mask = part[:, 4] if with_mask else None
                drawn = drawing_losses(
                    transformer.drawing, states, part, seen[:, chosen], mask, progress, path[:, chosen], scale
                )
                if stage.get("only") == "drawing":  # it is quick to learn by itself
                    losses = drawn.new_zeros(3)
                else:
                    shot = MiniShot(progress, path=path[:, chosen], times=torch.tensor(at))
                    losses = flow_loss(transformer, states, part, seen[:, chosen], shot, with_mask, config["shift"], scale)
                aim = lesson_error(transformer.drawing.aim, text, *taught)
                drawn = torch.stack([drawn[0], drawn[1] + aim])
            optimizer.zero_grad()
            (losses.mean() + drawn @ drawn.new_tensor(DRAWING_WEIGHTS)).backward()
            average_gradients(parameters, count)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = trapezoid(step, config["steps"], config["rate"])
            optimizer.step()
            step, sums = step + 1, sums + torch.cat([losses, drawn]).detach()
            ema.update(modules, step)
        if rank == 0:
            means = (sums / stage["repeats"]).tolist()
            log_line(folder, step=step, losses=means, clips=clips, seconds=round(time.time() - started, 1))
            if crossed(before, step, config["save_every"]):
                save_state(folder, step, saved, optimizer, {"clips": clips})
                draw_curve(folder / "log.jsonl", folder / "curve.png")
            if crossed(before, step, config["sample_every"]):
                sample_sheet(ema.modules["transformer"], ema.modules["text"], codec, folder / f"samples-{step:06d}.png")
        flag = torch.tensor([int(asked.is_set())])
        dist.all_reduce(flag)
        if flag:
            break
    if rank == 0:
        if begun < config["steps"] <= step and config.get("last_aim_steps"):  # to the text encoder as it has become
            last = ema.modules["transformer"].drawing.aim, ema.modules["text"]
            teach_aim(*last, config["seed"] - 5_000_000, config["last_aim_steps"], aim_only=True)
        save_state(folder, step, saved, optimizer, {"clips": clips})
    dist.barrier()
    dist.destroy_process_group()


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]."""
    return now // every > before // every


def average_gradients(parameters, count: int) -> None:
    """Mean of every gradient over the ranks. What a step leaves out has none, on every rank the same."""
    grads = [p.grad for p in parameters if p.grad is not None]
    if count > 1:
        flat = torch._utils._flatten_dense_tensors(grads)
        dist.all_reduce(flat.div_(count))
        for mine, mean in zip(grads, torch._utils._unflatten_dense_tensors(flat, grads)):
            mine.copy_(mean)
