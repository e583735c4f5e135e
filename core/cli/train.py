"""`vera train`: train mini, its codecs, or a full-size Vera; the same command again resumes.

A full-size one on several GPUs: `torchrun --nproc-per-node 8 -m vera.core.cli.train CONFIG` (docs/training.md).
"""

import argparse
import importlib
import math
import signal
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command, tell
from vera.core.errors import InputError

DONE, STOPPED = 0, 3
# Value of "train" in a configuration -> the module whose train() trains it.
TRAINERS = {
    "transformer": "vera.core.training.mini.transformer_training",
    "codec": "vera.core.training.mini.codec_training",
    "vae": "vera.core.training.mini.vae_training",
    "objects": "vera.core.training.mini.objects",
    "scenes": "vera.core.training.mini.scenes",
    "lift": "vera.core.training.lift.gate_training",
    "vera": "vera.core.training.full.trainer",
}
MAX_MINUTES = 1e6  # largest value of --minutes, some two years
EPILOG = """\
Ctrl-C, or the end of --minutes, saves and stops; the same command resumes.
Exit codes: 0 done, 2 the input is wrong (one line; nothing written), 3 stopped by a signal, can be resumed."""


def parser() -> Parser:
    """The argument parser of `vera train`."""
    result = Parser(prog="vera train", description="Train; resumes where it stopped.", epilog=EPILOG)
    result.add_argument("config", type=Path, nargs="?", help="a JSON file, such as core/training/mini/mini.json")
    result.add_argument("--out", type=Path, metavar="RUN", help="training state (default: runs/<name of the config>)")
    result.add_argument("--minutes", type=_minutes, help="save and stop after this long")
    result.add_argument(
        "--threads", type=_threads, help="CPU threads; mini's transformer has the setting 'processes' instead"
    )
    result.add_argument(
        "--export", type=Path, metavar="DIR", help="full size: write the current state as a model, and end"
    )
    result.add_argument("--watch", type=Path, metavar="RUN", help="open a page with a run's curve and samples, and end")
    return result


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    args = parser().parse_args(argv)
    return run(args) if args.watch is None else watch(args)


def watch(args: argparse.Namespace) -> int:
    """Open a run's page in a browser, and print its address."""
    from vera.core.training.watch import write_page

    others = ("config", "out", "minutes", "threads", "export")
    if surplus := [name for name in others if getattr(args, name) is not None]:
        raise InputError(f"--watch shows a run and trains nothing; leave out {', '.join(surplus)}")
    if not args.watch.is_dir():
        raise InputError(f"--watch {args.watch}: no such folder; name a run's, such as runs/mini")
    address = write_page(args.watch.resolve()).as_uri()
    webbrowser.open(address)
    print(address)
    return DONE


def run(args: argparse.Namespace) -> int:
    """Train as a configuration says. Raises InputError before any work."""
    config, kind = read(args)
    folder = args.out or Path("runs") / args.config.stem
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--out {folder}: is a file; name a folder")
    import torch  # imported late, so that --help and wrong arguments are answered at once

    if args.threads:
        torch.set_num_threads(args.threads)
    trainer = importlib.import_module(TRAINERS[kind])
    stop = StopRequest(args.minutes)
    trainer.train(config, folder, stop, **({"target": args.export} if kind == "vera" else {}))
    if stop.timed_out and not stop.signalled:
        tell(f"stopped after {args.minutes:g} minutes, as requested; the same command resumes")
    return STOPPED if stop.signalled else DONE


def read(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The configuration, and what it trains. Raises InputError, also for options that do not apply to it."""
    from vera.core.training.configuration import read_config

    if args.config is None:
        raise InputError("name a configuration, such as core/training/mini/mini.json; see vera train --help")
    config = read_config(args.config)
    kind = config.get("train")
    if not isinstance(kind, str) or kind not in TRAINERS:
        raise InputError(f"{args.config}: 'train' must be one of {', '.join(TRAINERS)}")
    if args.export is not None and kind != "vera":
        raise InputError(
            "--export is for full-size runs; a run of mini is exported by `vera model export RUN --to DIR`"
        )
    if args.export is not None and args.export.exists():
        raise InputError(f"--export {args.export}: exists already; name a new folder")
    if args.export is not None and args.minutes is not None:
        raise InputError("--minutes: an export trains nothing; leave it out")
    if args.threads and kind == "transformer":
        raise InputError("--threads: mini's transformer is trained by 'processes' of one thread each; set that instead")
    return config, kind


class StopRequest:
    """Whether to stop: after a signal, which is reported at once, or when the time is up."""

    def __init__(self, minutes: float | None):
        self.signalled = self.timed_out = False
        self._until = math.inf if minutes is None else time.monotonic() + 60 * minutes
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def __call__(self) -> bool:
        self.timed_out = self.timed_out or time.monotonic() > self._until
        return self.signalled or self.timed_out

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.signalled:
            tell("stopping after this step; the training state is saved")
        self.signalled = True


def _minutes(text: str) -> float:
    value = _number(text, float)
    if not 0 < value <= MAX_MINUTES:
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return value


def _threads(text: str) -> int:
    value = _number(text, int)
    if not 1 <= value <= 1024:
        raise argparse.ArgumentTypeError(f"{text} is not a number of threads from 1 to 1024")
    return int(value)


def _number(text: str, kind: Callable[[str], float]) -> float:
    try:
        return kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not a number") from None


if __name__ == "__main__":
    sys.exit(main())
