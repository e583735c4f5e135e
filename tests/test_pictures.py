"""Every picture of README and docs is made by a command that stands beside it, and shows the present state."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tools import pictures

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "core").rglob("*.md"))]
SHOWN = re.compile(r"!\[[^\]]*\]\(([^)\s]+\.(?:png|jpg|gif))\)")
MADE = {file: name for name, picture in pictures.PICTURES.items() for file in picture.files}


def shown():
    """(page, file relative to docs) of every picture in the pages."""
    for page in PAGES:
        for target in SHOWN.findall(page.read_text(encoding="utf-8")):
            yield page, (page.parent / target).resolve().relative_to(pictures.DOCS).as_posix()


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_not_older_than_what_it_shows(name):
    why = pictures.stale().get(name)
    assert why is None, f"{name}: {why}; make it again: python -m tools.pictures {name}"


def test_every_picture_has_its_command_beside_it():
    for page, file in shown():
        if file in pictures.OF_A_RUN:
            continue
        assert file in MADE, f"{page}: {file} is made by no command of tools/pictures.py"
        command = f"`python -m tools.pictures {MADE[file]}`"
        if page.is_relative_to(ROOT / "docs") or page.name == "README.md" and page.parent == ROOT:
            assert command in page.read_text(encoding="utf-8"), f"{page}: {command} does not stand beside {file}"


def test_every_picture_in_docs_is_shown_and_known():
    found = [path for ending in ("png", "jpg") for path in pictures.DOCS.rglob(f"*.{ending}")]
    files = {path.relative_to(pictures.DOCS).as_posix() for path in found}
    assert files == {file for _, file in shown()} == set(MADE) | set(pictures.OF_A_RUN)


def test_pictures_are_in_true_colour():
    for file in MADE:
        with Image.open(pictures.DOCS / file) as image:
            assert image.mode in ("RGB", "RGBA"), f"{file}: {image.mode}"


def test_a_change_of_what_is_shown_makes_a_picture_old(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "ROOT", tmp_path)
    monkeypatch.setattr(pictures, "DOCS", tmp_path)
    monkeypatch.setattr(pictures, "RECORD", tmp_path / "pictures.json")
    (tmp_path / "source.txt").write_text("one")
    made = pictures.Picture(("a.png",), lambda folder: (folder / "a.png").write_bytes(b"made"), ("source.txt",))
    monkeypatch.setattr(pictures, "PICTURES", {"a": made})
    assert "never made" in pictures.stale()["a"]
    pictures.make("a")
    assert pictures.stale() == {} and (tmp_path / "a.png").read_bytes() == b"made"
    assert json.loads((tmp_path / "pictures.json").read_text())["a"]["command"] == "python -m tools.pictures a"
    (tmp_path / "source.txt").write_text("two")
    assert "has changed" in pictures.stale()["a"]
    pictures.make("a")
    (tmp_path / "a.png").write_bytes(b"by hand")
    assert "another one" in pictures.stale()["a"]
    pictures.make("a")
    (tmp_path / "more.txt").write_text("one")
    monkeypatch.setattr(pictures, "PICTURES", {"a": replace(made, shows=("source.txt", "more.txt"))})
    assert "more.txt" in pictures.stale()["a"]


def test_other_words_in_a_source_make_no_picture_old(tmp_path):
    source = tmp_path / "a.py"
    meanings = set()
    for text in ('"""One."""\nx = 1\n', "# two\nx = 1  # three\n", '"""Four."""\n\n\nx = 1\n', "x = 2\n"):
        source.write_text(text)
        meanings.add(pictures.meaning(source))
    assert len(meanings) == 2
