# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the extension: `python blender_addon/build.py [DIST]` writes DIST/vera-VERSION.zip.

The zip contains this folder and unchanged copies of the core's client and of the rules for all hosts. If Blender's own
blender_ext.py is found (it comes with `bpy`), it validates the zip.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
BUNDLED_FILES = [HERE.parent / "core" / "service" / name for name in ("client.py", "host_rules.py", "host_fields.py")]
DATE = (2026, 1, 1, 0, 0, 0)  # date of all files in the zip, so that the same source gives the same zip


def build(dist: Path) -> Path:
    """Write the zip; returns its path."""
    manifest = tomllib.loads((HERE / "blender_manifest.toml").read_text(encoding="utf-8"))
    contents = {p.name: p for p in HERE.iterdir() if p.suffix in (".py", ".toml") or p.name == "LICENSE"}
    contents.pop(Path(__file__).name)
    contents.update({path.name: path for path in BUNDLED_FILES})
    dist.mkdir(parents=True, exist_ok=True)
    target = dist / f"{manifest['id']}-{manifest['version']}.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside in sorted(contents):
            info = zipfile.ZipInfo(inside, DATE)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, contents[inside].read_bytes())
    return target


def validator() -> Path | None:
    """Blender's checker of extensions in one of this repository's environments, or None."""
    found = sorted(
        HERE.parent.glob(".venv-bpy*/lib/python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    )
    return found[-1] if found else None


def validate(checker: Path, archive: Path, python: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    """Validate the zip as `blender --command extension validate` does, with Blender's list of tags.

    Returns the finished process.
    """
    tags = checker.parents[3] / "modules" / "_bpy_internal" / "extensions" / "tags.py"
    command = [str(python), str(checker), "validate", "--valid-tags", str(tags), str(archive)]
    return subprocess.run(command, capture_output=True, text=True)


def main(arguments: list[str]) -> int:
    target = build(Path(arguments[0] if arguments else HERE.parent / "dist"))
    print(target)
    checker = validator()
    if checker is None:
        print("not validated: no Blender module is installed here (make bpy)")
        return 0
    answer = validate(checker, target)
    print(answer.stdout + answer.stderr, end="")
    return answer.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
