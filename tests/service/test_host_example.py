"""The host that docs/extending/host.md shows: it runs as it stands there."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from vera.core.service.client import Client

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extending" / "host.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The page's code, beside copies of the files that a host carries."""
    folder = tmp_path / "host"
    folder.mkdir()
    for name in ("client.py", "host_rules.py", "host_fields.py"):
        shutil.copy(ROOT / "core" / "service" / name, folder)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (folder / "example_host.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    import example_host

    yield example_host
    for name in ("example_host", "client", "host_rules"):
        sys.modules.pop(name, None)


def test_the_page_names_what_is_there():
    page = PAGE.read_text(encoding="utf-8")
    for path in re.findall(r"`((?:core|nuke_plugin|blender_addon|tests)/[\w./]+)`", page):
        assert (ROOT / path).exists(), path


def test_the_example_of_the_page_runs(example, service, recipe, tmp_path):
    values = recipe("steps=4 pause=0.05", "example")
    Path(values["out"]).mkdir()
    Path(values["out"], "manifest.json").write_text('{"composite": {"format": "exr"}, "frames": []}')
    said = []
    edit = example.edit(
        Client(service.folder),
        "vera",
        "",
        "",
        values["prompt"],
        values["plate"],
        values["out"],
        lambda *words: said.append(words),
    )
    assert edit.endswith("edit/edit.####.exr")
    assert said[-1] == (100, "done") and [percent for percent, _ in said] == sorted(percent for percent, _ in said)
    with pytest.raises(example.host_rules.RefusedError, match="a input failure"):
        example.edit(Client(service.folder), "vera", "", "", "input", values["plate"], str(tmp_path / "other"), print)
