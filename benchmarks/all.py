"""`python -m benchmarks.all [--against REV]`: times that users wait for, relative to a limit and to another commit.

Times are CPU seconds (user and system, with children), the minimum of several runs in which the checkouts take turns.
Other work on the machine changes all of them, so only ratios should be quoted. A frame's cost is the difference of two
renders with different numbers of frames. Both use this checkout's native module, but for `--native`.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vera.kernels import _native

ROOT = Path(__file__).parents[1]
# Import the measured checkout, whatever is installed, with this process's native module.
FIRST = """import importlib.util, os, sys
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in f"{type(f).__module__}{type(f).__name__}".lower()]
sys.path.insert(0, os.environ["CHECKOUT"])
import vera
assert vera.__file__.startswith(os.environ["CHECKOUT"]), vera.__file__
spec = importlib.util.spec_from_file_location("vera.kernels._native", os.environ["NATIVE"])
sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules[spec.name])
"""
RENDER = FIRST + "from vera.core.cli.render import main\nsys.exit(main(sys.argv[1:]))\n"
LIFT = FIRST + "from vera.core.cli.lift import main\nsys.exit(main(sys.argv[1:]))\n"
# As `render` imports them; the second line is for commits that know no better way.
IMPORTS = (
    FIRST
    + """try:
    from vera.core.imports import uncollected
except ImportError:
    from contextlib import nullcontext as uncollected
with uncollected():
    import vera.core.backends.generate, vera.core.job.memory
"""
)
STEP = (
    FIRST
    + """import torch
from vera.core.model.load import load_model
from vera.core.plate.fit import model_size
model = load_model("mini", "cpu")
width, height = model_size(1280, 720, 1.0, model.limits.pixels, model.limits.multiple)
stride, channels = model.codec.space_stride, model.transformer.config.latent_channels
shape = channels, 13, height // stride, width // stride
given = torch.randn(1, 3, *shape), torch.tensor([500.0]), model.text.encode(["Add a red ball"]), torch.randn(1, *shape)
with torch.inference_mode():
    for _ in range(int(sys.argv[1])):
        model.transformer(*given)
"""
)
PRODUCT = """import sys, torch
square = torch.randn(2048, 2048)
for _ in range(int(sys.argv[1])):
    square @ square
"""
COPY = """import sys, OpenImageIO as oiio
for file in sys.argv[2:]:
    for _ in range(int(sys.argv[1])):
        oiio.ImageBuf(file).write(sys.argv[2] + ".copy.exr")
