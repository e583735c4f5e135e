"""The Python of the plug-in: its level, what it imports, what it calls and what it names."""

import ast
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.nuke_plugin.conftest import FAKE, PLUGIN, ROOT, load, old_python

FILES = sorted([*PLUGIN.glob("*.py"), *PLUGIN.glob("vera_nuke/*.py")])
INSIDE = [f for f in FILES if f.name != "build.py"]


@pytest.mark.parametrize("file", INSIDE, ids=lambda f: f.name)
def test_it_is_python_3_9_with_the_standard_library_and_nuke(file):
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 9))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.split(".")[0])
    assert names <= set(sys.stdlib_module_names) | {"nuke", "nukescripts", "vera_nuke"}


@pytest.mark.parametrize("version", ["3.9", "3.10"])
def test_every_module_loads_in_an_old_python(built, version):
    python = old_python(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    modules = [f"vera_nuke.{f.stem}" for f in PLUGIN.glob("vera_nuke/*.py") if f.stem != "__init__"]
    code = (
        f"import sys; sys.path[:0] = {[str(built), str(FAKE)]!r}; import {', '.join(modules)}, "
        "vera_nuke.client, init, menu"
    )
    done = subprocess.run([python, "-I", "-S", "-B", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stdout and not done.stderr, done.stderr + done.stdout


def test_mypy_finds_nothing_against_nukes_stubs(built, tmp_path):
    """client.py has its own tests; nukescripts has no stubs."""
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\npython_version = 3.10\ncheck_untyped_defs = True\ndisallow_untyped_defs = True\n"
        "[mypy-nukescripts]\nignore_missing_imports = True\n[mypy-vera_nuke.client]\nignore_errors = True\n"
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        settings,
        "--cache-dir",
        tmp_path / "cache",
        "--no-color-output",
    ]
    done = subprocess.run(
        [*map(str, command), "vera_nuke", "init.py", "menu.py", "verify.py"], cwd=built, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # That it would find something: a function that Nuke does not have.
    (tmp_path / "wrong.py").write_text("import nuke\n\ndef f():\n    nuke.scriptReadTxt(1)\n")
    done = subprocess.run([*map(str, command), str(tmp_path / "wrong.py")], cwd=built, capture_output=True, text=True)
    assert done.returncode == 1 and "scriptReadTxt" in done.stdout


def calls_in_the_gizmo():
    text = (PLUGIN / "VeraEdit.gizmo").read_text()
    return re.findall(r'"(import vera_nuke[^"]*)"', text) + re.findall(
        r'"(import vera_nuke[^"]*)"', (PLUGIN / "menu.py").read_text()
    )


def test_every_button_calls_what_exists(nuke):
    """One line each, that imports and calls."""
    from vera_nuke import buttons

    calls = calls_in_the_gizmo()
    assert len(calls) == 17
    for code in calls:
        match = re.fullmatch(r"import vera_nuke\.buttons; vera_nuke\.buttons\.(\w+)\(\)", code)
        assert match and callable(getattr(buttons, match[1])), code
        ast.parse(code, feature_version=(3, 9))


def test_every_knob_that_is_named_exists(nuke):
    """node["x"], where x is a constant: of the gizmo, of its inner nodes, of a Read or of the root."""
    there = set(nuke.createNode("VeraEdit").knobs()) | set(nuke._COMMON)
    for kind in ("Read", "Write", "Root"):
        there |= set(nuke.KNOBS[kind])
    named = set()
    for file in INSIDE:
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Subscript)
                and isinstance(node.slice, ast.Constant)
                and isinstance(node.slice.value, str)
            ):
                owner = ast.unparse(node.value)
                if owner.split(".")[-1].split("(")[0] in (
                    "node",
                    "edit",
                    "read",
                    "inner",
                    "root",
                    "input",
                    "group",
                    "writer",
                ):
                    named.add(node.slice.value)
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("root_knob", "_value", "whole")):
                named |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    assert len(named) > 30 and not named - there, named - there


def test_the_buttons_of_a_new_node(nuke, edit):
    """Each is pressed before there is anything to do: words, no error."""
    said = {
        "cancel": "nothing is being rendered",
        "bake": "not rendered yet; there is nothing to bake",
        "open_folder": "not there yet",
    }
    for name, words in said.items():
        edit[name].execute()
        assert words in nuke.messages.pop() and words in edit["status"].value()
    edit["seed"].setValue(0)
    edit["dice"].execute()
    assert edit["seed"].value() > 0
    edit["quality"].setValue("own")
    assert edit["steps"].enabled and not edit["first"].enabled
    edit["door"].setValue("VACE")
    assert edit["model_path"].enabled and not edit["model"].enabled
    assert not nuke.printed and not nuke.messages


