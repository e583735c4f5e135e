"""Services in processes of their own, with the stand-in worker or the real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vera.core.service import client

ROOT = Path(__file__).parents[2]
STAND_IN = Path(__file__).with_name("stand_in_worker.py")
LEAST_SECONDS = 60  # of any wait, on a machine that others use too; raising it makes only failing tests last longer
ENDS_WITHIN = 120  # seconds that a process is given to end
SCRIPT = """
import json, sys
from pathlib import Path
from vera.core.service import server
values = json.loads(sys.argv[1])
values["folder"] = Path(values["folder"])
server.run(server.Settings(**values))
"""


class Running:
    """A service of this test, and a client of it."""

    def __init__(self, folder, roots=(), **settings):
        self.folder, self.settings = folder, {"folder": str(folder), "device": "cpu", "warm": False, **settings}
        self.process = None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "roots.json").write_text(json.dumps({"folders": [str(r) for r in roots]}))
        self.client = client.Client(folder)

    def start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, json.dumps(self.settings)],
            cwd=ROOT,
            env=environment,
            stdout=open(self.folder / "service.log", "a"),
            stderr=subprocess.STDOUT,
        )
        until(lambda: self.answers() or self.process.poll() is not None, 60, "the service to answer")
        assert self.process.poll() is None, (self.folder / "service.log").read_text()
        return self

    def answers(self):
        try:
            return client.discover(self.folder)["pid"] == self.process.pid and self.client.health()
        except client.ServiceError:
            return False

    def kill(self):
        """As a power cut would, but for the machine."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def entry(self):
        return client.discover(self.folder)


def until(condition, seconds, what):
    """The condition's value once that is true, within `seconds` or LEAST_SECONDS, whichever is longer."""
    seconds = max(seconds, LEAST_SECONDS)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s for {what}")


@pytest.fixture
def make_service(tmp_path):
    """make_service(real=False, **settings): not started yet; all are stopped after the test."""
    made = []

    def make(real=False, **settings):
        if not real:
            settings = {"worker": [sys.executable, str(STAND_IN)], **settings}
        roots = settings.pop("roots", [tmp_path])
        made.append(Running(tmp_path / f"state{len(made)}", roots, **settings))
        return made[-1]

    yield make
    for service in made:
        service.stop()


@pytest.fixture
def service(make_service):
    """A service with the stand-in worker, started."""
    return make_service().start()


@pytest.fixture
def recipe(tmp_path):
    """recipe(prompt, name): for the stand-in worker."""

    def make(prompt, name="out", **values):
        return {"plate": str(tmp_path / "plate.####.exr"), "prompt": prompt, "out": str(tmp_path / name), **values}

    return make


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One service with the stand-in worker for a module's tests, which leave it as it is; `home` is its one root."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "root").mkdir()
    running = Running(folder / "state", [folder / "root"], worker=[sys.executable, str(STAND_IN)]).start()
    running.home = folder / "root"
    yield running
    running.stop()
