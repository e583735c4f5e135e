"""Training of mini's field of objects: labels, and its file in an edition. See test_heads.py too."""

import json

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.mini.edition import load_mini
from vera.core.model.mini.edition_files import OBJECTS
from vera.core.model.mini.object_field import TRAITS
from vera.core.model.names import EMBEDDED
from vera.core.training.console import Console
from vera.core.training.mini.export import export
from vera.core.training.mini.objects import labelled_points, labelled_prompt, train

CONFIG = {
    "train": "objects", "text": str(EMBEDDED), "seed": 1, "steps": 4, "rate": 0.004, "points": 32, "prompts": 4,
    "save_every": 100,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    train(CONFIG, folder, lambda: False, Console(silent=True))
    return folder


def test_a_flipped_bit_of_the_field_is_found(run, tmp_path):
    export(run, tmp_path / "mine")
    contents = bytearray((tmp_path / "mine" / OBJECTS).read_bytes())
    contents[-100] ^= 1
    (tmp_path / "mine" / OBJECTS).write_bytes(contents)
    with pytest.raises(InputError, match=f"{OBJECTS}: damaged"):
        load_mini(tmp_path / "mine", "cpu")


def test_an_edition_without_a_field_draws_by_its_layers_alone(tmp_path):
    for name in ("config.json", "model.json", "transformer.safetensors", "text.safetensors", "codec.safetensors"):
        (tmp_path / name).write_bytes((EMBEDDED / name).read_bytes())
    assert load_mini(tmp_path, "cpu").objects is None


def test_half_of_the_points_lie_about_the_outline():
    generator = torch.Generator().manual_seed(0)
    _, distance, surface = labelled_points("balloon", 400, generator)
    assert distance[:200].abs().median() < 0.1 and (distance[200:] < 0.05).float().mean() > 0.99
    assert surface.shape == (400, 9)


def test_prompts_are_labelled_as_the_engine_meant_them():
    labelled = [labelled_prompt(seed) for seed in range(60)]
    assert {"object", "other"} == {"object" if kind < 18 else "other" for _, kind, _, _ in labelled}
    assert all(len(traits) == len(TRAITS) and set(traits) <= {0.0, 1.0} for _, _, _, traits in labelled)


def test_the_shipped_configuration_is_read(tmp_path):
    config = json.loads((EMBEDDED.parents[1] / "training/mini/mini-objects.json").read_text())
    assert config["prompts"] >= 4096
    train(config | {"text": str(EMBEDDED), "prompts": 64}, tmp_path, lambda: True, Console(silent=True))
