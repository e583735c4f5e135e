"""How well drawn objects are delivered: nine prompts over the demo's plate, seed 0, nothing chosen.

    python -m benchmarks.objects [--json FILE]

edge: pixels with alpha in 0.1 .. 0.9 for each pixel of the outline. IoU: of the matte and the world's own shape at the
model's path. right, p: whether the classifier of `vera evaluate` recognises the object, and its share for the right
kind. flicker: mean absolute second difference of the matte over time, times 100, in a window that follows the object
and turns with it, so that only what changes within the object counts. honest: the same of the world's own shape, whose
wings and fins beat. jitter: the same of the difference of the two.
"""

import argparse
import functools
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from vera.core.backends.generate import decoded_frames, finish_frame
from vera.core.backends.shot_shapes import DecodedFrame, ShotLatents, text_of_shapes, with_shapes
from vera.core.data.engine.shapes import SHAPES
from vera.core.evaluation.classifier import KINDS, Classifier, load_classifier, pictures
from vera.core.job.prepare import prepare
from vera.core.layer.blend_space import composite
from vera.core.layer.drawn_object import DrawnFrame
from vera.core.layer.matte import steady
from vera.core.model.interfaces import Model
from vera.core.model.load import load_model
from vera.core.recipe import EditRecipe
from vera.core.sampling.shots import encoded_shots, generated_shots

PLATE = Path(__file__).parents[1] / "demo/plate.mp4"
FRAMES = "1-17"
PROMPTS = (
    "Add a small yellow star on the left",
    "Add a small red bird at the top",
    "Add a small blue butterfly on the right",
    "Add a red apple in the centre",
    "Add a metallic blue ball on the right",
    "Add an orange fish drifting left",
    "Add a green kite at the top",
    "Add a large red balloon rising on the right",
    "Add a large pink heart in the centre",
)
WINDOW, REACH = 192, 1.4  # samples across the window that follows an object, and half its side in half heights
BAND = 14  # pixels about an outline in which its edge is looked for
QUIET = SimpleNamespace(stage=lambda *_: None, advance=lambda *_: None, close=lambda: None, warn=lambda *_: None)


@dataclass(frozen=True)
class Figures:
    """See the module. seconds: of the CPU to finish a frame, nothing written."""

    kind: str
    edge: float
    iou: float
    right: bool
    p: float
    flicker: float
    honest: float
    jitter: float
    seconds: float


@dataclass(frozen=True)
class ShownFrame:
    """A delivered frame: matte (H, W), composite (H, W, 3) uint8, what is drawn in it as a shape, the warnings."""

    matte: torch.Tensor
    composite: np.ndarray
    drawn: Any
    seconds: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Take:
    """A prompt over frames of a plate, as of a recipe."""

    prompt: str
    plate: str = str(PLATE)
    frames: str = FRAMES


def delivered(take: Take, out: Path, wanted: Callable[[int], bool] = lambda number: True) -> Iterator[ShownFrame]:
    """The frames of a take, made as a render makes them, and of these the wanted. Latents go into the folder `out`."""
    job = prepare(EditRecipe(plate=take.plate, frames=take.frames, prompt=take.prompt, out=str(out)), "cpu", _loaded)
    with job.delivery.claimed():
        job.delivery.start()
        shots = generated_shots(job, QUIET, lambda: False)
        plates = encoded_shots(job, QUIET, lambda: False)
        (shot,) = shots
        notes: list[str] = []
        decoded = with_shapes(
            job,
            text_of_shapes(job),
            ShotLatents(shot, plates[shot], job.latents.shots("mask", job.plate.frames).get(shot), shots[shot]),
            decoded_frames(job.model, shots[shot], None, len(shot)),
            notes.append,
        )
        for number, frame in zip(shot, steady(decoded), strict=True):
            if not wanted(number):
                continue
            filmed, started = job.filmed(number), time.process_time()
            finished = finish_frame(job, filmed, DecodedFrame(*frame))
            seconds = time.process_time() - started
            laid = composite(filmed.pixels, finished.layer, job.color, job.blending)
            matte = torch.from_numpy(np.float32(finished.matte))
            yield ShownFrame(matte, laid, frame[4], seconds, (*job.warnings, *notes))


@functools.cache
def _load_once(name: str, device: str) -> Model:
    return load_model(name, device)


def _loaded(name: str, device: str, **_: Any) -> Model:
    return _load_once(name, device)


def true_matte(drawn: DrawnFrame, kind: str, u: torch.Tensor, v: torch.Tensor, pixel: float) -> torch.Tensor:
    """Alpha of the world's own shape at places of the object's own frame; pixel: in half heights."""
    distance = SHAPES[kind](u, v, (0.5, 0.5, 0.5), torch.tensor(float(drawn.time)))[0]
    return (0.5 - distance / pixel).clamp(0, 1)


