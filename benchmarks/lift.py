"""`python -m benchmarks.lift`: edits of known alpha, spoiled, lifted, and compared with the truth."""

import argparse
import json
import random
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks.spoil import WAYS, spoil, unspoil
from vera.core.data.engine.clips import draw_labels, make_clip
from vera.core.lifting.lift_window import lift_clip, plate_sized
from vera.core.lifting.matching import same_size

KINDS = ("object", "shadow", "effect", "background")
FIRST_SEED = 7_000_000


def clips(count):
    """(seed, kind, way) of `count` clips, kinds and ways in turn: the first seeds whose clips are of the kind."""
    waiting = {kind: [] for kind in KINDS}
    seed, chosen = FIRST_SEED, []
    while len(chosen) < count:
        kind = KINDS[len(chosen) % len(KINDS)]
        while not waiting[kind]:
            waiting[kind_of(seed)].append(seed)
            seed += 1
        chosen.append((waiting[kind].pop(0), kind, WAYS[len(chosen) // len(KINDS) % len(WAYS)]))
    return chosen


def kind_of(seed):
    labels = draw_labels(random.Random(seed))
    if labels["edit"] != "object":
        return labels["edit"]
    return "shadow" if shadow_of(make_clip(seed, 40, 72, [0, 24])).any() else "object"


def shadow_of(clip):
    """Where the layer is a shadow: translucent and black, (T, 1, H, W) of bools."""
    dark = ((clip.edit * clip.alpha).amax(1, keepdim=True) < 0.01) & (clip.alpha > 0.02) & (clip.alpha < 0.7)
    return dark if dark.float().mean() > 0.004 else torch.zeros_like(dark)  # less is the edge of something black


def judge(seed, kind, way, height=144, width=256, frames=17):
    """Figures of one clip, over all its frames at the plate's size.

    alpha, inside, shadow: mean absolute error of alpha over the frame, where the truth has an
    opaque thing, where it has a shadow. exact: share of the untouched area with alpha exactly 0.
    gain: PSNR of the layer over the plate, in dB above the spoiled video's own (psnr: the same,
    absolute). ceiling: the gain with the true alpha, and as colour what the edited video holds, its
    shift and drift taken away exactly: what a lift that invents nothing can hope for. steps: root
    mean square of alpha's changes from frame to frame, beside the truth's; dtssd: of their
    difference. unedited: coverage where nothing had been edited.
    """
    torch.set_num_threads(1)
    clip = make_clip(seed, height, width, torch.arange(frames))
    edited = spoil(clip.composite, seed, way)
    color, alpha = lifted(clip.source, edited)
    composite = alpha * color + (1 - alpha) * clip.source
    shown = F.interpolate(edited, (height, width), mode="bicubic").clamp(0, 1)
    untouched, shadow = clip.alpha == 0, shadow_of(clip)
    best = torch.lerp(clip.composite, unspoil(edited, seed, (height, width)), clip.alpha)
    wrong = (alpha - clip.alpha).abs()
    figures = {
        "alpha": float(wrong.mean()),
        "gain": psnr(composite, clip.composite) - psnr(shown, clip.composite),
        "ceiling": psnr(best, clip.composite) - psnr(shown, clip.composite),
        "psnr": psnr(composite, clip.composite),
        "steps": change(alpha),
        "true_steps": change(clip.alpha),
        "dtssd": float((alpha.diff(dim=0) - clip.alpha.diff(dim=0)).square().mean().sqrt()),
    }
    if seed % 2:  # the same plate, not edited but spoiled alike
        figures["unedited"] = float((lifted(clip.source, spoil(clip.source, seed, way))[1] > 0).float().mean())
    if untouched.any():
        figures["exact"] = float((alpha[untouched] == 0).float().mean())
    if shadow.any() and kind in ("object", "shadow"):
        figures["shadow"] = float(wrong[shadow].mean())
    if kind in ("object", "shadow"):
        figures["inside"] = float(wrong[(clip.alpha > 0) & ~shadow].mean())
    return {"seed": seed, "kind": kind, "way": way, **figures}


def lifted(plate, edited):
    """Straight colour and alpha at the plate's size."""
    found = lift_clip(plate, same_size(edited, plate.shape[2:]))
    sized = [plate_sized(c, a, p.movedim(0, -1)) for c, a, p in zip(found.color, found.alpha, plate)]
    return torch.stack([c for c, _ in sized]), torch.stack([a for _, a in sized])


def psnr(a, b):
    return -10 * float((a - b).square().mean().clamp_min(1e-10).log10())


def change(alpha):
    """Root mean square of alpha's steps from frame to frame."""
    return float(alpha.diff(dim=0).square().mean().sqrt())


COLUMNS = {
    "alpha": "{:.4f}",
    "inside": "{:.3f}",
    "shadow": "{:.3f}",
    "exact": "{:.2%}",
    "gain": "{:+.1f}",
    "ceiling": "{:+.1f}",
    "psnr": "{:.1f}",
    "flicker": "{:.2f}",
    "dtssd": "{:.4f}",
    "unedited": "{:.3%}",
}


def table(results):
    """Means by kind and by way, as Markdown."""
    lines = ["| clips | | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * (1 + len(COLUMNS))]
    groups = [(k, [r for r in results if r["kind"] == k]) for k in KINDS]
    groups += [(w, [r for r in results if r["way"] == w]) for w in WAYS] + [("all", results)]
    for name, group in groups:
        if group:
            cells = [mean_cell(group, column) for column in COLUMNS]
            lines.append(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def mean_cell(group, column):
    if column == "flicker":  # of all clips together: many have nothing that moves
        return COLUMNS[column].format(sum(r["steps"] for r in group) / sum(r["true_steps"] for r in group))
    values = [r[column] for r in group if column in r]
    return COLUMNS[column].format(sum(values) / len(values)) if values else "-"


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lift", description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--each", action="store_true", help="print every clip's figures")
    parser.add_argument("--json")
    given = parser.parse_args()
    chosen = clips(given.clips)
    results = []
    with ProcessPoolExecutor(given.workers) as pool:
        for result in pool.map(partial(judge, frames=given.frames), *zip(*chosen)):
            results.append(result)
            if given.each:
                print({k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}, flush=True)
    print(table(results))
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
