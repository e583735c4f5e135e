"""`vera evaluate --model mini`: measure how well a model follows prompts.

The prompts and plates are a seeded held-out set that training never uses, so the requested edit is known exactly. All
figures are at model size, for the layer as delivered. The result is one table of figures and goals.
"""

import hashlib
import json
import random
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vera.core.backends.base import PIXELS
from vera.core.data.engine import instructions
from vera.core.data.engine.clips import LayeredClip, draw_labels, make_clip
from vera.core.data.engine.rendered import folders, read_clip
from vera.core.errors import InputError
from vera.core.evaluation.classifier import NOTHING, load_classifier
from vera.core.evaluation.classifier import WEIGHTS as CLASSIFIER
from vera.core.evaluation.labelled_figures import flicker, judge
from vera.core.evaluation.sample_clip import delivered, run
from vera.core.files import read_json_or, write_json
from vera.core.model.load import load_model
from vera.core.model.names import folder_of
from vera.core.progress import Progress

FIRST_SEED = 5_000_000  # seed of the first held-out clip; the model card's second set begins at 7,000,000
HEIGHT, WIDTH = 80, 144  # pixels
FRAMES = 17
PHRASINGS = 5  # phrasings of one edit that are compared


class Row(NamedTuple):
    """A row of the table: figure, description, goal (None: no goal), format; at_most: the goal is an upper bound."""

    figure: str
    text: str
    goal: float | None
    form: str
    at_most: bool = False

    def met(self, value: float) -> str:
        """Whether the value reaches the goal: "met", "missed", or "" without a goal."""
        if self.goal is None:
            return ""
        return "met" if (value <= self.goal if self.at_most else value >= self.goal) else "missed"

    def goal_text(self) -> str:
        """The goal as the table shows it."""
        if self.goal is None:
            return "stated"
        return ("at most " if self.at_most else "") + self.form.format(self.goal)


ROWS = (
    Row("color", "named colour is the layer's", 0.95, "{:.1%}"),
    Row("object", "named object recognised", 0.85, "{:.1%}"),
    Row("place", "named place", 0.90, "{:.1%}"),
    Row("motion", "named motion", 0.85, "{:.1%}"),
    Row("agreement", "layers agree with the composite branch", 30, "{:.1f} dB"),
    Row("zeros", "alpha exactly 0 outside the object's surroundings", 0.99, "{:.1%}"),
    Row("solid", "no holes inside objects", 0.98, "{:.1%}"),
    Row("background_masked", "new background, with mask: alpha's MAD", 0.02, "{:.3f}", at_most=True),
    Row("background", "new background, without mask: alpha's MAD", 0.06, "{:.3f}", at_most=True),
    Row("translucent", "effects whose mean alpha is in 0.05 .. 0.8", 1, "{:.1%}"),
    Row("coverage", "effects' mean alpha", None, "{:.3f}"),
    Row("dtssd", "effects' dtSSD to the true ones", None, "{:.2f}"),
    Row("flicker", "flicker of objects at rest, over the codec's own", 1.3, "{:.2f}x", at_most=True),
    Row("phrasings", f"same object and colour in {PHRASINGS} phrasings", 0.90, "{:.1%}"),
    Row("kept", "plate unchanged over the whole frame, PSNR", None, "{:.1f} dB"),
    Row("kept_outside", "plate unchanged where alpha is 0, PSNR; 100 is exact", 100, "{:.1f} dB"),
    Row("anew_outside", "... in the composite branch", None, "{:.1f} dB"),
    Row("seconds", "seconds for 17 frames of 256x256, 8 steps", 20, "{:.1f}", at_most=True),
    Row("megabytes", "weights, MB", 64, "{:.1f}", at_most=True),
)


