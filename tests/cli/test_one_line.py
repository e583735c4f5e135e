"""Every command ends wrong input with one short, printable line and exit code 2, from one place."""

import ast
import importlib
from pathlib import Path

import numpy as np
import pytest

from tests.plate.media import write_image
from vera.core import cli
from vera.core.cli import data, model
from vera.core.errors import MAX_LINE, InputError, one_line, printable
from vera.core.layer.out_folder import refuse_unwritable
from vera.core.progress import Progress

HOSTILE = "\x1b[2J\u202egpj.exe\u2066\x07\n\ttwo\udc80 " + "x" * 10_000
GROUPS = {"data": data.COMMANDS, "model": model.COMMANDS}
COMMANDS = [[name] for name in cli.COMMANDS if name not in GROUPS]
COMMANDS += [[group, name] for group, commands in GROUPS.items() for name in commands]
# A value that each command reads from its arguments and refuses; others refuse an unknown option.
ARGUMENTS = {
    "render": [f"{HOSTILE}.json"],
    "lift": ["--plate", HOSTILE, "--edited", HOSTILE, "--out", "out"],
    "inspect": [HOSTILE],
    "serve": ["--submit", HOSTILE],
    "farm": [HOSTILE],
    "plan": ["--model", HOSTILE],
    "compare": [HOSTILE, "--out", "out", "--model", "mini"],
    "evaluate": ["--json", f"{HOSTILE}/a.json"],
    "train": [HOSTILE],
    "data check": [HOSTILE],
    "data clips": [HOSTILE, "--out", "nowhere"],
    "data sheet": [HOSTILE],
    "model from-wan": [HOSTILE, "to"],
    "model export": [HOSTILE, "--to", "to"],
    "model cost": [HOSTILE],
    "model sheet": [HOSTILE],
}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("kind", ["value", "option"])
def test_wrong_input_is_one_printable_line(words, kind, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VERA_SERVICE_DIR", str(tmp_path))
    arguments = ARGUMENTS[" ".join(words)] if kind == "value" else [f"--{HOSTILE}"]
    assert cli.main([*words, *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    line = said.err.removesuffix("\n")
    assert len(line) <= MAX_LINE and line.isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("out", ["~/x", "$HOME/x", "${SHOT}/x", "a/%USERNAME%/x"])
def test_an_out_that_a_shell_would_replace_is_refused(out, tmp_path):
    with pytest.raises(InputError, match=" is not replaced here; write the whole path"):
        refuse_unwritable(Path(out))
    (tmp_path / "~").mkdir()
    refuse_unwritable(tmp_path / "~")


@pytest.mark.parametrize("name", ["", "data", "model"])
def test_an_unknown_command_is_one_printable_line(name, capsys):
    assert cli.main([*name.split(), HOSTILE]) == 2
    line = capsys.readouterr().err
    assert (
        line.startswith("error: ") and line.count("\n") == 1 and line[:-1].isprintable() and len(line) <= MAX_LINE + 1
    )


def test_what_acts_on_a_terminal_is_shown_as_an_escape():
    assert printable("a\x1b[2J\u202eb\udc80 é 日") == "a\\x1b[2J\\u202eb\\udc80 é 日"
    assert one_line("two\nlines\x00") == "two lines\\x00"


@pytest.mark.parametrize("kind", ["bar", "jsonl", "none"])
def test_words_of_progress_are_printable(kind, capsys):
    progress = Progress(kind)
    progress.say(HOSTILE), progress.note(HOSTILE), progress.warn(HOSTILE)
    said = capsys.readouterr()
    assert all(line.isprintable() for line in (said.out + said.err).splitlines())


def test_a_page_of_what_is_read_is_printable(capsys, tmp_path):
    plate = write_image(tmp_path / "a\x1b[2J\u202e.exr", np.zeros((16, 16, 3), np.float16))
    assert cli.main(["inspect", str(plate)]) == 0
    page = capsys.readouterr().out
    assert "a\\x1b[2J\\u202e.exr" in page and all(line.isprintable() for line in page.splitlines())


def test_no_command_prints_an_error_by_itself():
    """core.job.run.failed prints them all: elsewhere print() to standard error is of counts and notices."""
    allowed = {"command.py": 1, "data_check.py": 2}
    for path in Path(importlib.import_module("vera.core.cli").__path__[0]).glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        prints = [call for call in calls if any(word.arg == "file" for word in call.keywords)]
        assert len(prints) == allowed.get(path.name, 0), path.name
