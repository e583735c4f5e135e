"""`python -m benchmarks.memory`: does the peak memory of a shot grow with its length?

Renders the same few frames, repeated, as a short and as a long shot, each in a process of its
own, and compares the peaks of their resident memory. POSIX only.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

DISTINCT = 5


def write_plate(folder: Path, width: int, height: int, frames: int) -> str:
    """Half-float EXRs of a drifting gradient with grain; the further frames are links to the first ones."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for i in range(frames):
        file = folder / f"plate.{i + 1:04d}.exr"
        if i >= DISTINCT:
            os.link(folder / f"plate.{i % DISTINCT + 1:04d}.exr", file)
            continue
        base = np.stack([x / width, y / height, (x + y + 8 * i) / (width + height)], axis=-1)
        pixels = (base + 0.02 * rng.standard_normal(base.shape, np.float32)).clip(0).astype(np.float16)
        image = oiio.ImageOutput.create(str(file))
        image.open(str(file), oiio.ImageSpec(width, height, 3, "half"))
        image.write_image(pixels)
        image.close()
    return str(folder / "plate.####.exr")


def peak(plate: str, out: Path, steps: int) -> int:
    """Peak resident memory of a render, bytes."""
    command = [sys.executable, "-m", "core.render", "--plate", plate, "--prompt", "Add fog", "--out", str(out)]
    command += ["--steps", str(steps), "--guidance", "1", "--device", "cpu", "--progress", "none"]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the render of {plate} failed ({status})")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1920x1080")
    parser.add_argument("--frames", type=int, nargs=2, default=(81, 810), metavar=("SHORT", "LONG"))
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--folder", help="for plates and results, emptied again (default: the system's)")
    args = parser.parse_args(argv)
    width, height = map(int, args.size.split("x"))
    peaks = {}
    for count in args.frames:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            plate = write_plate(Path(folder) / "in", width, height, count)
            peaks[count] = peak(plate, Path(folder) / "out", args.steps)
        print(json.dumps({"frames": count, "peak_mib": round(peaks[count] / 2**20)}), flush=True)
    short, long = args.frames
    growth = peaks[long] / peaks[short] - 1
    megabytes = {str(count): round(value / 2**20) for count, value in peaks.items()}
    print(json.dumps({"size": args.size, "peak_mib": megabytes, "growth": round(growth, 4)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
