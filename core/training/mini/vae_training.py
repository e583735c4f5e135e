"""Train a small Wan-type causal VAE (stride 4x8x8) on generated clips. It needs a GPU; CPUs train mini's own codec.

The loss covers the visible properties of a layer: flat alpha, edges, stable colour, no flicker. Noise on the latents
makes the decoder tolerate a sampler's small errors. Decoded values are clamped to [0, 1], so a value beyond 0 or 1
counts as exact where the target is 0 or 1.
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
from vera.core.model.mini.edition import save_codec
from vera.core.model.mini.edition_files import CODEC
from vera.core.training.configuration import read_settings
from vera.core.training.console import Console
from vera.core.training.curve import draw_curves
from vera.core.training.mini.codec_training import LAYERS, layers_of
from vera.core.training.mini.samples import codec_sheet
from vera.core.training.mini.settings import VaeSettings
from vera.core.training.state import Ema, load_state, log_line, save_state, trapezoid

# Weights of the loss terms; raising one trains its property harder at the cost of the others. L1 and edges count 1.
HIDDEN_COLOR_WEIGHT = 0.2  # weight of the edit's colour where alpha is 0; it is 1 where alpha is 1
BLOCK_MEAN_WEIGHT = 1.0  # weight of errors of the mean of each 8x8 pixels
HUE_WEIGHT = 2.0  # weight of errors of colour minus grey, averaged over each 4x4 pixels
MOTION_WEIGHT = 0.5  # weight of errors of the difference between frames
# Initial gain of colour over grey in the first convolution, see new_codec; raising it learns hue sooner.
COLOR_GAIN = 8.0
# Log variance of the posterior at the start; raising it adds noise to the untrained latents.
INITIAL_LOG_VARIANCE = -6.0
STATISTICS_CLIPS = 32  # clips that give the latents' mean and deviation; no run trains on these clips


class Batches(IterableDataset):
    """Batches (batch, 5, 3, frames, crop, crop) from clip `first` on, generated here or in a loader's workers."""

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
    """(5, 3, frames, crop, crop): a random crop of `layers_of` clip `seed`."""
    size, crop = config["size"], config["crop"]
    rng = random.Random(seed + 1)  # layers_of uses Random(seed)
    top, left = rng.randint(0, size - crop), rng.randint(0, size - crop)
    return layers_of(seed, size, config["frames"])[..., top : top + crop, left : left + crop]


def losses(codec: WanCodec, clips: torch.Tensor, noise: float, kl: float) -> tuple[torch.Tensor, torch.Tensor]:
    """clips (N, 5, 3, T, H, W) in [0, 1] with T = 4k + 1 -> the loss, and the PSNR of each layer in dB, (5,).

    Latents are sampled from the posterior. Noise of up to `noise` times their deviation is added. kl: weight of the
    posterior's KL divergence from a unit normal, averaged over latent values.
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
    weight[:, edit] = HIDDEN_COLOR_WEIGHT + (1 - HIDDEN_COLOR_WEIGHT) * alpha
    error = error * weight.flatten(0, 1)
    loss = error.abs().mean() + sum(error.diff(dim=d).abs().mean() for d in (3, 4))
    hue = error - error.mean(1, keepdim=True)
    loss = loss + BLOCK_MEAN_WEIGHT * F.avg_pool3d(error, (1, 8, 8)).abs().mean()
    loss = loss + HUE_WEIGHT * F.avg_pool3d(hue, (1, 4, 4)).abs().mean()
    loss = loss + MOTION_WEIGHT * error.diff(dim=2).abs().mean()
    divergence = (mean.pow(2) + spread.pow(2) - 1) / 2 - spread.log()
    return loss + kl * divergence.mean(), psnr


def unclamped_error(decoded: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """decoded - wanted, but 0 where clamping to [0, 1] makes both equal."""
    error = decoded - wanted
    return torch.where((error < 0) & (wanted <= 0) | (error > 0) & (wanted >= 1), 0, error)


def _posterior(codec, video):
    """Mean and deviation, fp32, of the unnormalised latents of video (B, 3, 4k + 1, H, W) in [0, 1]."""
    past = no_past(codec.vae.encoder)
    groups = (video * 2 - 1).split([1] + [TIME_STRIDE] * ((video.shape[2] - 1) // TIME_STRIDE), dim=2)
    mean, log_variance = torch.cat([codec.posterior(g, past) for g in groups], dim=2).to(video.dtype).chunk(2, dim=1)
    return mean, (log_variance.clamp(-30, 20) / 2).exp()


@torch.no_grad()
def normalise(codec: WanCodec, seed: int, config: dict) -> None:
    """Set the codec's latent mean and deviation, also in its VAE's configuration.

    Both are measured on clips seed .. seed + STATISTICS_CLIPS - 1.
    """
    given = (cut_of(k, config).to(codec.mean.device) for k in range(seed, seed + STATISTICS_CLIPS))
    means = torch.cat([_posterior(codec, video)[0].double() for video in given])
    std, mean = torch.std_mean(means, dim=(0, 2, 3, 4))
    codec.mean.copy_(mean.view(codec.mean.shape))
    codec.std.copy_(std.view(codec.std.shape))
    codec.vae.register_to_config(latents_mean=codec.mean.flatten().tolist(), latents_std=codec.std.flatten().tolist())


def new_codec(geometry: dict) -> WanCodec:
    """An untrained Wan-type VAE whose latents are not normalised yet; geometry: arguments of AutoencoderKLWan.

    With torch's default initialisation all colours were still grey after 2,000 steps: layers are mostly black, white
    and edges, and the norms of the encoder keep only directions. So biases start at 0 and the first convolution
    amplifies colour by COLOR_GAIN. The posterior starts narrow, because a unit deviation would hide latents that are
    still small.
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
        vae.quant_conv.bias[channels:] = INITIAL_LOG_VARIANCE
        first = vae.encoder.conv_in.weight.unflatten(1, (3, -1))  # (out, rgb, pixels of a patch, ...)
        grey = first.mean(1, keepdim=True)
        first.copy_(grey + COLOR_GAIN * (first - grey))
    return WanCodec(vae)


