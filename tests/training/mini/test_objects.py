"""Training of mini's field of objects: resumes to the same weights, learns, and is exported into an edition."""

import hashlib
import json

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.mini.edition import load_mini, published_digests
from vera.core.model.mini.edition_files import OBJECTS
from vera.core.model.mini.object_field import TRAITS
from vera.core.model.names import EMBEDDED
from vera.core.training.console import Console
from vera.core.training.mini.export import export
from vera.core.training.mini.objects import labelled_points, labelled_prompt, train
from vera.core.training.state import read_state

CONFIG = {
    "train": "objects", "text": str(EMBEDDED), "seed": 1, "steps": 4, "rate": 0.004, "points": 32, "prompts": 4,
    "save_every": 100,
}  # fmt: skip


def after(steps):
    seen = []
    return lambda: len(seen) >= steps or bool(seen.append(1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    train(CONFIG, folder, lambda: False, Console(silent=True))
    return folder


def test_a_stopped_run_goes_on_to_the_same_step(run, tmp_path):
    train(CONFIG, tmp_path, after(2), Console(silent=True))
    assert read_state(tmp_path / "state.safetensors")[1] == 2
    train(CONFIG, tmp_path, lambda: False, Console(silent=True))
    assert read_state(tmp_path / "state.safetensors")[1] == 4
    assert set(read_state(tmp_path / "state.safetensors")[0]) == set(read_state(run / "state.safetensors")[0])


def test_an_export_is_the_edition_with_the_trained_field(run, tmp_path):
    assert export(run, tmp_path / "mine") == 4
    model = load_mini(tmp_path / "mine", "cpu")
    state = read_state(run / "state.safetensors")[0]
    assert torch.allclose(model.objects.field.outer, state["field/outer"], atol=2e-3)
    digest = hashlib.sha256((tmp_path / "mine" / OBJECTS).read_bytes()).hexdigest()
    assert published_digests(tmp_path / "mine")[OBJECTS] == digest
    assert model.fingerprint != load_mini(EMBEDDED, "cpu").fingerprint


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
