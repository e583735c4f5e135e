"""What is installed: one package, `vera`, that lives beside others called `core` and `kernels`."""

import base64
import csv
import hashlib
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.plate.media import write_noise

ROOT = Path(__file__).resolve().parents[2]
# What the folders of a checkout hold that is not installed.
SOURCES_ONLY = ("kernels/native/",)
MADE = (".pyc", ".so", ".pyd")
OPTIONS = "--frames 1-2 --steps 1 --seed 3 --progress none --device cpu --prompt".split() + ["Add a red ball"]


def shipped(folder: Path) -> set[str]:
    """Files of core/ and kernels/ that a wheel has to hold, by their place in it."""
    files = (p.relative_to(folder).as_posix() for name in ("core", "kernels") for p in (folder / name).rglob("*"))
    kept = (f for f in files if (folder / f).is_file() and not f.startswith(SOURCES_ONLY) and not f.endswith(MADE))
    return {f"vera/{f}" for f in kept}


def installed_whole(env, distribution: str) -> bool:
    """Whether all files of an installed distribution are as its own record says."""
    site = next(env.folder.rglob("site-packages"))
    record = next(site.glob(f"{distribution}-*.dist-info")) / "RECORD"
    for name, digest, _ in csv.reader(record.read_text().splitlines()):
        if digest:
            found = hashlib.sha256((site / name).read_bytes()).digest()
            if digest != "sha256=" + base64.urlsafe_b64encode(found).rstrip(b"=").decode():
                return False
    return True


def test_the_wheel_holds_one_package_whole(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = wheel.namelist()
    assert {n.partition("/")[0] for n in names if ".dist-info/" not in n} == {"vera"}
    assert shipped(ROOT) <= set(names)
    assert any(n.startswith("vera/kernels/_native") for n in names)
    assert not [n for n in names if n.startswith("vera/kernels/native/")]


def test_weights_are_those_of_the_checkout(distributions):
    weights = ROOT / "core/weights/mini"
    with zipfile.ZipFile(distributions[1]) as wheel:
        for file in weights.glob("*.safetensors"):
            assert wheel.read(f"vera/core/weights/mini/{file.name}") == file.read_bytes()


def test_the_source_distribution_holds_what_a_build_and_the_tests_need(distributions):
    with tarfile.open(distributions[0]) as archive:
        names = {n.partition("/")[2] for n in archive.getnames()}
    for name in ("pyproject.toml", "constraints.txt", "CMakeLists.txt", "LICENSE", "README.md", "Makefile"):
        assert name in names
    assert {f.removeprefix("vera/") for f in shipped(ROOT)} <= names
    assert any(n.startswith("kernels/native/") for n in names) and "tests/conftest.py" in names
    assert not [n for n in names if n.startswith((".venv", "build/", "out/", "dist/"))]


@pytest.fixture(scope="module")
def beside(environment, distributions, namesake):
    """An environment with Hugging Face's kernels and Vera."""
    made = environment("beside")
    made.install(str(namesake), str(distributions[1]))
    return made


@pytest.fixture
def folder_of_namesakes(tmp_path):
    """A folder with a plate and with packages `core` and `kernels` of its own, which must not be imported."""
    for name in ("core", "kernels"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('the folder\\'s own {name} was imported')\n")
    write_noise(tmp_path / "in", (1, 2), np.uint8, "png", size=(48, 64))
    return tmp_path


def rendered(env, folder: Path, *program: str) -> dict[int, str]:
    """Frame -> pixel hash of two frames, rendered in this folder."""
    done = env.run(*program, "render", "--plate", "in/plate.####.png", "--out", "out", *OPTIONS, cwd=folder)
    assert done.returncode == 0, done.stderr
    frames = json.loads((folder / "out/manifest.json").read_text())["frames"]
    assert len(frames) == 2
    shutil.rmtree(folder / "out")
    return frames


def test_beside_packages_of_the_same_names(beside, distributions, namesake, folder_of_namesakes):
    """Neither takes files of the other when it is installed or uninstalled, and Vera renders without and with it."""
    assert installed_whole(beside, "kernels") and installed_whole(beside, "vera_edit")
    beside.uninstall("kernels")
    assert installed_whole(beside, "vera_edit")
    alone = rendered(beside, folder_of_namesakes, "python", "-m", "vera")
    beside.install(str(namesake))
    beside.uninstall("vera-edit")
    assert installed_whole(beside, "kernels")
    beside.install(str(distributions[1]))
    assert installed_whole(beside, "kernels") and installed_whole(beside, "vera_edit")
    assert rendered(beside, folder_of_namesakes, "vera") == alone


def test_a_checkout_leaves_the_name_kernels_to_others(environment, namesake, tmp_path):
    """`python -m core.render` starts in a folder that holds `kernels`; transformers must find Hugging Face's."""
    made = environment("checkout")
    made.install(str(namesake))
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, importlib.util\n"
        "atexit.register(lambda: print('found', importlib.util.find_spec('kernels').origin))\n"
    )
    done = made.run("python", "-m", "core.render", "--help", cwd=ROOT, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    found = done.stdout.splitlines()[-1].removeprefix("found ")
    assert Path(found).is_relative_to(made.folder)
