"""One table of recipe fields: what is made from it is complete, and a new row reaches every place."""

import json
import re
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vera.core.cli import lift, render
from vera.core.cli.arguments import Parser, add_recipe_options, recipe_values
from vera.core.errors import InputError
from vera.core.farm import templates
from vera.core.farm.shot_lists import Mapping
from vera.core.farm.task import values_of
from vera.core.recipe import EditRecipe, docs, table
from vera.core.recipe.backend_table import BACKENDS, prefixes
from vera.core.recipe.field import fields_of
from vera.core.recipe.json_schema import recipe_schema
from vera.core.recipe.path_kind import PathKind
from vera.core.recipe.table import FIELDS, row
from vera.core.service import api, client, security

ROOT = Path(__file__).parents[2]
NEEDED = {"plate": "p.png", "prompt": "Add fog", "out": "out"}


def recipe(**values) -> EditRecipe:
    return EditRecipe(**NEEDED | values)


# A row that nothing in the code knows


@dataclass(frozen=True)
class WiderRecipe(EditRecipe):
    light_map: str | None = field(
        default=None,
        metadata=row(
            help="a panorama of the set", hint="a picture", path=PathKind.PATTERN, backends=("generate", "lift")
        ),
    )


@pytest.fixture
def wider(monkeypatch):
    monkeypatch.setattr(table, "FIELDS", fields_of(WiderRecipe))


def test_a_new_row_is_an_option_of_the_backends_that_take_it(wider):
    for parser, given in ((render.parser(), []), (lift.parser(), ["--edited", "e.mov"])):
        assert "a panorama of the set" in parser.format_help()
        assert recipe_values(parser.parse_args([*given, "--light-map", "l.exr"])) == {"light_map": "l.exr"}
    vace = Parser()
    add_recipe_options(vace, "vace")
    with pytest.raises(InputError, match="--light-map"):
        vace.parse_args(["--light-map", "l.exr"])


def test_a_new_row_is_in_the_schema(wider):
    assert recipe_schema()["properties"]["light_map"]["type"] == ["string", "null"]


