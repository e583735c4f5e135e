"""Runs tests/kernels/interpreted in Triton's interpreter, on the CPU.

Triton reads TRITON_INTERPRET when a kernel is defined, so those tests need a process
of their own, and this one stays as it is for the tests that compile.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="Triton is not installed: its interpreter tests need it")

ROOT = Path(__file__).parents[2]
# One thread: on a busy machine the interpreter's many small products wait for each other.
ALONE = {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def test_kernels_in_the_interpreter():
    files = sorted((ROOT / "tests/kernels/interpreted").glob("*.py"))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *map(str, files)]
    run = subprocess.run(command, cwd=ROOT, env=os.environ | ALONE, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "skipped" not in run.stdout, run.stdout