def true_in_picture(drawn: DrawnFrame, kind: str, left: bool, size: tuple[int, int]) -> torch.Tensor:
    """The world's own shape in a picture of square pixels (H, W), where the object is."""
    height, width = size
    x, y, half = drawn.place()
    scale = half * height / 2
    right = (torch.arange(width) + 0.5 - (x + 1) / 2 * width) / scale
    down = (torch.arange(height) + 0.5 - (y + 1) / 2 * height) / scale
    u, v = drawn.own(right[None], down[:, None])
    near = (u.abs() < REACH) & (v.abs() < REACH)
    found = torch.zeros(size)
    found[near] = true_matte(drawn, kind, -u[near] if left else u[near], v[near], 1 / scale)
    return found


def in_window(planes: torch.Tensor, drawn: DrawnFrame) -> torch.Tensor:
    """Planes (C, H, W) of square pixels in the window that follows the object, (C, WINDOW, WINDOW)."""
    height, width = planes.shape[1:]
    x, y, half = drawn.place()
    at = ((torch.arange(WINDOW) + 0.5) / WINDOW * 2 - 1) * REACH
    cos, sin = math.cos(drawn.turn), math.sin(drawn.turn)
    right, down = cos * at[None] - sin * at[:, None], sin * at[None] + cos * at[:, None]
    places = torch.stack([x + right * half * height / width, y + down * half], -1)
    return F.grid_sample(planes[None], places[None], align_corners=False)[0]


def figures_of(frames: list[ShownFrame], classifier: Classifier) -> Figures:
    description = frames[0].drawn.shape.description
    kind, left = description.kind, description.has("faces left")
    size = tuple(frames[0].matte.shape)
    true = [true_in_picture(frame.drawn, kind, left, size) for frame in frames]
    edges, overlaps, seen, meant = [], [], [], []
    for frame, shape in zip(frames, true, strict=True):
        matte, solid = frame.matte, shape > 0.5
        core = matte > 0.5
        outline = F.max_pool2d(core[None, None].float(), 3, 1, 1)[0, 0] - core.float()
        band = F.max_pool2d(outline[None, None], 2 * BAND + 1, 1, BAND)[0, 0] > 0
        edges.append(float((((matte > 0.1) & (matte < 0.9)) & band).sum() / outline.sum().clamp_min(1)))
        overlaps.append(float((core & solid).sum() / (core | solid).sum().clamp_min(1)))
        pair = in_window(torch.stack([matte, shape]), frame.drawn)
        seen.append(pair[0])
        meant.append(pair[1])
    seen_, meant_ = torch.stack(seen), torch.stack(meant)
    some = [frames[i] for i in (0, len(frames) // 2, -1)]
    color = torch.stack([torch.from_numpy(frame.composite).movedim(-1, 0) / 255 for frame in some])
    small = F.interpolate(color, (80, 144), mode="area")
    alpha = F.interpolate(torch.stack([frame.matte for frame in some])[:, None], (80, 144), mode="area")
    with torch.inference_mode():
        shares = classifier(pictures(small, alpha)).softmax(-1).mean(0)
    return Figures(
        kind,
        float(np.mean(edges)),
        float(np.mean(overlaps)),
        KINDS[int(shares.argmax())] == kind,
        float(shares[KINDS.index(kind)]),
        flicker(seen_),
        flicker(meant_),
        flicker(seen_ - meant_),
        float(np.mean([frame.seconds for frame in frames])),
    )


def flicker(planes: torch.Tensor) -> float:
    """Mean absolute second difference over time of planes (T, H, W), times 100."""
    return 100 * float((planes[2:] - 2 * planes[1:-1] + planes[:-2]).abs().mean())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.objects", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    args = parser.parse_args()
    classifier, rows = load_classifier(), []
    names = ("edge", "iou", "p", "flicker", "honest", "jitter", "seconds")
    print(f"{'':12s}" + "".join(f"{name:>9s}" for name in names) + "  right")
    for prompt in PROMPTS:
        with tempfile.TemporaryDirectory(prefix="vera-") as folder:
            rows.append(figures_of(list(delivered(Take(prompt), Path(folder) / "out")), classifier))
        print(_line(rows[-1].kind, [getattr(rows[-1], name) for name in names], rows[-1].right), flush=True)
    for title, some in (("all", rows), ("no butterfly", [row for row in rows if row.kind != "butterfly"])):
        print(
            _line(title, [np.mean([getattr(row, name) for row in some]) for name in names], sum(r.right for r in some))
        )
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


def _line(title: str, values: list[float], right: object) -> str:
    return f"{title:12s}" + "".join(f"{value:9.3f}" for value in values) + f"  {right}"


if __name__ == "__main__":
    sys.exit(main())
