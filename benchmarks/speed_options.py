"""Each step saver against the full computation: its error, and what it saves.

    python -m benchmarks.speed_options [--model NAME] [--clips N] [--frames N] [--steps N] [--guidance G]
                              [--only ROW] [--json FILE]

Held-out clips of the data engine at model size. Errors are of the edit layer (premultiplied, encoded values, in steps
of 255) and of the sampled latents.
Another seed is a yardstick: the distance between two takes of the same edit. Times are of sampling alone, after a
warm-up if anything is compiled. Contenders take turns over the clips. On a CPU the process's CPU time is used, as
machines may be busy.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vera.core.data.engine.clips import make_clip
from vera.core.errors import InputError
from vera.core.evaluation.held_out import FIRST_SEED
from vera.core.job.run import failed
from vera.core.model.load import load_model
from vera.core.plate.fit import model_size
from vera.core.sampling.denoise import ClipInputs, SamplingSettings, denoise
from vera.core.sampling.speed_options import SpeedOptions

FULL, OTHER = "full computation", "another seed"
COLUMNS = (
    "saver",
    "blocks run",
    "times faster",
    "latents, relative L1",
    "layer, mean",
    "layer, 99.9 %",
    "layer, largest",
)


@dataclass(frozen=True)
class Watched(SpeedOptions):
    """SpeedOptions that remember their caches, so that skipped steps can be counted."""

    caches: list = field(default_factory=list)

    def new_cache(self):
        cache = super().new_cache()
        if cache is not None:
            self.caches.append(cache)
        return cache

    def blocks_run(self, layers):
        """Share of all blocks."""
        steps = sum(c.steps for c in self.caches)
        return 1 - sum(c.skipped for c in self.caches) * (layers - 1) / (steps * layers) if steps else 1.0


def contenders():
    """name -> (speed, seed)"""
    return {
        FULL: (Watched(), 0),
        OTHER: (Watched(), 1),
        **{f"--cache {t:g}": (Watched(cache=t), 0) for t in (0.1, 0.2, 0.4)},
        "--one-batch": (Watched(one_batch=True), 0),
        "--compile": (Watched(compile=True), 0),
        "--attention int8": (Watched(attention="int8"), 0),
        "--attention window": (Watched(attention="window"), 0),
    }


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed_options", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="mini, or a model directory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=3)
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int, help="default: the model's")
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--only", default="", help="only speed whose name holds this text")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    given = parser.parse_args(argv)
    try:
        model = load_model(given.model, given.device)
    except InputError as error:
        return failed(error)
    steps = given.steps or model.limits.steps
    guidance = model.limits.guidance if given.guidance is None else given.guidance
    chosen = {n: c for n, c in contenders().items() if n in (FULL, OTHER) or given.only in n}
    rows = measure(model, chosen, given.clips, given.frames, steps, guidance)
    machine = f"{model.device} ({platform.machine()}, torch {torch.__version__})"
    print(
        f"{model.name}, fingerprint {model.fingerprint[:12]}, on {machine}: {given.clips} "
        f"clips of {given.frames} frames,"
        f" {steps} steps, guidance {guidance:g}\n"
    )
    print(table(rows))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        facts = {"model": model.name, "fingerprint": model.fingerprint, "device": str(model.device), "steps": steps}
        given.json.write_text(
            json.dumps({**facts, "frames": given.frames, "rows": rows}, indent=1) + "\n", encoding="utf-8"
        )
    return 0


@torch.inference_mode()
def measure(model, chosen, clips, frames, steps, guidance):
    """One row of figures a contender, over all clips."""
    size = model_size(1280, 720, 1.0, model.limits.pixels, model.limits.multiple)
    spent, errors, full = dict.fromkeys(chosen, 0.0), {name: [] for name in chosen}, {}
    for k in range(clips):
        clip = make_clip(FIRST_SEED + k, size[1], size[0], torch.arange(frames))
        given = inputs(model, clip)
        for name, (speed, seed) in chosen.items():
            speed.prepare(model.transformer)
            if speed.compile and k == 0:
                sample(model, given, speed, seed, 2, guidance)
            start = clock(model.device)
            latents = sample(model, given, speed, seed, steps, guidance)
            spent[name] += clock(model.device) - start
            layer = premultiplied(model.codec, latents, frames)
            if name == FULL:
                full = {"latents": latents, "layer": layer}
            apart = (layer - full["layer"]).abs() * 255
            errors[name].append(((latents - full["latents"]).abs().mean() / full["latents"].abs().mean(), apart))
    layers = model.transformer.config.layers
    rows = []
    for name, (speed, _) in chosen.items():
        apart = torch.stack([a for _, a in errors[name]])
        rows.append(
            {
                "saver": name,
                "blocks_run": speed.blocks_run(layers),
                "faster": spent[FULL] / spent[name],
                "latents": torch.stack([e for e, _ in errors[name]]).mean().item(),
                "mean": apart.mean().item(),
                "most": apart.flatten().kthvalue(round(0.999 * apart.numel())).values.item(),
                "largest": apart.max().item(),
            }
        )
    return rows


def inputs(model, clip):
    video = clip.source.transpose(0, 1)[None].to(model.device)
    return model.text.encode([clip.instruction]), model.text.encode([""]), model.codec.encode(video)


def sample(model, given, speed, seed, steps, guidance):
    return denoise(
        model.transformer,
        ClipInputs.of_tensors(*given),
        SamplingSettings(seed, steps, guidance, model.limits.shift, speed=speed),
    )


def premultiplied(codec, latents, frames):
    """The edit layer (4, T, h, w), premultiplied, in [0, 1]."""
    color, alpha = (codec.decode(latents[:, i], frames)[0].float().clamp(0, 1).cpu() for i in range(2))
    alpha = alpha.mean(0, keepdim=True)
    return torch.cat([color * alpha, alpha])


def clock(device):
    if device.type != "cuda":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def table(rows):
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for r in rows:
        cells = (
            f"{r['blocks_run']:.0%}",
            f"{r['faster']:.2f}",
            *(f"{r[n]:.3g}" for n in ("latents", "mean", "most", "largest")),
        )
        lines.append(f"| `{r['saver']}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
