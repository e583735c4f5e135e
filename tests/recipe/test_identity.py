"""The hash that a field belongs to is the one that its row names."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.plate.media import write_image, write_noise
from tests.tiny import prepare, tiny_model
from vera.core.recipe import EditRecipe
from vera.core.recipe.field import Part
from vera.core.recipe.table import FIELDS

# Another value than the default's for each field whose content is not a file's.
OTHER = {
    "prompt": "Add a ball",
    "frames": "1",
    "seed": 5,
    "steps": 7,
    "guidance": 3.0,
    "color_space": "ACEScg",
    "exposure": 1.0,
    "blend_space": "encoded",
    "layer_space": "ACEScg",
    "layer_mode": "relative",
    "region": "0,0,32,32",
    "cuts": "2",
    "keep": True,
    "layer_type": "float",
    "compression": "piz",
    "also": ("png",),
    "match": ("grain",),
    "attention": "window",
    "cache": 0.1,
    "compile": True,
    "one_batch": True,
    "weights": "int8",
    "offload": "parts",
    "anyway": True,
    "lora_skip_missing": True,
    "part": "0",
    "edited_offset": 2,
    "negative_prompt": "Add a blue ball",
    "shift": 5.0,
    "conditioning_scale": 0.5,
    "no_learned": True,
    "sensitivity": 2.0,
    "edge": 2.0,
    "steadiness": 0,
    "parts": "1",
    "split": "files",
}
FILES = ("plate", "mask", "hold_out", "out", "model", "lora", "reference")
# They say how a file is read, whose fingerprint changes: see test_channels, test_signal and test_fields in tests/plate.
CHOICES = ("layer", "view", "matrix", "range", "fields")


@pytest.fixture(scope="module")
def hashes(tmp_path_factory) -> Callable[..., tuple[str, str]]:
    """(generation's hash, job's hash) of a recipe with these values."""
    folder, model = tmp_path_factory.mktemp("identity"), tiny_model()
    plates = {name: str(write_noise(folder / name, (1, 2), size=(48, 64), planted=name == "b")) for name in "ab"}
    write_image(folder / "mask.png", np.full((48, 64, 3), 255, np.uint8))
    needed = {"plate": plates["a"], "prompt": "Add a red ball", "out": str(folder / "out"), "guidance": 2.0}
    files = {"plate": plates["b"], "mask": str(folder / "mask.png"), "out": str(folder / "other")}

    def hashes(*names: str) -> tuple[str, str]:
        values = needed | {name: files.get(name, OTHER.get(name)) for name in names}
        job = prepare(EditRecipe(**values), "cpu", lambda name, device, **asked: model)
        return job.delivery.generation, job.hash

    return hashes


@pytest.mark.parametrize("name", ["plate", "mask"])
@pytest.mark.parametrize("changed", [1, 2, 3])
def test_every_frame_of_plate_and_mask_determines_the_layer(tmp_path, name, changed):
    model = tiny_model()

    def generation(folder: Path, other: int | None) -> str:
        paths = {}
        for each in ("plate", "mask"):
            folder.joinpath(each).mkdir(parents=True)
            for frame in (1, 2, 3):
                level = 90 if (each, frame) == (name, other) else 200
                write_image(folder / f"{each}/p.{frame}.png", np.full((48, 64, 3), level, np.uint8))
            paths[each] = str(folder / each / "p.#.png")
        recipe = EditRecipe(**paths, prompt="Add a red ball", out=str(folder / "out"))
        return prepare(recipe, "cpu", lambda name, device, **asked: model).delivery.generation

    assert generation(tmp_path / "a", None) != generation(tmp_path / "b", changed)
    assert generation(tmp_path / "c", None) == generation(tmp_path / "d", None)


def test_every_field_is_tried():
    assert {f.name for f in FIELDS} == {*OTHER, *FILES, *CHOICES}


# Fields of models and backends that this file cannot build: see tests/model/test_lora.py, tests/lifting.
ELSEWHERE = ("model", "lora", *CHOICES)


@pytest.mark.parametrize(
    "field", [f for f in FIELDS if "generate" in f.row.backends and f.name not in ELSEWHERE], ids=lambda f: f.name
)
def test_a_field_changes_the_hash_that_its_row_names(hashes, field):
    generation, job = hashes()
    other_generation, other_job = hashes(field.name)
    assert (other_generation != generation) == (field.row.part is Part.GENERATION)
    assert (other_job != job) == (field.row.part is not None)
