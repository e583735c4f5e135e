"""Lists of shots, path mapping, input errors of `vera farm`, and the report."""

import json

import pytest

from vera.core.cli import farm as door
from vera.core.errors import InputError
from vera.core.farm.report import Report
from vera.core.farm.shot_lists import Mapping, Shot, read_shots
from vera.core.job.run import DONE, FAULT, STOPPED, WRONG_INPUT


def write(path, values):
    path.write_text(json.dumps(values))
    return str(path)


def job(out, **changes):
    return {"plate": "plate.####.exr", "prompt": "Add fog", "out": out, **changes}


def test_a_file_holds_one_job_or_a_list(tmp_path):
    (tmp_path / "sub").mkdir()
    one = write(tmp_path / "one.json", job("a"))
    more = write(tmp_path / "sub/more.json", [job("b"), job("../c", seed=3)])
    shots = read_shots([one, more])
    assert [s.number for s in shots] == [1, 2, 3] and not any(s.error for s in shots)
    assert shots[1].recipe.plate == str(tmp_path / "sub/plate.####.exr") and shots[2].recipe.seed == 3
    assert shots[2].where == f"{more}, shot 2" and shots[2].name == "shot 3 (c)"


def test_a_wrong_shot_does_not_affect_the_others(tmp_path):
    wrong = [
        {"plate": "x"},
        7,
        job("w", seed=-1),
        job("w", colour="red"),
        job("w", schema="vera.recipe/9"),
        job("./good/"),
    ]
    shots = read_shots([write(tmp_path / "shots.json", [job("good"), *wrong])])
    assert [bool(s.error) for s in shots] == [False] + [True] * 6
    words = ("prompt is missing", "not a job", "seed -1", "unknown 'colour'", "vera.recipe/9", "that of shot 1 too")
    for number, (shot, word) in enumerate(zip(shots[1:], words, strict=True), 2):
        assert word in shot.error and f"shots.json, shot {number}" in shot.error and "\n" not in shot.error


def test_a_link_to_another_shot_s_out_counts_as_the_same_out(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert read_shots([write(tmp_path / "s.json", [job("a"), job("link")])])[1].error


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["none.json"], "no such job file"),
        ([], "required"),
        (["{t}/shots.json", "--cpus", "0"], "--cpus 0"),
        (["{t}/shots.json", "--gpus", "nan"], "--gpus nan"),
        (["{t}/shots.json", "--retries", "-1"], "--retries -1"),
        (["{t}/empty.json"], "no shots"),
        (["{t}/broken.json"], "not JSON, line 1"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, tmp_path, capsys):
    write(tmp_path / "shots.json", [job("a")])
    write(tmp_path / "empty.json", [])
    (tmp_path / "broken.json").write_text("[{")
    assert door.main([a.format(t=tmp_path) for a in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and words in said.err


def test_without_ray_the_error_says_how_to_install_it(tmp_path, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "vera.core.farm.engine", raising=False)
    monkeypatch.delattr("vera.core.farm.engine", raising=False)
    assert door.main([write(tmp_path / "shots.json", [job("a")])]) == 2
    assert "pip install" in capsys.readouterr().err


# Path mapping

RULES = [
    {"source_path_format": "WINDOWS", "source_path": "Z:\\shots", "destination_path": "/mnt/shots"},
    {"source_path_format": "POSIX", "source_path": "/shots", "destination_path": "/mnt/a"},
    {"source_path_format": "POSIX", "source_path": "/shots/long", "destination_path": "/mnt/b c"},
]


@pytest.fixture
def rules(tmp_path):
    return Mapping(write(tmp_path / "rules.json", {"version": "pathmapping-1.0", "path_mapping_rules": RULES}))


@pytest.mark.parametrize(
    "there, here",
    [
        ("/shots/x/p.####.exr", "/mnt/a/x/p.####.exr"),
        ("/shots/long/p.exr", "/mnt/b c/p.exr"),
        ("/shots/longer/p.exr", "/mnt/a/longer/p.exr"),
        ("/shots", "/mnt/a"),
        ("/shotsx/p.exr", "/shotsx/p.exr"),
        ("z:\\SHOTS\\x\\p.%04d.exr", "/mnt/shots/x/p.%04d.exr"),
        ("Z:/shots/p.exr", "/mnt/shots/p.exr"),
        ("shots/p.exr", "shots/p.exr"),
    ],
)
def test_paths_are_mapped_by_the_longest_rule(rules, there, here):
    values = {"plate": there, "mask": there, "out": there, "prompt": "/shots", "model": f"lift:{there}"}
    assert rules(values) == {"plate": here, "mask": here, "out": here, "prompt": "/shots", "model": f"lift:{here}"}
    assert rules({"model": "mini", "mask": None, "out": 7}) == {"model": "mini", "mask": None, "out": 7}


@pytest.mark.parametrize(
    "found",
    [[], {"version": "pathmapping-2.0"}, {"path_mapping_rules": [{"source_path": "/a"}]}, {"path_mapping_rules": 3}],
)
def test_unknown_path_mapping_rules_are_refused(found, tmp_path):
    with pytest.raises(InputError, match="path mapping"):
        Mapping(write(tmp_path / "rules.json", found))


def test_a_file_without_rules_maps_nothing(tmp_path):
    assert Mapping(write(tmp_path / "rules.json", {}))({"plate": "/a"}) == {"plate": "/a"}


# The report


class Outcome:
    def __init__(self, shot, code, rendered=False):
        self.shot, self.code, self.message, self.rendered = shot, code, "words", rendered


@pytest.mark.parametrize(
    "codes, exit_code",
    [
        ([DONE, DONE], DONE),
        ([DONE, WRONG_INPUT], WRONG_INPUT),
        ([WRONG_INPUT, FAULT], FAULT),
        ([FAULT, STOPPED, WRONG_INPUT], STOPPED),
    ],
)
def test_the_most_severe_outcome_is_the_exit_code(codes, exit_code, capsys):
    shots = [Shot(n, "here") for n in range(1, len(codes) + 1)]
    report = Report(shots, "jsonl")
    report.begin()
    for shot, code in zip(shots, codes):
        report.ended(Outcome(shot, code, rendered=True))
    assert report.close() == exit_code
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "done" and sum(last.get(s, 0) for s in ("done", "wrong", "failed", "stopped")) == len(codes)


def test_restarts_are_counted_and_warnings_printed_once(capsys):
    report = Report([Shot(1, "here")], "bar")
    report.begin()
    worker = {"shot": 1, "host": "node", "pid": 7}
    for _ in range(2):
        report.receive([{"event": "begun", **worker}, {"event": "warning", "text": "mind this", **worker}])
    report.close()
    said = capsys.readouterr().err
    assert "started again, the 2nd time, on node, process 7" in said and said.count("mind this") == 1
