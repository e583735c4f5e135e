"""Plant small faults one at a time where a mistake costs pixels, frames or safety, and count those that tests notice.

    make mutants                       some faults of every module in MODULES
    make mutants SAMPLE=100 ONLY=core/plate/pattern.py

cosmic-ray makes the faults: a comparison turned round, a number raised by one, `and` for `or`, a loop left out. Each
is tried in a copy of the checkout with the tests that MODULES names beside the module. Printed are the rate of each
module and every fault that no test noticed, as a diff; some of these change nothing that can be seen.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome, WorkerOutcome, WorkResult

ROOT = Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv/bin/python"
SECONDS = 300  # limit of one test run; a fault that makes the tests take longer counts as noticed

# Module -> the test files that state its rules.
MODULES = {
    "core/files.py": "tests/test_files.py",
    "core/state_file.py": "tests/test_state_file.py",
    "core/plate/channels.py": "tests/plate/test_channels.py tests/plate/test_windows.py",
    "core/plate/clock.py": "tests/plate/test_clock.py tests/test_clocks.py",
    "core/plate/color_curve.py": "tests/plate/test_color_curve.py",
    "core/plate/cuts.py": "tests/plate/test_cuts.py",
    "core/plate/fields.py": "tests/plate/test_fields.py",
    "core/plate/icc.py": "tests/plate/test_icc.py",
    "core/plate/pattern.py": "tests/plate/test_pattern.py",
    "core/plate/region.py": "tests/plate/test_region.py",
    "core/plate/timecode.py": "tests/plate/test_clock.py tests/test_clocks.py tests/plate/test_source.py",
    "core/layer/foreground.py": "tests/layer/test_foreground.py",
    "core/layer/frame_record.py": "tests/layer/test_delivery.py tests/layer/test_folder_trust.py",
    "core/layer/matte.py": "tests/layer/test_matte.py",
    "core/layer/out_folder.py": "tests/layer/test_folder_trust.py tests/layer/test_delivery.py",
    "core/layer/relative.py": "tests/layer/test_relative.py",
    "core/layer/split.py": "tests/layer/test_split.py",
    "core/recipe/parse.py": "tests/recipe tests/cli",
    "core/recipe/paths.py": "tests/recipe tests/service/test_client.py",
    "core/sampling/solver.py": "tests/sampling/test_solver.py",
    "core/sampling/time_windows.py": "tests/sampling/test_time_windows.py",
    "core/service/client.py": "tests/service/test_client.py tests/service/test_client_hostile.py",
    "core/service/host_rules.py": "tests/service/test_host_rules.py",
    "core/service/security.py": "tests/service/test_security.py",
}

# Kinds of fault that people make. The others of cosmic-ray (a plus become a power) are noticed by anything.
OPERATORS = {
    f"core/{name}"
    for name in (
        "AddNot",
        "ExceptionReplacer",
        "NumberReplacer",
        "ReplaceAndWithOr",
        "ReplaceBinaryOperator_Add_Sub",
        "ReplaceBinaryOperator_Div_Mul",
        "ReplaceBinaryOperator_FloorDiv_Div",
        "ReplaceBinaryOperator_Mul_Div",
        "ReplaceBinaryOperator_Sub_Add",
        "ReplaceBreakWithContinue",
        "ReplaceComparisonOperator_Eq_NotEq",
        "ReplaceComparisonOperator_GtE_Gt",
        "ReplaceComparisonOperator_Gt_GtE",
        "ReplaceComparisonOperator_IsNot_Is",
        "ReplaceComparisonOperator_Is_IsNot",
        "ReplaceComparisonOperator_LtE_Lt",
        "ReplaceComparisonOperator_Lt_LtE",
        "ReplaceComparisonOperator_NotEq_Eq",
        "ReplaceContinueWithBreak",
        "ReplaceFalseWithTrue",
        "ReplaceOrWithAnd",
        "ReplaceTrueWithFalse",
        "ReplaceUnaryOperator_Delete_Not",
        "ReplaceUnaryOperator_Delete_USub",
        "ZeroIterationForLoop",
    )
}

# An editable installation imports the checkout that it was made from, wherever it is started. This plugin of pytest
# takes its finder away, so that the tests import the copy that they are started in.
PLUGIN = "own_copy"
PLUGIN_TEXT = """\
import sys

