"""Run mypy over what gets installed, as it is installed: `python tools/typecheck.py [mypy's options]`.

In a checkout `vera.core` is the folder core/, which Python finds through `vera/__init__.py` and mypy does not. So
build/typing/vera is made of links to the folders, as the wheel lays them out, and mypy looks there.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build/typing"


def link(target: Path, place: Path) -> None:
    """Make a link to a file or folder; where the system allows none (Windows), a copy."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        copy = shutil.copytree if target.is_dir() else shutil.copy
        copy(target, place)


def main() -> int:
    """mypy's exit code; its messages name the files of the checkout."""
    shutil.rmtree(TREE, ignore_errors=True)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, folder in packages["tool"]["scikit-build"]["wheel"]["packages"].items():
        if name == "vera":
            for file in (ROOT / folder).iterdir():
                if file.suffix in (".py", ".pyi", ".typed"):
                    link(file, TREE / name / file.name)
        else:
            link(ROOT / folder, TREE / name)
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / "build/mypy"]
    done = subprocess.run([*command, *sys.argv[1:], "-p", "vera"], cwd=TREE, capture_output=True, text=True)
    print(re.sub(r"^vera/(?=core/|kernels/)", "", done.stdout, flags=re.MULTILINE), end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