class Evaluation:
    """Evaluates a model clip by clip and collects the figures in `results`.

    truth: replace the model's layers by the true layers after the model's codec, an upper bound for the model.
    """

    def __init__(self, model: Any, steps: int, guidance: float, truth: bool = False) -> None:
        self.model, self.steps, self.guidance, self.truth = model, steps, guidance, truth
        self.classifier = load_classifier()
        self.times = torch.arange(FRAMES)
        self.results: list[dict[str, Any]] = []

    def clip(self, seed: int) -> None:
        """Evaluate clip `seed` of the data engine."""
        self._add(make_clip(seed, HEIGHT, WIDTH, self.times, held_out=True), seed)

    def rendered(self, folder: Path) -> None:
        """Evaluate a clip rendered by Cycles."""
        self._add(read_clip(folder), folder.name)

    def _add(self, clip: LayeredClip, name: str | int) -> None:
        figures, layers = self._judged(clip, clip.instruction)
        if clip.labels["edit"] == "background":
            figures["background"] = figures.pop("mad")
            figures["background_masked"] = self._judged(clip, clip.instruction, clip.mask)[0]["mad"]
        if clip.labels.get("motion") == "still":
            color, alpha, _ = true_layers(self.model.codec, clip)
            figures["flickers"] = flicker(*layers), flicker(color, delivered(alpha, clip.source))
        self.results.append({"clip": name, "prompt": clip.instruction, "labels": clip.labels, **figures})

    def phrasings(self, seed: int) -> None:
        """Evaluate one edit in PHRASINGS phrasings over one plate.

        The figure is the share of phrasings that give the most frequent recognised (object, colour).
        """
        clip = make_clip(seed, HEIGHT, WIDTH, self.times, held_out=True)
        prompts = [instructions.instruction(clip.labels, random.Random(k)) for k in range(PHRASINGS)]
        figures = [self._judged(clip, text)[0] for text in prompts]
        seen = [(f["kind"], f["hue"]) for f in figures]
        recognised = [s for s in seen if s[0] != NOTHING and s[1] is not None]
        share = max(map(seen.count, recognised), default=0) / PHRASINGS
        self.results.append({"clip": seed, "prompts": prompts, "labels": clip.labels, "seen": seen, "phrasings": share})

    def _judged(
        self, clip: LayeredClip, instruction: str, mask: torch.Tensor | None = None
    ) -> tuple[dict[str, Any], tuple[torch.Tensor, torch.Tensor]]:
        """(figures, (color, alpha)) of the model's result for an instruction."""
        if self.truth:
            color, alpha, composite = true_layers(self.model.codec, clip)
        else:
            color, alpha, composite = run(self.model, clip.source, instruction, mask, self.steps, self.guidance)
        unmasked = clip.labels["edit"] == "background" and mask is None and not self.truth
        alpha = delivered(alpha, clip.source, subject=unmasked)
        return judge(clip, torch.arange(len(alpha)), color, alpha, composite, self.classifier), (color, alpha)


