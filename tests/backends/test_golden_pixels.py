"""The pixels of a small render and a small lift are those that were stored when PIXELS was last raised.

A change of pixels fails here until PIXELS in core/backends/base.py is raised and the file is written again:
    python -m tests.backends.test_golden_pixels
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.plate.media import write_image
from vera.core import cli
from vera.core.backends import generate
from vera.core.backends.base import PIXELS
from vera.core.layer.image_file import read_image
from vera.kernels.part import Part

GOLDEN = Path(__file__).with_name("golden_pixels.npz")
SIZE = (64, 96)
# Of layer values in [0, 1]: processors round the model differently by 1e-5 or so; what people see is above 2e-3.
TOLERANCE = 1e-3


def plate(edited: bool = False) -> np.ndarray:
    """A picture with texture (H, W, 3), 8 bits; edited: with a red square."""
    y, x = np.indices(SIZE)
    planes = [90 + 50 * np.sin(x / 7) * np.cos(y / 11), 100 + 40 * np.sin((x + y) / 9), 80 + 0.5 * y]
    picture = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    if edited:
        picture[20:44, 30:62] = (210, 50, 40)
    return picture


def write(folder: Path, edited: bool = False) -> str:
    folder.mkdir()
    for number in (1, 2):
        write_image(folder / f"frame.{number:04d}.png", plate(edited))
    return str(folder / "frame.####.png")


def rendered(folder: Path, prompt: str = "Add a large red ball in the centre") -> np.ndarray:
    """The layers (2, H, W, 4) of two frames of mini."""
    given = ["--plate", write(folder / "in"), "--out", str(folder / "out"), "--progress", "none", "--device", "cpu"]
    assert cli.main(["render", *given, "--prompt", prompt, "--seed", "3"]) == 0
    return layers(folder / "out")


def lifted(folder: Path) -> np.ndarray:
    """The layers (2, H, W, 4) of two lifted frames."""
    given = ["--plate", write(folder / "in"), "--edited", write(folder / "edited", edited=True)]
    assert cli.main(["lift", *given, "--out", str(folder / "out"), "--progress", "none"]) == 0
    return layers(folder / "out")


def layers(out: Path) -> np.ndarray:
    return np.stack([read_image(out / f"edit/edit.{n:04d}.exr") for n in (1, 2)])


WAYS = {"render": rendered, "lift": lifted}


def test_the_golden_file_has_the_present_pixels_number():
    assert int(np.load(GOLDEN)["pixels"]) == PIXELS


@pytest.mark.parametrize("way", WAYS)
def test_pixels_match_the_golden_file(tmp_path, way):
    golden = np.load(GOLDEN)[way].astype(np.float32)
    error = np.abs(WAYS[way](tmp_path).astype(np.float32) - golden).max()
    assert golden[..., 3].max() > 0.5, "the stored layer is empty"
    assert error < TOLERANCE, f"{way}: pixels differ by {error:.4f}; raise PIXELS and write the file again"


def test_a_layer_does_not_depend_on_the_part_that_it_is_drawn_in(tmp_path, monkeypatch):
    drawn, parts = generate.tiled, []

    def watched(part, size):
        parts.append(drawn(part, size))
        return parts[-1]

    made = []
    for name, tiled in (("part", watched), ("whole", lambda part, size: Part.whole(size))):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(generate, "tiled", tiled)
        made.append(rendered(tmp_path / name, "Add a small white star at the top left"))
    assert parts and all(part.size != SIZE for part in parts)
    assert np.array_equal(made[0].view(np.uint16), made[1].view(np.uint16))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for name, make in WAYS.items():
            (Path(folder) / name).mkdir()
            found[name] = make(Path(folder) / name)
    np.savez_compressed(GOLDEN, pixels=PIXELS, **found)
    sys.exit(0)
