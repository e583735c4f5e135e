"""Training of the head that reads backgrounds: labels, resuming, export into an edition."""

import torch

from vera.core.model.mini import words
from vera.core.model.mini.edition import load_mini, published_digests
from vera.core.model.mini.edition_files import SCENES
from vera.core.model.mini.scene_reader import SCENE_TRAITS
from vera.core.model.mini.scene_reader import SCENES as NAMES
from vera.core.model.names import EMBEDDED
from vera.core.training.console import Console
from vera.core.training.mini.export import export
from vera.core.training.mini.scenes import labelled_scene, train
from vera.core.training.state import read_state

CONFIG = {
    "train": "scenes", "text": str(EMBEDDED), "seed": 1, "steps": 4, "rate": 0.004, "prompts": 8, "save_every": 100,
}  # fmt: skip


def test_prompts_are_labelled_by_what_they_name():
    labelled = [labelled_scene(seed) for seed in range(400)]
    assert {NAMES[number] for _, number, _ in labelled} == {*words.BACKGROUNDS, "nothing"}
    for prompt, _, traits in labelled:
        assert traits == [
            float(trait in prompt.lower().replace(",", " ").replace(".", " ").split()) for trait in SCENE_TRAITS
        ]


def test_a_stopped_run_goes_on_and_is_exported_into_an_edition(tmp_path):
    run, seen = tmp_path / "run", []
    train(CONFIG, run, lambda: len(seen) >= 2 or bool(seen.append(1)), Console(silent=True))
    assert read_state(run / "state.safetensors")[1] == 2
    train(CONFIG, run, lambda: False, Console(silent=True))
    assert export(run, tmp_path / "mine") == 4
    model = load_mini(tmp_path / "mine", "cpu")
    state = read_state(run / "state.safetensors")[0]
    assert torch.allclose(model.objects.scenes.scene.weight, state["scenes/scene.weight"], atol=2e-3)
    assert SCENES in published_digests(tmp_path / "mine")
