"""`vera data sheet`: a contact sheet of the data engine's clips."""

import sys
from pathlib import Path

from vera.core.cli.arguments import Parser, refuse_unwritable_png
from vera.core.cli.command import command


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = Parser(prog="vera data sheet", description="A contact sheet of what the data engine makes.")
    parser.add_argument("out", type=Path, help="the PNG to write")
    args = parser.parse_args(argv)
    refuse_unwritable_png(args.out)
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.data.engine.engine_sheet import save_sheet

    save_sheet(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
