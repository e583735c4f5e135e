"""Pin what Vera installs, and check that the pins can be installed from the plain package index.

    make lock                  write constraints.txt: every package of every extra, Python 3.11 to 3.13, all systems
    make lock UPGRADE=1        the same, with the newest versions that the bounds in pyproject.toml allow
    make lock-check            resolve every extra with those pins; run it after each change of a bound or a pin

Pins that constraints.txt has already are kept where the bounds still allow them. Both commands ignore pip's and uv's
configuration and local wheels, so that a machine's own index cannot hide a conflict. One check is made with a CPU
build of torch, from the folder or page that CPU_WHEELS (or else PIP_FIND_LINKS) names; without one it is skipped.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = ("linux", "windows", "macos")
MACOS = "14.0"  # the oldest that torch has wheels for
GROUPS = ("build", "tools")
HEADER = """\
# Every package that any extra of pyproject.toml installs, in the version that Vera is tested with, on every system
# and Python that it runs on. Written by `make lock`; do not edit. `make lock-check` tries the pins.
"""


def project() -> dict:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements(extra: str | None) -> list[str]:
    """What an extra installs, runtime packages included; an extra that names others is followed. None: no extra."""
    table = project()["project"]
    found = list(table["dependencies"])
    waiting = [extra] if extra else []
    while waiting:
        for line in table["optional-dependencies"][waiting.pop()]:
            others = re.fullmatch(rf"{re.escape(table['name'])}\[(.+)\]", line)
            waiting += others[1].split(",") if others else []
            found += [] if others else [line]
    return found


def pins() -> dict[str, str]:
    """Package, by its normal name, -> its pinned version."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    found = (re.match(r"([\w.-]+)==([^\s;]+)", line) for line in lines)
    return {normal(match[1]): match[2] for match in found if match}


def normal(name: str) -> str:
    """A package's name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def plain_environment() -> dict[str, str]:
    """The environment without anything that points pip or uv at another index or at local wheels."""
    chosen = ("FIND_LINKS", "INDEX_URL", "EXTRA_INDEX_URL", "CONSTRAINT", "BUILD_CONSTRAINT", "NO_INDEX")
    unset = {f"PIP_{name}" for name in chosen} | {name for name in os.environ if name.startswith("UV_")}
    return {name: value for name, value in os.environ.items() if name not in unset} | {
        "PIP_CONFIG_FILE": os.devnull,
        "MACOSX_DEPLOYMENT_TARGET": MACOS,
    }


def compile_pins(*options: str) -> str:
    """uv's resolution for all extras and groups; options choose where it starts from and for which systems."""
    groups = [word for group in GROUPS for word in ("--group", group)]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--no-config", "--quiet", "--no-header", "--no-annotate"]
    command += ["--all-extras", *groups, *options, "pyproject.toml"]
    run = subprocess.run(command, cwd=ROOT, env=plain_environment(), capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"uv could not resolve {' '.join(options)}:\n{run.stderr}")
    return run.stdout


def universal(upgrade: bool = False) -> str:
    """The text of constraints.txt, from the pins in force."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "constraints.txt"
        if CONSTRAINTS.is_file() and not upgrade:
            target.write_bytes(CONSTRAINTS.read_bytes())
        compile_pins("--universal", "--python-version", PYTHONS[0], "--output-file", str(target))
        return HEADER + target.read_text(encoding="utf-8")


def resolve(lines: list[str], *options: str) -> list[tuple[str, str]]:
    """What `pip install` would fetch for these requirements with the pins: (package, version). Raises SystemExit."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--constraint", str(CONSTRAINTS), "--report", str(report), *options, *lines]
        run = subprocess.run(command, env=plain_environment(), capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(run.stderr)
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [(item["metadata"]["name"], item["metadata"]["version"]) for item in items]


def check_extra(extra: str | None, *options: str, torch: str | None = None) -> None:
    """One extra resolves, and all that it installs is pinned. torch: the build to take. Raises SystemExit."""
    lines = requirements(extra) + ([f"torch=={torch}"] if torch else [])
    found = resolve(lines, *options)
    known = pins()
    loose = [name for name, _ in found if normal(name) not in known]
    if loose:
        raise SystemExit(f"not pinned: {', '.join(loose)}; run `make lock`")
    build = dict(found)["torch"]
    print(f"{extra or 'runtime'}: {len(found)} packages, torch {build}, all pinned", flush=True)


def check(extras: list[str]) -> None:
    """All checks of `make lock-check`, or those of the named extras only. Raises SystemExit at the first failure."""
    if universal() != CONSTRAINTS.read_text(encoding="utf-8"):
        raise SystemExit("constraints.txt is not what pyproject.toml asks for; run `make lock`")
    for system in SYSTEMS:
        for python in PYTHONS:
            compile_pins("--constraint", str(CONSTRAINTS), "--python-platform", system, "--python-version", python)
    print(f"all extras together: Python {', '.join(PYTHONS)} on {', '.join(SYSTEMS)}", flush=True)
    for extra in extras or [None, *project()["project"]["optional-dependencies"]]:
        check_extra(extra)
    wheels = os.environ.get("CPU_WHEELS") or os.environ.get("PIP_FIND_LINKS")
    if wheels:
        check_extra("test", "--find-links", wheels, torch=pins()["torch"] + "+cpu")
    else:
        print("CPU build of torch: skipped; CPU_WHEELS=FOLDER names where one is")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write", help="write constraints.txt")
    write.add_argument("--upgrade", action="store_true", help="take the newest versions, not the pins in force")
    checking = commands.add_parser("check", help="resolve the extras with the pins")
    checking.add_argument("extras", nargs="*", help="only these (default: every one, and none)")
    arguments = parser.parse_args()
    if arguments.command == "write":
        CONSTRAINTS.write_text(universal(arguments.upgrade), encoding="utf-8")
    else:
        check(arguments.extras)


if __name__ == "__main__":
    main()
