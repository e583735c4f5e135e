"""Processes that start without an import of torch, which takes 3 CPU seconds: copies of one that has imported all.

The one they are copies of is Python's fork server; it starts with the first of them. Functions and arguments are
pickled, as when a process starts anew. Where a rule is about how a program starts, a test starts it as users do.
"""

import contextlib
import importlib
import multiprocessing.forkserver
import os
import signal
import sys
from pathlib import Path

import torch.multiprocessing

ROOT = Path(__file__).parents[1]
METHOD = "forkserver" if sys.platform == "linux" else "spawn"


def server_ready() -> None:
    """Start the fork server, unless it runs."""
    if METHOD == "forkserver":
        multiprocessing.forkserver.set_forkserver_preload(["tests.imported_by_forks"])
        with contextlib.chdir(ROOT):  # the server finds its imports here
            multiprocessing.forkserver.ensure_running()


def spawn(function, arguments=(), count=1, join=True, daemon=False):
    """As torch.multiprocessing.spawn."""
    server_ready()
    return torch.multiprocessing.start_processes(function, arguments, count, join, daemon, METHOD)


class Command:
    """A command of this package as a process, in a session of its own; the rest is as in subprocess.Popen.

    module: its `main` is called with the list of arguments. stdout, stderr: text files that are read as it writes.
    """

    def __init__(self, module: str, *arguments: str):
        server_ready()
        context = multiprocessing.get_context(METHOD)
        ends = [context.Pipe(duplex=False) for _ in range(2)]
        given = (module, arguments, dict(os.environ), *(writer for _, writer in ends))
        self._process = context.Process(target=_run, args=given)
        self._process.start()
        for _, writer in ends:
            writer.close()
        self.stdout, self.stderr = (os.fdopen(os.dup(reader.fileno())) for reader, _ in ends)
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def wait(self, timeout: float) -> int:
        self._process.join(timeout)
        assert self.returncode is not None, f"it did not end within {timeout} s"
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What is left of its output, and of its errors, once it has ended."""
        self.wait(timeout)
        return self.stdout.read(), self.stderr.read()


def _run(module, arguments, environment, *writers):
    os.setsid()
    for number, writer in enumerate(writers, start=1):
        os.dup2(writer.fileno(), number)
        writer.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.exit(importlib.import_module(module).main([*arguments]))
