"""All GPU measurements in one run of a few minutes: correctness, then speed, then training for the remaining time.

    python -m benchmarks.gpu [--budget SECONDS] [--out FILE] [--dry-run]

It needs torch, triton, numpy and safetensors only. Contenders that need more are left out with a message, and wrong
ones are not timed. Rows are printed and appended to FILE as JSON lines at once, so that an interrupted run keeps its
results. Exit codes: 0 all done; 1 something is wrong, or the time ran out, which is reported.

--dry-run runs everything on the CPU with tiny shapes; its figures are meaningless.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from benchmarks import gpu_cases as cases
from benchmarks.timing import Contender, Rows, measure, report
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.device import has_bfloat16_units
from vera.kernels.attention_choice import explain
from vera.kernels.windowed import kept_share

BF16 = torch.bfloat16


@dataclass(frozen=True)
class Shapes:
    """clips: latent frames, lines and columns by name; heads of dim; config of the transformer whose pass is timed."""

    device: str
    clips: dict[str, tuple[int, int, int]]
    heads: int
    dim: int
    config: TransformerConfig
    rounds: int


REAL = Shapes("cuda", {"49 frames": (13, 60, 104), "81 frames": (21, 60, 104)}, 12, 128, PRESETS["1.3b"], 12)
TINY_CONFIG = TransformerConfig(dim=64, heads=2, layers=1, ffn_dim=96, text_dim=24, freq_dim=32, latent_channels=4)
TINY = Shapes("cpu", {"tiny": (2, 4, 6), "tiny, longer": (3, 4, 6)}, 2, 32, TINY_CONFIG, 2)

# Seconds that a part is given at least, or it is not begun: an estimate from operations, compiling included.
LEAST = {"correctness": 20, "attention": 20, "packing": 15, "pass": 75, "mini": 15, "training": 20}


@dataclass
class Session:
    """What every part needs, and what they found: the wrong contenders, and the parts that were not done."""

    shapes: Shapes
    rows: Rows
    until: float
    wrong: set[str] = field(default_factory=set)
    left_out: list[str] = field(default_factory=list)

    def left(self) -> float:
        return self.until - time.monotonic()

    def part(self, kind: str, name: str, work: Callable[[], None]) -> None:
        """Do a part if there is time for it; whatever goes wrong in it, the others are done."""
        least = LEAST[kind] if self.shapes.device == "cuda" else 0
        if self.left() < least:
            self.left_out.append(name)
            self.rows.write(
                {"part": name, "left_out": True}, f"{name}: not begun, {self.left():.0f} s are left of {least}"
            )
            return
        started = time.monotonic()
        try:
            work()
        except Exception as error:  # a driver's, a compiler's, memory: it is a row, not the end
            self.left_out.append(name)
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
            self.rows.write({"part": name, "failed": reason}, f"{name}: failed: {reason}")
        cases.release(self.shapes.device)
        self.rows.keep({"part": name, "seconds": round(time.monotonic() - started, 1)})

    def checked(self, name: str, error: float, limit: float, of: str) -> None:
        """A row of what was held against the truth; a wrong contender is not timed."""
        good = error <= limit
        if not good:
            self.wrong.add(name)
        row = {"check": name, "of": of, "error": error, "limit": limit, "right": good}
        self.rows.write(row, f"{'right' if good else 'WRONG'}: {name}, {of}: {error:.2e}, at most {limit:.2e}")


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=float, default=420, help="seconds to spend (420)")
    parser.add_argument("--out", type=Path, default=Path("out/gpu.jsonl"), help="rows, as JSON lines (out/gpu.jsonl)")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, to see that everything runs")
    args = parser.parse_args(argv)
    if not args.dry_run and not torch.cuda.is_available():
        print("no CUDA device: nothing to measure on; --dry-run goes through the motions on the CPU", file=sys.stderr)
        return 1
    shapes = TINY if args.dry_run else REAL
    session = Session(shapes, Rows(args.out, shapes.device), time.monotonic() + args.budget)
    with torch.no_grad():
        for kind, name, work in plan(session):
            session.part(kind, name, work)
    row = {"wrong": sorted(session.wrong), "left_out": session.left_out, "seconds_left": round(session.left(), 1)}
    session.rows.write(
        row, f"wrong: {', '.join(row['wrong']) or 'nothing'}; left out: {', '.join(row['left_out']) or 'nothing'}"
    )
    return 1 if session.wrong or session.left_out else 0


def plan(session: Session):
    """(kind, name, work) of every part, in the order in which they are done."""
    for name, size in session.shapes.clips.items():
        yield "correctness", f"correctness, {name}", lambda n=name, s=size: correctness(session, n, tokens_of(s))
    for name, size in session.shapes.clips.items():
        yield "attention", f"attention, {name}", lambda n=name, s=size: attention(session, n, tokens_of(s))
        yield "packing", f"norm, rotary, pack, {name}", lambda n=name, s=size: packing(session, n, tokens_of(s))
        yield "pass", f"one pass, {name}", lambda n=name, s=size: one_pass(session, n, s)
    yield "mini", "mini's render", lambda: mini_render(session)
    yield "mini", "mini's training step", lambda: mini_training_step(session)
    if session.shapes.device == "cuda":
        yield "training", "training mini", lambda: train_mini(session)


def tokens_of(size) -> tuple[int, int, int]:
    """The grid (T, H, W) of tokens of one layer."""
    return size[0], size[1] // 2, size[2] // 2


def correctness(session: Session, name: str, grid) -> None:
    """Every kernel at the clip's full size in bf16 against fp64, on rows of queries spread over all layers."""
    shapes, length = session.shapes, math.prod(grid)
    query, key, value = given = cases.sharp_inputs((1, 3, length, min(shapes.heads, 2), shapes.dim), shapes.device)
    truth = cases.SampledTruth(query, key, value, grid)
    of = f"{name}, {3 * length:,} tokens"
    baseline = truth.error(cases.dense("sdpa")(*given))
    for contender, call in cases.attention_calls(grid).items():
        try:
            found = call(*given)
        except (RuntimeError, ValueError, ImportError):
            continue  # it says why when it is timed
        if "8-bit" in contender:
            cosine, relative = truth.likeness(found)
            session.checked(contender, 1 - cosine, 0.001, f"1 - cosine, {of}")
            session.checked(contender, relative, 0.03, f"relative L1, {of}")
        else:
            # Twice the error of plain torch in the same type, at most; the window against its own mask.
            windowed = "window" in contender
            limit = 2 * (truth.error_in_halves if windowed else baseline) + 1e-3
            session.checked(contender, truth.error(found, windowed), limit, f"largest error, {of}")
    rows, compiled = cases.packing_inputs(length, shapes.heads, shapes.dim, shapes.device), cases.packing_calls()
    exact = cases.packing_truth(rows)
    for contender, call in compiled.items():
        if contender != "torch.compile":
            wrong = max(((f.double() - e).norm() / e.norm()).item() for f, e in zip(call(*rows), exact))
            session.checked(contender, wrong, 0.01, f"relative error, {of}")


