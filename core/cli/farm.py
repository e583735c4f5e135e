"""`vera farm`: render a list of shots on your own machines, by Ray."""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError
from vera.core.extras import require
from vera.core.farm.shot_lists import Shot, read_shots
from vera.core.job.run import STOPPED, WRONG_INPUT, stop_request

if TYPE_CHECKING:
    from vera.core.farm.page_writer import FarmPage

POLL_SECONDS = 0.2  # between two looks whether to stop, while no list is given

DESCRIPTION = """\
Renders shots on all machines of a Ray cluster, or on this machine. A file contains one job, as for vera render,
or a list of jobs. Complete deliveries are skipped, incomplete ones are resumed, and shots whose worker dies are
retried. Wrong input stops its own shot only."""

EPILOG = """\
examples:
  vera farm shots.json
  vera farm tonight/*.json --gpus 0.5           two workers a GPU
  vera farm shots.json --page /mnt/reports/41   write the report page there
  vera farm hero.json --share-windows           one long shot on all machines
  ls tonight/*.json | vera farm test.json --keep            list after list, by workers that stay
  ray start --head --include-dashboard=false              a cluster: on one machine ...
  ray start --address=HEAD:6379                           ... and on each of the others

Ctrl-C stops at once, and the same command resumes. docs/farm.md explains how to set up machines.
exit codes: 0 all shots are complete; 2 some have wrong input; 3 stopped; 1 some failed, each after its retries."""


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="vera farm",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("shots", nargs="+", metavar="FILE", help="job files (JSON), or lists of jobs")
    p.add_argument(
        "--address", help="a Ray cluster, or local for none (default: $RAY_ADDRESS, this machine's cluster, or none)"
    )
    p.add_argument("--cpus", type=float, default=1, help="CPU cores per worker (default 1)")
    p.add_argument("--gpus", type=float, help="GPUs per worker, such as 0.5 (default 1, or 0 without GPUs)")
    p.add_argument("--retries", type=int, default=3, help="how often a shot is retried (default 3)")
    p.add_argument(
        "--share-windows", action="store_true", help="render one shot at a time, its windows spread over all workers"
    )
    p.add_argument(
        "--keep",
        action="store_true",
        help="then read further files' names from standard input, one a line, and render them with the same workers,"
        " whose models stay loaded; ends with the input",
    )
    p.add_argument(
        "--page",
        metavar="FOLDER",
        help="folder of the report page, which is updated during rendering (default: LIST.farm beside the first list;"
        " none: no page)",
    )
    p.add_argument("--progress", choices=("bar", "jsonl", "none"), default="bar")
    return p


def check(args: argparse.Namespace) -> None:
    if not 0 < args.cpus < 10000 or args.gpus is not None and not 0 <= args.gpus < 10000:
        raise InputError(
            f"--cpus {args.cpus:g}, --gpus {args.gpus}: give a number of cores above 0, and of GPUs from 0"
        )
    if not 0 <= args.retries <= 1000:
        raise InputError(f"--retries {args.retries} is out of range; give a whole number from 0 to 1000")
    if args.keep and args.page not in (None, "none"):
        raise InputError("--page: with --keep, the page of each list lies beside it; omit --page, or give none")


def page_of(args: argparse.Namespace, paths: list[str], shots: list[Shot]) -> FarmPage | None:
    """The writer of the requested report page of the shots, which were read from these paths."""
    from vera.core.farm.page_writer import FarmPage

    if args.page == "none":
        return None
    beside = Path(paths[0]).absolute()
    return FarmPage(Path(args.page) if args.page else beside.with_name(f"{beside.stem}.farm"), shots)


def farm(args: argparse.Namespace) -> int:
    """Render the requested shots and report; returns the exit code. Raises InputError."""
    check(args)
    shots = read_shots(args.shots)
    require("vera farm", "ray")
    from vera.core.farm import engine
    from vera.core.farm.report import Report, most_severe

    answers = sys.stdout

    def report_of(paths: list[str], shots: list[Shot]) -> Report:
        with redirect_stdout(answers):
            return Report(shots, args.progress, page_of(args, paths, shots))

    report = report_of(args.shots, shots)
    with redirect_stdout(sys.stderr):  # Ray prints, and standard output is the report's alone
        try:
            engine.connect(args.address)
            stopping = stop_request()  # after Ray, which takes signals for itself
            gpus = args.gpus if args.gpus is not None else float(engine.cluster_has_gpus())
            crew = engine.Crew(engine.WorkerResources(args.cpus, gpus, args.retries, args.share_windows))
            engine.run(shots, crew, report, stopping)
            codes = [report.close()]
            for path in lines_given(sys.stdin, stopping) if args.keep else ():
                try:
                    shots = read_shots([path])
                except InputError as error:
                    report.progress.warn(f"{error}")
                    codes.append(WRONG_INPUT)
                    continue
                report = report_of([path], shots)
                engine.run(shots, crew, report, stopping)
                codes.append(report.close())
            if args.keep and stopping():
                report.progress.say("stopped while further lists were awaited")
                codes.append(STOPPED)
            return most_severe(codes)
        finally:
            report.progress.close()
            engine.ray.shutdown()


def lines_given(source: TextIO | None, stopping: Callable[[], bool]) -> Iterator[str]:
    """The lines of `source` that are not empty, as they arrive, until it ends or `stopping`.

    source: None is a closed one. Its bytes are decoded as names of files are, so that every name can be given.
    """
    waiting: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        try:
            for line in source.buffer if source else ():
                waiting.put(os.fsdecode(line).strip())
        finally:
            waiting.put(None)

    threading.Thread(target=read, daemon=True).start()  # a read cannot be interrupted on every system
    while not stopping():
        try:
            line = waiting.get(timeout=POLL_SECONDS)
        except queue.Empty:
            continue
        if line is None:
            return
        if line:
            yield line


@command
def main(argv: list[str] | None = None) -> int:
    return farm(parser().parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