def draw_errors(folder: Path) -> None:
    """Read log.jsonl and draw curve.png: each layer's root mean square error against the step."""
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines() if (folder / "log.jsonl").exists() else []
    if len(lines) > 1:
        rows = [json.loads(line) for line in lines]
        errors = {name: [10 ** (-row["psnr"][name] / 20) for row in rows] for name in LAYERS}
        draw_curves([row["step"] for row in rows], errors, folder / "curve.png", "error against step")


class Run:
    """One run: the codec, its average (EMA), the optimiser, and the present step."""

    def __init__(self, config: dict[str, Any], folder: Path, console: Console) -> None:
        self.config, self.folder, self.console = config, folder, console
        self.device = torch.device(config.get("device") or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.manual_seed(0)
        self.codec = new_codec(config["geometry"]).to(self.device).train()
        self.ema = Ema({"codec": self.codec}, config["ema"])
        self.saved = {"codec": self.codec, "ema_codec": self.ema.modules["codec"]}
        self.optimizer = torch.optim.AdamW(
            self.codec.parameters(), lr=config["rate"], betas=(0.9, 0.99), weight_decay=1e-4
        )
        self.step, extra = load_state(folder, self.saved, self.optimizer, console)
        self.clips = extra.get("clips", 0)

    def train(self, stop: Callable[[], bool]) -> None:
        """Train to the last step, or until stop() returns True; log and save when it is due."""
        config = self.config
        batches = Batches(config["seed"] + self.clips, config)
        loader = DataLoader(
            batches, batch_size=None, num_workers=config["workers"], pin_memory=self.device.type == "cuda"
        )
        start_time, sums, count, saved_step = time.monotonic(), 0, 0, self.step
        for video in loader:
            if self.step >= config["steps"] or stop():
                break
            sums, count = sums + self.update(video), count + 1
            if self.step % config["log_every"] == 0:
                self.report((sums / count).tolist(), start_time)
                sums, count = 0, 0
            if self.step % config["save_every"] == 0:
                self.save()
                saved_step = self.step
        if self.step > saved_step:
            self.save()

    def update(self, video: torch.Tensor) -> torch.Tensor:
        """Take one step on a batch of `Batches`; return the loss and each layer's PSNR in dB, (6,)."""
        config = self.config
        torch.manual_seed(self.step)  # a resumed run draws the same noise as an uninterrupted one
        for group in self.optimizer.param_groups:
            group["lr"] = trapezoid(self.step, config["steps"], config["rate"])
        with mixed_precision(self.device):
            loss, psnr = losses(self.codec, video.to(self.device, non_blocking=True), config["noise"], config["kl"])
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0)
        self.optimizer.step()
        self.step, self.clips = self.step + 1, self.clips + config["batch"]
        self.ema.update({"codec": self.codec}, self.step)
        return torch.cat([loss.detach()[None], psnr])

    def report(self, means: list[float], start_time: float) -> None:
        """Log and print the mean loss and the mean PSNR of each layer since the last report."""
        loss, psnr = means[0], dict(zip(LAYERS, means[1:]))
        rate = self.optimizer.param_groups[0]["lr"]
        self.console.step(self.step, self.config["steps"], {"loss": loss} | psnr, rate, self.config["batch"])
        seconds = round(time.monotonic() - start_time, 1)
        log_line(self.folder, step=self.step, loss=loss, psnr=psnr, clips=self.clips, seconds=seconds)

    def save(self) -> None:
        """Write the state, the averaged codec as an edition takes it, a sheet of clips, and the curve."""
        save_state(self.folder, self.step, self.saved, self.optimizer, {"clips": self.clips})
        average = self.ema.modules["codec"]
        normalise(average, self.config["seed"] - STATISTICS_CLIPS, self.config)
        save_codec(average, self.folder / CODEC)
        codec_sheet(average, self.folder / f"codec-{self.step:06d}.png")
        draw_errors(self.folder)


def train(config: dict[str, Any], folder: Path, stop: Callable[[], bool], console: Console | None = None) -> None:
    """Train until config['steps'], or until stop() returns True.

    folder then holds the state, codec.safetensors (the averaged weights, as an edition takes them), the log, its curve
    and sheets of clips. config: see VaeSettings. config['frames'] must cover more than two latent frames, or the
    decoder drifts from the third on. Raises InputError before any work.
    """
    read_settings(VaeSettings, config)
    console = console or Console()
    run = Run(config, folder, console)
    console.say(
        f"training from step {run.step:,}; state, {CODEC}, log.jsonl, curve.png and codec-*.png are in {folder}"
    )
    run.train(stop)
    console.say(
        f"step {run.step:,} of {config['steps']:,} is saved in {folder}"
        if run.step
        else "stopped before the first step; nothing was saved"
    )
