"""`python -m benchmarks.codec [DIR ...]`: sizes, times and errors of codecs on layers, one column a codec.

mini's own codec is the first column. Each DIR holds a codec.safetensors (core/training/mini/vae_training.py) or the
training state of a codec of mini. The clips are 144x80 and held out from every training.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from vera.core.data.engine.clips import make_clip
from vera.core.evaluation.labelled_figures import dtssd
from vera.core.model.names import EMBEDDED
from vera.core.training.mini.samples import codec_sheet
from vera.core.training.mini.transformer_training import load_codec

FIRST_SEED, HEIGHT, WIDTH, FRAMES = 8_000_000, 80, 144, 17
SPOILED = 0.3  # noise added to latents, in their deviation, as a sampler's small errors
KIND_SEED, KIND_CLIPS = 8_500_000, 6  # held-out clips of each of KINDS
THING: dict[str, Any] = {"edit": "object", "color": "blue", "material": None, "size": "medium", "place": "centre"}
KINDS: dict[str, dict[str, Any]] = {  # what moves or is thin
    "bubbles": {"edit": "effect", "effect": "bubbles", "amount": "medium"},
    "snow": {"edit": "effect", "effect": "snow", "amount": "medium"},
    "butterfly": {**THING, "object": "butterfly", "motion": "still"},
    "balloon": {**THING, "object": "balloon", "motion": "rising"},
}
SURE = 8  # pixels around a pixel that must have the same alpha, 0 or 1, for it to count as flat
ROWS = {
    "channels": "latent channels",
    "parameters": "parameters, millions",
    "encode": "seconds to encode 17 frames of 256x256",
    "decode": "... to decode them",
    "color": "colour where the layer is (alpha above 0.5), PSNR in dB",
    "alpha": "alpha, dB",
    "translucent": "alpha of effects, dB",
    "composite": "composite, dB",
    "drift": "the layer's mean colour, off by",
    "edges": "alpha between 0.02 and 0.98, off by",
    "flat": "flat alpha, off by",
    "ends": "flat alpha that is exact once clamped",
    "flicker": "alpha's dtSSD",
    "spoiled": f"alpha of latents spoiled by {SPOILED} of their deviation, dB",
    "bubbles": "alpha of bubbles, dB",
    "snow": "... of snow",
    "butterfly": "... of a butterfly",
    "balloon": "... of a rising balloon",
}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codec", description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*", metavar="DIR")
    parser.add_argument("--count", type=int, default=32, help="clips (default 32)")
    parser.add_argument("--picture", type=Path, help="write a sheet of clips through the last codec")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    codecs = {"mini's own": load_codec(EMBEDDED)} | {str(folder): load_codec(folder) for folder in args.folders}
    figures = {name: costs(codec) | errors(codec, args.count) | kinds(codec) for name, codec in codecs.items()}
    print(f"{args.count} clips, torch {torch.__version__}, CPU, {torch.get_num_threads()} threads\n")
    print(f"| | {' | '.join(codecs)} |\n|{'---|' * (1 + len(codecs))}")
    for key, text in ROWS.items():
        print(f"| {text} | {' | '.join(format(f[key], '.4g') for f in figures.values())} |")
    if args.picture:
        codec_sheet(list(codecs.values())[-1], args.picture)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


@torch.inference_mode()
def costs(codec) -> dict:
    video = make_clip(FIRST_SEED, 256, 256, torch.arange(FRAMES)).source.transpose(0, 1)[None]
    begun = time.perf_counter()
    latents = codec.encode(video)
    between = time.perf_counter()
    codec.decode(latents, FRAMES)
    return {
        "channels": codec.channels,
        "parameters": sum(p.numel() for p in codec.parameters()) / 1e6,
        "encode": between - begun,
        "decode": time.perf_counter() - between,
    }


@torch.inference_mode()
def errors(codec, count) -> dict:
    """Means over the clips; dB of the mean squared error of all of them."""
    squares = {name: [] for name in ("color", "alpha", "translucent", "composite", "spoiled")}
    means = {name: [] for name in ("drift", "edges", "flat", "ends", "flicker")}
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        clip = make_clip(seed, HEIGHT, WIDTH, torch.arange(FRAMES), held_out=True)
        given = torch.stack([clip.edit, clip.alpha.expand(-1, 3, -1, -1), clip.composite]).transpose(1, 2)
        latents = codec.encode(given)
        edit, alpha, composite = codec.decode(latents, FRAMES).clamp(0, 1)
        truth, alpha = clip.alpha[:, 0], alpha.mean(0)
        squares["alpha"].append((alpha - truth).pow(2).mean())
        squares["composite"].append((composite - given[2]).pow(2).mean())
        if clip.labels["edit"] == "effect":
            squares["translucent"].append(squares["alpha"][-1])
        noise = torch.randn(latents[1:2].shape, generator=torch.Generator().manual_seed(seed))
        spoiled = latents[1:2] + SPOILED * latents.std((0, 2, 3, 4), keepdim=True) * noise
        spoiled = codec.decode(spoiled, FRAMES)[0].clamp(0, 1).mean(0)
        squares["spoiled"].append((spoiled - truth).pow(2).mean())
        inside = truth > 0.5
        if inside.any():
            off = (edit - given[0])[:, inside]
            squares["color"].append(off.pow(2).mean())
            means["drift"].append(off.mean(1).abs().mean())
        edge = (truth > 0.02) & (truth < 0.98)
        if edge.any():
            means["edges"].append((alpha - truth)[edge].abs().mean())
        flat = _all_round(truth == 0) | _all_round(truth == 1)
        if flat.any():
            means["flat"].append((alpha - truth)[flat].abs().mean())
            means["ends"].append((alpha == truth)[flat].float().mean())
        means["flicker"].append(torch.tensor(dtssd(alpha, truth)))
    found = {name: -10 * torch.stack(values).mean().log10().item() for name, values in squares.items() if values}
    return found | {name: torch.stack(values).mean().item() for name, values in means.items() if values}


@torch.inference_mode()
def kinds(codec) -> dict:
    """dB of the mean squared error of alpha, over the clips of each of KINDS."""
    found = {}
    for name, labels in KINDS.items():
        squares = []
        for seed in range(KIND_SEED, KIND_SEED + KIND_CLIPS):
            whole = {"depth": None, "pace": "usual", "reflection": False, **labels}
            truth = make_clip(seed, HEIGHT, WIDTH, torch.arange(FRAMES), whole, held_out=True).alpha[:, 0]
            latents = codec.encode(truth[None, None].expand(-1, 3, -1, -1, -1))
            squares.append((codec.decode(latents, FRAMES)[0].clamp(0, 1).mean(0) - truth).pow(2).mean())
        found[name] = -10 * torch.stack(squares).mean().log10().item()
    return found


def _all_round(where):
    """Mask (T, H, W) of the pixels whose neighbours within SURE pixels are all true."""
    return -torch.nn.functional.max_pool2d(-where[:, None].float(), 2 * SURE + 1, 1, SURE)[:, 0] == 1


if __name__ == "__main__":
    main()
