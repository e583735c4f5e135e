"""Train a small Wan-type causal VAE on layered clips: 4x8x8, for a machine with a GPU. The first steps of a run on a
CPU
show what it does; mini's own codec (codec.py) is for those.

What is seen of a layer is asked for: an alpha that is flat where it should be, edges, colours that do not drift,
stillness; and latents that bear a sampler's small errors. A value beyond 0 or 1 where it should be 0 or 1 is no error:
decoded values are clamped, and so a decoder can give exact ends.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vera.core.extras import require
from vera.core.model.codec import TIME_STRIDE, WanCodec, no_past
from vera.core.model.device import mixed_precision
from vera.core.model.mini.edition import CODEC, save_codec
from vera.core.training.curve import draw_curves
from vera.core.training.mini.codec import layers_of
from vera.core.training.mini.samples import codec_sheet
from vera.core.training.mini.settings import VaeSettings
from vera.core.training.settings import read_settings
from vera.core.training.state import Ema, load_state, log_line, save_state, trapezoid
from vera.core.training.talk import Talk

LAYERS = ("source", "edit", "alpha", "composite", "mask")
HIDDEN = 0.2  # what an error of the edit's colour counts where alpha hides it
# of errors of 8x8 pixels' mean, of 4x4 pixels' colour beside grey, of changes in time
MEAN, HUE, MOTION = 1.0, 2.0, 0.5
LOUD = 8.0  # how much louder than grey colours enter at first, see new_codec
LOG_VARIANCE = -6.0  # of the posterior, at first
STATISTICS = 32  # clips that latents are normalised by; no run trains on them


class Batches(IterableDataset):
    """(batch, 5, 3, frames, crop, crop) from clip `first` on, cut from pictures of size x size, made where they are
    asked for: here or in workers."""

    def __init__(self, first: int, config: dict) -> None:
        self.first, self.config = first, config

    def __iter__(self) -> Iterator[torch.Tensor]:
        torch.set_num_threads(1)
        worker, batch = get_worker_info(), self.config["batch"]
        number, of = (worker.id, worker.num_workers) if worker else (0, 1)
        first = self.first + number * batch
        while True:
            yield torch.stack([cut_of(k, self.config) for k in range(first, first + batch)])
            first += of * batch


def cut_of(seed: int, config: dict) -> torch.Tensor:
    """(5, 3, frames, crop, crop): some part of layers_of clip `seed`."""
    size, crop = config["size"], config["crop"]
    rng = random.Random(seed + 1)  # layers_of takes the clip's own
    top, left = rng.randint(0, size - crop), rng.randint(0, size - crop)
    return layers_of(seed, size, config["frames"])[..., top : top + crop, left : left + crop]


def losses(codec: WanCodec, clips: torch.Tensor, noise: float, kl: float) -> tuple[torch.Tensor, torch.Tensor]:
    """clips (N, 5, 3, T, H, W) in [0, 1], T = 4k + 1 -> the loss, and the PSNR of each layer in dB, (5,).

    Latents are drawn from the posterior and spoiled by up to `noise` of their own deviation; kl weighs the
    divergence of the posterior from a unit normal, per latent value.
    """
    video = clips.flatten(0, 1)
    mean, spread = _posterior(codec, video)
    latents = mean + spread * torch.randn_like(mean)
    own = latents.detach().std((0, 2, 3, 4), keepdim=True)
    level = noise * torch.rand(len(latents), 1, 1, 1, 1, device=latents.device)
    latents = latents + level * own * torch.randn_like(latents)
    past = no_past(codec.vae.decoder)
    decoded = [codec.pictures(z, past, first=i == 0) for i, z in enumerate(latents.split(1, dim=2))]
    error = unclamped_error((torch.cat(decoded, dim=2).to(video.dtype) + 1) / 2, video)
    psnr = -10 * error.detach().pow(2).unflatten(0, clips.shape[:2]).mean((0, 2, 3, 4, 5)).log10()

    edit, alpha = LAYERS.index("edit"), clips[:, LAYERS.index("alpha")]
    weight = torch.ones_like(clips)
    weight[:, edit] = HIDDEN + (1 - HIDDEN) * alpha
    error = error * weight.flatten(0, 1)
    loss = error.abs().mean() + sum(error.diff(dim=d).abs().mean() for d in (3, 4))
    hue = error - error.mean(1, keepdim=True)
    loss = loss + MEAN * F.avg_pool3d(error, (1, 8, 8)).abs().mean() + HUE * F.avg_pool3d(hue, (1, 4, 4)).abs().mean()
    loss = loss + MOTION * error.diff(dim=2).abs().mean()
    divergence = (mean.pow(2) + spread.pow(2) - 1) / 2 - spread.log()
    return loss + kl * divergence.mean(), psnr


def unclamped_error(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """decoded - wanted, but 0 where only the clamp to [0, 1] is between them."""
    error = decoded - wanted
    return torch.where((error < 0) & (wanted <= 0) | (error > 0) & (wanted >= 1), 0, error)


def _posterior(codec, video):
    """Mean and deviation of the latents of video (B, 3, 4k + 1, H, W) in [0, 1], not normalised, fp32."""
    past = no_past(codec.vae.encoder)
    groups = (video * 2 - 1).split([1] + [TIME_STRIDE] * ((video.shape[2] - 1) // TIME_STRIDE), dim=2)
    mean, log_variance = torch.cat([codec.posterior(g, past) for g in groups], dim=2).to(video.dtype).chunk(2, dim=1)
    return mean, (log_variance.clamp(-30, 20) / 2).exp()


@torch.no_grad()
def normalise(codec: WanCodec, seed: int, config: dict) -> None:
    """Give the codec the mean and deviation of the latents of clips seed .. seed + STATISTICS - 1, in its
    VAE's configuration too."""
    given = (cut_of(k, config).to(codec.mean.device) for k in range(seed, seed + STATISTICS))
    means = torch.cat([_posterior(codec, video)[0].double() for video in given])
    std, mean = torch.std_mean(means, dim=(0, 2, 3, 4))
    codec.mean.copy_(mean.view(codec.mean.shape))
    codec.std.copy_(std.view(codec.std.shape))
    codec.vae.register_to_config(latents_mean=codec.mean.flatten().tolist(), latents_std=codec.std.flatten().tolist())


