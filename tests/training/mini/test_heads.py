"""Training of the parts that an edition has besides its layers: the field of objects and the reader of backgrounds."""

import hashlib

import pytest
import torch

from tests.training.mini.test_objects import CONFIG as OBJECTS_CONFIG
from vera.core.model.mini.edition import load_mini, published_digests
from vera.core.model.mini.edition_files import OBJECTS, SCENES
from vera.core.model.names import EMBEDDED
from vera.core.training.console import Console
from vera.core.training.mini import objects, scenes
from vera.core.training.mini.export import export
from vera.core.training.state import read_state

SCENES_CONFIG = {
    "train": "scenes", "text": str(EMBEDDED), "seed": 1, "steps": 4, "rate": 0.004, "prompts": 8, "save_every": 100,
}  # fmt: skip
# Name -> training, its configuration, its file in an edition, a weight in the state, and that weight in a model.
HEADS = {
    "objects": (objects.train, OBJECTS_CONFIG, OBJECTS, "field/outer", lambda model: model.objects.field.outer),
    "scenes": (
        scenes.train,
        SCENES_CONFIG,
        SCENES,
        "scenes/scene.weight",
        lambda model: model.objects.scenes.scene.weight,
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_a_stopped_run_goes_on_and_is_exported_into_an_edition(tmp_path, head):
    train, config, file, name, weight_of = HEADS[head]
    run, seen = tmp_path / "run", []
    train(config, run, lambda: len(seen) >= 2 or bool(seen.append(1)), Console(silent=True))
    assert read_state(run / "state.safetensors")[1] == 2
    train(config, run, lambda: False, Console(silent=True))
    assert export(run, tmp_path / "mine") == 4
    model, state = load_mini(tmp_path / "mine", "cpu"), read_state(run / "state.safetensors")[0]
    assert torch.allclose(weight_of(model), state[name], atol=2e-3)
    assert (
        published_digests(tmp_path / "mine")[file]
        == hashlib.sha256((tmp_path / "mine" / file).read_bytes()).hexdigest()
    )
    assert model.fingerprint != load_mini(EMBEDDED, "cpu").fingerprint
