"""A new background where no mask tells whom to keep: people are found; where there are none, a mask is asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.plate.media import write_image
from vera.core import cli
from vera.core.layer.image_file import read_image

PERSON = np.asarray(Image.open(Path(__file__).parents[1] / "model/people/astronaut.png"))
NOBODY = (np.indices((128, 128)).sum(0) % 64 * 3)[..., None].repeat(3, 2).astype(np.uint8)
PROMPT = "Change the background to the sea"


def render(folder: Path, picture: np.ndarray, *more: str, prompt: str = PROMPT) -> int:
    (folder / "in").mkdir(parents=True)
    for number in (1, 2):
        write_image(folder / f"in/frame.{number}.png", picture)
    given = ["--plate", str(folder / "in/frame.#.png"), "--out", str(folder / "out"), "--progress", "none"]
    return cli.main(["render", *given, "--prompt", prompt, "--device", "cpu", *more])


def alpha(folder: Path) -> np.ndarray:
    return read_image(folder / "out/edit/edit.0001.exr")[..., 3]


def warnings(folder: Path) -> str:
    return " ".join(json.loads((folder / "out/manifest.json").read_text())["extra"]["warnings"])


def test_people_are_kept_and_it_is_said(tmp_path):
    assert render(tmp_path, PERSON) == 0
    layer = alpha(tmp_path)
    face, wall = layer[18:36, 46:60], layer[5:30, 10:30]
    assert face.mean() < 0.02 and wall.mean() > 0.9
    assert "people found in the plate are kept" in warnings(tmp_path)


def test_without_people_the_line_suggests_a_mask(tmp_path, capsys):
    assert render(tmp_path, NOBODY) == 2
    assert "--mask" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("more, prompt", [(("--mask", "none"), PROMPT), ((), "Add a red ball in the middle")])
def test_nobody_is_looked_for_without_need(tmp_path, more, prompt):
    assert render(tmp_path, NOBODY, *more, prompt=prompt) == 0
    assert "people" not in warnings(tmp_path)


def test_a_mask_goes_before_what_is_found(tmp_path):
    write_image(tmp_path / "mask.png", np.full((128, 128, 3), 255, np.uint8))
    assert render(tmp_path, NOBODY, "--mask", str(tmp_path / "mask.png")) == 0
    assert "people" not in warnings(tmp_path)


def test_the_word_none_is_no_path():
    from vera.core.recipe import EditRecipe

    recipe = EditRecipe(plate="p.png", prompt="p", out="o", mask="none")
    assert recipe.mask == "none"
