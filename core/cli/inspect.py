"""`vera inspect`: report how a plate and a mask are read, and list the colour spaces."""

import argparse
import json
import sys
from typing import Any

from vera.core.cli.arguments import Parser, add_recipe_options
from vera.core.cli.command import command

# Recipe fields with the options of reading a plate.
HOW_READ = ("color_space", "layer", "part", "view", "matrix", "range", "fields")

DESCRIPTION = """\
Reports how a plate and a mask are read: files, frames, rate, size, channels, colour space and the reasons.
Nothing is written. vera render --dry-run reports on a whole job."""

EPILOG = """\
examples:
  vera inspect shot.####.exr --frames 1001-1049 --mask roto.####.exr
  vera inspect shot.mov --json
  vera inspect --color-spaces rec.709     names for --color-space that contain this text
exit codes: 0 done; 2 the input is wrong; 1 an internal error."""


def parser() -> Parser:
    """The command's options."""
    p = Parser(prog="vera inspect", description=DESCRIPTION, epilog=EPILOG)
    p.add_argument("plate", nargs="?", help="plate.####.exr, plate.%%04d.dpx, one still, or a movie")
    p.add_argument("--mask", help="a sequence, a movie, or one still for all frames")
    p.add_argument("--frames", help="a range such as 1001-1049 (default: all there are)")
    add_recipe_options(p, only=HOW_READ)
    p.add_argument("--color-spaces", nargs="?", const="", metavar="TEXT", help="list the colour spaces")
    p.add_argument("--json", action="store_true", help="as JSON")
    return p


@command
def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    for line in _said(parser().parse_args(argv)):
        print(line)
    return 0


def _said(args: argparse.Namespace) -> list[str]:
    from vera.core.plate.color_space import space_names

    if args.color_spaces is not None:
        names = [name for name in space_names() if args.color_spaces.lower() in name.lower()]
        return [json.dumps(names, indent=2)] if args.json else names
    if args.plate is None:
        parser().error("name a plate, or give --color-spaces")
    from vera.core.job.inspection import page_of

    report = _report(args)
    return [json.dumps(report, indent=2)] if args.json else page_of(report)


def _report(args: argparse.Namespace) -> dict[str, Any]:
    from vera.core.job.inspection import mask_report, plate_report
    from vera.core.plate.choice import Choice
    from vera.core.plate.source import open_mask, open_plate
    from vera.core.recipe import NO_MASK

    plate = open_plate(args.plate, args.frames, Choice.of(args))
    mask = open_mask(args.mask, plate) if args.mask and args.mask != NO_MASK else None
    return {"plate": plate_report(plate, args.color_space), "mask": mask_report(mask) if mask else None}


if __name__ == "__main__":
    sys.exit(main())
