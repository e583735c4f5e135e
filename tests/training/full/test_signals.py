"""Training that is signalled at random moments, and resumes to the losses of an uninterrupted run.

`make test` sends three signals; `make fault-test` sends twenty.
"""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import forked
from tests.training.full.test_trainer import config, place, run_training  # noqa: F401 (place is a fixture)

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes of a run in /proc"),
]

SIGNALS = 20 if "VERA_FAULTS" in os.environ else 3
STEPS = 6 * SIGNALS  # enough that no run ends before its signal
GROUP, MAIN, CHILD = "the process group", "the main process", "a child process"
SEED = 23
STARTUP_SECONDS = 6.0  # signals before the first step come within this time


@dataclass(frozen=True)
class Fault:
    """A signal to a target; sent `delay` seconds after the start, or after `steps` new steps if there are any."""

    number: signal.Signals
    target: str
    steps: int
    delay: float
    ranks: int
    workers: int


def random_faults(count, seed=SEED):
    """The three targets in turn, each with a random signal, moment and number of processes."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        number = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)[rng.integers(3)]
        target = (GROUP, CHILD, MAIN)[i % 3]
        steps = int(rng.integers(4)) if i else 1  # a quarter while it starts; the first one never
        delay = rng.uniform(0, 0.3 if steps else STARTUP_SECONDS)
        ranks = 2 if target == CHILD and rng.random() < 0.5 else 1
        # A main process without ranks has a child only if a worker reads ahead.
        yield Fault(number, target, steps, delay, ranks, int(target == CHILD and ranks == 1 or rng.random() < 0.3))


def steps_logged(folder):
    try:
        lines = (folder / "log.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:  # the last line of a killed run, or one that is being written
            continue
    return [(line["step"], [*line["losses"].values()]) for line in found if "losses" in line]


def children_of(pid):
    """Process ids of a process's children that run Python, without the resource tracker."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"resource_tracker" not in command:
                found.append(int(child))
    return found


def run_until(fault, place, folder):  # noqa: F811
    """Start the run, send the signal, and wait for its end."""
    (place / "faults.json").write_text(json.dumps(signalled_config(place, workers=fault.workers)))
    given = [str(place / "faults.json"), "--out", str(folder)]
    before = len(steps_logged(folder))
    run = forked.Command("vera.core.cli.train", *given) if fault.ranks == 1 else under_torchrun(fault.ranks, given)
    until = time.monotonic() + 120
    while fault.steps and len(steps_logged(folder)) < before + fault.steps and time.monotonic() < until:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.01)
    time.sleep(fault.delay)
    try:
        send(fault, run)
        _, said = run.communicate(timeout=120)
    finally:
        try:
            os.killpg(run.pid, signal.SIGKILL)  # what a killed main process leaves behind
        except ProcessLookupError:
            pass
    stoppable = fault.number != signal.SIGKILL and fault.target != CHILD
    if fault.steps and stoppable:
        assert run.returncode == 3, (fault, said)


def under_torchrun(ranks, given):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.Popen(
        [sys.executable, *command, "-m", "vera.core.cli.train", *given],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def send(fault, run):
    if fault.target == GROUP:
        os.killpg(run.pid, fault.number)
        return
    children = children_of(run.pid) if fault.target == CHILD else []
    os.kill(children[0] if children else run.pid, fault.number)
    if fault.target == CHILD and fault.ranks == 1 and fault.number != signal.SIGKILL:
        run.terminate()  # a worker ignores these signals, so the run goes on


def signalled_config(place, **changes):  # noqa: F811
    return config(place, steps=STEPS, save_every=3, **changes)


def test_a_run_that_is_signalled_at_random_resumes_to_the_same_losses(place):  # noqa: F811
    torch.set_num_threads(1)
    whole = run_training(place, "whole", steps=STEPS, save_every=1000)
    folder = place / "signalled-at-random"
    for fault in random_faults(SIGNALS):
        run_until(fault, place, folder)
        print(fault, len(steps_logged(folder)), flush=True)
    reached = max((step for step, _ in steps_logged(folder)), default=0)
    assert 0 < reached < STEPS
    run_training(place, folder.name, steps=STEPS, save_every=1000)
    logged = steps_logged(folder)
    assert {step for step, _ in logged} == set(range(1, STEPS + 1))
    apart = [(torch.tensor(values) - whole[step - 1]).abs().max().item() for step, values in logged]
    print("largest difference", max(apart), "steps logged", len(logged))
    assert max(apart) < 1e-5  # also of steps that were logged, lost by a kill, and repeated
    assert (whole[1:] - whole[:-1]).abs().max() > 1e-3