def test_settings_are_kept_and_wrong_ones_refused(nuke, edit, tmp_path, monkeypatch):
    from vera_nuke import settings

    filled = {
        "python": "/opt/vera/bin/python",
        "folders": "",
        "paths": "Z:/shots = /mnt/shots\n",
        "cache": str(tmp_path),
    }
    nuke.answers += [filled, {"paths": "Z:/shots"}, None]
    edit["settings"].execute()
    kept = settings.load()
    assert (
        kept.paths == (("Z:/shots", "/mnt/shots"),)
        and kept.python == "/opt/vera/bin/python"
        and kept.cache == str(tmp_path)
    )
    edit["settings"].execute()
    assert "write here = there" in nuke.messages.pop() and settings.load() == kept
    edit["settings"].execute()
    assert settings.load() == kept and not nuke.printed
    monkeypatch.setenv("VERA_PYTHON", "/studio/python")
    assert settings.load().python == "/studio/python"
    Path(settings.file()).write_text("{")
    edit["settings"].execute()
    assert "damaged" in nuke.messages.pop()


def test_folders_are_allowed_through_the_core(nuke, edit, tmp_path, monkeypatch):
    """The core's own door, in a state folder of this test's."""
    monkeypatch.setenv("VERA_SERVICE_DIR", str(tmp_path / "state"))
    nuke.answers.append({"python": sys.executable, "root": str(ROOT), "folders": f"{tmp_path}\n{tmp_path / 'none'}"})
    edit["settings"].execute()
    assert nuke.pump(lambda: nuke.messages, 60)
    assert "no such folder" in nuke.messages.pop()
    assert str(tmp_path) in (tmp_path / "state" / "roots.json").read_text()


def test_start_up_cannot_break_nuke(nuke, built, monkeypatch, capsys):
    """Whatever fails in init.py and menu.py, Nuke starts."""
    load(built / "menu.py", "vera_nuke_menu")
    assert ("Nodes/Vera/VeraEdit", "nuke.createNode('VeraEdit')", "ctrl+alt+e") in nuke.commands
    assert capsys.readouterr().out == ""
    for name in ("menu", "addOnScriptLoad", "addBeforeRender", "pluginAddPath"):
        monkeypatch.delattr(nuke, name)
    for file in ("init", "menu"):
        load(built / f"{file}.py", "broken")
        assert "Nuke continues without it" in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "nuke", None)
    load(built / "menu.py", "broken")


def test_main_thread_errors_come_back(nuke):
    """Nuke prints them and returns None; here they are raised where they are waited for."""
    import threading

    from vera_nuke.host import HostGoneError, on_main

    seen = []

    def work():
        for call in (lambda: nuke.root()["first_frame"].value(), lambda: nuke.root()["no"], nuke.root):
            try:
                seen.append(on_main(call))
            except Exception as error:
                seen.append(error)
        try:
            nuke.root()["first_frame"].value()
        except RuntimeError as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert nuke.pump(lambda: len(seen) == 4, 10)
    assert seen[0] == 1 and isinstance(seen[1], NameError) and "main thread" in str(seen[3])
    assert len(nuke.violations) == 1 and not nuke.printed
    nuke.violations.clear()
    nuke.executeInMainThreadWithResult, kept = (lambda call: None), nuke.executeInMainThreadWithResult
    try:
        thread = threading.Thread(target=lambda: seen.append(_raised(on_main, nuke.root)))
        thread.start()
        thread.join()
    finally:
        nuke.executeInMainThreadWithResult = kept
    assert isinstance(seen[-1], HostGoneError)


def _raised(call, *args):
    try:
        return call(*args)
    except Exception as error:
        return error


def test_what_is_built_is_whole_and_carries_the_one_client(built):
    for name in ("client.py", "host_rules.py", "host_fields.py"):
        assert (built / "vera_nuke" / name).read_bytes() == (ROOT / "core" / "service" / name).read_bytes()
        assert not (PLUGIN / "vera_nuke" / name).exists()
    names = set(zipfile.ZipFile(built.parent / "vera-nuke.zip").namelist())
    for file in built.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert str(file.relative_to(built.parent)) in names
    assert {
        "vera-nuke/init.py",
        "vera-nuke/menu.py",
        "vera-nuke/VeraEdit.gizmo",
        "vera-nuke/ToolSets/Vera/VeraEdit.nk",
    } <= names
    assert not [n for n in names if "__pycache__" in n]
