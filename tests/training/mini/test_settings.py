"""Configurations of training are read strictly."""

import json
from pathlib import Path

import pytest

from vera.core.errors import InputError
from vera.core.training.configuration import read_config, read_settings
from vera.core.training.mini.settings import (
    CodecSettings,
    ObjectsSettings,
    ScenesSettings,
    TransformerSettings,
    VaeSettings,
)

SHIPPED = Path(__file__).parents[3] / "core" / "training" / "mini"
KINDS = {
    "transformer": TransformerSettings,
    "codec": CodecSettings,
    "vae": VaeSettings,
    "objects": ObjectsSettings,
    "scenes": ScenesSettings,
}


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda f: f.name)
def test_every_shipped_configuration_is_accepted(file):
    config = read_config(file)
    read_settings(KINDS[config["train"]], config)


def config(**changes):
    return read_config(SHIPPED / "mini.json") | changes


def stage(**changes):
    return {"stages": [config()["stages"][0] | {"until": 6000} | changes]}


WRONG = [
    ({"ratee": 3}, "did you mean 'rate'"),
    ({"rate": "fast"}, "'rate': 'fast' is not a number"),
    ({"rate": 0}, "'rate': 0 is not a number from"),
    ({"rate": -1}, "'rate': -1 is not"),
    ({"rate": True}, "'rate': True is not"),
    ({"rate": 10**400}, "'rate'"),
    ({"steps": "x"}, "'steps': 'x' is not a whole number"),
    ({"steps": 1.5}, "'steps': 1.5 is not a whole number"),
    ({"steps": 10**12}, "'steps'"),
    ({"steps": 7000}, "'stages'"),
    ({"processes": 0}, "'processes': 0 is not"),
    ({"processes": 5}, "'batch': 48 clips cannot be shared"),
    ({"ema": 1.0}, "'ema': 1.0 is not"),
    ({"text_drop": 1.5}, "'text_drop'"),
    ({"mask_keep": None}, "'mask_keep': None is not"),
    ({"device": "gpu"}, "'device': 'gpu' is not one of cpu, cuda"),
    ({"codec": 5}, "'codec': 5 is not a text"),
    ({"start": ""}, "'start'"),
    ({"geometry": [1]}, "'geometry': .* is not a JSON object"),
    ({"geometry": {"width": 3}}, "'geometry', 'width': no such setting"),
    ({"stages": []}, "'stages'"),
    ({"stages": {}}, "'stages': .* is not a list"),
    ({"stages": [3]}, "'stages'\\[0\\]: 3 is not a JSON object"),
    (stage(batch=0), "'batch': 0 is not"),
    (stage(batch="many"), "'batch': 'many' is not"),
    (stage(latents=14), "'latents': 14 is not"),
    (stage(only="everything"), "'only': 'everything' is not one of drawing"),
    (stage(shapes=[[80, 100]]), "'shapes': 100 is not a multiple of 16"),
    (stage(shapes=[[80]]), "is not a list of 2"),
    (stage(repeat=3), "did you mean 'repeats'"),
    ({"save_every": 0}, "'save_every'"),
]


@pytest.mark.parametrize("changes, message", WRONG, ids=lambda w: str(w)[:50])
def test_a_wrong_setting_is_named_in_one_line(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        read_settings(TransformerSettings, config(**changes))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["codec", "seed", "stages", "steps", "rate"])
def test_a_missing_setting_is_named(name):
    values = {key: value for key, value in config().items() if key != name}
    with pytest.raises(InputError, match=f"'{name}': missing"):
        read_settings(TransformerSettings, values)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"rate": 1, "rate": 2}', '{"rate": NaN}', "[" * 10_000], ids=lambda t: t[:12]
)
def test_an_unreadable_configuration_is_reported_in_one_line(tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match="c.json: not a readable configuration"):
        read_config(tmp_path / "c.json")


def test_a_missing_configuration_is_reported_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no.json: not a readable configuration"):
        read_config(tmp_path / "no.json")


def test_settings_have_the_values_of_the_file():
    values = config()
    settings = read_settings(TransformerSettings, values)
    assert settings.rate == values["rate"] and settings.stages[0].only == "drawing"
    assert settings.stages[3].shapes == ((256, 256), (192, 320), (320, 192))
    assert json.dumps(settings.stages[0].batch) == "48"
