"""Train the small codec on layered clips: source, edit, alpha, composite and mask alike."""

import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

from core.data.clips import SPAN, make_clip
from core.model.mini_codec import MiniCodec, fold, unfold
from core.training.state import load_state, log_line, save_state, trapezoid

FRAMES = 5  # a first frame and one group of four


class Videos(IterableDataset):
    """Endless (5, 3, 5, S, S): source, edit, alpha, composite and mask of clip after clip."""

    def __init__(self, first: int, size: int):
        self.first, self.size = first, size

    def __iter__(self):
        torch.set_num_threads(1)
        seed = self.first
        while True:
            start = random.Random(seed).randint(0, SPAN - FRAMES + 1)
            clip = make_clip(seed, self.size, self.size, torch.arange(start, start + FRAMES))
            rgb = (1, 3, 1, 1)
            layers = [clip.source, clip.edit, clip.alpha.repeat(rgb), clip.composite, clip.mask.repeat(rgb)]
            yield torch.stack(layers).transpose(1, 2)
            seed += 1


def losses(codec, video, noise):
    """L1 of pixels and of their differences; video (B, 3, 5, H, W) -> loss, PSNR a video (B,)."""
    b = video.shape[0]
    held = torch.cat([video[:, :, :1].expand(-1, -1, 4, -1, -1), video[:, :, 1:]], dim=2)
    raw = codec.raw_latents(fold(held * 2 - 1)).float()
    if codec.training:
        with torch.no_grad():  # running statistics, so that the latents the decoder sees have unit variance
            codec.latent_mean.lerp_(raw.mean((0, 2, 3)), 0.02)
            codec.latent_std.lerp_(raw.std((0, 2, 3)), 0.02)
    mean, std = codec.latent_mean[None, :, None, None], codec.latent_std[None, :, None, None]
    latents = ((raw - mean) / std).unflatten(0, (b, 2))
    scale = raw.new_zeros(()) if codec.training else 0.0
    if codec.training:
        # Keep the scale from drifting away from its running statistics.
        scale = 0.01 * (latents.pow(2).mean() - 1).pow(2)
    latents = latents + noise * torch.rand(b, 1, 1, 1, 1) * torch.randn_like(latents)
    first, second = latents.unbind(1)
    before = torch.stack([torch.zeros_like(first), first], 1).flatten(0, 1)
    out = unfold(codec.decoder(torch.cat([before, latents.flatten(0, 1)], 1)), 2).float()
    error = out - held
    weight = torch.ones(1, 1, 8, 1, 1)
    weight[:, :, :3] = 0  # only the last of the first frame's copies is ever used
    loss = (error.abs() * weight).mean()
    for dim in (3, 4):
        loss = loss + (error.diff(dim=dim).abs() * weight).mean()
    loss = loss + 0.5 * error[:, :, 4:].diff(dim=2).abs().mean()
    psnr = -10 * error[:, :, 3:].clamp(-1, 1).pow(2).mean((1, 2, 3, 4)).log10()
    return loss + scale, psnr.detach()


def train(config: dict, folder: Path, stop) -> None:
    """Run until config['steps'] or until stop() says so; the codec so far is in folder."""
    torch.manual_seed(0)
    codec = MiniCodec().to(memory_format=torch.channels_last)  # ten times faster on a CPU
    optimizer = torch.optim.AdamW(codec.parameters(), lr=config["rate"], betas=(0.9, 0.99), weight_decay=1e-4)
    step, extra = load_state(folder, {"codec": codec}, optimizer)
    clips = extra.get("clips", 0)
    loader = iter(DataLoader(Videos(config["seed"] + clips, config["size"]), config["batch"], num_workers=1))
    started, psnrs = time.time(), []
    while step < config["steps"] and not stop():
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, config["steps"], config["rate"])
        video = next(loader).flatten(0, 1)
        with torch.autocast("cpu", torch.bfloat16):
            loss, psnr = losses(codec, video, config["noise"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        step, clips = step + 1, clips + config["batch"]
        psnrs.append(psnr.unflatten(0, (-1, 5)).mean(0))
        if step % 50 == 0:
            mean = torch.stack(psnrs).mean(0).tolist()
            log_line(folder, step=step, loss=loss.item(), psnr=mean, seconds=round(time.time() - started, 1))
            psnrs = []
        if step % 200 == 0:
            save_state(folder, step, {"codec": codec}, optimizer, {"clips": clips})
    save_state(folder, step, {"codec": codec}, optimizer, {"clips": clips})
