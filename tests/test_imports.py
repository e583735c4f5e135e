"""Imports point one way: no circle of packages or files, hosts included. File names are unique."""

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where each tree lies, and the dotted name of its root.
TREES = {
    "core": "vera.core",
    "kernels": "vera.kernels",
    "blender_addon": "blender_addon",
    "nuke_plugin/vera_nuke": "vera_nuke",
}


def modules_of(tree: str) -> dict[str, Path]:
    """Dotted name -> file, of a tree."""
    found = {}
    for file in (ROOT / tree).rglob("*.py"):
        parts = file.relative_to(ROOT / tree).with_suffix("").parts
        name = ".".join([TREES[tree], *parts]).removesuffix(".__init__")
        found[name] = file
    return found


def imports_of(name: str, file: Path, known: set[str]) -> Iterator[str]:
    """Known modules that a file imports anywhere, lazily too, but for types alone."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (n.name for n in node.names if n.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])
            for imported in node.names:
                full = f"{base}.{imported.name}"
                if full in known:
                    yield full
                elif base in known:
                    yield base


def graph_of(trees: list[str]) -> dict[str, set[str]]:
    modules = {name: file for tree in trees for name, file in modules_of(tree).items()}
    known = set(modules)
    return {name: set(imports_of(name, file, known)) - {name} for name, file in modules.items()}


@pytest.mark.parametrize(
    "trees", [["core", "kernels"], ["blender_addon"], ["nuke_plugin/vera_nuke"]], ids=lambda t: t[0]
)
def test_no_circle_of_files(trees):
    list(TopologicalSorter(graph_of(trees)).static_order())  # raises CycleError, which names the circle


def test_no_circle_of_packages():
    """vera.core.layer.matte is in the package vera.core.layer; vera.core.errors is one of its own."""

    def package(module: str) -> str:
        return ".".join(module.split(".")[:3])

    packages: dict[str, set[str]] = {}
    for name, imported in graph_of(["core"]).items():
        packages.setdefault(package(name), set()).update(package(m) for m in imported if package(m) != package(name))
    assert "vera.core.lifting" in packages["vera.core.backends"]
    assert "vera.core.backends" not in packages["vera.core.lifting"]
    list(TopologicalSorter(packages).static_order())


# File names of two modules of core and kernels, with the reason; docs/architecture.md says the same.
SHARED_NAMES = {
    "lift": "a subcommand in core/cli and a backend in core/backends",
    "render": "a subcommand in core/cli and `python -m core.render`",
    "matte": "an output in core/layer/outputs and its computation in core/layer",
    "split": "an output in core/layer/outputs and its computation in core/layer",
}


def test_no_two_modules_share_a_file_name_without_a_reason():
    names = Counter(
        file.stem for tree in ("core", "kernels") for file in modules_of(tree).values() if file.stem != "__init__"
    )
    assert {name for name, count in names.items() if count > 1} == set(SHARED_NAMES)


@pytest.mark.parametrize(
    "given, found", [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "5"}, "None")]
)
def test_threads_that_wait_do_not_spin_unless_the_user_says_so(given, found):
    """Set before torch is loaded, which reads it then."""
    program = "import vera, os, sys; print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    others = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=others | given, capture_output=True, text=True)
    assert done.stdout.split() == [found, "False"], done.stderr
