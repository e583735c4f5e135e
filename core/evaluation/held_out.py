"""`vera evaluate --model mini`: does the model do what the prompt says?

A held-out, seeded set of prompts over plates, whose clips and real pictures no training sees: what was asked for is
known exactly. Everything is at model size; the layer is judged as it would be delivered. One table: each figure
beside its goal.
"""

import json
import random
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from vera.core.data.engine import phrases
from vera.core.data.engine.clips import LayeredClip, draw_labels, make_clip
from vera.core.data.engine.rendered import folders, read_clip
from vera.core.evaluation.classifier import NOTHING, load_classifier
from vera.core.evaluation.figures import flicker, judge
from vera.core.evaluation.sample_clip import delivered, run
from vera.core.model.load import load_model
from vera.core.model.names import folder_of
from vera.core.progress import Progress

FIRST_SEED = 5_000_000
HEIGHT, WIDTH, FRAMES = 80, 144, 17
PHRASINGS = 5
ROWS = (  # figure, what it says, goal, how it is written; a goal below 0 is one not to be exceeded
    ("color", "named colour is the layer's", 0.95, "{:.1%}"),
    ("object", "named object recognised", 0.85, "{:.1%}"),
    ("place", "named place", 0.90, "{:.1%}"),
    ("motion", "named motion", 0.85, "{:.1%}"),
    ("agreement", "layers agree with the composite branch", 30, "{:.1f} dB"),
    ("zeros", "alpha exactly 0 outside the object's surroundings", 0.99, "{:.1%}"),
    ("solid", "no holes inside objects", 0.98, "{:.1%}"),
    ("background_masked", "new background, with mask: alpha's MAD", -0.02, "{:.3f}"),
    ("background", "new background, without mask: alpha's MAD", -0.06, "{:.3f}"),
    ("translucent", "effects whose mean alpha is in 0.05 .. 0.8", 1, "{:.1%}"),
    ("coverage", "effects' mean alpha", None, "{:.3f}"),
    ("dtssd", "effects' dtSSD to the true ones", None, "{:.2f}"),
    ("flicker", "flicker of objects at rest, beside the codec's own", -1.3, "{:.2f}x"),
    ("phrasings", f"same object and colour in {PHRASINGS} phrasings", 0.90, "{:.1%}"),
    ("kept", "plate kept over the whole frame, PSNR", None, "{:.1f} dB"),
    ("kept_outside", "plate kept where alpha is 0, PSNR; 100 is exact", 100, "{:.1f} dB"),
    ("anew_outside", "... by the composite branch alone", None, "{:.1f} dB"),
    ("seconds", "seconds for 17 frames of 256x256, 8 steps", -20, "{:.1f}"),
    ("megabytes", "weights, MB", -64, "{:.1f}"),
)


class Evaluation:
    """A model under its judges; clips and their figures gather in `results`.

    truth: the true layers, through the model's codec, stand in for the model's: the best that can be had.
    """

    def __init__(self, model: Any, steps: int, guidance: float, truth: bool = False) -> None:
        self.model, self.steps, self.guidance, self.truth = model, steps, guidance, truth
        self.classifier = load_classifier()
        self.times = torch.arange(FRAMES)
        self.results: list[dict[str, Any]] = []

    def clip(self, seed: int) -> None:
        """Clip `seed` of the engine."""
        self._add(make_clip(seed, HEIGHT, WIDTH, self.times, held_out=True), seed)

    def rendered(self, folder: Path) -> None:
        """A clip that Cycles rendered."""
        self._add(read_clip(folder), folder.name)

    def _add(self, clip: LayeredClip, name: str | int) -> None:
        figures, layers = self._judged(clip, clip.instruction)
        if clip.labels["edit"] == "background":
            figures["background"] = figures.pop("mad")
            figures["background_masked"] = self._judged(clip, clip.instruction, clip.mask)[0]["mad"]
        if clip.labels.get("motion") == "still":
            color, alpha, _ = through(self.model.codec, clip)
            figures["flickers"] = flicker(*layers), flicker(color, delivered(alpha, clip.source))
        self.results.append({"clip": name, "prompt": clip.instruction, "labels": clip.labels, **figures})

    def phrasings(self, seed: int) -> None:
        """An object in five phrasings over one plate: the share that shows what most of them show, if that is
        something."""
        clip = make_clip(seed, HEIGHT, WIDTH, self.times, held_out=True)
        said = [phrases.instruction(clip.labels, random.Random(k)) for k in range(PHRASINGS)]
        figures = [self._judged(clip, text)[0] for text in said]
        seen = [(f["kind"], f["hue"]) for f in figures]
        something = [s for s in seen if s[0] != NOTHING and s[1] is not None]
        share = max(map(seen.count, something), default=0) / PHRASINGS
        self.results.append({"clip": seed, "prompts": said, "labels": clip.labels, "seen": seen, "phrasings": share})

    def _judged(
        self, clip: LayeredClip, instruction: str, mask: torch.Tensor | None = None
    ) -> tuple[dict[str, Any], tuple[torch.Tensor, torch.Tensor]]:
        if self.truth:
            color, alpha, composite = through(self.model.codec, clip)
        else:
            color, alpha, composite = run(self.model, clip.source, instruction, mask, self.steps, self.guidance)
        alpha = delivered(alpha, clip.source)
        return judge(clip, torch.arange(len(alpha)), color, alpha, composite, self.classifier), (color, alpha)