def attention(session: Session, name: str, grid) -> None:
    shapes, length = session.shapes, math.prod(grid)
    shape = (1, 3, length, shapes.heads, shapes.dim)
    print(explain(shapes.device, BF16, shape), flush=True)
    given = cases.inputs_of(shape, shapes.device)
    contenders = [
        Contender(c, lambda call=call: call(*given), cases.routes_of(c, shapes.device))
        for c, call in cases.attention_calls(grid).items()
        if c not in session.wrong
    ]
    title = f"attention, {name}, {3 * length:,} tokens"
    taken = measure(title, contenders, session.rows, shapes.device, shapes.rounds, session.left)
    pairs = 4 * (3 * length) ** 2 * shapes.heads * shapes.dim
    share = {"window, ours": kept_share(grid)}
    report(
        title,
        taken,
        session.rows,
        ("cudnn", "fa3", "sdpa", "dense, ours"),
        tflops=lambda c, seconds: pairs * share.get(c, 1.0) / seconds / 1e12,
    )


def packing(session: Session, name: str, grid) -> None:
    shapes, length = session.shapes, math.prod(grid)
    rows = cases.packing_inputs(length, shapes.heads, shapes.dim, shapes.device)
    compiler = "inductor" if shapes.device == "cuda" else "eager"
    calls = cases.packing_calls(compiler)
    title = f"norm, rotary, pack, {name}, {3 * length:,} tokens"
    contenders = [Contender(c, lambda call=call: call(*rows)) for c, call in calls.items() if c not in session.wrong]
    taken = measure(title, contenders, session.rows, shapes.device, shapes.rounds, session.left)
    moved = 2 * 2 * 3 * length * shapes.heads * shapes.dim * 2 + 2 * 3 * length * shapes.dim * 2
    report(title, taken, session.rows, ("torch.compile",), terabytes=lambda c, seconds: moved / seconds / 1e12)


