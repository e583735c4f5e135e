"""The rules that Nuke and Blender share: one file, told apart from both."""

import ast
import re
import sys
from pathlib import Path

import pytest

from tools import host_fields as tools_host_fields
from vera.core.recipe import EditRecipe
from vera.core.recipe.field import fields_of
from vera.core.service import host_fields, host_rules
from vera.core.service.host_rules import RefusedError

ROOT = Path(__file__).parents[2]


def test_it_is_one_file_of_the_standard_library():
    names = set()
    for node in ast.walk(ast.parse(Path(host_rules.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(
    "job, words, percent",
    [
        ({"state": "queued", "position": 2}, "in the queue, place 2", 0),
        ({"state": "queued"}, "in the queue", 0),
        ({"stage": "start"}, "loading the model", 0),
        ({"stage": "prepare"}, "checking the plate", 1),
        ({"stage": "read", "done": 24, "total": 48, "seconds_left": 0.2}, "reading, 24 of 48, 0 s left", 6),
        ({"stage": "denoise", "done": 3, "total": 8, "seconds_left": 12.4}, "generating, 3 of 8, 12 s left", 36),
        ({"stage": "denoise", "done": 0, "total": 8}, "generating, 0 of 8", 10),
        ({"stage": "denoise", "done": 9, "total": 8}, "generating, 9 of 8", 80),
        ({"stage": "lift", "done": 7, "total": 14, "seconds_left": 3}, "lifting, 7 of 14, 3 s left", 82),
        ({"stage": "lift", "done": 7, "total": 14, "recipe": {"model": "lift:v.mp4"}}, "lifting, 7 of 14", 47),
        ({"stage": "deliver", "done": 48, "total": 48, "seconds_left": 600}, "writing, 48 of 48, 10 min left", 100),
        ({"stage": "a later core's"}, "running", 0),
        ({"stage": "denoise", "cancelling": True, "done": 4, "total": 8}, "cancelling", 45),
        ({"state": "done"}, "done", 100),
        ({"state": "failed"}, "failed", 0),
    ],
)
def test_a_job_in_words_and_in_percent(job, words, percent):
    job = {"state": "running", **job}
    assert (host_rules.progress_words(job), host_rules.percent(job)) == (words, percent)


@pytest.mark.parametrize("way", [host_rules.VERA, host_rules.LIFT])
def test_percent_never_falls(way):
    model = {"recipe": {"model": f"{way}:x"}}
    stages = [
        s
        for s in ("start", "prepare", "read", "denoise", "lift", "deliver")
        if way == host_rules.VERA or s != "denoise"
    ]
    seen = [
        host_rules.percent({"state": "running", "stage": stage, "done": done, "total": 10, **model})
        for stage in stages
        for done in range(11)
    ]
    assert seen == sorted(seen) and seen[-1] == 100


@pytest.mark.parametrize(
    "seconds, words", [(0.2, "0 s"), (89.4, "89 s"), (90, "2 min"), (3600, "60 min"), (8000, "2 h")]
)
def test_durations(seconds, words):
    assert host_rules.duration(seconds) == words


def test_models():
    assert host_rules.model_of("vera", " ", "") == "mini"
    assert host_rules.model_of("vera", "/models/a", "ignored") == "/models/a"
    assert host_rules.model_of("lift", "mini", " /v/e.####.exr ") == "lift:/v/e.####.exr"
    assert host_rules.model_of("vace", "", "/w") == "vace:/w"
    for way, words in (
        ("lift", "the edited video is not named"),
        ("vace", "the folder of VACE's weights is not named"),
    ):
        with pytest.raises(RefusedError, match=words):
            host_rules.model_of(way, "mini", " ")


def test_prompts():
    assert host_rules.prompt_of("vera", " Add \n snow ") == "Add snow"
    assert host_rules.prompt_of("lift", "") == host_rules.LIFT_PROMPT
    with pytest.raises(RefusedError, match="the prompt is empty"):
        host_rules.prompt_of("vace", " \n")


def test_an_older_service_gets_what_it_knows_and_no_more():
    old = {"plate", "prompt", "out", "seed"}
    recipe = {"prompt": "p", "layer_space": "linear", "color_space": "", "steps": None, "keep": True, "lora": []}
    assert host_rules.fitting(recipe, old) == {"prompt": "p"}
    assert host_rules.fitting(recipe, old | {"layer_space", "keep"}) == {
        "prompt": "p",
        "layer_space": "linear",
        "keep": True,
    }
    for name, value in (
        ("layer_space", "ACEScg"),
        ("region", "0,0,8,8"),
        ("lora", ["a"]),
        ("steps", 0),
        ("exposure", 1.0),
    ):
        with pytest.raises(RefusedError, match="has no .*update Vera"):
            host_rules.fitting({name: value}, old)


def test_a_lift_gets_no_values_of_the_sampling():
    """They are those of the recipe's table that a lift alone does not take."""
    recipe = {"model": "lift:/e.mp4", "seed": 5, "steps": 3, "guidance": 2.0, "region": "0,0,8,8", "keep": False}
    known = set(recipe)
    assert host_rules.fitting(recipe, known) == {"model": "lift:/e.mp4", "region": "0,0,8,8", "keep": False}
    assert host_rules.fitting({**recipe, "model": "vace:/w"}, known) == {**recipe, "model": "vace:/w"}
    sampled = {field.name for field in fields_of(EditRecipe) if set(field.row.backends) == {"generate", "vace"}}
    assert set(host_rules.OF_SAMPLING) == sampled


def test_what_is_kept():
    assert host_rules.keeps("mini") and host_rules.keeps("/models/a")
    assert not host_rules.keeps("lift:/a.mp4") and not host_rules.keeps("vace:/w")


def test_what_was_kept_is_taken_over_once(tmp_path):
    kept = tmp_path / "a" / "kept"
    kept.mkdir(parents=True)
    (kept / "layers.safetensors").write_bytes(b"latents")
    (kept / "link").symlink_to("/etc/hostname")
    assert host_rules.kept_in(str(tmp_path / "a")) == str(kept) and host_rules.kept_in(str(tmp_path)) == ""
    for _ in range(2):
        host_rules.take_over_kept(str(kept), str(tmp_path / "b"))
    taken = tmp_path / "b" / "kept"
    assert (taken / "layers.safetensors").stat().st_ino == (kept / "layers.safetensors").stat().st_ino
    assert (taken / "link").is_symlink()
    (tmp_path / "file").write_text("")
    with pytest.raises(RefusedError, match="cannot be written"):
        host_rules.take_over_kept(str(kept), str(tmp_path / "file" / "b"))


@pytest.mark.parametrize(
    "frame, name",
    [
        (1001, "edit.1001.exr"),
        (7, "edit.0007.exr"),
        (0, "edit.0000.exr"),
        (-1, "edit.-0001.exr"),
        (12345, "edit.12345.exr"),
    ],
)
def test_names_of_layer_files(frame, name):
    assert host_rules.layer_file(frame) == name


def test_frames_in_words():
    assert host_rules.frames_in_words([3]) == "frame 3"
    assert host_rules.frames_in_words([3, 4, 5, 6]) == "frames 3, 4, 5, ... (4 in all)"


def test_a_look_in_words():
    assert host_rules.look_words(["frames 1-2"], "plate") == "plate:\nframes 1-2"
    assert host_rules.look_words([], "plate", "it is moved") == "plate:\nThe plate is rendered first: it is moved."


def test_every_stage_that_a_job_tells_has_words_and_a_place_in_the_whole():
    """As the sources name them; a stage that the hosts do not know would read "running" at 0 %."""
    folders = [ROOT / "core" / name for name in ("backends", "layer", "lifting", "sampling")]
    files = [ROOT / "core" / "service" / "worker.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    stages = {name for file in files for name in re.findall(r'\.stage\(\s*"(\w+)"', file.read_text(encoding="utf-8"))}
    assert {"prepare", "read", "denoise", "lift", "deliver", "finish"} <= stages
    for stage in sorted(stages):
        job = {"state": "running", "stage": stage, "done": 1, "total": 1, "recipe": {"model": "mini"}}
        assert host_rules.progress_words(job) != "running" and host_rules.percent(job) > 0, stage


@pytest.mark.parametrize("field", host_fields.READING, ids=lambda field: field.name)
def test_each_field_of_reading_is_one_that_a_recipe_takes(field):
    value = field.choices[-1] if field.choices else "left"
    found = host_rules.reading(host_fields.READING, {field.name: value}, "")
    recipe = EditRecipe(plate="p.####.exr", prompt="Add a ball", out="o", **found)
    assert getattr(recipe, field.name) in (value, tuple(value.split(",")))
    assert host_rules.reading(host_fields.READING, {field.name: "default"}, "") == {}
    if field.of_files:
        with pytest.raises(RefusedError, match=f"{field.label} {value} says how the plate's own files are read"):
            host_rules.reading(host_fields.READING, {field.name: value}, "Nuke writes it")


def test_what_hosts_carry_of_the_table_is_as_the_table_says():
    again = "run python -m tools.host_fields"
    assert tools_host_fields.MODULE.read_text(encoding="utf-8") == tools_host_fields.module_text(), again
    gizmo = tools_host_fields.GIZMO.read_text(encoding="utf-8")
    assert tools_host_fields.gizmo_text(gizmo) == gizmo, again


@pytest.mark.parametrize(
    "typed, exposure", [("", None), ("  ", None), ("auto", "auto"), (" -1.5 ", -1.5), ("0", 0.0), ("+2", 2.0)]
)
def test_exposure_as_it_is_typed(typed, exposure):
    assert host_rules.exposure_of(typed) == exposure


@pytest.mark.parametrize("typed", ["bright", "nan", "inf", "1,5", "auto 2"])
def test_an_exposure_that_is_no_number_of_stops_is_refused(typed):
    with pytest.raises(RefusedError, match="is no number of stops; write one, or auto"):
        host_rules.exposure_of(typed)


def test_a_lora_with_its_strength():
    assert host_rules.lora_of("", 0.5) is None
    assert host_rules.lora_of("/a b.safetensors", 1.0) == ["/a b.safetensors"]
    assert host_rules.lora_of("/a.safetensors", -0.25) == ["/a.safetensors:-0.25"]


def test_numbers_are_typed_with_spaces_as_people_do():
    assert host_rules.without_spaces(" 1013, 1040\t") == "1013,1040"
    assert host_rules.without_spaces("  ") is None
