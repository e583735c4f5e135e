"""The table of `make mutants` names modules and tests that exist. cosmic-ray itself is not installed for tests."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def table() -> dict[str, str]:
    tree = ast.parse((ROOT / "tools/mutants.py").read_text(encoding="utf-8"))
    (value,) = (n.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "MODULES")
    return ast.literal_eval(value)


def test_every_module_and_every_test_of_the_table_exists():
    named = [name for module, tests in table().items() for name in (module, *tests.split())]
    assert [name for name in named if not (ROOT / name).exists()] == []
