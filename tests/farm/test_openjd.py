"""The OpenJD templates in the public runner, with a stand-in worker that records its arguments, and once for real."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openjd.model")

from openjd.model import DocumentType, decode_job_template, document_string_to_object  # noqa: E402

from tests.plate.media import write_sequence  # noqa: E402
from vera.core.farm import task  # noqa: E402
from vera.core.recipe.parse import MAX_TEXT  # noqa: E402

ROOT = Path(__file__).parents[2]
TEMPLATES = {name: ROOT / f"core/farm/openjd/{name}/template.yaml" for name in ("shot", "shots")}


def job_run(name, values, folder, *more):
    """Run a template with the public runner, as a farm does; values are passed in a file and not through a shell."""
    file = folder / "values.json"
    file.write_text(json.dumps({"Python": sys.executable} | values))
    command = [sys.executable, "-m", "openjd", "run", str(TEMPLATES[name]), "-p", f"file://{file}", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=600)


@pytest.fixture
def stand_in(tmp_path):
    """An executable in place of Python, and a function that returns the argument lists it received so far."""
    script, notes = tmp_path / "stand in", tmp_path / "notes"
    script.write_text(
        f"#!{sys.executable}\nimport json, sys\nopen({str(notes)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    script.chmod(0o755)
    return str(script), lambda: [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_need_no_openjd_extension(name):
    """So any farm accepts them."""
    template = document_string_to_object(document=TEMPLATES[name].read_text(), document_type=DocumentType.YAML)
    decode_job_template(template=template, supported_extensions=[])
    assert template["specificationVersion"] == "jobtemplate-2023-09" and "extensions" not in template
    for parameter in template["parameterDefinitions"]:
        assert ("dataFlow" in parameter and "objectType" in parameter) == (parameter["type"] == "PATH")


HOSTILE = [
    "--help",
    "-",
    "$(touch {pwned})",
    "`touch {pwned}`",
    "; touch {pwned} #",
    "a' ; touch {pwned} ; '",
    'a" && touch {pwned} && "',
    "| touch {pwned} &",
    "%PATH% ^& $HOME ${{HOME}} !x! * ~ ?",
    "{{{{Param.Python}}}} {{{{Session.WorkingDirectory}}}}",
    "{{{{",
    "}}}} \\",
    "first\nopenjd_fail: gotcha\nopenjd_env: A=b\n",
    "\n\n",
    "prompt=another",
    "na\u00efve \u96ea \U0001f40d \u202e \ufeff e\u0301",
    " ' \" ",
    "x" * 1024,
]


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script")
def test_hostile_values_arrive_unchanged(tmp_path, stand_in):
    """Six values per run of the public runner, each in another parameter."""
    python, given = stand_in
    names = {
        "Plate": "plate",
        "Prompt": "prompt",
        "Frames": "frames",
        "Mask": "mask",
        "Region": "region",
        "ColorSpace": "color_space",
    }
    pwned = tmp_path / "pwned"
    hostile = [text.format(pwned=pwned) for text in HOSTILE]
    for first in range(0, len(hostile), len(names)):
        values = dict(zip(names, hostile[first : first + len(names)], strict=True))
        folders = {"PlateFolder": f"/in {hostile[first][:60]}", "OutFolder": f"/out {hostile[first + 1][:60]}"}
        done = job_run("shot", {"Python": python} | values | folders, tmp_path)
        assert done.returncode == 0, done.stdout
        assert given()[-1][:3] == ["-P", "-m", "vera.core.farm.task"] and not pwned.exists()
        arrived = task.values_of(given()[-1][3:])
        assert {names[n]: v for n, v in values.items()} == {n: arrived[n] for n in names.values()}
        assert (arrived["plate_folder"], arrived["out"]) == tuple(folders.values())
    assert len(given()) == len(hostile) // len(names)


@pytest.mark.parametrize("prompt", HOSTILE)
def test_hostile_prompts_reach_the_recipe_or_are_refused(prompt):
    arguments = ["plate=p.exr", "out=o", f"prompt={prompt}", "mask=", "steps=0", "guidance=0.0", "seed=7"]
    if not prompt.strip():
        with pytest.raises(task.InputError, match="prompt is empty"):
            task.recipe_of(task.values_of(arguments))
        return
    recipe = task.recipe_of(task.values_of(arguments))
    assert (recipe.prompt, recipe.mask, recipe.steps, recipe.guidance, recipe.seed) == (prompt, None, None, None, 7)


def test_a_prompt_of_the_longest_length_fits_a_list(tmp_path):
    shots = tmp_path / "shots.json"
    shots.write_text(json.dumps([{"plate": "p.exr", "out": "o", "prompt": "x" * MAX_TEXT}]))
    assert len(task.recipe_of({"shots": str(shots), "shot": 1}).prompt) == MAX_TEXT


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script")
def test_a_list_is_one_task_per_shot_with_mapped_paths(tmp_path, stand_in):
    python, given = stand_in
    shots = tmp_path / "it's a list.json"
    jobs = [{"plate": f"/there/{n}.exr", "out": f"out/{n}", "prompt": "Add fog"} for n in range(1, 10)]
    shots.write_text(json.dumps(jobs))
    rules = [{"source_path_format": "POSIX", "source_path": "/there", "destination_path": "/here"}]
    mapping = {"version": "pathmapping-1.0", "path_mapping_rules": rules}
    values = {"Python": python, "ShotsFile": str(shots), "Shots": "1,3,7-9"}
    done = job_run("shots", values, tmp_path, "--path-mapping-rules", json.dumps(mapping))
    assert done.returncode == 0, done.stdout
    found = [task.values_of(arguments[3:]) for arguments in given()]
    assert [v["shot"] for v in found] == [1, 3, 7, 8, 9] and all(v["shots"] == str(shots) for v in found)
    (tmp_path / "rules.json").write_text(json.dumps(mapping))
    recipe = task.recipe_of({"shots": str(shots), "shot": 3, "path_mapping": str(tmp_path / "rules.json")})
    assert (recipe.plate, recipe.out) == ("/here/3.exr", str(tmp_path / "out/3"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["prompt"], "not NAME=VALUE"),
        (["plate=p", "out=o"], "prompt is missing"),
        (["plate=p", "out=o", "prompt=x", "seed=1;2"], "seed '1;2' is not a number"),
        (["plate=p", "out=o", "prompt=x", "device=tpu"], "choose auto, cpu or cuda"),
        (["plate=p", "out=o", "prompt=x", "colour=red"], "unknown 'colour'"),
        (["plate=p\0", "out=o", "prompt=x"], "contains a NUL"),
        (["plate=p", "out=o", "prompt=\ud800"], "not Unicode"),
        (["shots={t}/shots.json", "shot=2"], "no shot 2; it holds 1 to 1"),
        (["shots={t}/shots.json", "shot=1"], "shot 1: plate is missing"),
        (["shots={t}/shots.json", "shot=1", "prompt=x"], "prompt given"),
        (["shots={t}/shots.json", "shot=1", "path_mapping={t}/none"], "no such job file"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, tmp_path, capsys):
    (tmp_path / "shots.json").write_text('[{"prompt": "x"}]')
    assert task.main([a.replace("{t}", str(tmp_path)) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and words in said.err and len(said.err.splitlines()) == 1


def test_no_value_can_issue_a_command_to_the_runner(capsys):
    """The runner reads standard output and error; a value in a message must not act as a command."""
    name = "m\nopenjd_env: LD_PRELOAD=x\nOPENJD_FAIL: x\nopenjd_progress: 100"
    assert task.main(["plate=p.####.exr", "out=o", "prompt=x", f"region={name}"]) == 2
    said = capsys.readouterr()
    assert "LD_PRELOAD" in said.err and "openjd_" not in (said.out + said.err).lower()


@pytest.fixture
def shot(tmp_path):
    write_sequence(tmp_path, (1001, 1002, 1003), size=(48, 64, 3))
    return {"PlateFolder": str(tmp_path), "Plate": "plate.####.exr", "OutFolder": str(tmp_path / "out"), "Steps": 1}


def test_a_shot_is_rendered_by_the_public_runner(tmp_path, shot):
    prompt = 'Add a "red ball" $(touch pwned) {{Param.Seed}}\nopenjd_fail: gotcha'
    done = job_run("shot", shot | {"Prompt": prompt, "Device": "cpu", "Seed": 3, "Anyway": "true"}, tmp_path)
    assert done.returncode == 0, done.stdout
    manifest, recipe = (json.loads((tmp_path / f"out/{name}.json").read_text()) for name in ("manifest", "recipe"))
    assert [e["frame"] for e in manifest["frames"]] == [1001, 1002, 1003]
    assert (recipe["prompt"], recipe["seed"], recipe["steps"], recipe["mask"]) == (prompt, 3, 1, None)
    assert "openjd_progress: 100.0" in done.stdout and "openjd_status: deliver, 3 of 3" in done.stdout