def new_codec(geometry: dict) -> WanCodec:
    """A Wan-type VAE with weights as they begin, its latents not normalised yet; geometry: AutoencoderKLWan's
    arguments.

    As torch begins them, all colours came out grey after two thousand steps: layers are mostly black, white and
    edges, and behind twenty norms that keep nothing but a direction nothing else was left. So biases begin at 0,
    colours enter louder than grey, and the posterior is narrow, for a unit deviation would drown latents that
    are still small.
    """
    require("training a VAE", "diffusers")
    from diffusers import AutoencoderKLWan

    patch = geometry.get("patch_size") or 1
    channels = geometry.get("z_dim", 16)
    vae = AutoencoderKLWan(
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        latents_mean=[0.0] * channels,
        latents_std=[1.0] * channels,
        **geometry,
    )
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith(".bias"):
                parameter.zero_()
        vae.quant_conv.bias[channels:] = LOG_VARIANCE
        first = vae.encoder.conv_in.weight.unflatten(1, (3, -1))  # red, green, blue, of each pixel of a patch
        grey = first.mean(1, keepdim=True)
        first.copy_(grey + LOUD * (first - grey))
    return WanCodec(vae)


def draw_errors(folder: Path) -> None:
    """log.jsonl -> curve.png, each layer's root mean square error against the step."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines() if (folder / "log.jsonl").exists() else []
    if len(lines) > 1:
        rows = [json.loads(line) for line in lines]
        errors = {name: [10 ** (-row["psnr"][name] / 20) for row in rows] for name in LAYERS}
        draw_curves([row["step"] for row in rows], errors, folder / "curve.png", "error against step")


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], talk: Talk | None = None) -> None:
    """Run until config['steps'] or until stop() says so; folder then holds the state, codec.safetensors (the
    average of the weights, as an edition takes it), the log, its curve and sheets of clips. config['frames'] must be
    several latent frames: one that has seen two alone drifts from the third on.

    config['device'] is cpu or cuda, by default cuda where there is one; config['workers'] processes make the clips.
    Raises InputError.
    """
    read_settings(VaeSettings, config)
    talk = talk or Talk()
    device = torch.device(config.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(0)
    codec = new_codec(config["geometry"]).to(device).train()
    ema = Ema({"codec": codec}, config["ema"])
    saved = {"codec": codec, "ema_codec": ema.modules["codec"]}
    optimizer = torch.optim.AdamW(codec.parameters(), lr=config["rate"], betas=(0.9, 0.99), weight_decay=1e-4)
    step, extra = load_state(folder, saved, optimizer, talk)
    clips = extra.get("clips", 0)

    def save():
        save_state(folder, step, saved, optimizer, {"clips": clips})
        average = ema.modules["codec"]
        normalise(average, config["seed"] - STATISTICS, config)
        save_codec(average, folder / CODEC)
        codec_sheet(average, folder / f"codec-{step:06d}.png")
        draw_errors(folder)

    batches = Batches(config["seed"] + clips, config)
    batches = DataLoader(batches, batch_size=None, num_workers=config["workers"], pin_memory=device.type == "cuda")
    talk.say(f"training from step {step:,}; state, {CODEC}, log.jsonl, curve.png and codec-*.png are in {folder}")
    started, sums, counted, last = time.monotonic(), 0, 0, step
    for video in batches:
        if step >= config["steps"] or stop():
            break
        torch.manual_seed(step)  # all chance of a step follows from its number: a resumed run is the uninterrupted one
        for group in optimizer.param_groups:
            group["lr"] = trapezoid(step, config["steps"], config["rate"])
        with mixed_precision(device):
            loss, psnr = losses(codec, video.to(device, non_blocking=True), config["noise"], config["kl"])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        step, clips = step + 1, clips + config["batch"]
        ema.update({"codec": codec}, step)
        sums, counted = sums + torch.cat([loss.detach()[None], psnr]), counted + 1
        if step % config["log_every"] == 0:
            mean, *psnrs = (sums / counted).tolist()
            rate = optimizer.param_groups[0]["lr"]
            talk.step(step, config["steps"], {"loss": mean} | dict(zip(LAYERS, psnrs)), rate, config["batch"])
            log_line(
                folder,
                step=step,
                loss=mean,
                psnr=dict(zip(LAYERS, psnrs)),
                clips=clips,
                seconds=round(time.monotonic() - started, 1),
            )
            sums, counted = 0, 0
        if step % config["save_every"] == 0:
            save()
            last = step
    if step > last:
        save()
    talk.say(
        f"step {step:,} of {config['steps']:,} is saved in {folder}"
        if step
        else "stopped before the first step; nothing was saved"
    )
