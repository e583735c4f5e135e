"""The benchmarks need a GPU to mean anything; their code paths do not."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu
from benchmarks.timing import Contender, Rows, balanced_orders, measure

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*command):
    command = [sys.executable, "-m", *command]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


# Of what is installed only these may be imported, and what torch itself requires.
BLOCKER = """
import sys, importlib.abc, importlib.machinery
import torch, torch._dynamo, torch._inductor.config, torch.profiler, numpy, safetensors.torch
try:
    import triton
except ImportError:
    pass
requirements = {"filelock", "fsspec", "functorch", "jinja2", "markupsafe", "mpmath", "networkx", "sympy", "torchgen",
"typing_extensions"}
there = requirements | {name.split(".")[0] for name in sys.modules} | {"vera", "benchmarks", "torch", "triton"}
there |= sys.stdlib_module_names
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in there or importlib.machinery.PathFinder.find_spec(name, path) is None:
            return None
        raise ImportError(f"a bare machine has no {name}")
sys.meta_path.insert(0, Blocker())
"""
GPU_RUN = """
from benchmarks.gpu import main
sys.exit(main(["--dry-run", "--out", sys.argv[1]]))
"""
GPU_TESTS = """
import pytest
there |= {"tests", "tools"}
sys.exit(pytest.main(["-q", "-m", "gpu", "-p", "no:cacheprovider", "tests/kernels/test_gpu.py"]))
"""


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory):
    """The whole GPU run on tiny shapes, with nothing but torch, triton, numpy and safetensors to import."""
    target = tmp_path_factory.mktemp("gpu") / "made" / "rows.jsonl"
    command = [sys.executable, "-c", BLOCKER + GPU_RUN, str(target)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert target.is_file(), done.stderr
    return done, [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def test_the_gpu_run_needs_torch_and_little_else(dry_run):
    done, rows = dry_run
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows[0]["machine"]["torch"] == torch.__version__
    assert not any("part" in row and "failed" in row for row in rows)
    reasons = [row["failed"] for row in rows if "failed" in row]
    # Nothing is left out but what needs the GPU.
    assert reasons and all("was forced but" in reason for reason in reasons)


def test_the_gpu_tests_need_pytest_besides():
    """`make gpu-test` collects them where nothing else is installed; here they are skipped."""
    imported = "import pytest, _pytest.assertion.rewrite, _pytest.terminal, pygments.formatters.terminal"
    command = [sys.executable, "-c", f"{imported}\n{BLOCKER}{GPU_TESTS}"]
    alone = ENVIRONMENT | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True)
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0 and "error" not in last, done.stdout + done.stderr
    assert int(last.split()[0]) > 60  # passed, or skipped where there is no GPU


def test_the_gpu_run_does_correctness_first_and_every_part(dry_run):
    rows = dry_run[1]
    kinds = ["check" if "check" in row else "time" if "table" in row else None for row in rows]
    assert "check" not in kinds[kinds.index("time") :]
    checks = [row for row in rows if "check" in row]
    assert checks and all(row["right"] for row in checks)
    assert {"8-bit, ours", "window, ours", "pack, ours", "sdpa"} <= {row["check"] for row in checks}
    tables = {row["table"].split(",")[0] for row in rows if "median_ms" in row}
    assert tables == {"attention", "norm", "one pass", "mini"}


def test_ratios_are_of_calls_of_one_round(dry_run):
    rows = dry_run[1]
    [one] = [r for r in rows if r.get("contender") == "8-bit, ours" and "median_ms" in r and "longer" in r["table"]]
    table = [r for r in rows if r.get("table") == one["table"] and "round" in r]
    took = {(r["contender"], r["round"]): r["milliseconds"] for r in table}
    ratios = [took["sdpa", r] / took["8-bit, ours", r] for r in range(one["against"]["sdpa"]["rounds"])]
    assert one["against"]["sdpa"]["wins"] == sum(r > 1 for r in ratios)
    assert min(ratios) <= one["against"]["sdpa"]["median"] <= max(ratios)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8])
def test_turns_are_balanced(count):
    """Each stands at each place equally often, and follows each other one equally often."""
    orders = balanced_orders(count)
    for place in range(count):
        assert len(set(Counter(order[place] for order in orders).values())) == 1
    follows = Counter(pair for order in orders for pair in zip(order, order[1:]))
    assert len(follows) == count * (count - 1) and len(set(follows.values())) <= 1


def test_what_ran_another_way_than_its_name_is_not_timed(capsys):
    query = torch.randn(1, 2, 8, 16)

    def call():
        return torch.nn.functional.scaled_dot_product_attention(query, query, query)

    contenders = [Contender("right", call, ("scaled_dot_product",)), Contender("wrong", call, ("cudnn",))]
    taken = measure("routes", contenders, Rows(None, "cpu"), "cpu", 2)
    assert len(taken.seconds["right"]) == 2 and "ran another way" in taken.failed["wrong"]


def test_a_part_without_time_is_not_begun_and_said():
    session = gpu.Session(
        replace(gpu.TINY, device="cuda"), SimpleNamespace(write=lambda row, text=None: None), time.monotonic() + 5
    )
    session.part("pass", "one pass", pytest.fail)
    assert session.left_out == ["one pass"]


class Copies:
    """A codec whose latents are the pixels, and what is planted into them on the way back."""

    def __init__(self, planted=0.0):
        self.planted = torch.tensor([planted, 0.0, planted]).view(3, 1, 1, 1, 1)  # edit, alpha, composite

    def encode(self, video):
        return video

    def decode(self, latents, frames):
        return latents + self.planted if len(latents) == 3 else latents


def test_codecs_are_judged_by_what_they_change():
    from benchmarks.codec import SPOILED, errors

    exact, lighter = (errors(Copies(planted), 6) for planted in (0.0, 0.02))
    assert exact["ends"] == 1 and all(exact[name] < 1e-5 for name in ("flat", "edges", "drift", "flicker"))
    assert min(exact[name] for name in ("alpha", "color", "composite")) > 120  # a mean of three is rounded
    assert 10 < exact["spoiled"] < -20 * torch.tensor(SPOILED * 0.1).log10()  # clamped noise of some deviation
    assert lighter["alpha"] > 120 and 0 < lighter["drift"] <= 0.0201
    assert 33.97 < lighter["composite"] < 36  # 0.02, less what the clamp takes


def test_speed_options_are_held_against_the_full_computation(tmp_path, capsys):
    from benchmarks import speed_options as speed

    target = tmp_path / "speed.json"
    given = ["--device", "cpu", "--clips", "1", "--frames", "9", "--steps", "3", "--only", "-", "--json", str(target)]
    chosen = speed.contenders
    wanted = ("full", "another", "--cache 0.4", "--one-batch", "--attention window")
    speed.contenders = lambda: {name: c for name, c in chosen().items() if name.startswith(wanted)}
    try:
        assert speed.main(given) == 0
    finally:
        speed.contenders = chosen
    full, other, cache, one_batch, window = json.loads(target.read_text(encoding="utf-8"))["rows"]
    assert full["latents"] == full["largest"] == 0 and full["blocks_run"] == 1
    assert one_batch["latents"] < 1e-4 < window["latents"] < other["latents"]
    assert cache["blocks_run"] == 1 or cache["latents"] > 0
    assert capsys.readouterr().out.count("\n| `") == 5
    assert speed.main(["--model", "nothing"]) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so_in_one_line():
    done = run("benchmarks.gpu")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "no CUDA device" in done.stderr