def test_the_paths_of_a_new_row_are_mapped_and_checked(wider, tmp_path):
    rules = {
        "version": "pathmapping-1.0",
        "path_mapping_rules": [{"source_path_format": "POSIX", "source_path": "/there", "destination_path": "/here"}],
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    assert Mapping(tmp_path / "rules.json")({"light_map": "/there/l.exr"}) == {"light_map": "/here/l.exr"}
    with pytest.raises(InputError, match="^light_map /etc/l.exr: outside the folders"):
        inside = {name: f"{tmp_path}/{value}" for name, value in NEEDED.items()}
        security.check_recipe(inside | {"prompt": "x", "light_map": "/etc/l.exr"}, [tmp_path])


def test_the_paths_of_a_new_row_are_taken_from_the_job_files_folder(tmp_path):
    read = WiderRecipe.from_job(NEEDED | {"light_map": "l.exr"}, tmp_path, "a job")
    assert read.light_map == str(tmp_path / "l.exr") == read.to_json()["light_map"]


@pytest.mark.parametrize(
    "model, read",
    [
        ("beside", "{jobs}/beside"),  # a folder beside the job file
        ("mini", "mini"),  # a name
        ("here", "here"),  # a folder in the current one, as in recipes up to 0.1.0
        ("both", "{jobs}/both"),
        ("lift:edited.mov", "lift:{jobs}/edited.mov"),
        ("vace:beside", "vace:{jobs}/beside"),
    ],
)
def test_a_job_files_model_is_a_folder_beside_it_or_a_name(tmp_path, monkeypatch, model, read):
    for folder in ("jobs/beside", "jobs/both", "current/here", "current/both"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "current")
    jobs = tmp_path / "jobs"
    assert EditRecipe.from_job(NEEDED | {"model": model}, jobs, "a job").model == read.format(jobs=jobs)


def test_a_new_row_is_in_the_docs_and_in_a_farms_task(wider):
    assert "| `light_map` |" in docs.fields_table()
    assert values_of(["light_map=/l.exr"]) == {"light_map": "/l.exr"}
    assert '"light_map={{Param.LightMap}}"' in templates.shot_template()


def test_a_new_row_is_checked():
    with pytest.raises(InputError, match="light_map is empty; leave it out or give a picture"):
        WiderRecipe(**NEEDED, light_map="")


# What is made of the table as it is


def test_every_field_has_an_option_of_vera_render():
    options = vars(render.parser().parse_args([]))
    assert {f.name for f in FIELDS} <= set(options)


def test_vera_lift_has_the_options_that_the_table_gives_a_lift():
    options = set(vars(lift.parser().parse_args(["--edited", "e"])))
    taken = {f.name for f in FIELDS if "lift" in f.row.backends} - {"prompt", "model"}
    assert taken <= options and {"also", "layer_type", "compression", "verbose"} <= options
    assert not options & {f.name for f in FIELDS if "lift" not in f.row.backends}


def test_options_make_the_recipe_that_values_make():
    given = ["--plate", "p.png", "--prompt", "Add fog", "--out", "out", "--seed", "3", "--guidance", "2.5", "--keep"]
    given += ["--frames", "-5-3", "--also", "png,prores", "--lora", "a", "--lora", "b:0.5", "--exposure", "-1.5"]
    made = render.recipe_of(render.parser().parse_args(given))
    assert made == recipe(
        seed=3, guidance=2.5, keep=True, frames="-5-3", also=("prores", "png"), lora=("a", "b:0.5"), exposure=-1.5
    )


@pytest.mark.parametrize("name, value", [("frames", "-5-3"), ("cuts", "-2,4"), ("region", "-32,-28,64,64")])
def test_values_that_begin_with_a_minus_are_no_options(name, value):
    assert getattr(render.parser().parse_args([f"--{name}", value]), name) == value


def test_a_lifts_options_make_a_recipe_of_the_edited_video():
    args = lift.parser().parse_args(["--plate", "p.png", "--edited", "e.mov", "--out", "out", "--also", "matte"])
    assert lift.recipe_of(args) == recipe(prompt=lift.NOTE, model="lift:e.mov", also=("matte",))


def test_the_schema_takes_what_a_recipe_takes():
    values = recipe(mask="m.png", steps=4, lora=["a:0.5"], also=["png"]).to_json()
    values.pop("schema")
    api.check_body(api.OPERATIONS[1], {"recipe": json.loads(json.dumps(values))})


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"steps": 0},
        {"guidance": 31},
        {"cache": 2},
        {"guidance": -1},
        {"cache": -1},
        {"exposure": 21},
        {"exposure": -21},
        {"seed": 2**63},
        {"also": ["gif"]},
        {"blend_space": "log"},
        {"keep": 1},
        {"lora": "a"},
        {"weights": "int4"},
        {"colour": "red"},
    ],
)
def test_the_schema_refuses_what_a_recipe_refuses(values):
    with pytest.raises(security.RequestError):
        api.check_body(api.OPERATIONS[1], {"recipe": NEEDED | values})
    with pytest.raises(InputError):
        EditRecipe.from_values(NEEDED | values)


def test_the_client_of_the_hosts_knows_the_fields_that_hold_paths():
    assert client.PATH_FIELDS == {f.name: f.row.path.value for f in FIELDS if f.row.path}
    assert client.MODEL_PREFIXES == tuple(name for name in prefixes() if BACKENDS[name].path)


@pytest.mark.parametrize(
    "given, mapped",
    [
        ({"plate": "/here/p.exr", "mask": None, "out": "/here/o"}, {"plate": "/there/p.exr", "out": "/there/o"}),
        ({"model": "/here/vera"}, {"model": "/there/vera"}),
        ({"model": "mini"}, {"model": "mini"}),
        ({"model": "vace:/here/vace"}, {"model": "vace:/there/vace"}),
        ({"lora": ["/here/a:0.5", "/here/b", "/else/c:1"]}, {"lora": ["/there/a:0.5", "/there/b", "/else/c:1"]}),
        ({"lora": "/here/a", "model": 7}, {"lora": "/here/a", "model": 7}),
    ],
)
def test_the_client_maps_every_path(given, mapped, monkeypatch):
    sent = []
    mine = client.Client(path_map=[("/here", "/there")])
    monkeypatch.setattr(mine, "_job", lambda method, path, body: sent.append(body["recipe"]))
    mine.submit(given)
    assert sent == [mapped]


