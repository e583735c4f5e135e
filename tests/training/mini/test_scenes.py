"""Training of the head that reads backgrounds: labels of prompts. See test_heads.py too."""

from vera.core.model.mini import words
from vera.core.model.mini.scene_reader import SCENE_TRAITS
from vera.core.model.mini.scene_reader import SCENES as NAMES
from vera.core.training.mini.scenes import labelled_scene


def test_prompts_are_labelled_by_what_they_name():
    labelled = [labelled_scene(seed) for seed in range(400)]
    assert {NAMES[number] for _, number, _ in labelled} == {*words.BACKGROUNDS, "nothing"}
    for prompt, _, traits in labelled:
        assert traits == [
            float(trait in prompt.lower().replace(",", " ").replace(".", " ").split()) for trait in SCENE_TRAITS
        ]