"""
NATIVE: dict[Path, str] = {}  # the native module of a checkout that cannot use this one's
FOLDER = "vera-benchmark-"  # begins the names of this program's temporary folders; the process's number follows
# Operations of a step of mini at 49 frames: 16.5 by torch's counter, and attention's 14.2; and of one product.
STEP_GFLOP, PRODUCT_GFLOP = 30.7, 17.18
FRAME_SIZES = {"a tiny frame": (96, 64), "a frame of 1080p EXR": (1920, 1080), "a frame of 4K EXR": (3840, 2160)}


@dataclass(frozen=True)
class Row:
    """seconds(checkout) of the processor; limit() likewise, and what it is."""

    name: str
    seconds: Callable[[Path], float]
    limit: Callable[[], float]
    of_what: str


def spent(program: str, *words: str, checkout: Path = ROOT, code: int = 0) -> float:
    """Processor seconds of a Python program with these arguments. Raises RuntimeError at another exit code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {
        **os.environ,
        "CHECKOUT": str(checkout),
        "NATIVE": NATIVE.get(checkout, _native.__file__),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, cwd=checkout, capture_output=True, text=True
    )
    if done.returncode != code:
        raise RuntimeError(f"{words}: exit code {done.returncode}: {done.stderr[-500:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(folder: Path) -> list[Row]:
    """All rows; folder: for what they read and write."""

    def nothing():
        return spent("pass")

    made = [
        Row("--help", lambda c: spent(RENDER, "--help", checkout=c), nothing, "an empty program"),
        Row("a wrong plate path", lambda c: _wrong_path(folder, c), nothing, "an empty program"),
        Row("imports of a render", lambda c: spent(IMPORTS, checkout=c), lambda: spent("import torch"), "import torch"),
        Row("a step of mini, 49 frames", _step, _product, "a matrix product's rate"),
    ]
    for name, size in FRAME_SIZES.items():
        made.append(_frame_row(folder, name, size))
    plate = str(ROOT / "demo/plate.mp4")
    lift = ("--plate", plate, "--edited", plate, "--frames", "1-5")

    def torch():
        return spent("import torch")

    made.append(Row("the demo", lambda c: _rendered(folder, c, "demo/job.json"), torch, "import torch"))
    made.append(Row("a lift of 5 frames", lambda c: _made(LIFT, folder, c, *lift), torch, "import torch"))
    return made


def _wrong_path(folder: Path, checkout: Path) -> float:
    words = ("--plate", str(folder / "none.####.exr"), "--prompt", "Add fog", "--out", str(folder / "out"))
    return spent(RENDER, *words, checkout=checkout, code=2)


def _step(checkout: Path) -> float:
    return (spent(STEP, "5", checkout=checkout) - spent(STEP, "1", checkout=checkout)) / 4


def _product() -> float:
    return (spent(PRODUCT, "21") - spent(PRODUCT, "1")) / 20 * STEP_GFLOP / PRODUCT_GFLOP


def _frame_row(folder: Path, name: str, size: tuple[int, int]) -> Row:
    """A frame's cost beside OpenImageIO's reading and writing of the files that a frame is delivered as."""
    count = 9 if size[0] < 1000 else 3
    plate = write_plate(folder / f"{size[0]}", size, count)

    def seconds(checkout: Path) -> float:
        words = ("--plate", plate, "--prompt", "Add a red ball", "--steps", "1", "--frames")
        whole, one = (_rendered(folder, checkout, *words, f"1-{n}") for n in (count, 1))
        return (whole - one) / (count - 1)

    def copied() -> float:
        files = [str(folder / "out" / f"{kind}/{kind}.0001.exr") for kind in ("edit", "composite")]
        return (spent(COPY, "6", *files) - spent(COPY, "1", *files)) / 5

    return Row(name, seconds, copied, "OpenImageIO copying its two files")


def _rendered(folder: Path, checkout: Path, *words: str) -> float:
    return _made(RENDER, folder, checkout, *words, "--device", "cpu")


def _made(program: str, folder: Path, checkout: Path, *words: str) -> float:
    shutil.rmtree(folder / "out", ignore_errors=True)
    return spent(program, *words, "--out", str(folder / "out"), "--progress", "none", checkout=checkout)


def write_plate(folder: Path, size: tuple[int, int], count: int) -> str:
    """Frames of half-float EXR, a smooth picture with grain; returns their pattern."""
    import numpy as np

    from benchmarks.delivery import filmed, write

    folder.mkdir()
    pixels = filmed(size[::-1], np.float32(0))
    for frame in range(1, count + 1):
        write(folder / f"plate.{frame:04d}.exr", pixels)
    return str(folder / "plate.####.exr")


@contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder, removed at the end, also after SIGTERM; what a killed run left behind is removed first."""
    _remove_abandoned()
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with tempfile.TemporaryDirectory(prefix=f"{FOLDER}{os.getpid()}-") as name:
            yield Path(name)
    finally:
        signal.signal(signal.SIGTERM, before)


def _remove_abandoned() -> None:
    """The folders and worktrees of runs whose process is gone."""
    listed = subprocess.run(["git", "worktree", "list", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    for path in re.findall(rf"^worktree (.*/{FOLDER}\d+-[^/]*/against)$", listed, re.MULTILINE):
        folder = Path(path).parent
        if not _is_running(int(folder.name.removeprefix(FOLDER).split("-")[0])):
            subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, capture_output=True)
            shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, capture_output=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


@contextmanager
def checkout_of(revision: str, folder: Path) -> Iterator[Path]:
    """A worktree of a revision."""
    path = folder / "against"
    subprocess.run(["git", "worktree", "add", "--detach", path, revision], cwd=ROOT, check=True, capture_output=True)
    try:
        yield path
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", path], cwd=ROOT, capture_output=True)


def measure(row: Row, checkouts: list[Path], runs: int) -> dict[str, object]:
    """The least seconds of each checkout and of the limit, which take turns."""
    least = [float("inf")] * (len(checkouts) + 1)
    for _ in range(runs):
        taken = [*(row.seconds(checkout) for checkout in checkouts), row.limit()]
        least = [min(pair) for pair in zip(least, taken)]
    return {"row": row.name, "limit": row.of_what, "seconds": least[:-1], "limit_seconds": least[-1]}


def table(results: list[dict]) -> str:
    """Markdown: a row's seconds, times its limit, and times those of the other commit."""
    lines = ["| | CPU s | times its limit | limit | times the other commit |", "|---|---|---|---|---|"]
    for result in results:
        now, *before = result["seconds"]
        against = f"{now / before[0]:.2f}" if before else "not measured"
        lines.append(
            f"| {result['row']} | {now:.3f} | {now / result['limit_seconds']:.2f} | {result['limit']} | {against} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.all", description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="REV", help="another commit, measured in turns with this checkout")
    parser.add_argument("--native", metavar="FILE", help="native module of that commit, if it needs another version")
    parser.add_argument("--runs", type=int, default=3, help="of which the least counts")
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--json", type=Path, help="also write the figures here, after each row")
    args = parser.parse_args(argv)
    with work_folder() as folder:
        if args.against:
            with checkout_of(args.against, folder) as other:
                if args.native:
                    NATIVE[other] = str(Path(args.native).resolve())
                results = _measured(args, folder, [ROOT, other])
        else:
            results = _measured(args, folder, [ROOT])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(table(results))
    return 0


def _measured(args: argparse.Namespace, folder: Path, checkouts: list[Path]) -> list[dict]:
    results = []
    for row in rows(folder):
        if args.only in row.name:
            results.append(measure(row, checkouts, args.runs))
            print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return results


if __name__ == "__main__":
    sys.exit(main())
