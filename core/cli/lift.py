"""`vera lift`: a plate and any edited version of it in, a clean edit layer out."""

import sys

from vera.core.cli import render
from vera.core.errors import InputError
from vera.core.job.run import WRONG_INPUT
from vera.core.cli.arguments import Parser

DESCRIPTION = """\
Finds the edit layer between a plate and any edited version of it, whatever made that: another
size, 8 bits, drifted colour, codec noise, a pixel of misalignment, another frame rate by a whole
step. What did not change stays as filmed, bit for bit."""

EPILOG = """\
results in OUT, as of a render (python -m core.render --help), and
  report.png    what was kept of the edited video, and what was thrown away

examples:
  vera lift --plate shot.####.exr --edited from_the_service.mp4 --out out/lifted
  vera lift --plate shot.mov --frames 1-49 --edited shot_edited.mp4 --mask sky.%04d.png --out out/sky

The recipe that is written is a job of core.render with the model lift:EDITED.
exit codes: 0 done; 2 the input is wrong, nothing was written; 3 stopped, can be resumed; 1 our fault."""


def parser():
    p = Parser(prog="vera lift", description=DESCRIPTION, epilog=EPILOG)
    p.add_argument("--plate", required=True, help="the untouched frames: plate.####.exr, plate.%%04d.dpx, or a movie")
    p.add_argument("--edited", required=True, help="the edited version: a movie or a sequence, of any size")
    p.add_argument("--out", required=True, help="folder for the results")
    p.add_argument("--mask", help="white where the edit may be: a sequence, a movie, or one still for all frames")
    p.add_argument("--frames", help="the plate's frames that were edited, such as 1001-1049 (default: all there are)")
    p.add_argument("--note", default="Lift the edit", help="words to keep in the recipe")
    p.add_argument("--color-space", help="of the plate, as for core.render")
    p.add_argument("--blend-space", choices=("linear", "encoded"), default="linear", help="as for core.render")
    p.add_argument("--layer-space", help="as for core.render")
    p.add_argument("--progress", choices=("bar", "jsonl", "none"), default="bar")
    return p


def main(argv=None) -> int:
    """As a render's: the recipe is that of the model lift:EDITED."""
    try:
        args = parser().parse_args(argv)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT
    given = ["--plate", args.plate, "--out", args.out, "--prompt", args.note, "--model", f"lift:{args.edited}"]
    for name in ("mask", "frames", "color_space", "blend_space", "layer_space", "progress"):
        value = getattr(args, name)
        given += [f"--{name.replace('_', '-')}={value}"] if value is not None else []
    return render.main(given)


if __name__ == "__main__":
    sys.exit(main())
