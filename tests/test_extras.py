"""Features whose libraries are in an extra: one line where they are missing, and nothing written."""

import re
import tomllib
from pathlib import Path

import pytest

from vera.core import extras
from vera.core.cli import main
from vera.core.errors import InputError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)


def test_the_table_agrees_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra, libraries in extras.EXTRAS.items():
        listed = {re.match(r"[\w-]+", line)[0] for line in project["optional-dependencies"][extra]} - {project["name"]}
        assert set(libraries) == listed


@pytest.mark.parametrize("name", [name for names in extras.EXTRAS.values() for name in names])
def test_the_message_names_library_and_extra(name, nothing_installed):
    extra = next(extra for extra, names in extras.EXTRAS.items() if name in names)
    with pytest.raises(InputError, match=rf"^a feature: needs {name}, .*pip install 'vera-edit\[{extra}\]'$"):
        extras.require("a feature", name)


def test_what_is_installed_is_not_named():
    extras.require("a feature", "torch")
    assert extras.missing("torch", "no_such_library") == "no_such_library"


@pytest.mark.parametrize(
    "command",
    [
        "render --plate {plate} --prompt snow --model {folder} --out {out}",
        "render --plate {plate} --prompt snow --model vace:{folder} --mask {plate} --out {out}",
        "plan --model 1.3b",
    ],
)
def test_commands_without_the_full_size_libraries(command, nothing_installed, tmp_path, capsys):
    folder, out = tmp_path / "model", tmp_path / "out"
    folder.mkdir()
    words = command.format(plate=ROOT / "demo/plate.mp4", folder=folder, out=out).split()
    assert main(words) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "pip install 'vera-edit[full-size]'" in message
    assert not out.exists()
