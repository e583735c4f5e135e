"""Train mini's small codec on all five layers of generated clips, from nothing or as an extension of another."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from vera.core.data.engine.clips import SPAN, draw_labels, make_clip
from vera.core.errors import InputError
from vera.core.model.device import mixed_precision
from vera.core.model.mini.edition import read_codec
from vera.core.model.mini.edition_files import CODEC
from vera.core.model.mini.mini_codec import CELL, MiniCodec, fold, unfold
from vera.core.training.configuration import read_settings
from vera.core.training.console import Console
from vera.core.training.mini.settings import CodecSettings
from vera.core.training.state import STATE, load_state, log_line, save_state, trapezoid

LAYERS = ("source", "edit", "alpha", "composite", "mask")
FRAMES = 5  # a first frame and one group of four
# Weights of the layers, as LAYERS, in what further channels hold. Raising one gives its details more of them.
EXTENSION_WEIGHTS = (0.3, 0.5, 8.0, 0.7, 1.0)
EXTENSION_OBJECTS = 0.6  # share of clips with an object in that fit; the others are effects and backgrounds
EXTENSION_SIZE = 80  # side of its square clips in pixels


def layers_of(seed: int, size: int, frames: int = FRAMES, labels: dict[str, Any] | None = None) -> torch.Tensor:
    """(5, 3, frames, size, size) in [0, 1]: LAYERS of clip `seed`, from a random start time that the seed fixes.

    labels: the edit; drawn from the seed if None.
    """
    start = random.Random(seed).randint(0, SPAN - frames + 1)
    clip = make_clip(seed, size, size, torch.arange(start, start + frames), labels)
    rgb = (1, 3, 1, 1)
    layers = [clip.source, clip.edit, clip.alpha.repeat(rgb), clip.composite, clip.mask.repeat(rgb)]
    return torch.stack(layers).transpose(1, 2)


class Videos(IterableDataset):
    """An endless stream of `layers_of` consecutive clips, (5, 3, 5, size, size) each."""

    def __init__(self, first: int, size: int) -> None:
        self.first, self.size = first, size

    def __iter__(self) -> Iterator[torch.Tensor]:
        torch.set_num_threads(1)
        seed = self.first
        while True:
            yield layers_of(seed, self.size)
            seed += 1


def fit(codec: MiniCodec, seed: int, clips: int = 200) -> None:
    """Fit the encoder in closed form to the cells of some clips; alpha has weight 2, because its edges are visible."""
    cells, weights = [], []
    videos = iter(Videos(seed, 96))
    for _ in range(clips):
        folded = fold(groups(next(videos)) * 2 - 1)
        cells.append(folded.permute(0, 2, 3, 1).reshape(-1, CELL))
        each = torch.tensor([1.0, 0.5, 2.0, 1.0, 1.0]).repeat_interleave(len(cells[-1]) // 5)
        weights.append(each)
    codec.fit(torch.cat(cells), torch.cat(weights))


def extend(codec: MiniCodec, channels: int, seed: int, clips: int = 400) -> MiniCodec:
    """The codec with this many channels in all, the further ones fitted to clips seed .. seed + clips - 1."""
    square, weights = torch.zeros(CELL, CELL, dtype=torch.float64), torch.tensor(EXTENSION_WEIGHTS)
    mean = codec.inverse.bias.detach()
    for k in range(seed, seed + clips):
        labels = draw_labels(random.Random(k), EXTENSION_OBJECTS)
        folded = fold(groups(layers_of(k, EXTENSION_SIZE, labels=labels)) * 2 - 1).unflatten(0, (len(LAYERS), -1))
        cells = folded.movedim(2, -1).flatten(1, 3) - mean  # (layers, cells, CELL)
        square += torch.einsum("l,lij->ij", weights, cells.mT @ cells / cells.shape[1]).double()
    return codec.extended(channels, square / (weights.sum().double() * clips))


def groups(video: torch.Tensor) -> torch.Tensor:
    """Repeat the first frame four times: (B, 3, 5, H, W) -> (B, 3, 8, H, W), two groups of four frames."""
    return torch.cat([video[:, :, :1].expand(-1, -1, 4, -1, -1), video[:, :, 1:]], dim=2)


def losses(codec: MiniCodec, video: torch.Tensor, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """L1 loss of pixels and of their differences in space and time; video (B, 3, 5, H, W) -> loss, PSNR in dB (B,).

    Noise of up to `noise` is added to the latents, so that the decoder tolerates a sampler's small errors.
    """
    held = groups(video)
    latents = codec.encode_groups(held)
    latents = latents + noise * torch.rand(len(video), 1, 1, 1, 1) * torch.randn_like(latents)
    first, second = latents.unbind(2)
    before = torch.stack([torch.zeros_like(first), first], 1).flatten(0, 1)
    out = unfold(codec.decode_cells(before, torch.stack([first, second], 1).flatten(0, 1)), 2).float()
    error = (out - held)[:, :, 3:]  # only the last of the first frame's four copies is used
    loss = error.abs().mean() + sum(error.diff(dim=d).abs().mean() for d in (3, 4))
    loss = loss + 0.5 * error[:, :, 1:].diff(dim=2).abs().mean()
    return loss, -10 * error.detach().pow(2).mean((1, 2, 3, 4)).log10()


def _continued(settings: CodecSettings, new: bool, console: Console) -> MiniCodec:
    """The codec of the edition `start` with further channels, ready to train; they are fitted for a new run only."""
    path = Path(settings.start or "") / CODEC
    codec = read_codec(path)
    if not isinstance(codec, MiniCodec) or codec.channels > settings.channels:
        raise InputError(f"'start': {path} is not a codec of mini with at most {settings.channels} channels")
    if not new or codec.channels == settings.channels:
        return codec if codec.channels == settings.channels else MiniCodec(settings.channels, coarse=codec.coarse)
    console.say(f"fitting channels {codec.channels + 1} to {settings.channels} to 400 clips")
    return extend(codec, settings.channels, settings.seed - 1_000_000)


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Train until config['steps'], or until stop() returns True; folder then holds the state. Raises InputError."""
    settings = read_settings(CodecSettings, config)
    console = console or Console()
    torch.manual_seed(0)
    new = not (folder / STATE).exists()
    if settings.start:
        codec = _continued(settings, new, console)
    else:
        codec = MiniCodec(settings.channels)
        if new:
            console.say("fitting the encoder to 200 clips")
            fit(codec, settings.seed)
    codec = codec.to(memory_format=torch.channels_last)  # about ten times faster on a CPU
    optimizer = torch.optim.AdamW(codec.refiner.parameters(), lr=settings.rate, betas=(0.9, 0.99), weight_decay=1e-4)
    step, extra = load_state(folder, {"codec": codec}, optimizer, console)
    clips = extra.get("clips", 0)
    if step == 0:
        save_state(folder, 0, {"codec": codec}, optimizer)
    loader = iter(DataLoader(Videos(settings.seed + clips, settings.size), settings.batch, num_workers=1))
    console.say(f"training from step {step:,}; state and log.jsonl are in {folder}")
    started, psnrs = time.monotonic(), []
    while step < settings.steps and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, settings.steps, settings.rate)
        video = next(loader).flatten(0, 1)
        with mixed_precision(torch.device("cpu")):
            loss, psnr = losses(codec, video, settings.noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.refiner.parameters(), 1.0)
        optimizer.step()
        step, clips = step + 1, clips + settings.batch
        psnrs.append(psnr.unflatten(0, (-1, 5)).mean(0))
        if step % 50 == 0:
            mean = torch.stack(psnrs).mean(0).tolist()
            log_line(folder, step=step, loss=loss.item(), psnr=mean, seconds=round(time.monotonic() - started, 1))
            console.step(step, settings.steps, dict(zip(LAYERS, mean)), optimizer.param_groups[0]["lr"], settings.batch)
            psnrs = []
        if step % 200 == 0:
            save_state(folder, step, {"codec": codec}, optimizer, {"clips": clips})
    save_state(folder, step, {"codec": codec}, optimizer, {"clips": clips})
    console.say(f"step {step:,} of {config['steps']:,} is saved in {folder}")
