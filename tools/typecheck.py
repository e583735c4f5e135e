"""Run mypy over what gets installed, as it is installed: `python tools/typecheck.py [mypy's options]`.

In a checkout `vera.core` is the folder core/, which Python finds through `vera/__init__.py` and mypy does not. So
build/typing/vera is made of links to the folders, as the wheel lays them out, and mypy looks there. The hosts'
packages lie beside it as they are built.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build/typing"
# The hosts' packages and their folders; each is built with copies of the files of core/service that are named here.
HOSTS = {"blender_addon": "blender_addon", "vera_nuke": "nuke_plugin/vera_nuke"}
CARRIED = ("client.py", "host_rules.py", "host_fields.py")
TOOLS = ("benchmarks",)  # not installed; they call what is


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
    for name in TOOLS:
        link(ROOT / name, TREE / name)
    for name, folder in HOSTS.items():
        for file in [*(ROOT / folder).glob("*.py"), *(ROOT / "core/service" / shared for shared in CARRIED)]:
            link(file, TREE / name / file.name)
    packages_checked = [argument for name in ("vera", *HOSTS, *TOOLS) for argument in ("-p", name)]
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--config-file",
        ROOT / "pyproject.toml",
        "--cache-dir",
        ROOT / "build/mypy",
    ]
    done = subprocess.run([*command, *sys.argv[1:], *packages_checked], cwd=TREE, capture_output=True, text=True)
    messages = re.sub(r"^vera/(?=core/|kernels/)", "", done.stdout, flags=re.MULTILINE)
    print(re.sub(r"^vera_nuke/", "nuke_plugin/vera_nuke/", messages, flags=re.MULTILINE), end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
