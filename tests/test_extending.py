"""docs/extending: what its pages show is put into a copy of the tree, as a reader would, and runs."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.plate.media import write_image

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "extending").glob("*.md"))
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FILE_AND_CODE = re.compile(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)```", re.DOTALL | re.MULTILINE)
LEFT_OUT = shutil.ignore_patterns("__pycache__", "weights", "native", "*.pyc")


def code_of(page: str) -> list[str]:
    return CODE.findall((ROOT / "docs" / "extending" / page).read_text(encoding="utf-8"))


def write_module(page: str, root: Path) -> None:
    """The page's module, where the page says that it stands."""
    ((path, code),) = FILE_AND_CODE.findall((ROOT / "docs" / "extending" / page).read_text(encoding="utf-8"))
    (root / path).write_text(code, encoding="utf-8")


def insert(path: Path, after: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert after in text, f"{path}: {after}"
    path.write_text(text.replace(after, after + line, 1), encoding="utf-8")


def replace_line(path: Path, beginning: str, line: str) -> None:
    text, count = re.subn(f"^{re.escape(beginning)}.*\n", line, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1, f"{path}: {beginning}"
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the tree with the example backend and the example family in it."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("vera", "core", "kernels"):
        shutil.copytree(ROOT / folder, root / folder, ignore=LEFT_OUT)
    (root / "core" / "weights").symlink_to(ROOT / "core" / "weights", target_is_directory=True)
    write_module("backend.md", root)
    _, row = code_of("backend.md")
    insert(root / "core" / "recipe" / "backend_table.py", "BACKENDS = {\n", f"    {row}")
    write_module("model-family.md", root)
    _, entry, line = code_of("model-family.md")
    families = root / "core" / "model" / "families.py"
    replace_line(families, "FAMILIES:", entry)
    replace_line(families, "from pathlib import Path", f"from pathlib import Path\n\n{line}")
    return root


# `vera render` for each list of arguments, of the tree that is the working folder, whichever checkout is installed.
RENDERS = """
import json, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
from vera.core import cli
print(json.dumps([cli.main(["render", *arguments]) for arguments in json.loads(sys.argv[1])]))
"""
LOGO = slice(10, 20), slice(10, 30)


def write_plate(folder: Path) -> str:
    folder.mkdir()
    for frame in (1, 2):
        write_image(folder / f"p.{frame:04d}.png", np.full((48, 64, 3), 0.25, np.float32))
    return str(folder / "p.####.png")


@pytest.fixture(scope="module")
def rendered(extended, tmp_path_factory):
    """A folder with what the examples made, in one process, and their exit codes by the folder's name."""
    folder = tmp_path_factory.mktemp("rendered")
    plate = write_plate(folder / "plate")
    logo = np.zeros((48, 64, 4), np.uint8)
    logo[LOGO] = (255, 0, 0, 255)
    Image.fromarray(logo).save(folder / "logo.png")
    (folder / "house").mkdir()
    (folder / "house" / "edition").symlink_to(ROOT / "core" / "weights" / "mini", target_is_directory=True)
    (folder / "house" / "words.json").write_text(json.dumps({"hero prop": "red balloon"}))
    models = {"still": f"still:{folder / 'logo.png'}", "wrong": f"still:{plate}", "house": str(folder / "house")}
    commands = [
        ["--plate", plate, "--prompt", "Add a hero prop", "--model", model, "--out", str(folder / f"{name}.out")]
        + ["--progress", "none"]
        + (["--steps", "1"] if name == "house" else [])
        for name, model in models.items()
    ]
    command = [sys.executable, "-c", RENDERS, json.dumps(commands)]
    done = subprocess.run(command, cwd=extended, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    codes = json.loads(done.stdout.strip().splitlines()[-1])
    return folder, dict(zip(models, codes, strict=True)), done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    shown = {path for path, _ in FILE_AND_CODE.findall(text)}  # by the page itself
    named = set(re.findall(r"`((?:core|kernels|tests|benchmarks|nuke_plugin|blender_addon)/[\w./]+)`", text))
    assert {path for path in named - shown if not (ROOT / path).exists()} == set()


def test_the_example_backend_delivers_its_picture_and_the_plate_elsewhere(rendered):
    folder, codes, said = rendered
    assert codes["still"] == 0, said
    composite = np.asarray(Image.open(next((folder / "still.out" / "composite").glob("*.png"))))
    plate = np.asarray(Image.open(folder / "plate" / "p.0001.png"))
    assert (composite[LOGO] == (255, 0, 0)).all()
    outside = np.ones((48, 64), bool)
    outside[LOGO] = False
    assert (composite[outside] == plate[outside]).all()


def test_the_example_backend_refuses_what_is_no_picture_and_writes_nothing(rendered):
    folder, codes, said = rendered
    assert codes["wrong"] == 2 and "cannot be read as a picture" in said
    assert not (folder / "wrong.out").exists()


def test_the_example_family_renders_a_prompt_in_its_own_words(rendered):
    folder, codes, said = rendered
    assert codes["house"] == 0, said
    assert "hero" not in " ".join(json.loads((folder / "house.out" / "manifest.json").read_text())["extra"]["warnings"])


def test_the_example_step_of_the_matte_draws_it_in():
    names: dict = {}
    exec(code_of("matte.md")[0], names)
    alpha = torch.zeros(12, 12)
    alpha[3:9, 3:9] = 1
    drawn_in = names["choke"](alpha, 2)
    expected = torch.zeros(12, 12)
    expected[5:7, 5:7] = 1
    assert torch.equal(drawn_in, expected)
