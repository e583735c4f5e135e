"""Plates thinner than the blocks in which a veil's colour is searched are lifted like others."""

import numpy as np
import pytest

from tests.plate.media import write_image
from vera.core import cli
from vera.core.layer.image_file import read_image


@pytest.mark.parametrize("size", [(5, 60), (60, 5), (90, 3)], ids=str)
def test_a_thin_plate_is_lifted(tmp_path, size):
    random = np.random.default_rng(0)
    half = (slice(0, max(1, size[0] // 2)), slice(0, max(1, size[1] // 2)))
    for frame in (1, 2):
        plate = random.integers(60, 180, (*size, 3)).astype(np.uint8)
        edited = plate.copy()
        edited[half] = (220, 30, 30)
        for name, picture in (("plate", plate), ("edited", edited)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_image(tmp_path / name / f"{frame:04d}.png", picture)
    given = ["--plate", str(tmp_path / "plate/####.png"), "--edited", str(tmp_path / "edited/####.png")]
    assert cli.main(["lift", *given, "--out", str(tmp_path / "out"), "--progress", "none"]) == 0
    layers = [read_image(tmp_path / f"out/edit/edit.{frame:04d}.exr") for frame in (1, 2)]
    assert all(layer.shape == (*size, 4) and layer[..., 3][half].max() > 0.5 for layer in layers)
