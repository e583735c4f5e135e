"""`python -m benchmarks.delivery`: one 4K frame from decoded layers to files, preview included, against OpenImageIO.

For comparison, OpenImageIO reads and writes the same two files in this process. Times are CPU seconds (user and system,
all threads), the minimum of several.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import OpenImageIO as oiio
import torch

from vera.core.backends.generate import plate_sized_layer
from vera.core.backends.shot_shapes import DecodedFrame
from vera.core.layer.blend_space import composite, find_blending
from vera.core.layer.delivery import Delivery
from vera.core.layer.delivery_loop import FilmedFrame
from vera.core.layer.match import Matching
from vera.core.layer.outputs.output import FramePixels, Shot
from vera.core.model.limits import Limits
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import find_space
from vera.core.plate.fit import at_model_size
from vera.core.plate.region import whole
from vera.core.plate.source import open_plate


def main():
    parser = argparse.ArgumentParser(prog="benchmarks.delivery", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--space", default="linear", help="of the plate, and by its primaries of the layer")
    parser.add_argument("--relative", action="store_true", help="colour relative to the plate, all of it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)  # several frames are delivered at a time, each on a thread of its own
    width, height = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        space, edits = find_space(args.space), ("object", "background", "veil")
        results = [
            measure(Path(folder) / edit, edit, (width, height), args.runs, space, args.relative) for edit in edits
        ]
    for result in results:
        by = f"{result['ratio']:.2f} times {result['peer']} by processor, {result['ratio_wall']:.2f} by the clock"
        print(f"\n{result['edit']}, {result['space']}, {result['mode']}: {by}")
        for name, seconds in result["seconds"].items():
            print(f"  {name:12s} {1e3 * seconds[0]:7.0f} ms of the processor, {1e3 * seconds[1]:7.0f} ms on the clock")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(folder, edit, size, runs, space, relative):
    """An added object that covers a tenth, a new background behind a kept subject, or fog over everything."""
    folder.mkdir()
    small_size = tuple(round(n / 4.5 / 8) * 8 for n in size)
    matte = disc(size)
    pixels = filmed(size, matte if edit == "background" else 0)
    write(folder / "plate.1001.exr", pixels)
    plate = open_plate(str(folder / "plate.####.exr"))
    small = torch.from_numpy(disc(small_size))
    alpha = {"object": small, "background": 1 - small, "veil": 0.3 + 0.4 * small}[edit]
    color = torch.rand(3, *small_size, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.3
    color_of, blending = PlateColor(space, "half"), find_blending("linear", None, space)
    delivery = Delivery(Shot(folder / "out", plate, "benchmark", blending), color_of, {})
    model = SimpleNamespace(limits=Limits())
    job = SimpleNamespace(
        color=color_of, blending=blending, delivery=delivery, region=whole(plate), model=model, matching=Matching()
    )
    reconstruction = (color * 0.9 + 0.05).clamp(0, 1)
    delivery.start()

    def refine():
        filmed = FilmedFrame(1001, plate.read(1001), None)
        guide = at_model_size(job.color, filmed.pixels, (small_size[1], small_size[0]))
        decoded = DecodedFrame(color, alpha, color, reconstruction)
        return plate_sized_layer(job, filmed, decoded, guide, torch.ones_like(alpha) if relative else None)[0]

    layer = refine()
    laid = composite(pixels, layer, job.color, job.blending)
    files = [delivery.edit_path(1001), delivery.composite_path(1001)]
    steps = {
        "read, refine": refine,
        "over": lambda: composite(pixels, layer, job.color, job.blending),
        "write": lambda: delivery.write(1001, FramePixels(layer, laid), {}),
        "preview": lambda: delivery._pictures().keep(1001, pixels, layer, laid),
    }
    steps["peer"] = lambda: [copy(file, folder) for file in files]
    seconds = {name: (np.inf, np.inf) for name in steps}
    for _ in range(runs):
        for name, step in steps.items():
            seconds[name] = min(seconds[name], timed(step))
    ours = [sum(seconds[name][i] for name in steps if name != "peer") for i in (0, 1)]
    return {
        "edit": edit,
        "space": space.name,
        "mode": "relative" if relative else "replace",
        "size": [size[1], size[0]],
        "coverage": float((layer[..., 3] > 0).mean()),
        "peer": "OpenImageIO's copy in this process",
        "seconds": seconds,
        "ratio": ours[0] / seconds["peer"][0],
        "ratio_wall": ours[1] / seconds["peer"][1],
    }


def timed(step):
    """Seconds of the processor, children included, and on the clock."""
    start, clock = spent(), time.perf_counter()
    step()
    return spent() - start, time.perf_counter() - clock


def spent():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def copy(file, folder):
    oiio.ImageBuf(str(file)).write(str(folder / f"copy-{file.name}"))


def disc(size):
    y, x = np.indices(size).astype(np.float32)
    radius = np.hypot((y + 0.5) / size[0] - 0.5, ((x + 0.5) / size[1] - 0.5) * size[1] / size[0])
    return np.clip((0.24 - radius) * size[0] / 2 + 0.5, 0, 1)


def filmed(size, subject):
    """A smooth picture with grain, half."""
    rng = np.random.default_rng(0)
    y, x = np.indices(size).astype(np.float32)
    light = 0.3 + 0.1 * np.sin(x / 300) + 0.07 * np.cos(y / 170) - 0.12 * subject
    grain = 0.01 * rng.standard_normal((*size, 3), np.float32) * np.sqrt(light)[..., None]
    return (light[..., None] * np.float32([1.1, 1, 0.8]) + grain).astype(np.float16)


def write(path, pixels):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], 3, "half")
    spec.attribute("compression", "zip")
    file = oiio.ImageOutput.create(str(path))
    if not (file.open(str(path), spec) and file.write_image(pixels) and file.close()):
        raise OSError(f"{path}: could not be written")


if __name__ == "__main__":
    main()
