"""`vera model sheet`: render a list of instructions with a model into one contact sheet."""

import sys
from pathlib import Path

from vera.core.cli.arguments import Parser, refuse_unwritable_png
from vera.core.cli.command import command
from vera.core.errors import InputError


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = Parser(prog="vera model sheet", description="Renders a list of instructions into one contact sheet.")
    parser.add_argument("picture", type=Path, help="the PNG to write")
    parser.add_argument("--model", default="mini", help="mini, or a model's folder")
    parser.add_argument("--steps", type=int, help="(default: the model's own)")
    args = parser.parse_args(argv)
    refuse_unwritable_png(args.picture)
    if args.steps is not None and not 1 <= args.steps <= 1000:
        raise InputError(f"--steps {args.steps}: is not from 1 to 1000")
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.evaluation.edition_sheet import draw_sheet
    from vera.core.model.load import load_model

    model = load_model(args.model, "cpu")
    draw_sheet(model, args.steps or model.limits.steps, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
