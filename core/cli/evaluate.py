"""`vera evaluate`: measure how well a model follows prompts."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError
from vera.core.progress import KINDS

MAX_COUNT = 100_000  # largest value of --count
DESCRIPTION = """\
Measures how well a model follows a held-out, seeded set of prompts over plates; prints each figure with its goal."""


def number(kind: type, least: float, most: float) -> Callable[[str], float]:
    """A parser of an option's value: a number of this kind within these bounds."""

    def read(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not a {'whole ' * (kind is int)}number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not from {least:g} to {most:g}")
        return value

    return read


def parser() -> Parser:
    """The argument parser of `vera evaluate`."""
    result = Parser(prog="vera evaluate", description=DESCRIPTION)
    result.add_argument("--model", default="mini", help="mini, or a model's folder")
    result.add_argument("--count", type=number(int, 1, MAX_COUNT), default=256, help="held-out prompts (default 256)")
    result.add_argument("--steps", type=number(int, 1, 1000), help="(default: the model's own)")
    result.add_argument("--guidance", type=number(float, 0, 100), help="(default: the model's own)")
    result.add_argument(
        "--truth", action="store_true", help="evaluate the true layers after the model's codec instead of the model"
    )
    result.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    result.add_argument(
        "--first",
        type=number(int, 0, 2**31),
        default=5_000_000,
        metavar="SEED",
        help="seed of the first held-out clip (default 5000000)",
    )
    result.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="store each clip's figures in this folder, so that the same command resumes",
    )
    result.add_argument("--progress", choices=KINDS, default="bar")
    return result


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    args = parser().parse_args(argv)
    if args.json is not None and not args.json.resolve().parent.is_dir():
        raise InputError(f"--json {args.json}: there is no such folder")
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.evaluation.held_out import evaluate

    return evaluate(args)


if __name__ == "__main__":
    sys.exit(main())