sys.meta_path[:] = [f for f in sys.meta_path if not type(f).__module__.startswith("_editable_")]
"""
PYTEST = f"-m pytest -q -x -p {PLUGIN} -p no:cacheprovider"

CONFIG = """\
[cosmic-ray]
module-path = "{module}"
timeout = {seconds}
excluded-modules = []
test-command = "{python} {pytest} {tests}"

[cosmic-ray.distributor]
name = "local"
"""


def copy_checkout(to: Path) -> None:
    """The tracked files, as they are now, at the same places below `to`, and the built native module."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in listed.split("\0")[:-1]:
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    for native in (ROOT / ".venv").glob("lib/python*/site-packages/vera/kernels/_native*"):
        shutil.copy2(native, to / "kernels")
    (to / f"{PLUGIN}.py").write_text(PLUGIN_TEXT, encoding="utf-8")


def choose(database: WorkDB, count: int, seed: int) -> int:
    """Skip all faults but `count` of the kinds in OPERATORS. Returns how many there are of these kinds."""
    items = list(database.work_items)
    fit = sorted(
        (i for i in items if i.mutations[0].operator_name in OPERATORS),
        key=lambda i: (i.mutations[0].start_pos, i.mutations[0].operator_name, i.mutations[0].occurrence),
    )
    chosen = {i.job_id for i in random.Random(seed).sample(fit, min(count, len(fit)))}
    skipped = [i.job_id for i in items if i.job_id not in chosen]
    database.set_multiple_results(skipped, WorkResult(worker_outcome=WorkerOutcome.SKIPPED))
    return len(fit)


def try_module(module: str, tree: Path, count: int, seed: int) -> tuple[int, int, list[str]]:
    """Faults tried in a module, those noticed, and the diffs of the others.

    Raises SystemExit if its tests fail without a fault, or pass without the module.
    """
    tests = MODULES[module]
    name = module.removesuffix(".py").replace("/", ".")
    config, session = tree / f"{name}.toml", tree / f"{name}.sqlite"
    text = CONFIG.format(module=module, seconds=SECONDS, python=PYTHON, pytest=PYTEST, tests=tests)
    config.write_text(text, encoding="utf-8")

    def cosmic_ray(*words: str) -> None:
        subprocess.run([sys.executable, "-m", "cosmic_ray.cli", *words], cwd=tree, check=True)

    def tests_pass() -> bool:
        command = [PYTHON, *PYTEST.split(), *tests.split()]
        return not subprocess.run(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    if not tests_pass():
        raise SystemExit(f"{module}: {tests} fail before any fault is planted")
    whole = (tree / module).read_text(encoding="utf-8")
    (tree / module).write_text("raise RuntimeError\n", encoding="utf-8")
    if tests_pass():
        raise SystemExit(f"{module}: {tests} do not import the copy, so that no fault in it can be noticed")
    (tree / module).write_text(whole, encoding="utf-8")
    cosmic_ray("init", str(config), str(session))
    with use_db(session, WorkDB.Mode.open) as database:
        choose(database, count, seed)
    cosmic_ray("exec", str(config), str(session))
    with use_db(session, WorkDB.Mode.open) as database:
        tried = [result for _, result in database.results if result.worker_outcome != WorkerOutcome.SKIPPED]
    survived = [result.diff or "" for result in tried if result.test_outcome == TestOutcome.SURVIVED]
    return len(tried), len(tried) - len(survived), survived


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="modules of MODULES; all of them without")
    parser.add_argument("--sample", type=int, default=12, help="faults tried in a module (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of faults (default 0)")
    args = parser.parse_args()
    unknown = set(args.modules) - MODULES.keys()
    if unknown:
        parser.error(f"not in MODULES of tools/mutants.py: {', '.join(sorted(unknown))}")
    totals = [0, 0]
    with tempfile.TemporaryDirectory(prefix="vera-mutants-") as folder:
        tree = Path(folder)
        copy_checkout(tree)
        for module in args.modules or MODULES:
            tried, noticed, survived = try_module(module, tree, args.sample, args.seed)
            totals = [totals[0] + tried, totals[1] + noticed]
            print(f"{module}: {noticed} of {tried} noticed", flush=True)
            for diff in survived:
                print("    " + diff.replace("\n", "\n    "), flush=True)
    print(f"all: {totals[1]} of {totals[0]} noticed, {100 * totals[1] / max(1, totals[0]):.0f} %")


if __name__ == "__main__":
    main()