def one_pass(session: Session, name: str, size) -> None:
    shapes = session.shapes
    compiler = "inductor" if shapes.device == "cuda" else "eager"
    length = math.prod(tokens_of(size))
    calls = cases.pass_calls(shapes.config, size, shapes.device, compiler, session.wrong)
    contenders = [Contender(c, call) for c, call in calls.items()]
    title = f"one pass, {name}, {3 * length:,} tokens"
    taken = measure(title, contenders, session.rows, shapes.device, max(4, shapes.rounds // 3), session.left)
    peaks = {c.name: cases.peak_memory(c.call, shapes.device) for c in contenders if c.name in taken.seconds}
    bases = (cases.EAGER, cases.SINGLE, "the choice, compiled")
    report(title, taken, session.rows, bases, peak_gib=lambda c, seconds: peaks[c])


def mini_render(session: Session) -> None:
    """The embedded model's sampling and decoding of 49 frames, as a render does it, without reading and delivery."""
    frames, steps = (49, None) if session.shapes.device == "cuda" else (5, 1)
    call = cases.mini_render(session.shapes.device, frames, steps)
    title = "mini, sample and decode"
    taken = measure(
        title,
        [Contender("as rendered", call)],
        session.rows,
        session.shapes.device,
        session.shapes.rounds,
        session.left,
    )
    report(title, taken, session.rows, ())


def mini_training_step(session: Session) -> None:
    device = session.shapes.device
    batch, layers = (4, None) if device == "cuda" else (1, 1)
    kinds = {"fp32": None} | ({"bf16": BF16} if has_bfloat16_units(torch.device(device)) else {})
    contenders = [Contender(kind, cases.mini_step(device, dtype, batch, layers)) for kind, dtype in kinds.items()]
    title = f"mini, a training step of {batch} samples"
    taken = measure(title, contenders, session.rows, session.shapes.device, session.shapes.rounds, session.left)
    report(title, taken, session.rows, ("fp32",), samples_a_second=lambda c, seconds: batch / seconds)


def train_mini(session: Session) -> None:
    """Train mini by its own configuration for the time that is left; needs the data engine's libraries."""
    try:
        from vera.core.training.mini.transformer_training import train
    except ImportError as error:
        raise RuntimeError(f"the data engine's clips need what is not installed here ({error})") from None
    config = json.loads(Path("core/training/mini/mini-gpu.json").read_text(encoding="utf-8"))
    until = time.monotonic() + session.left() - 15
    with torch.enable_grad():
        train(config, Path("out/gpu-mini"), lambda: time.monotonic() > until)
    session.rows.write(
        {"part": "training mini", "state": "out/gpu-mini"}, "training mini: its state is in out/gpu-mini"
    )


if __name__ == "__main__":
    sys.exit(main())
