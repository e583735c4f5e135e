"""The wheel, built from the source distribution, and environments to install it into.

What is built with comes from the package index, as in any `pip install`: without one, or without a C++ compiler,
these tests are skipped. A build that fails is a failure.
"""

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip")
BUILD = "from scikit_build_core import build; build.build_{kind}({folder!r})"
# A test environment holds one package, of torch and the rest it takes the test run's own copies.
HEAVY = "import os, sys; sys.path.extend(filter(None, os.environ.get('HEAVY', '').split(os.pathsep)))\n"


def needs_compiler() -> None:
    if sys.platform != "win32" and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler: the wheel cannot be built")


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    def pip(self, *words: str) -> subprocess.CompletedProcess:
        """pip of the test run, working on this environment."""
        command = [*PIP, "--python", str(self.python), *words]
        return subprocess.run(command, capture_output=True, text=True)

    def install(self, *words: str) -> None:
        done = self.pip("install", "--no-deps", "--no-compile", *words)
        assert done.returncode == 0, done.stderr

    def uninstall(self, name: str) -> None:
        done = self.pip("uninstall", "--yes", name)
        assert done.returncode == 0, done.stderr

    def run(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
        """Run a program of this environment with the test run's other packages behind its own."""
        heavy = os.pathsep.join(p for p in sys.path if Path(p).name in ("site-packages", "dist-packages"))
        settings = {"HEAVY": heavy, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""} | variables
        program = self.python.with_name(words[0])
        return subprocess.run([program, *words[1:]], cwd=cwd, env=os.environ | settings, capture_output=True, text=True)


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """A function that makes an environment."""

    def make(name: str) -> Environment:
        made = Environment(tmp_path_factory.mktemp(name) / "env")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", made.folder], check=True)
        site = next(made.folder.rglob("site-packages"))
        (site / "heavy.pth").write_text(HEAVY)
        return made

    return make


@pytest.fixture(scope="session")
def distributions(tmp_path_factory, environment) -> tuple[Path, Path]:
    """(source distribution, the wheel built from it)."""
    needs_compiler()
    tools = environment("build")
    wanted = ["scikit-build-core", "pybind11", *(name for name in ("cmake", "ninja") if not shutil.which(name))]
    done = tools.pip("install", "-q", "-c", str(ROOT / "constraints.txt"), *wanted)
    if done.returncode:
        pytest.skip(f"the tools that build the wheel cannot be had: {done.stderr.strip().splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("dist")
    path = os.pathsep.join([str(tools.python.parent), os.environ["PATH"]])

    def build(kind: str, source: Path, pattern: str) -> Path:
        done = tools.run("python", "-c", BUILD.format(kind=kind, folder=str(folder)), cwd=source, PATH=path)
        assert done.returncode == 0, done.stdout + done.stderr
        return next(folder.glob(pattern))

    sdist = build("sdist", ROOT, "*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = next(p for p in folder.iterdir() if p.is_dir())
    return sdist, build("wheel", source, "*.whl")


@pytest.fixture(scope="session")
def namesake(tmp_path_factory) -> Path:
    """The wheel of Hugging Face's `kernels`."""
    folder = tmp_path_factory.mktemp("namesake")
    command = [*PIP, "download", "-q", "--no-deps", "-d", folder, "-c", ROOT / "constraints.txt", "kernels"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"Hugging Face's kernels cannot be had: {done.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("*.whl"))
