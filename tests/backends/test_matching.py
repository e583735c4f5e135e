"""`match` on the way of a shot: the same grain however a job is cut or begun again, and the plate's bits as ever."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from tests.plate.media import write_image
from tests.tiny import composite_file, draw, make, tiny_model
from vera.core.cli import lift
from vera.core.errors import StoppedError
from vera.core.layer.image_file import read_image

SIZE, FRAMES = (96, 160), range(1001, 1007)
SIGMA = 3.0  # of the plates' grain, in 8-bit codes


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def scene() -> np.ndarray:
    """Grey that gets brighter, with detail below, in 8-bit codes."""
    detail = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((*SIZE, 3)), (3, 3, 0))
    detail *= 25 / detail.std() * (np.arange(SIZE[0]) > 70)[:, None, None]
    return np.linspace(60, 200, SIZE[1])[:, None] + detail


def filmed(frame: int) -> np.ndarray:
    white = np.random.default_rng(frame).standard_normal((*SIZE, 3))
    grain = ndimage.gaussian_filter(white, (0.7, 0.7, 0), mode="wrap")
    return np.clip(scene() + SIGMA * grain / grain.std(), 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plate")
    for frame in FRAMES:
        write_image(folder / f"plate.{frame}.png", filmed(frame))
    return folder / "plate.####.png"


@pytest.fixture
def drawn(monkeypatch):
    """A layer of one colour, opaque on the left third and nothing on the right half."""

    def block(color, alpha, reconstruction):
        alpha[:] = 0
        alpha[:, : alpha.shape[1] // 3] = 1
        return torch.full_like(color, 0.5), alpha

    draw(monkeypatch, block)


def composites(out, frames=FRAMES):
    return np.stack([read_image(composite_file(out, f)) for f in frames]).astype(np.float32)


def test_a_render_has_the_plates_grain_where_it_is_laid(tmp_path, model, drawn, plate):
    job, report = make(model, plate, tmp_path / "out", match=("grain", "sharpness"))
    block = composites(tmp_path / "out")[:, 8:-8, 8:40]
    assert abs((block - 127.5).std() / SIGMA - 1) < 0.15
    assert abs(np.corrcoef(block[0].ravel(), block[1].ravel())[0, 1]) < 0.1
    right = slice(SIZE[1] // 2, None)
    for frame, made in zip(FRAMES, composites(tmp_path / "out")):
        assert (made[:, right] == filmed(frame)[:, right]).all()
    told = json.loads((tmp_path / "out/manifest.json").read_text())["extra"]["match"]
    assert told == report["match"] and abs(told["grain"]["deviations"][1][8] * 255 / SIGMA - 1) < 0.15


def test_a_job_that_was_stopped_goes_on_with_the_same_grain(tmp_path, model, drawn, plate):
    make(model, plate, tmp_path / "whole", match=("grain",))
    stops = iter([False] * 8 + [True] * 1000)
    with pytest.raises(StoppedError):
        make(model, plate, tmp_path / "again", stopping=lambda: next(stops), match=("grain",))
    make(model, plate, tmp_path / "again", match=("grain",))
    assert (composites(tmp_path / "again") == composites(tmp_path / "whole")).all()


def test_a_part_of_the_shot_has_the_grain_of_its_frames(tmp_path, model, drawn, plate):
    """Figures are measured from fewer frames then, so that it is the same but for a little."""
    make(model, plate, tmp_path / "whole", match=("grain",))
    make(model, plate, tmp_path / "part", match=("grain",), frames="1004-1006")
    whole, part = composites(tmp_path / "whole")[3:], composites(tmp_path / "part", range(1004, 1007))
    for a, b in zip(whole[:, 8:-8, 8:40], part[:, 8:-8, 8:40]):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] > 0.97


def test_a_lift_takes_the_plates_grain_over(tmp_path, plate):
    """An edited video without any grain, as a service gives it back."""
    for frame in range(1001, 1005):
        clean = np.clip(scene(), 0, 255).round().astype(np.uint8)
        clean[10:66, 20:76] = (200, 60, 60)
        write_image(tmp_path / f"edited.{frame}.png", clean)
    paths = ["--plate", str(plate), "--edited", str(tmp_path / "edited.####.png"), "--out", str(tmp_path / "out")]
    assert lift.main([*paths, "--frames", "1001-1004", "--match", "grain", "--progress", "none"]) == 0
    block = composites(tmp_path / "out", range(1001, 1005))[:, 18:58, 28:68]
    assert abs((block - (200, 60, 60)).std() / SIGMA - 1) < 0.15