@torch.inference_mode()
def true_layers(codec: Any, clip: LayeredClip) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The true layers, encoded and decoded by the codec; shapes as `run` returns them."""
    layers = torch.stack([clip.edit, clip.alpha.expand(-1, 3, -1, -1), clip.composite]).transpose(1, 2)
    color, alpha, composite = codec.decode(codec.encode(layers), len(clip.edit)).clamp(0, 1)
    return color, alpha.mean(0), composite


def seconds(model: Any, guidance: float) -> float:
    """Wall time in seconds of encoding, sampling and decoding 17 frames of 256x256 in 8 steps."""
    source = make_clip(FIRST_SEED, 256, 256, torch.arange(17)).source
    started = time.perf_counter()
    run(model, source, "Add a red ball", None, 8, guidance)
    return time.perf_counter() - started


def means(results: list[dict[str, Any]]) -> dict[str, tuple[float, int]]:
    """Mean of every figure over the results that have the figure: {name: (mean, number of results)}."""
    names = {n for r in results for n, v in r.items() if isinstance(v, float)}
    values = {n: [r[n] for r in results if n in r] for n in names}
    rows = {n: (sum(v) / len(v), len(v)) for n, v in values.items()}
    pairs = [r["flickers"] for r in results if "flickers" in r]
    if pairs and sum(codec for _, codec in pairs):
        rows["flicker"] = sum(own for own, _ in pairs) / sum(codec for _, codec in pairs), len(pairs)
    return rows


def table(rows: dict[str, tuple[float, int]]) -> str:
    """The measured figures beside their goals, as text."""
    lines = [["", "figure", "goal", "", "of"]]
    for row in ROWS:
        if row.figure in rows:
            value, count = rows[row.figure]
            lines.append([row.text, row.form.format(value), row.goal_text(), row.met(value), str(count)])
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join(
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))) for line in lines
    )


def evaluate(args: Namespace) -> int:
    """Evaluate a model with the options of `vera evaluate` and print the table. Raises InputError before any work."""
    model = load_model(args.model, "cpu")
    steps = args.steps or model.limits.steps
    guidance = model.limits.guidance if args.guidance is None else args.guidance
    evaluation, progress = Evaluation(model, steps, guidance, args.truth), Progress(args.progress)
    kept = None
    if args.keep:
        settings = {"model": model.fingerprint, "steps": steps, "guidance": guidance, "truth": args.truth}
        kept = KeptFigures(args.keep, settings)
    seeds = range(args.first, args.first + args.count)
    extra = args.count // 16  # rendered clips, and edits in several phrasings
    parts: tuple[tuple[Callable[[Any], None], Sequence[Any]], ...] = (
        (evaluation.clip, seeds),
        (evaluation.rendered, folders()[:extra]),
        (evaluation.phrasings, objects_after(seeds.stop, extra)),
    )
    progress.stage("evaluate", sum(len(cases) for _, cases in parts))
    for evaluate_case, cases in parts:
        for case in cases:
            if kept is None:
                evaluate_case(case)
            else:
                kept.add(evaluation.results, evaluate_case, case)
            progress.advance()
    progress.close()
    rows = means(evaluation.results)
    if not args.truth:
        rows["seconds"] = seconds(model, guidance), 1
    folder = folder_of(args.model)
    rows["megabytes"] = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6, 1
    threads = torch.get_num_threads()
    print(
        f"{'true layers through the codec of ' if args.truth else ''}{args.model}: {args.count} held-out "
        f"prompts, {FRAMES} frames of {WIDTH}x{HEIGHT}, {steps} steps, guidance {guidance:g}, {threads} threads"
    )
    print(table(rows))
    if args.json:
        Path(args.json).write_text(json.dumps({"rows": rows, "clips": evaluation.results}, indent=1), encoding="utf-8")
    return 0


class KeptFigures:
    """Stores the figures of each clip in a folder, so that a stopped evaluation resumes.

    settings: of the model and the sampling; besides the clip, these, the classifier and constants of the code determine
    the figures. Raises InputError if the folder was written with
    other settings, or holds files but no readable settings.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        classifier = hashlib.sha256(CLASSIFIER.read_bytes()).hexdigest()
        settings = {**settings, "classifier": classifier, "frames": FRAMES, "pixels": PIXELS}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            is_new = not any(folder.iterdir())
        except OSError as error:
            raise InputError(f"--keep {folder}: {error.strerror}; give another folder") from None
        if not is_new and read_json_or(folder / "settings.json", None) != settings:
            raise InputError(
                f"--keep {folder}: has the figures of another model, version or setting; give another folder"
            )
        write_json(folder / "settings.json", settings)

    def add(self, results: list[dict[str, Any]], evaluate_case: Callable[[Any], None], case: Any) -> None:
        """Add the results of one clip to `results`: read from the folder, or else evaluated and stored there."""
        name = f"{evaluate_case.__name__}-{case.name if isinstance(case, Path) else case}.json"
        found = read_json_or(self.folder / name, None, [dict])
        if found is None:
            before = len(results)
            evaluate_case(case)
            write_json(self.folder / name, results[before:])
        else:
            results.extend(found)


def objects_after(seed: int, count: int) -> list[int]:
    """The first `count` seeds, starting at `seed`, whose clip adds an object."""
    found: list[int] = []
    while len(found) < count:
        if draw_labels(random.Random(seed))["edit"] == "object":
            found.append(seed)
        seed += 1
    return found