def test_the_farm_maps_every_path(tmp_path):
    rules = {
        "path_mapping_rules": [{"source_path_format": "WINDOWS", "source_path": "Z:\\", "destination_path": "/mnt/z"}]
    }
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    values = {"plate": "z:\\p.exr", "prompt": "z:\\", "model": "Z:\\vera", "lora": ["Z:\\l\\a.st:0.5", "mine.st"]}
    assert Mapping(tmp_path / "rules.json")(values) == {
        "plate": "/mnt/z/p.exr",
        "prompt": "z:\\",
        "model": "/mnt/z/vera",
        "lora": ["/mnt/z/l/a.st:0.5", "mine.st:1.0"],
    }


def test_a_farms_task_reads_texts_as_their_fields_types():
    given = [
        "seed=3",
        "steps=0",
        "guidance=0",
        "keep=true",
        "compile=false",
        "also=png,prores",
        "lora=a\nb:0.5",
        "mask=",
    ]
    assert values_of([f"{name}={value}" for name, value in NEEDED.items()] + given) == NEEDED | {
        "seed": 3,
        "keep": True,
        "compile": False,
        "also": "png,prores",
        "lora": ("a", "b:0.5"),
    }
    with pytest.raises(InputError, match="guidance 'much' is not a number"):
        values_of(["guidance=much"])


def test_a_farms_task_reads_rare_fields_from_one_text():
    given = [f"{name}={value}" for name, value in NEEDED.items()]
    more = "more=matrix=bt709\n range=full\n\nlora_skip_missing=true"
    assert values_of([*given, more]) == NEEDED | {"matrix": "bt709", "range": "full", "lora_skip_missing": True}
    assert values_of([*given, "more="]) == NEEDED
    for wrong in ("seed=3", "more=matrix=bt709", "shots=/x", "matrix"):
        with pytest.raises(InputError, match="more: '.*' is no rare field|is not NAME=VALUE"):
            values_of([f"more={wrong}"])


def test_a_farms_template_holds_no_more_parameters_than_openjd_takes():
    assert templates.shot_template().count("  - name: ") - 1 <= 50  # one of them is the step's


def test_the_docs_table_is_as_the_code_has_it():
    page = (ROOT / "docs/recipe.md").read_text(encoding="utf-8")
    assert docs.with_table(page) == page, "run python -m vera.core.recipe.docs docs/recipe.md"


def test_the_farms_template_is_as_the_code_has_it():
    made = templates.shot_template()
    assert templates.FILE.read_text(encoding="utf-8") == made, "run python -m vera.core.farm.templates"


def test_every_row_says_what_it_needs_to():
    for each in FIELDS:
        assert each.row.help, each.name
        assert set(each.row.backends) <= set(BACKENDS), each.name
        assert each.row.left_out or set(each.row.backends) == set(BACKENDS), each.name
        if str in each.kinds and not each.row.choices and not each.row.read:
            assert each.row.hint, each.name


# Job files


def test_paths_of_a_job_file_are_taken_from_its_folder(tmp_path):
    (tmp_path / "vera").mkdir()
    values = {"plate": "p.png", "prompt": "x", "out": "o", "mask": "/m.png", "model": "vera", "lora": ["l.st:0.5"]}
    (tmp_path / "job.json").write_text(json.dumps(values))
    read = EditRecipe.from_file(str(tmp_path / "job.json"))
    assert (read.plate, read.out, read.mask) == (f"{tmp_path}/p.png", f"{tmp_path}/o", "/m.png")
    assert read.model == f"{tmp_path}/vera" and read.lora == (f"{tmp_path}/l.st:0.5",)


@pytest.mark.parametrize("model", ["mini", "elsewhere/vera", "14b"])
def test_a_models_name_or_a_folder_of_elsewhere_stays(tmp_path, model):
    assert EditRecipe.from_job(NEEDED | {"model": model}, tmp_path, "a job").model == model


