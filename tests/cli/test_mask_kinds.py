"""Every kind of mask, over every kind of plate, through every backend: nothing is laid outside the mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.plate.media import write_image, write_movie
from tests.tiny import composite_file
from tests.tiny_vace import SIZE, vace_directory
from vera.core import cli
from vera.core.layer.image_file import read_image

FRAMES = 3
LEFT = slice(None), slice(0, SIZE[1] // 2)  # where the mask is white


@pytest.fixture(scope="module")
def vace(tmp_path_factory):
    return vace_directory(tmp_path_factory.mktemp("vace"))


def pictures(edited: bool) -> list[np.ndarray]:
    """Frames (H, W, 3) of 8 bits; edited ones are brighter in a square on either side of the mask's border."""
    ramp = np.indices(SIZE).sum(0) % 37 * 4
    frames = [
        np.stack([ramp, np.roll(ramp, 5, 1), np.roll(ramp, 9, 0)], -1).astype(np.uint8) + 20 for _ in range(FRAMES)
    ]
    for frame in frames if edited else ():
        frame[12:36, 16:48] = (220, 40, 30)
    return frames


def masks() -> list[np.ndarray]:
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[LEFT] = 255
    return [mask] * FRAMES


def write(folder: Path, kind: str, frames: list[np.ndarray]) -> str:
    """As a still, a sequence or a movie; returns what names it on a command line."""
    folder.mkdir()
    if kind == "movie":
        return str(write_movie(folder / "movie.mkv", frames, codec="ffv1", pix_fmt="bgr0"))
    for number, frame in enumerate(frames[: 1 if kind == "still" else None], 1):
        write_image(folder / f"frame.{number:04d}.png", frame)
    return str(folder / ("frame.0001.png" if kind == "still" else "frame.####.png"))


@pytest.mark.parametrize("plate_kind", ["sequence", "movie"])
@pytest.mark.parametrize("backend", ["generate", "lift", "vace"])
@pytest.mark.parametrize("mask_kind", ["still", "sequence", "movie"])
def test_nothing_is_laid_outside_the_mask(tmp_path, vace, mask_kind, backend, plate_kind):
    plate = write(tmp_path / "plate", plate_kind, pictures(edited=False))
    given = ["--plate", plate, "--mask", write(tmp_path / "mask", mask_kind, masks()), "--out", str(tmp_path / "out")]
    given += ["--progress", "none"]
    if backend == "lift":
        command = ["lift", *given, "--edited", write(tmp_path / "edited", "sequence", pictures(edited=True))]
    else:
        model = "mini" if backend == "generate" else f"vace:{vace}"
        command = ["render", *given, "--prompt", "Add a large red ball", "--model", model, "--steps", "1"]
    assert cli.main(command) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert len(manifest["frames"]) == FRAMES
    numbers = [entry["frame"] for entry in manifest["frames"]]
    layers = np.stack([read_image(tmp_path / f"out/edit/edit.{n:04d}.exr") for n in numbers])
    assert not layers[:, :, SIZE[1] // 2 :].any()
    if backend == "lift":
        assert (layers[..., 3][:, 16:32, 20:30] > 0.9).all()
    for number, layer, filmed in zip(numbers, layers, pictures(edited=False), strict=True):
        kept = layer[..., 3] == 0
        assert np.array_equal(read_image(composite_file(tmp_path / "out", number))[kept], filmed[kept])
