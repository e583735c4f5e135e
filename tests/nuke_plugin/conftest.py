"""The plug-in as it is built, in a stand-in for Nuke."""

import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.nuke_plugin.pixels import Pictures, write_exr

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "nuke_plugin"
FAKE = Path(__file__).with_name("fake")


def load(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder for NUKE_PATH."""
    return load(PLUGIN / "build.py", "vera_nuke_build").build(tmp_path_factory.mktemp("dist"))[0]


@pytest.fixture(scope="session")
def stand_in(built):
    """The modules `nuke` and `vera_nuke`, imported once."""
    sys.path[:0] = [str(built), str(FAKE)]
    import nuke

    nuke.gizmo_paths.append(str(built))
    yield nuke
    sys.path.remove(str(built))
    sys.path.remove(str(FAKE))


@pytest.fixture
def nuke(stand_in, built, tmp_path, monkeypatch):
    """A new Nuke with an empty script, the plug-in's init.py run, settings of this test's own."""
    monkeypatch.setenv("VERA_NUKE_SETTINGS", str(tmp_path / "settings.json"))
    for name in ("VERA_PYTHON", "VERA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    stand_in.reset()
    stand_in.pictures = Pictures()
    stand_in.painter = stand_in.pictures.paint
    load(built / "init.py", "vera_nuke_init")
    from vera_nuke import badge, guard

    guard._seen = False
    badge._words.clear()
    badge._looked.clear()
    (tmp_path / "settings.json").write_text(json.dumps({"cache": str(tmp_path / "cache")}))
    yield stand_in
    from vera_nuke import run

    for each in run._running.values():
        each.cancelled.set()
    watching = lambda: [t for t in threading.enumerate() if t.name.startswith("Vera")]  # noqa: E731
    assert stand_in.pump(lambda: not watching(), 60), watching()
    assert not stand_in.violations
    assert stand_in.Undo.depth == stand_in.Undo.disabled_depth == 0


def old_python(version):
    """An interpreter of that version that starts, or None."""
    found = [shutil.which("python" + version), *map(str, Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
    works = (p for p in found if p and subprocess.run([p, "-c", ""], capture_output=True).returncode == 0)
    return next(works, None)


@pytest.fixture
def plate(nuke, tmp_path):
    """A Read of five tiny frames, 1001-1005, scene-linear half EXR."""
    (tmp_path / "shot").mkdir()
    random = np.random.default_rng(7)
    for frame in range(1001, 1006):
        pixels = np.linspace(0.02, 0.6, 64)[None, :, None] * np.ones((48, 64, 3)) + random.uniform(0, 0.05, (48, 64, 3))
        write_exr(tmp_path / "shot" / f"plate.{frame}.exr", pixels)
    return read_node(nuke, tmp_path / "shot" / "plate.####.exr")


def read_node(nuke, pattern, first=1001, last=1005, **facts):
    pattern = str(pattern)
    nuke.file_facts[pattern] = {
        "input/width": 64,
        "input/height": 48,
        "input/bitsperchannel": "16-bit half float",
        "channels": ["rgba.red", "rgba.green", "rgba.blue"],
        **facts,
    }
    read = nuke.createNode("Read")
    for name, value in {"file": pattern, "first": first, "last": last, "origfirst": first, "origlast": last}.items():
        read[name].setValue(value)
    return read


def delivery(base, request):
    """A version as the core delivers it, with empty files; returns its number."""
    from vera_nuke import versions

    number = versions.begin(base, request)
    out = Path(versions.path(base, number))
    (out / "edit").mkdir()
    entries = []
    for frame in range(request.first, request.last + 1):
        (out / "edit" / f"edit.{frame}.exr").touch()
        entries.append({"frame": frame, "edit": {"file": f"edit/edit.{frame}.exr"}})
    (out / "manifest.json").write_text(json.dumps({"frames": entries, "extra": {"warnings": ["no word 'zebra'"]}}))
    return number


@pytest.fixture
def edit(nuke, plate):
    """A VeraEdit on the plate."""
    return edit_node(nuke, plate)


def edit_node(nuke, plate, prompt="Add a large red balloon rising on the right"):
    node = nuke.createNode("VeraEdit")
    node.setInput(0, plate)
    node["prompt"].setValue(prompt)
    return node
