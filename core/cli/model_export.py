"""`vera model export`: an edition of mini from a training run."""

import sys
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError


def parser() -> Parser:
    """The argument parser of `vera model export`."""
    result = Parser(
        prog="vera model export", description="Make a model of the current state of a run of mini's training."
    )
    result.add_argument("run", type=Path, help="the run's folder, as given to vera train --out")
    result.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to create; it must not exist")
    result.add_argument(
        "--codec", type=Path, metavar="DIR", help="a run of the codec, or an edition (default: the run's own)"
    )
    result.add_argument(
        "--edition",
        type=Path,
        metavar="DIR",
        help="of a run of objects or scenes: the edition they are for (default: mini)",
    )
    return result


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    if not args.run.is_dir():
        raise InputError(f"{args.run}: no such folder; name a run's, such as runs/mini")
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.training.mini.export import export

    step = export(args.run, args.to, args.codec, args.edition)
    print(f"{args.to}: step {step:,} of {args.run}; vera render --model {args.to} uses it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
