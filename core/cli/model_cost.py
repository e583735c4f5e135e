"""`vera model cost`: calculate the cost of full-size training."""

import sys
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError

DEFAULT_CONFIG = Path(__file__).parents[1] / "training" / "full" / "vera-1.3b.json"


@command
def main(argv: list[str] | None = None) -> int:
    """Print the table of docs/training.md for a configuration's steps and batch; returns the exit code."""
    parser = Parser(
        prog="vera model cost", description="Calculate the operations, time and price of full-size training."
    )
    parser.add_argument(
        "config", type=Path, nargs="?", default=DEFAULT_CONFIG, help="a full-size configuration (default: the 1.3B's)"
    )
    path = parser.parse_args(argv).config
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.training.configuration import read_config
    from vera.core.training.full.cost import TrainingRun, cost_table

    settings = read_config(path)
    for name in ("steps", "batch"):
        value = settings.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 10**9:
            raise InputError(f"{path}: {name!r} is not a whole number above 0")

    run = TrainingRun(settings["steps"], settings["batch"], bool(settings.get("recompute", True)))
    print("\n".join(cost_table(run)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
