"""`python -m core.evaluate --model mini`: does the model do what the prompt says?

Held-out clips of the data engine, whose seeds no training sees: what was asked for is
known exactly. One row a kind of edit; everything at model size.
"""

import argparse
import json
import sys

import torch

from core.data import words
from core.data.clips import make_clip
from core.errors import InputError
from core.progress import KINDS, Progress
from core.sampling.denoise import denoise

FIRST_SEED = 5_000_000
COLUMNS = (
    ("clips", "{:.0f}"),
    ("agreement_psnr", "{:.1f} dB"),
    ("color_right", "{:.0%}"),
    ("place_error", "{:.3f}"),
    ("alpha_error", "{:.3f}"),
    ("coverage", "{:.1%}"),
)


def judge(clip, color, alpha, composite) -> dict:
    """Figures of one result against its labelled clip; layers (3, T, h, w), alpha (T, h, w), in [0, 1].

    agreement_psnr: composed layers against the model's composite, dB. color_right:
    is the solid layer's median colour nearest to the named one? place_error: distance
    of the layer's centre from the true one, in frame heights. alpha_error: mean absolute
    difference from the true alpha. coverage: share of pixels with alpha above 0.02.
    """
    source = clip.source.transpose(0, 1)
    composed = alpha * color + (1 - alpha) * source
    figures = {
        "agreement_psnr": -10 * float((composed - composite).pow(2).mean().clamp_min(1e-12).log10()),
        "alpha_error": float((alpha - clip.alpha[:, 0]).abs().mean()),
        "coverage": float((alpha > 0.02).float().mean()),
    }
    if clip.labels["edit"] == "object":
        figures["color_right"] = float(nearest_color(color, alpha) == clip.labels["color"])
        if clip.labels["place"]:
            figures["place_error"] = float((centre(alpha) - centre(clip.alpha[:, 0])).norm())
    return figures


def nearest_color(color, alpha) -> str | None:
    """The named colour, in light or in shade, nearest to the layer's median where it is solid; None where nothing is."""
    inside = color[:, alpha > 0.8]
    if inside.shape[1] < 8:
        return None
    median = inside.median(dim=1).values
    shades = torch.linspace(0.6, 1.1, 11)[:, None]
    return min(words.COLORS, key=lambda name: float((shades * torch.tensor(words.COLORS[name]) - median).abs().sum(1).min()))


def centre(alpha):
    """Centre of mass over the clip, (x, y) in frame heights; a layer without mass has none (inf)."""
    _, height, width = alpha.shape
    weight = torch.where(alpha > 0.3, alpha, 0.0).sum(0)
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / height, indexing="ij")
    return torch.stack([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@torch.inference_mode()
def run(model, clip, steps, guidance, with_mask) -> tuple:
    """Sample one clip: colour and composite (3, T, h, w), alpha (T, h, w), clamped to [0, 1]."""
    codec, frames = model.codec, len(clip.source)
    latents = codec.encode(clip.source.transpose(0, 1)[None])
    mask = codec.encode(clip.mask.expand(-1, 3, -1, -1).transpose(0, 1)[None]) if with_mask else None
    layers = denoise(
        model.transformer,
        model.text.encode([clip.instruction]),
        model.text.encode([""]),
        latents,
        mask,
        seed=0,
        steps=steps,
        guidance=guidance,
        shift=model.limits.shift,
    )
    color, alpha, composite = (codec.decode(layers[:, i], frames)[0].clamp(0, 1) for i in range(3))
    return color, alpha.mean(0), composite


def table(rows: dict) -> str:
    """Rows of figures as an aligned text table; a dash where nothing was measured."""
    lines = [["edit", *(name for name, _ in COLUMNS)]]
    for name, figures in rows.items():
        lines.append([name, *(form.format(figures[c]) if c in figures else "-" for c, form in COLUMNS)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(line, widths)) for line in lines)


def mean_figures(results: list[dict]) -> dict:
    names = {n for r in results for n in r}
    means = {n: sum(r[n] for r in results if n in r) / sum(n in r for r in results) for n in names}
    return means | {"clips": len(results)}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m core.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mini", help="mini, or a model directory")
    parser.add_argument("--clips", type=int, default=32, help="held-out clips (default 32)")
    parser.add_argument("--frames", type=int, default=17)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--mask", action="store_true", help="give the mask as well")
    parser.add_argument("--json", help="write all figures to this file")
    parser.add_argument("--progress", choices=KINDS, default="bar")
    args = parser.parse_args(argv)
    from core.model.load import load_model

    try:
        model = load_model(args.model, "cpu")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    steps = args.steps or model.limits.steps
    guidance = model.limits.guidance if args.guidance is None else args.guidance
    progress, results = Progress(args.progress), []
    progress.stage("evaluate", args.clips)
    for k in range(args.clips):
        clip = make_clip(FIRST_SEED + k, 80, 144, torch.arange(args.frames))
        figures = judge(clip, *run(model, clip, steps, guidance, args.mask))
        results.append({"seed": FIRST_SEED + k, "prompt": clip.instruction, "labels": clip.labels, **figures})
        progress.advance()
    progress.close()
    measured = [{n: v for n, v in r.items() if isinstance(v, float)} for r in results]
    kinds = {r["labels"]["edit"] for r in results}
    rows = {k: mean_figures([m for m, r in zip(measured, results) if r["labels"]["edit"] == k]) for k in sorted(kinds)}
    rows["all"] = mean_figures(measured)
    print(f"{args.model}: {steps} steps, guidance {guidance:g}, {args.frames} frames, {'with' if args.mask else 'no'} mask")
    print(table(rows))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"rows": rows, "clips": results}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
