"""Recipes after parsing, refusals, command lines, the JSON Schema, and which hash each field belongs to."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.plate.media import write_image, write_noise
from tests.recipe.test_identity import OTHER
from tests.recorded.recording import attempt, of_command, record
from tests.tiny import prepare, tiny_model
from vera.core.recipe import EditRecipe, backends, docs, job_file, json_schema, parse, paths
from vera.core.recipe.table import FIELDS

LEAST = {"plate": "shot/p.####.exr", "prompt": "Add a red ball", "out": "out"}
# Field -> values that are tried; each is accepted and normalised, or refused in one line.
TRIED: dict[str, list[Any]] = {
    "prompt": ["", "  ", "a\nb", "x" * 3000, 5, "Add a ball \x07"],
    "frames": ["1-5", "5-1", "7", "-3-2", "x", "1,2", ""],
    "region": ["1,2,3,4", "1,2,3", "0,0,0,5", "-1,0,8,8", "a,b,c,d", " 1, 2 ,3,4"],
    "cuts": ["auto", "none", "5,9", "9,5", "5,5", "x", ""],
    "exposure": ["auto", "1.5", 2, "x", 99, -30, True, "nan"],
    "also": ["prores,png", ["matte"], "png,png", "gif", "", 5],
    "match": ["grain", "grain,sharpness", "sharpness,grain", "noise", "none"],
    "parts": ["1,3", "-2,-4", "1,-2", "0", "x", "1,1", ""],
    "lora": [("a.safetensors",), ("a.safetensors:0.5",), ("a:x",), ("a:99",), "a.safetensors"],
    "seed": [0, -1, 2**63, 1.5, "7", True],
    "steps": [1, 0, 1000, 1001, 2.0],
    "guidance": [0, 30, 30.1, -1, "3"],
    "shift": [0.1, 0.05, 100, 101],
    "sensitivity": [0.25, 0.2, 4, 4.1],
    "edge": [1, 0.9, 6, 6.5],
    "steadiness": [0, 8, 9, -1],
    "edited_offset": [-5, 2_000_000, 0.5],
    "conditioning_scale": [0, 10, 11],
    "cache": [0, 0.5, 1.2],
    "model": ["mini", "lift:", "lift:x.mov", "vace:folder", "other:x", ""],
    "blend_space": ["encoded", "gamma"],
    "layer_type": ["float", "double"],
    "compression": ["dwaa", "zip", "b44"],
    "split": ["files", "parts", "both"],
    "mask": ["none", "m.png", 3],
    "reference": [("a.png", "b.png"), "a.png"],
    "weights": ["fp8", "fp4"],
    "keep": [True, "yes", 1],
    "plate": ["", "a.%04d.dpx", 5],
    "out": ["", "a/b"],
}


def _values(recipe: Any) -> Any:
    if not isinstance(recipe, EditRecipe):
        return recipe
    defaults = EditRecipe(**LEAST)
    return {f.name: getattr(recipe, f.name) for f in FIELDS if getattr(recipe, f.name) != getattr(defaults, f.name)}


@record
def values_of_every_field(folder: Path) -> Any:
    found = {}
    for name, values in TRIED.items():
        for value in values:
            shown = json.dumps(value)[:40]
            found[f"{name} {shown}"] = _values(attempt(EditRecipe.from_values, LEAST | {name: value}))
    return found


@record
def defaults(folder: Path) -> Any:
    return vars(EditRecipe(**LEAST))


@record
def job_files(folder: Path) -> Any:
    found = {}
    texts = {
        "plain": json.dumps(
            LEAST | {"mask": "m.png", "schema": "vera.recipe/1", "recipe_hash": "x", "lora": ["l.st:0.5"]}
        ),
        "of another schema": json.dumps(LEAST | {"schema": "vera.recipe/9"}),
        "with an unknown field": json.dumps(LEAST | {"promt": "x"}),
        "without a plate": json.dumps({"prompt": "x", "out": "o"}),
        "a list": "[]",
        "cut": "{",
        "twice": '{"plate": "a", "plate": "b"}',
        "with a NaN": '{"seed": NaN}',
        "empty": "",
    }
    for name, content in texts.items():
        (folder / "job.json").write_text(content)
        recipe = attempt(EditRecipe.from_file, str(folder / "job.json"))
        found[name] = recipe if isinstance(recipe, Exception) else [_values(recipe), recipe.to_json()]
    found["absent"] = attempt(job_file.read_json, str(folder / "no.json"))
    return found


@record
def schema_and_page(folder: Path) -> Any:
    return [json_schema.recipe_schema(), docs.fields_table().splitlines()]


@record
def paths_in_recipes(folder: Path) -> Any:
    values = {"plate": "p.####.exr", "mask": "none", "model": "vace:m", "lora": ["a:0.5", "b"], "reference": ["r.png"]}
    changed = paths.change_paths(values, FIELDS, lambda path, kind: f"{kind.name}/{path}")
    models = ["mini", "lift:a.mov", "vace:b", "lift:", "x:y"]
    return [changed, paths.paths_of(values, FIELDS), [attempt(parse.split_model, m) for m in models]]


@record
def fields_that_a_backend_lacks(folder: Path) -> Any:
    other = OTHER | {"mask": "m.png", "hold_out": "h.png", "lora": ("l.st",), "reference": ("r.png",)}
    found = {}
    for model in ("mini", "lift:e.mov", "vace:v"):
        for name, value in other.items():
            recipe = attempt(EditRecipe, **LEAST | {"model": model, name: value})
            said = attempt(backends.refuse_unsupported, recipe, backends.backend_of(model))
            if said is not None:
                found[f"{model} {name}"] = said
    return found


@record
def help_texts(folder: Path) -> Any:
    commands = [["--help"], ["--version"], [], ["rendr"], *([name, "--help"] for name in ("render", "lift", "plan"))]
    return {" ".join(words) or "nothing": of_command(folder, *words) for words in commands}


@record
def hash_of_every_field(folder: Path) -> Any:
    """Whether another value changes the layer's hash, the delivery's, or none."""
    model = tiny_model()
    plate = str(write_noise(folder / "in", (1, 2), size=(48, 64)))
    write_image(folder / "mask.png", np.full((48, 64, 3), 255, np.uint8))
    least = {"plate": plate, "prompt": "Add a red ball", "out": str(folder / "out"), "guidance": 2.0}

    def hashes(**values: Any) -> Any:
        job = attempt(prepare, EditRecipe(**least | values), "cpu", lambda name, device, **asked: model)
        return job if isinstance(job, Exception) else (job.delivery.generation, job.hash)

    usual, found = hashes(), {}
    for name, value in {**OTHER, "mask": str(folder / "mask.png")}.items():
        here = attempt(hashes, **{name: value})
        found[name] = here if isinstance(here, Exception) else [a != b for a, b in zip(usual, here, strict=True)]
    return found
