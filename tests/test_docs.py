"""Links in the pages lead somewhere, and the commands that they show are accepted."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

from vera.core import cli
from vera.core.cli.arguments import Parser

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "core/**/*.md", "demo/*.md", "nuke_plugin/*.md")
    for page in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page):
    here = ROOT / page
    for target, anchor in LINK.findall(here.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        there = here if not target else here.parent / target
        assert there.exists(), f"{page}: {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page}: {target}{anchor}"


# ---- Commands

BLOCK = re.compile(r"```(?:sh|bash|)\n(.*?)```", re.DOTALL)
INLINE = re.compile(r"`((?:vera|python -m) [^`\n]+)`")


def commands_in(page: str) -> list[str]:
    """The commands of the page's blocks and sentences, without comments, continued lines joined."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.replace("\\\n", " ").splitlines()]
    lines += INLINE.findall(text)
    commands = [re.split(r"\s+# ", line)[0].strip() for line in lines]
    return [c for c in commands if re.match(r"(vera|python -m|torchrun|make) ", c) and not re.search(r"[|[\]]", c)]


HISTORY = "CHANGELOG.md"  # it names commands as they were
COMMANDS = sorted({(page, command) for page in PAGES if page != HISTORY for command in commands_in(page)})
PLACEHOLDERS = {"...", "COMMAND", "NAME", "SUBCOMMAND", "X"}  # in the place of a subcommand: nothing to check


@pytest.fixture
def parsed_only(monkeypatch):
    """Every parser ends the command once it has accepted the arguments. A sentence may name a command without all that
    it needs."""
    parse = argparse.ArgumentParser.parse_args

    def stop(self, *args, **kwargs):
        parse(self, *args, **kwargs)
        raise SystemExit(0)

    def refuse(self, message):
        raise SystemExit(0 if message.startswith("the following arguments are required") else message)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    monkeypatch.setattr(Parser, "error", refuse)
    monkeypatch.setattr(sys, "argv", sys.argv)


def run_documented(command: str) -> object:
    """Run a documented command in this process; returns its exit code. `...` stands for further arguments."""
    words = [word for word in shlex.split(command) if word != "..."]
    if words[0] == "make":
        rules = (ROOT / "Makefile").read_text(encoding="utf-8")
        known = set(re.findall(r"^([\w-]+):", rules, re.MULTILINE))
        return 0 if known.issuperset(word for word in words[1:] if "=" not in word) else f"no rule of {words[1:]}"
    if words[0] == "torchrun":
        words = ["python", *words[words.index("-m") :]]
    if words[0] == "vera":
        return cli.main(words[1:])
    name = "vera.core.cli.render" if words[2] == "core.render" else words[2]
    module = importlib.import_module(name)
    if "Parser(" not in Path(str(module.__file__)).read_text(encoding="utf-8"):
        return 0  # it takes no arguments
    sys.argv = [name, *words[3:]]
    return module.main()


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda text: text[:60])
def test_every_documented_command_is_accepted(page, command, parsed_only, capsys):
    if command.split()[1] in PLACEHOLDERS:
        return
    try:
        code = run_documented(command)
    except SystemExit as ended:
        code = ended.code
    assert code in (0, None), f"{page}: {command}: {code}\n{capsys.readouterr().err}"