@torch.inference_mode()
def through(codec: Any, clip: LayeredClip) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The true layers as the codec gives them back, shaped as those of `run`."""
    layers = torch.stack([clip.edit, clip.alpha.expand(-1, 3, -1, -1), clip.composite]).transpose(1, 2)
    color, alpha, composite = codec.decode(codec.encode(layers), len(clip.edit)).clamp(0, 1)
    return color, alpha.mean(0), composite


def seconds(model: Any, guidance: float) -> float:
    """Wall time of 17 frames of 256x256 in 8 steps: plate to latents, sampled, decoded."""
    source = make_clip(FIRST_SEED, 256, 256, torch.arange(17)).source
    started = time.perf_counter()
    run(model, source, "Add a red ball", None, 8, guidance)
    return time.perf_counter() - started


def means(results: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Mean of every figure over the results that have it, and of how many: {name: (mean, count)}."""
    names = {n for r in results for n, v in r.items() if isinstance(v, float)}
    values = {n: [r[n] for r in results if n in r] for n in names}
    rows = {n: (sum(v) / len(v), len(v)) for n, v in values.items()}
    pairs = [r["flickers"] for r in results if "flickers" in r]
    if pairs and sum(codec for _, codec in pairs):
        rows["flicker"] = sum(own for own, _ in pairs) / sum(codec for _, codec in pairs), len(pairs)
    return rows


def table(rows: dict[str, tuple[float, int]]) -> str:
    """The figures that there are beside their goals, as text."""
    lines = [["", "figure", "goal", "", "of"]]
    for name, text, goal, form in ROWS:
        if name not in rows:
            continue
        value, count = rows[name]
        met = "" if goal is None else "met" if (value <= -goal if goal < 0 else value >= goal) else "missed"
        wanted = "stated" if goal is None else ("at most " if goal < 0 else "") + form.format(abs(goal))
        lines.append([text, form.format(value), wanted, met, str(count)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines
    )


def evaluate(args: Namespace) -> int:
    """Judge a model by the options of `vera evaluate`, and print the table. Raises InputError before any work."""
    model = load_model(args.model, "cpu")
    steps = args.steps or model.limits.steps
    guidance = model.limits.guidance if args.guidance is None else args.guidance
    evaluation, progress = Evaluation(model, steps, guidance, args.truth), Progress(args.progress)
    seeds = range(FIRST_SEED, FIRST_SEED + args.count)
    more = args.count // 16
    parts: tuple[tuple[Callable[[Any], None], Sequence[Any]], ...] = (
        (evaluation.clip, seeds),
        (evaluation.rendered, folders()[:more]),
        (evaluation.phrasings, objects_after(seeds.stop, more)),
    )
    progress.stage("evaluate", sum(len(some) for _, some in parts))
    for work, some in parts:
        for each in some:
            work(each)
            progress.advance()
    progress.close()
    rows = means(evaluation.results)
    if not args.truth:
        rows["seconds"] = seconds(model, guidance), 1
    folder = folder_of(args.model)
    rows["megabytes"] = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6, 1
    threads = torch.get_num_threads()
    print(
        f"{'the truth through the codec of ' if args.truth else ''}{args.model}: {args.count} held-out "
        f"prompts, {FRAMES} frames of {WIDTH}x{HEIGHT}, {steps} steps, guidance {guidance:g}, {threads} threads"
    )
    print(table(rows))
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": rows, "clips": evaluation.results}, indent=1), encoding="utf-8")
    return 0


def objects_after(seed: int, count: int) -> list[int]:
    """The first `count` seeds from this one on whose clip adds an object."""
    found: list[int] = []
    while len(found) < count:
        if draw_labels(random.Random(seed))["edit"] == "object":
            found.append(seed)
        seed += 1
    return found
