"""The benchmarks need a GPU to mean anything; their code paths do not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*command):
    command = [sys.executable, "-m", *command]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.parametrize("benchmark, tables", [("attention", 2), ("step", 1)])
def test_dry_run_goes_through(benchmark, tables, tmp_path):
    target = tmp_path / "made" / "results.json"
    done = run(f"benchmarks.{benchmark}", "--dry-run", "--json", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(target.read_text(encoding="utf-8"))
    assert results["machine"]["torch"] == torch.__version__
    assert len({row["table"] for row in results["rows"]}) == tables
    reasons = [row["failed"] for row in results["rows"] if "failed" in row]
    # Nothing is left out but what needs the GPU.
    assert reasons and all("was forced but" in reason for reason in reasons)


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
    done = run("benchmarks.attention")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1 and "no CUDA device" in done.stderr