def test_what_a_delivery_of_an_older_version_holds_is_read(tmp_path):
    """A recipe.json written before the table was one, with all that stood in it."""
    old = {
        "schema": "vera.recipe/1",
        "plate": "/shots/p.####.exr",
        "prompt": "Add fog",
        "out": "/shots/out",
        "mask": None,
        "frames": None,
        "model": "mini",
        "seed": 0,
        "steps": None,
        "guidance": None,
        "color_space": None,
        "blend_space": "linear",
        "region": None,
        "cuts": None,
        "keep": False,
        "layer_type": "half",
        "compression": "zip",
        "also": ["prores"],
        "layer_space": None,
        "layer_mode": "auto",
        "exposure": "auto",
        "attention": "dense",
        "cache": None,
        "compile": False,
        "one_batch": False,
        "weights": "auto",
        "offload": "auto",
        "lora": [],
        "recipe_hash": "0" * 32,
        "generation": "1" * 32,
    }
    (tmp_path / "recipe.json").write_text(json.dumps(old))
    read = EditRecipe.from_file(str(tmp_path / "recipe.json"))
    assert read == EditRecipe("/shots/p.####.exr", "Add fog", "/shots/out", also=("prores",))
    written = json.loads(json.dumps(read.to_json()))
    assert {name: written[name] for name in old if name not in ("recipe_hash", "generation")} == {
        name: value for name, value in old.items() if name not in ("recipe_hash", "generation")
    }


# Messages


@pytest.mark.parametrize(
    "name, fix",
    [("promt", "did you mean 'prompt'?"), ("colorspace", "did you mean 'color_space'?"), ("zzz", "known are also, ")],
)
def test_an_unknown_field_names_the_nearest(name, fix):
    with pytest.raises(InputError, match=re.escape(f"job.json: unknown '{name}'; {fix}")):
        EditRecipe.from_values(NEEDED | {name: 1}, "job.json")


@pytest.mark.parametrize(
    "values, line",
    [
        ({"prompt": " "}, "prompt is empty; say what should change, such as 'Add a red balloon on the left'"),
        (
            {"prompt": ["a"]},
            "prompt ['a'] is not a text; say what should change, such as 'Add a red balloon on the left'",
        ),
        ({"mask": ""}, "mask is empty; leave it out or give a sequence, a movie or a still"),
        ({"mask": 7}, "mask 7 is not a text; leave it out or give a sequence, a movie or a still"),
        ({"seed": True}, "seed True is out of range; give a whole number from 0 to 9223372036854775807"),
        ({"guidance": float("nan")}, "guidance nan is out of range; give a number from 0 to 30"),
        ({"weights": "int4"}, "weights 'int4' is unknown; choose auto, bf16, fp8, int8"),
        ({"layer_type": ["half"]}, "layer type ['half'] is unknown; choose half, float"),
        ({"lora": 5}, "lora 5 is not a list of texts; give a list of FILE or FILE:STRENGTH"),
        ({"lora": [["a"]]}, "lora [['a']] is not a list of texts; give a list of FILE or FILE:STRENGTH"),
        ({"lora": ["a:99"]}, "lora 'a:99' is not FILE or FILE:STRENGTH, a number up to 10"),
        ({"also": 5}, "also 5 is not a list; choose from prores, png, matte"),
        ({"also": [["png"]]}, "also ['png'] is unknown; choose from prores, png, matte"),
        ({"exposure": []}, "exposure [] is out of range; give auto, or stops from -20 to 20"),
        ({"keep": "yes"}, "keep 'yes' is not true or false"),
        ({"prompt": "a\0b"}, "prompt 'a\\x00b' contains a NUL or a character that is not Unicode; remove it"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_fix(values, line):
    with pytest.raises(InputError) as raised:
        recipe(**values)
    assert str(raised.value) == line


@pytest.mark.parametrize("name", [f.name for f in FIELDS])
@pytest.mark.parametrize(
    "value", [10**5000, "x\0" * 9000, ["y"] * 9000, {"a": 1}, [[[]]], -1.5], ids=lambda v: type(v).__name__
)
def test_any_odd_value_is_a_short_line_or_taken(name, value):
    """Of another type, or thousands of characters long: never a traceback."""
    try:
        EditRecipe.from_values(NEEDED | {name: value})
    except InputError as error:
        assert len(str(error)) <= 300 and "\n" not in str(error)


def test_values_that_no_option_gave_are_not_given():
    assert recipe_values(Namespace(seed=None, prompt="x")) == {"prompt": "x"}
