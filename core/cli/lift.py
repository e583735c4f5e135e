"""`vera lift`: a plate and any edited version of it in, a clean edit layer out."""

import argparse
import sys

from vera.core.cli import render
from vera.core.cli.arguments import Parser, add_recipe_options, recipe_values
from vera.core.recipe import EditRecipe

DESCRIPTION = """\
Finds the edit layer between a plate and an edited version of it from any tool. The edited version may
have another size, 8 bits, drifted colour, codec noise, a pixel of misalignment, or a frame rate that
differs by a whole factor. Unchanged pixels keep the plate's bits."""

EPILOG = """\
results in OUT, as for a render (vera render --help), and
  report.png    the parts of the edited video that were kept, and those that were discarded

examples:
  vera lift --plate shot.####.exr --edited from_the_service.mp4 --out out/lifted
  vera lift --plate shot.mov --frames 1-49 --edited shot_edited.mp4 --mask sky.%04d.png --out out/sky

The written recipe is a job for vera render with the model lift:EDITED.
exit codes: 0 done; 2 the input is wrong, nothing was written; 3 stopped, can be resumed; 1 an internal error."""


NOTE = "Lift the edit"  # the recipe's prompt unless the user gives a note


def parser() -> Parser:
    """The command's options: the recipe fields of a lift, and options of the run."""
    p = Parser(prog="vera lift", description=DESCRIPTION, epilog=EPILOG)
    p.add_argument("--edited", required=True, help="the edited version: a movie or a sequence, of any size")
    p.add_argument("--note", default=NOTE, help="words to keep in the recipe")
    add_recipe_options(p, "lift", leave_out=("prompt", "model"))
    p.add_argument("--verbose", action="store_true", help="print the choices made, with reasons")
    p.add_argument("--wait", action="store_true", help="wait for another job that works in the same folder")
    render.add_run_options(p)
    p.set_defaults(device="auto", processes=1, shard=False)
    return p


def recipe_of(args: argparse.Namespace) -> EditRecipe:
    """The recipe of the model lift:EDITED. Raises InputError."""
    return EditRecipe.from_values(recipe_values(args) | {"prompt": args.note, "model": f"lift:{args.edited}"})


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return render.run(parser(), recipe_of, argv)


if __name__ == "__main__":
    sys.exit(main())
