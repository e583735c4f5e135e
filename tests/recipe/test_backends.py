"""A field that a backend does not take is refused by the table, none silently."""

from pathlib import Path

import pytest

from vera.core.errors import InputError
from vera.core.recipe import EditRecipe, backend_of, refuse_unsupported
from vera.core.recipe.backend_table import BACKENDS, BackendRow
from vera.core.recipe.field import Field
from vera.core.recipe.table import FIELDS

# Another value than the default's, for each field that some backend does not take.
SET = {
    "seed": 5,
    "steps": 7,
    "guidance": 3.0,
    "exposure": 1.0,
    "layer_mode": "relative",
    "region": "0,0,32,32",
    "cuts": "none",
    "keep": True,
    "attention": "window",
    "cache": 0.1,
    "compile": True,
    "one_batch": True,
    "weights": "int8",
    "offload": "parts",
    "lora": ("a.safetensors",),
    "anyway": True,
    "lora_skip_missing": True,
    "edited_offset": 2,
    "negative_prompt": "blur",
    "shift": 5.0,
    "reference": ("a.png",),
    "conditioning_scale": 0.5,
    "hold_out": "hold.png",
    "no_learned": True,
    "sensitivity": 2.0,
    "edge": 2.0,
    "steadiness": 0,
    "parts": "1",
    "split": "files",
}


def recipe(**values) -> EditRecipe:
    return EditRecipe("p.png", "Add fog", "out", **values)


def test_a_models_name_without_a_path_stays_as_it_is(monkeypatch):
    monkeypatch.setitem(BACKENDS, "box", BackendRow("vera.core.backends.box", None, "a box"))
    asked = recipe(model="box:0,0,64,48")
    assert asked.to_json()["model"] == "box:0,0,64,48"
    assert EditRecipe.from_job(asked.to_json(), Path("/shots"), "job.json").model == "box:0,0,64,48"


def limited(backend: str) -> list[Field]:
    return [f for f in FIELDS if backend not in f.row.backends]


def test_every_field_that_some_backend_leaves_out_is_tried_here():
    assert set(SET) == {f.name for backend in BACKENDS for f in limited(backend)}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SET)
def test_a_field_is_taken_or_refused_by_name(backend, name):
    taken = name not in {f.name for f in limited(backend)}
    if taken:
        refuse_unsupported(recipe(**{name: SET[name]}), backend)
        return
    with pytest.raises(InputError, match=f"^{name.replace('_', ' ')}: .*leave it out"):
        refuse_unsupported(recipe(**{name: SET[name]}), backend)


def test_vace_is_sampled_and_a_lift_of_a_file_is_not():
    names = {f.name for f in limited("lift")} - {f.name for f in limited("vace")}
    sampling = {"seed", "steps", "guidance", "negative_prompt", "shift", "offload"}
    assert names == sampling | {"reference", "conditioning_scale"}


@pytest.mark.parametrize("values", [{}, {"cuts": "auto"}, {"cache": 0.0}, {"layer_mode": "auto"}, {"exposure": "auto"}])
def test_a_default_by_any_spelling_is_no_wish(values):
    for backend in BACKENDS:
        refuse_unsupported(recipe(**values), backend)


@pytest.mark.parametrize(
    "model, backend", [("mini", "generate"), ("/a/vera", "generate"), ("lift:a.mov", "lift"), ("vace:/m", "vace")]
)
def test_a_models_prefix_names_its_backend(model, backend):
    assert backend_of(model) == backend
