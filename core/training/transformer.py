"""Train mini's transformer and text encoder by flow matching on layered clips.

Clips are 49 frames long, 13 latent frames; a training sample holds a few of
them at their true positions in time, next to each other or far apart. So the
model meets every distance in time that a whole clip has, at a quarter of the cost.
"""

import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

from core.data.clips import SPAN, make_clip
from core.data.phrases import vocabulary
from core.model.config import PRESETS
from core.model.mini_codec import MiniCodec
from core.model.mini_text import MiniText
from core.model.transformer import Transformer
from core.training.state import Ema, load_state, log_line, save_state, trapezoid
from core.training.samples import sample_sheet

LAST = SPAN // 4  # index of the last latent frame of a clip
SHAPES = ((80, 144), (80, 144), (112, 112), (144, 80))  # height, width


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


class LatentClips(IterableDataset):
    """Endless batches: latents (B, 5, C, t, h, w) of source, edit, alpha, composite, mask; texts; latent times."""

    def __init__(self, codec, first: int, batch: int, latents: int):
        self.codec, self.first, self.batch, self.latents = codec.eval(), first, batch, latents

    @torch.inference_mode()
    def __iter__(self):
        torch.set_num_threads(1)
        seed = self.first
        while True:
            rng = random.Random(seed)
            height, width = rng.choice(SHAPES)
            times = pick_times(rng, self.latents)
            frames = [f for t in times for f in frames_of(t)]
            stacks, texts = [], []
            for k in range(self.batch):
                clip = make_clip(seed + k, height, width, frames)
                rgb = (1, 3, 1, 1)
                layers = [clip.source, clip.edit, clip.alpha.repeat(rgb), clip.composite, clip.mask.repeat(rgb)]
                stacks.append(self.codec.encode_groups(torch.stack(layers).transpose(1, 2)))
                texts.append(clip.instruction)
            yield torch.stack(stacks), texts, times
            seed += self.batch


def flow_loss(transformer, states, latents, times, with_mask, shift):
    """Mean squared error of the velocity, a branch; latents as LatentClips gives them -> (3,)."""
    source, clean, mask = latents[:, 0], latents[:, 1:4], latents[:, 4]
    u = torch.rand(len(latents))
    sigma = shift * u / (1 + (shift - 1) * u)
    noise = torch.randn_like(clean)
    s = sigma[:, None, None, None, None, None]
    noisy = (1 - s) * clean + s * noise
    velocity = transformer(noisy, sigma * 1000, states, source, mask if with_mask else None, times)
    return (velocity.float() - (noise - clean)).pow(2).mean((0, 2, 3, 4, 5))


def load_codec(folder: Path) -> MiniCodec:
    from safetensors.torch import load_file

    tensors = load_file(folder / "state.safetensors")
    codec = MiniCodec()
    codec.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("codec/")})
    return codec.eval().requires_grad_(False)


def train(config: dict, folder: Path, stop) -> None:
    """Run until config['steps'] or until stop() says so; weights, EMA and samples are in folder."""
    torch.manual_seed(0)
    codec = load_codec(Path(config["codec"]))
    geometry = PRESETS["mini"]
    modules = {"transformer": Transformer(geometry), "text": MiniText(vocabulary(), geometry.text_dim)}
    transformer, text = modules["transformer"], modules["text"]
    ema = Ema(modules, config["ema"])
    saved = modules | {f"ema_{k}": m for k, m in ema.modules.items()}
    parameters = [p for m in modules.values() for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config["rate"], betas=(0.9, 0.98), weight_decay=0.01)
    step, extra = load_state(folder, saved, optimizer)
    clips = extra.get("clips", 0)
    torch.manual_seed(step)
    rng = random.Random(step)

    stage, loader = None, None
    started, sums, window = time.time(), torch.zeros(3), []
    while step < config["steps"] and not stop():
        if stage is not (now := next(s for s in config["stages"] if step < s["until"])):
            stage = now
            data = LatentClips(codec, config["seed"] + clips, stage["batch"], config["latents"])
            loader = iter(DataLoader(data, batch_size=None, num_workers=1, prefetch_factor=4))
        latents, texts, times = next(loader)
        clips += stage["batch"]
        for _ in range(config["repeats"]):
            chosen = sorted(rng.sample(range(len(times)), stage["keep"]))
            dropped = ["" if rng.random() < config["text_drop"] else t for t in texts]
            for group in optimizer.param_groups:
                group["lr"] = trapezoid(step, config["steps"], config["rate"])
            with torch.autocast("cpu", torch.bfloat16):
                part = latents[:, :, :, chosen]
                at = [times[i] for i in chosen]
                losses = flow_loss(
                    transformer, text.encode(dropped), part, at, rng.random() < config["mask_keep"], config["shift"]
                )
            optimizer.zero_grad()
            losses.mean().backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            ema.update(modules, step)
            sums += losses.detach()
            window.append(step)
            if step % 50 == 0:
                log_line(folder, step=step, losses=(sums / len(window)).tolist(), clips=clips, seconds=round(time.time() - started, 1))
                sums, window = torch.zeros(3), []
            if step % config["save_every"] == 0:
                save_state(folder, step, saved, optimizer, {"clips": clips})
            if step % config["sample_every"] == 0:
                sample_sheet(ema.modules["transformer"], ema.modules["text"], codec, folder / f"samples-{step:06d}.png")
    save_state(folder, step, saved, optimizer, {"clips": clips})
