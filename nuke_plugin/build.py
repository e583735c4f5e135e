"""Build the plug-in as a folder for NUKE_PATH and as a zip: python nuke_plugin/build.py [DIST]."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUNDLED_FILES = [HERE.parent / "core" / "service" / name for name in ("client.py", "host_rules.py", "host_fields.py")]
NAME = "vera-nuke"
PARTS = ("init.py", "menu.py", "VeraEdit.gizmo", "VERIFY.md", "verify.py", "vera_nuke", "icons", "ToolSets")


def build(dist: str | Path) -> tuple[Path, Path]:
    """Write DIST/vera-nuke and DIST/vera-nuke.zip; returns both paths."""
    folder = Path(dist) / NAME
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for part in PARTS:
        source = HERE / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    for path in BUNDLED_FILES:
        shutil.copy(path, folder / "vera_nuke" / path.name)
    shutil.copy(HERE.parent / "LICENSE", folder / "LICENSE")
    return folder, Path(shutil.make_archive(str(folder), "zip", dist, NAME))


if __name__ == "__main__":
    folder, archive = build(sys.argv[1] if len(sys.argv) > 1 else HERE.parent / "dist")
    print(f"{archive}\nor, without unpacking: add {folder} to NUKE_PATH")
